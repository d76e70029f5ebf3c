"""What is called the right language, an unbroken text and a real answer; and what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pytest

from fixtures.languages import content, script, utf8
from fixtures.languages.observe import Asked, LanguageObserved, agree, ask
from fixtures.languages.prompts import prompts_for
from fixtures.languages.script import Script
from fixtures.lineup import Language
from fixtures.load.answer import Answer, Failure
from fixtures.load.client import Client
from fixtures.verdict import Verdict

LANGUAGES: tuple[Language, ...] = ("en", "zh", "ko")
SAID = {
    "en": "When autumn comes, the leaves turn red and gold. The sky is high and very clear.",
    "zh": "秋天来了，树叶变成红色和金色。天空又高又晴朗。",
    "ko": "가을이 오면 나뭇잎이 붉고 노랗게 물들어요. 하늘은 높고 아주 맑아요.",
}
JAPANESE = "秋が来ると、木の葉は赤や金色に変わります。空は高くて澄んでいます。"
GERMAN = "Wenn der Herbst kommt, werden die Blätter rot und golden, und der Himmel ist hoch und sehr klar."
FRENCH = "Quand l'automne arrive, les feuilles deviennent rouges et dorées et le ciel est haut et très clair."
SPANISH = "Cuando llega el otoño, las hojas se vuelven rojas y doradas y el cielo es alto y muy claro."
DUTCH = "Als de herfst komt, worden de bladeren rood en goud en is de lucht hoog en heel erg helder."

Say = Callable[[str, bool, int], str]


class LlamaServer(Protocol):
    def url(self, model: str) -> str: ...


class Scripted(Client):
    """A client whose server says what a function of (prompt, streamed, number of the request) returns."""

    def __init__(self, say: Say, finish: str = "stop") -> None:
        self.model, self.say, self.finish, self.requests = "scripted", say, finish, 0  # no connection is ever opened

    def chat(self, messages: Sequence[Mapping[str, str]] | str, *, stream: bool = True, **options: Any) -> Answer:
        self.requests += 1
        prompt = messages if isinstance(messages, str) else messages[-1]["content"]
        return answer(self.say(prompt, stream, self.requests), streamed=stream, finish=self.finish)


def answer(text: str, *, streamed: bool = False, finish: str = "stop", **fields: Any) -> Answer:
    return Answer(200, text, finish_reason=finish, model="scripted", done=True, streamed=streamed, **fields)


def observed(language: Language, say: Say, finish: str = "stop") -> LanguageObserved:
    return ask(Scripted(say, finish), language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_prompts_are_written_in_their_language(language: Language) -> None:
    """At least eight native prompts, in the script they ask for; the others name it from outside or in the system."""
    prompts = prompts_for(language)
    native = [prompt for prompt in prompts if prompt.kind == "native"]
    assert len(native) >= 8
    assert all(script.wrong(language, prompt.user) is None for prompt in native)
    assert all(script.wrong(language, prompt.user) for prompt in prompts if prompt.kind == "named")
    assert {"named", "system"} <= {prompt.kind for prompt in prompts}
    assert all(bool(prompt.system) == (prompt.kind == "system") for prompt in prompts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, 123 🙂!", {Script.LATIN: 1.0}),
        ("你好！", {Script.HAN: 1.0}),
        ("안녕 ab", {Script.HANGUL: 0.5, Script.LATIN: 0.5}),
        ("カナかな", {Script.KANA: 1.0}),
        ("привет", {Script.CYRILLIC: 1.0}),
        ("ＡＢ", {Script.LATIN: 1.0}),
        ("ﾃｽﾄ", {Script.KANA: 1.0}),
        ("שלום", {Script.OTHER: 1.0}),
        ("12 345 🙂 — …\ufffd", {}),
    ],
)
def test_only_letters_are_counted(text: str, expected: dict[Script, float]) -> None:
    """Shares are of letters; digits, marks, blanks and emoji belong to no script."""
    assert script.shares(text) == expected


@pytest.mark.parametrize(
    ("language", "text", "right"),
    [
        ("en", SAID["en"], True), ("zh", SAID["zh"], True), ("ko", SAID["ko"], True),
        ("zh", JAPANESE, False), ("ko", JAPANESE, False), ("en", JAPANESE, False),
        ("zh", SAID["ko"], False), ("ko", SAID["zh"], False), ("zh", SAID["en"], False),
        ("en", GERMAN, False), ("en", FRENCH, False), ("en", SPANISH, False), ("en", DUTCH, False),
        ("zh", "東京都新宿区西新宿二丁目八番一号の都庁第一本庁舎は", False),
        ("en", "Café Zürich!", True),
        ("zh", "请用 Ctrl 键保存文件，然后关闭窗口并重新打开它。", True),
        ("ko", "파일을 PDF 형식으로 저장하려면 메뉴에서 저장을 선택하세요.", True),
        ("en", "", False), ("zh", "42!", False), ("ko", " \n", False),
    ],
)
def test_the_right_language(language: Language, text: str, right: bool) -> None:
    """Loan words pass; Japanese is not Chinese, long German is not English, and silence is no language."""
    assert (script.wrong(language, text) is None) is right


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_healthy_server_passes_every_check(language: Language) -> None:
    """Right answers pass, and no prompt is asked again."""
    client = Scripted(lambda *_: SAID[language])
    seen = ask(client, language)
    for check in (script, utf8, content):
        assert check.judge(seen).verdict is Verdict.PASS
    assert client.requests == 2 * len(prompts_for(language))


@pytest.mark.parametrize("other", [SAID["en"], JAPANESE, "😀 42"])
def test_another_language_every_time_fails(other: str) -> None:
    """A server that answers in something else is at fault."""
    judged = script.judge(observed("zh", lambda *_: other))
    assert (judged.verdict, judged.causes) == (Verdict.FAIL, ("wrong-language",))
    assert "11 of 11" in judged.reason


@pytest.mark.parametrize("stray", [
    lambda prompt, stream, number: stream,
    lambda prompt, stream, number: not stream,
    lambda prompt, stream, number: number % 4 < 2,
    lambda prompt, stream, number: number > 11,
])
def test_another_language_half_of_the_time_fails(stray: Callable[[str, bool, int], bool]) -> None:
    """Only streams, only whole answers, every other prompt, or from the middle on: all are seen."""
    say: Say = lambda prompt, stream, number: SAID["ko" if stray(prompt, stream, number) else "en"]  # noqa: E731
    assert script.judge(observed("en", say)).causes == ("wrong-language",)


def test_one_stray_prompt_passes() -> None:
    """A small model may miss one prompt in eleven, not two."""
    strays = [prompt.user for prompt in prompts_for("ko")]
    for count, verdict in ((1, Verdict.PASS), (2, Verdict.FAIL)):
        seen = observed("ko", lambda prompt, *_, n=count: SAID["en"] if prompt in strays[:n] else SAID["ko"])
        assert script.judge(seen).verdict is verdict


def test_failed_requests_never_pass() -> None:
    """A check whose requests failed says so, and says nothing of scripts."""
    prompt = prompts_for("en")[0]
    broken = Answer(500, failure=Failure.STATUS, message="boom")
    seen = LanguageObserved("en", (Asked(prompt, broken, broken),))
    for check in (script, utf8, content):
        judged = check.judge(seen)
        assert (judged.verdict, judged.causes) == (Verdict.FAIL, ("request-failed",))
        assert check.judge(LanguageObserved("en", ())).verdict is Verdict.ERROR


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (answer("天空\ufffd很高"), "replacement-character"),
        (answer("天空\ufffd"), "replacement-character"),
        (answer("天空\ufffd", finish="length"), None),
        (answer("天\ufffd空\ufffd", finish="length"), "replacement-character"),
        (answer("天空" + "\ufffd" * 9, finish="length"), "replacement-character"),
        (answer("天空 \ud83d"), "lone-surrogate"),
        (answer("天空", broken_utf8=True), "broken-utf8"),
        (answer("天空 🙂"), None),
    ],
)
def test_broken_characters(given: Answer, cause: str | None) -> None:
    """Nothing broken anywhere, but for the character that the token limit cut."""
    found = utf8.broken(given)
    assert (found[0] if found else None) == cause


@pytest.mark.parametrize(
    ("streamed", "whole", "finish", "same"),
    [
        ("挂着红红", "挂着红红的", "length", True),  # llama.cpp keeps the cut token back in a stream
        ("挂着红红\ufffd", "挂着红红", "length", True),
        ("挂着红红", "挂着红红的苹果", "length", False),
        ("挂着红红", "挂着红红的", "stop", False),
        ("挂着绿红的", "挂着红红的", "length", False),
        ("挂着红红的", "挂着红红的", "stop", True),
    ],
)
def test_a_cut_character_is_no_difference(streamed: str, whole: str, finish: str, same: bool) -> None:
    """Streams may end a cut character otherwise than whole answers; nothing else may differ."""
    assert agree(answer(streamed, streamed=True, finish=finish), answer(whole, finish=finish)) is same


def test_a_stream_that_differs_fails_after_three_looks() -> None:
    """A stream that always differs is confirmed against five equal whole answers, once."""
    client = Scripted(lambda prompt, stream, _: SAID["en"].replace("red", "green") if stream else SAID["en"])
    judged = utf8.judge(ask(client, "en"))
    assert (judged.verdict, judged.causes) == (Verdict.FAIL, ("stream-differs",))
    assert "green and gold" in judged.reason
    assert client.requests == 2 * len(prompts_for("en")) + 8


@pytest.mark.parametrize(
    ("strays", "verdict"), [((1,), Verdict.PASS), ((1, 8), Verdict.PASS), ((1, 8, 10), Verdict.FAIL)]
)
def test_two_of_three_streams_must_differ(strays: tuple[int, ...], verdict: Verdict) -> None:
    """The first prompt's requests: one stream, one whole, five wholes, three streams; one more stray is a near-tie."""
    seen = observed("en", lambda prompt, stream, number: SAID["en"] + (" Yes." if number in strays else ""))
    assert seen.asked[0].differs
    assert utf8.judge(seen).verdict is verdict


