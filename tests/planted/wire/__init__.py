"""The faults at the wire, by the id that tests/faults*.toml gives them: each is one small change of what passes."""

from __future__ import annotations

from collections.abc import Callable

from tests.planted.proxy import Fault
from tests.planted.wire import conduct, kernels, texts, timing

WIRE: dict[str, Callable[..., Fault]] = {
    "korean-in-chinese": texts.KoreanInChinese,
    "chinese-in-japanese": texts.ChineseInJapanese,
    "english-in-russian": texts.EnglishInRussian,
    "echo": texts.Echo,
    "empty-200": texts.Empty,
    "empty-in-korean": lambda: texts.Empty(hangul=True),
    "truncated-utf8": texts.TruncatedUtf8,
    "replacement-character": texts.ReplacementCharacter,
    "stream-differs": texts.StreamDiffers,
    "missing-usage": conduct.Usage,
    "wrong-usage": lambda off=3: conduct.Usage(completion_tokens=off, total_tokens=off),
    "usage-does-not-add-up": lambda off=2: conduct.Usage(total_tokens=off),
    "buffered-stream": timing.Buffered,
    "paced-stream": lambda: timing.Buffered(paced=True),
    "dropped-chunk": texts.DroppedChunk,
    "repeated-chunk": texts.RepeatedChunk,
    "misstated-finish": conduct.Finish,
    "max-tokens-overrun": conduct.Overrun,
    "no-end-mark": conduct.NoEndMark,
    "error-in-stream": texts.ErrorInStream,
    "slow-first-token": timing.Delayed,
    "stalls": timing.Delayed,
    "slow-throughput": timing.Delayed,
    "accepts-bad": conduct.AcceptsBad,
    "refuses-good": conduct.RefusesGood,
    "mute-errors": conduct.MuteErrors,
    "wrong-model": conduct.WrongModel,
    "unknown-name": conduct.UnknownName,
    "lists-another": conduct.ListsAnother,
    "stuck-sampler": kernels.StuckSampler,
    "nan-logprobs": kernels.NanLogprobs,
    "ignores-the-schema": kernels.IgnoresSchema,
    "fewer-than-asked": lambda off=-5: conduct.Usage(completion_tokens=off, total_tokens=off),
}
