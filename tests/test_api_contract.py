"""api.contract passes a server that keeps the API and names the one thing that a broken one does wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.api import contract
from fixtures.api.agreement import difference
from fixtures.api.exchange import Exchange
from fixtures.api.flow import Flow, judge_flow, tail_share
from fixtures.api.limit import Lengths, judge_id_prompt, judge_lengths
from fixtures.api.stop import piece_of
from fixtures.api.subject import Route, Subject
from fixtures.load.answer import Answer, Usage
from fixtures.load.chunk import Chunk
from fixtures.load.client import Client
from fixtures.verdict import Problems, Verdict
from tests.scripted import CONTEXT, FLOWS, MODEL, VOCABULARY, serving

SUBJECT = Subject(MODEL, CONTEXT, VOCABULARY, "Tell me of the spring")
SHORT_S, LONG_S = 0.01, 0.16

FAULTS = {
    "model-not-listed": {"model-not-listed"},
    "wrong-model-name": {"wrong-model-name"},
    "empty": {"empty-answer"},
    "buffered": {"buffered-stream"},
    "held-after-first": {"buffered-stream"},
    "paced": {"generated-before-streaming"},
    "drops-a-chunk": {"dropped-chunks"},
    "repeats-a-chunk": {"repeated-chunks"},
    "other-text": {"stream-differs"},
    "missing-usage": {"missing-usage"},
    "wrong-usage": {"wrong-usage"},
    "wrong-stream-usage": {"wrong-usage"},
    "constant-prompt": {"wrong-usage"},
    "overrun": {"overrun"},
    "always-stop": {"wrong-finish-reason"},
    "always-length": {"wrong-finish-reason"},
    "two-finishes": {"repeated-finish-reason"},
    "no-end-mark": {"no-end-mark"},
    "no-role": {"no-role"},
    "error-in-stream": {"stream-error"},
    "ignores-stop": {"stop-leaked"},
    "5xx-for-good": {"5xx"},
}


def observed(fault: str = "") -> contract.ContractObserved:
    """What the check sees of a scripted server."""
    with serving(fault) as server:
        return contract.observe(Client(server.url, MODEL, timeout_s=5), SUBJECT,
                                long_s=LONG_S if fault in FLOWS else SHORT_S)


@pytest.fixture(scope="module", name="seen")
def healthy() -> contract.ContractObserved:
    """What the check sees of a server that keeps the API."""
    return observed()


def test_a_server_that_keeps_the_api_passes(seen: contract.ContractObserved) -> None:
    """Everything is asked and nothing is wrong."""
    judgement = contract.judge(seen)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert seen.flow is not None
    assert seen.flow.measurable
    assert len(seen.stops) == len(seen.counted) == len(Route)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    """One planted fault fails with exactly its own cause."""
    judgement = contract.judge(observed(fault))
    assert judgement.verdict is Verdict.FAIL
    assert set(judgement.causes) == FAULTS[fault], judgement.reason


def test_a_server_that_is_gone_is_asked_once() -> None:
    """A refused connection ends the asking, and never passes."""
    with serving() as server:
        url = server.url
    seen = contract.observe(Client(url, MODEL, timeout_s=2), SUBJECT)
    assert len(seen.exchanges) == 1
    assert "no-connection" in contract.judge(seen).causes


def test_nothing_observed_never_passes() -> None:
    """An empty observation is not a pass."""
    nothing = contract.ContractObserved(MODEL, (MODEL,), (), (), (), (), (), None, None)
    assert contract.judge(nothing).verdict is not Verdict.PASS


def test_wavering_answers_are_inconclusive(seen: contract.ContractObserved) -> None:
    """Answers that differ between equal requests leave the comparison open, and one difference of three is no fault."""
    first = seen.agreements[0]
    odd = replace(first.streamed[0], answer=replace(first.streamed[0].answer, text="a near-tie"))
    tied = replace(seen, agreements=(replace(first, streamed=(odd, *first.streamed[1:])), *seen.agreements[1:]))
    assert contract.judge(tied).verdict is Verdict.PASS
    wavering = replace(first, whole=(odd, *first.whole[1:]))
    unsteady = contract.judge(replace(seen, agreements=(wavering, *seen.agreements[1:])))
    assert unsteady.verdict is Verdict.INCONCLUSIVE
    assert unsteady.causes == ("unsteady-answers",)


def test_short_answers_are_inconclusive(seen: contract.ContractObserved) -> None:
    """Where no answer is long enough to see it flow, a pass would claim too much."""
    assert contract.judge(replace(seen, flow=None)).causes == ("too-short-to-tell",)


@pytest.mark.parametrize(("joined", "cause"), [
    ("a bird sang", "dropped-chunks"),
    ("a small small bird sang", "repeated-chunks"),
    ("a small dog sang", "stream-differs"),
])
def test_differences_are_told_apart(joined: str, cause: str) -> None:
    """What is left out, what is said twice and what is merely different have their own causes."""
    assert difference("a small bird sang", joined) == cause


@pytest.mark.parametrize(("times", "cause"), [
    ([0.01 * n for n in range(1, 41)], None),
    ([0.4 + 0.0001 * n for n in range(40)], "buffered-stream"),
    ([0.4 + 0.01 * n for n in range(40)], "generated-before-streaming"),
    ([0.01, *[0.4] * 39], "buffered-stream"),
    ([0.01 + 0.005 * n for n in range(40)], None),
])
def test_the_flow_is_judged_by_its_times(times: list[float], cause: str | None) -> None:
    """Even spread passes; all at the end, all after the generation, and one early chunk before the rest do not."""
    usage = Usage(5, 40, 45)

    def exchange(answer: Answer, streamed: bool) -> Exchange:
        return Exchange(Route.CHAT, "x", streamed, 40, None, answer)

    chunks = tuple(Chunk(at, "word ") for at in times)
    long = Answer(200, "word " * 40, chunks, usage, ttft_s=times[0], e2e_s=times[-1], streamed=True)
    whole, one = Answer(200, "word " * 40, usage=usage, e2e_s=0.41), Answer(200, "word", ttft_s=0.01, e2e_s=0.01)
    flow = Flow((exchange(long, True),) * 5, (exchange(whole, False),) * 3, (exchange(one, True),) * 5)
    problems = Problems()
    judge_flow(flow, problems)
    assert problems.causes == ((cause,) if cause else ())
    assert flow.late_share == pytest.approx((times[0] - 0.01) / 0.4)


def test_the_tail_of_one_chunk_is_everything() -> None:
    """An answer in a single chunk came all at its end."""
    assert tail_share(Answer(200, "all of it", (Chunk(1.0, "all of it"),)), 0.1) == 1.0


@pytest.mark.parametrize(("counts", "wrong"), [((5, 9, 13), False), ((5, 9, 14), False), ((5, 5, 5), True),
                                               ((5, 9, 20), True), ((5, None, 13), False)])
def test_prompts_must_grow_evenly(counts: tuple[int | None, ...], wrong: bool) -> None:
    """The same text again adds the same count, one merged token allowed; a missing count is judged elsewhere."""
    problems = Problems()
    judge_lengths(Lengths(Route.CHAT, counts), problems)
    assert bool(problems) is wrong


@pytest.mark.parametrize(("count", "wrong"), [(12, False), (13, False), (None, False), (11, True), (24, True)])
def test_a_prompt_of_ids_is_counted_by_them(count: int | None, wrong: bool) -> None:
    """Twelve ids are twelve tokens, thirteen with a beginning of text."""
    problems = Problems()
    judge_id_prompt(count, problems)
    assert bool(problems) is wrong


def test_the_stop_string_stands_in_the_text() -> None:
    """The piece is in the text, and what is left ends where it first occurs; a short text has none."""
    text = " the snow on the mountains melts and the first flowers open"
    found = piece_of(text)
    assert found is not None
    assert text.startswith(found[1] + found[0])
    assert text.index(found[0]) == len(found[1])
    assert piece_of("short") is None