def test_differences_of_unstable_answers_are_inconclusive() -> None:
    """A server that never says the same twice cannot be judged by comparing."""
    judged = utf8.judge(observed("en", lambda prompt, stream, number: f"{SAID['en']} {number}"))
    assert (judged.verdict, judged.causes) == (Verdict.INCONCLUSIVE, ("unstable-answers",))


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("the the the the the the the the", True),
        ("!!!!!!!!!!!!!!!!", True),
        ("aaaaaaaaaaaaaaaa", True),
        ("그런데, 그런데, 그런데, 그런데, 그런데,", True),
        ("打印打印打印打印打印", True),
        ("I will go. no no no no no no no no no no no no", True),
        ("Click the file name of the file name of the file name of the file name of the file name.", False),
        ("请先保存文件，请先保存文件，请先保存文件，请先保存文件，", False),
        ("파일을 볼 수 있는 폴더를 선택합니다. 파일을 볼 수 있는 폴더를 선택합니다.", False),
        ("啦啦啦，和我一起唱", False), ("No, no, no!", False), ("哈哈哈哈", False), ("", False),
        (SAID["en"], False), (SAID["zh"], False), (SAID["ko"], False),
    ],
)
def test_one_token_repeated(text: str, looping: bool) -> None:
    """One or two tokens over and over are seen; sentences that a small model repeats are not this fault."""
    assert content.repeats(text) is looping


