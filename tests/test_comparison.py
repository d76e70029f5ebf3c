"""The comparison: equal work for every engine, and a table that says where it was not equal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.load import comparison, loop
from fixtures.load.answer import Answer, Failure, Usage
from fixtures.load.chunk import Chunk
from fixtures.load.client import Client
from fixtures.load.comparison import Contender
from fixtures.load.prompts import Prompts
from fixtures.load.result import LoadResult
from tests.conftest import MODELS, NAMES, LlamaServers

FAILED = Answer(None, failure=Failure.TIMEOUT, streamed=True)


def answer(ttft_s: float = 0.1, gap_s: float = 0.01, tokens: int = 20, prompt_tokens: int = 70) -> Answer:
    """An answer of one chunk a token."""
    chunks = tuple(Chunk(ttft_s + n * gap_s, "word ") for n in range(tokens))
    usage = Usage(prompt_tokens, tokens, prompt_tokens + tokens)
    return Answer(200, "word " * tokens, chunks, usage, "length", "m", True, True, ttft_s, chunks[-1].at_s)


def merged() -> Answer:
    """Every second chunk was read together with the one after it, so it came somewhere in the 10 ms before:
    half of the gaps are 0 to 10 ms, half 10 to 20."""
    whole = answer()
    chunks = tuple(Chunk(chunk.at_s, chunk.text, since_s=chunk.at_s - 0.01 if place % 2 else None)
                   for place, chunk in enumerate(whole.chunks))
    return replace(whole, chunks=chunks)


def contender(engine: str = "vllm", answers: tuple[Answer, ...] = (answer(),) * 64, weights: str = "bfloat16",
              ignores_eos: bool = True) -> Contender:
    """What it answered in eight seconds."""
    result = LoadResult(answers, 8.0, 4, 20, arrivals="closed loop of 4")
    return Contender(engine, "1.2", "tiny", weights, ignores_eos, result)


def notes(*contenders: Contender) -> list[str]:
    """What is said below their table."""
    return comparison.notes([comparison.measure(one) for one in contenders])


def test_the_figures_are_those_of_the_answers() -> None:
    """Sixty-four answers of a known time: half of them 100 ms, half 200 ms to the first token."""
    line = comparison.measure(contender(answers=(answer(),) * 32 + (answer(ttft_s=0.2, gap_s=0.03),) * 32))
    assert (line.prompt_tokens, line.output_tokens, line.gaps) == (70, 20, 64 * 19)
    assert line.tokens_per_s == 64 * 20 / 8
    times = (line.ttft_p50, line.ttft_p95, line.itl_p50, line.itl_p95, line.tpot_p50)
    assert times == pytest.approx((150, 200, 20, 30, 20))


def test_equal_work_needs_no_note() -> None:
    """And the table has a row for each, with the same number of columns."""
    both = [contender("vllm"), contender("sglang")]
    assert not notes(*both)
    table = [line for line in comparison.markdown(both).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(comparison.HEADINGS) + 1}
    assert [line.split("|")[1].strip() for line in table[2:]] == ["vllm 1.2", "sglang 1.2"]
    assert "64 requests each, closed loop of 4, at most 20 output tokens" in comparison.plain(both)


def test_shorter_answers_are_told_with_their_reason() -> None:
    """They make the rate another one; an engine that was told to go on and did not is told apart."""
    short = (answer(tokens=20),) * 40 + (answer(tokens=12),) * 24
    (told,) = notes(contender("ollama", short, ignores_eos=False))
    assert told.startswith("ollama tiny: 24 of 64 answers have another length than 20 tokens (because the model ended")
    assert comparison.measure(contender("ollama", short)).output_tokens == 17
    assert "although it was asked" in notes(contender("vllm", short))[0]


@pytest.mark.parametrize(("other", "words"), [
    (contender("ollama", weights="Q4_K_M"), "the weights differ or are not known (vllm bfloat16, ollama Q4_K_M)"),
    (contender("ollama", weights=""), "the weights differ or are not known (vllm bfloat16, ollama unknown)"),
    (contender("ollama", (answer(prompt_tokens=75),) * 64), "count other prompt tokens (vllm 70, ollama 75)"),
    (contender("ollama", (answer(),) * 60 + (FAILED,) * 4), "4 of 64 requests failed: {'timeout': 4}"),
    (contender("ollama", (answer(),) * 63 + (replace(answer(), usage=None),)), "so there is no rate"),
    (contender("ollama", (merged(),) * 64), "so its ITL p95 lies between 10 and 20 ms"),
])
def test_what_is_unequal_is_said(other: Contender, words: str) -> None:
    """Once, in both forms of the table."""
    (note,) = notes(contender("vllm"), other)
    assert words in note
    assert comparison.plain([contender("vllm"), other]).count(words) == 1
    assert len(comparison.markdown([contender("vllm"), other]).splitlines()) == 2 + 2 + 1 + 1 + 1 + 1


def test_another_model_is_no_difference() -> None:
    """Weights are compared within a model."""
    assert not notes(contender(), replace(contender("ollama", weights="Q8_0"), model="other"))


def test_too_few_samples_are_no_figure() -> None:
    """p95 of forty answers is none, and of failures there is nothing at all."""
    few = comparison.measure(contender(answers=(answer(),) * 40 + (FAILED,) * 24))
    assert few.ttft_p50 is not None
    assert few.ttft_p95 is None
    none = comparison.measure(contender(answers=(FAILED,) * 64))
    assert none.shown[4:] == ("–",) * 6 + ("0", "–", "–")
    assert none.shown[3] == "0 of 64"


def test_other_work_is_no_comparison() -> None:
    """Another load is refused, and no load at all."""
    with pytest.raises(ValueError, match="not the same work"):
        comparison.plain([contender(), contender("ollama", (answer(),) * 63)])
    with pytest.raises(ValueError, match="not the same work"):
        comparison.markdown([])


def test_names_from_a_server_cannot_break_the_table() -> None:
    """A version is the server's own word."""
    evil = replace(contender(), version="1 | <b>\n|x\x1b[31m")
    rows = [line for line in comparison.markdown([evil]).splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert rows[2].replace("\\|", "").count("|") == len(comparison.HEADINGS) + 1
    assert "<b>" not in rows[2]
    assert "\x1b" not in comparison.plain([evil])


def test_a_real_engine_does_equal_work(llama_server: LlamaServers) -> None:
    """llama.cpp knows ignore_eos: every answer is as long as asked, and prompts of equal length count the same."""
    name = NAMES[0]
    workload = comparison.workload(Prompts.of_model(MODELS / name), ("en", "zh", "ko"), ignore_eos=True, prompt_tokens=24,
                                   output_tokens=40, requests=10)
    assert len(workload.asks) == 12
    result = loop.run(Client(llama_server.url(name), name), workload)
    one = Contender("llamacpp", "", name, "float32", True, result)
    assert comparison.measure(one).output_tokens == 40
    assert len({made.usage.prompt_tokens for made in result.good if made.usage}) == 1
    assert not [note for note in notes(one) if "ITL p95 lies between" not in note]