@pytest.mark.parametrize(
    ("prompt", "text", "echo"),
    [
        ("Write a song about autumn.", "Write a song about autumn.", True),
        ("Write a song about autumn.", "write a song about Autumn! When", True),
        ("写一首关于秋天的歌。", "写一首关于秋天的歌", True),
        ("Hello!", "Hello!", False), ("안녕하세요!", "안녕하세요! 오늘은 무엇을 도와드릴까요?", False),
        ("What comes after spring?", "Summer comes after spring.", False),
        ("描述一个下雨天。", SAID["zh"], False),
    ],
)
def test_an_echo(prompt: str, text: str, echo: bool) -> None:
    """The question given back is an echo; a greeting returned is not."""
    assert content.echoes(prompt, text) is echo


@pytest.mark.parametrize(
    ("say", "cause"),
    [
        (lambda *_: "", "empty-answer"),
        (lambda prompt, stream, number: "\u200b \n" if number == 9 else SAID["en"], "empty-answer"),
        (lambda prompt, *_: prompt, "echo"),
        (lambda prompt, *_: f"{prompt} {SAID['en']}", "echo"),
        (lambda *_: "the " * 24, "repeated-token"),
    ],
)
def test_answers_that_say_nothing_fail(say: Say, cause: str) -> None:
    """Emptiness, even once, echo and one token repeated fail under their names."""
    judged = content.judge(observed("en", say))
    assert (judged.verdict, judged.causes) == (Verdict.FAIL, (cause,))


@pytest.mark.parametrize("model", ["trilingual-2m", "trilingual-8m"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_real_server_passes(llama_server: LlamaServer, model: str, language: Language) -> None:
    """The models answer in their languages on a real llama.cpp, whole characters, stream as whole."""
    client = Client(llama_server.url(model), model)
    seen = ask(client, language)
    for check in (script, utf8, content):
        judged = check.judge(seen)
        assert judged.verdict is Verdict.PASS, judged
