"""Verdicts on faults: clients that leave, crowds, SIGTERM and SIGKILL, from what was seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from fixtures.deployment.events import Stop
from fixtures.faults import disconnect, ending, overload
from fixtures.faults.disconnect import DisconnectObserved
from fixtures.faults.overload import OverloadObserved
from fixtures.launchers.handle import Leftovers
from fixtures.load.answer import Answer, Failure
from fixtures.load.client import Client
from fixtures.verdict import Judgement, Verdict
from tests.scripted import CONTEXT, MODEL, serving

GOOD = Answer(200, "a song", finish_reason="stop", done=True, streamed=True, e2e_s=0.5)
LONG = replace(GOOD, e2e_s=4.0)
EMPTY = replace(GOOD, text="")
RESET = Answer(None, failure=Failure.DISCONNECT, message="connection reset by peer", streamed=True)
HANG = Answer(None, failure=Failure.TIMEOUT, message="ReadTimeout", streamed=True)
PASS = (Verdict.PASS, ())


def fails(*causes: str) -> tuple[Verdict, tuple[str, ...]]:
    """A fail of these causes."""
    return Verdict.FAIL, causes


def outcome(judgement: Judgement) -> tuple[Verdict, tuple[str, ...]]:
    """Verdict and causes; what is no pass has a reason."""
    assert judgement.verdict is Verdict.PASS or judgement.reason
    return judgement.verdict, judgement.causes


# --- clients that leave -------------------------------------------------------------------------------------------------

LEFT = DisconnectObserved(LONG, disconnect.STREAMS, 0.03, GOOD, 0.5)


@pytest.mark.parametrize(("observed", "expected"), [
    (LEFT, PASS),
    (replace(LEFT, busy_share=0.97), fails("works-for-nobody")),
    (replace(LEFT, busy_share=disconnect.BUSY_SHARE * 1.2), fails("works-for-nobody")),
    (replace(LEFT, busy_share=0.97, full=replace(LONG, e2e_s=0.2)), PASS),
    (replace(LEFT, busy_share=None), PASS),
    (replace(LEFT, busy_share=1.38, idle_share=1.35), PASS),
    (replace(LEFT, busy_share=0.97, idle_share=0.1), fails("works-for-nobody")),
    (replace(LEFT, busy_share=1.38, idle_share=1.35, looks=((1.2, 0.0),)), PASS),
    (replace(LEFT, busy_share=1.38, idle_share=1.35, looks=((1.2, 1.0), (3.1, 0.02))), PASS),
    (replace(LEFT, busy_share=1.38, idle_share=1.35, looks=((1.2, 1.0), (4.1, 0.93))), fails("works-for-nobody")),
    (replace(LEFT, busy_share=0.03, looks=((4.1, disconnect.BUSY_SHARE * 1.2),)), fails("works-for-nobody")),
    (replace(LEFT, full=replace(LONG, e2e_s=0.2), looks=((4.1, 1.0),)), fails("works-for-nobody")),
    (replace(LEFT, looks=((4.1, 0.4),), working=0.45), fails("works-for-nobody")),
    (replace(LEFT, looks=((1.2, 0.1),), working=0.45), PASS),
    (replace(LEFT, looks=((4.1, 0.2),), working=0.2), PASS),
    (replace(LEFT, opened=0), fails("stream-refused")),
    (replace(LEFT, opened=disconnect.STREAMS - 1), fails("stream-refused")),
    (replace(LEFT, full=replace(RESET, e2e_s=0.01), busy_share=0.97), fails("long-answer-failed")),
    (replace(LEFT, after=RESET), fails("dead-after-disconnect")),
    (replace(LEFT, after=EMPTY), fails("dead-after-disconnect")),
    (replace(LEFT, after_s=12.0), fails("slow-after-disconnect")),
])
def test_clients_that_leave(observed: DisconnectObserved, expected: tuple[Verdict, tuple[str, ...]]) -> None:
    """The streams were open, the work for them stopped, the next request was answered in time."""
    assert outcome(disconnect.judge(observed)) == expected


def test_work_that_was_over_anyway_is_not_judged_but_the_rest_is() -> None:
    """A fast server that finished the abandoned answers before the look: its idleness proves nothing, and the limit is
    not shown; a refused stream is still a refused stream."""
    fast = replace(LEFT, full=replace(LONG, e2e_s=0.2))
    assert disconnect.judge(fast).figures["busy_share"].limit is None
    assert disconnect.judge(LEFT).figures["busy_share"].limit == disconnect.BUSY_SHARE
    assert outcome(disconnect.judge(replace(fast, opened=2))) == fails("stream-refused")


def test_a_refusal_is_no_open_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 has a body too: its bytes are not an answer's first ones."""
    monkeypatch.setattr(disconnect, "NOTICE_S", 0.01)
    with serving() as server:
        client = Client(server.url, MODEL)
        healthy = disconnect.observe(client, CONTEXT, None)
        server.fault = "5xx-for-good"
        refusing = disconnect.observe(client, CONTEXT, None)
    assert (healthy.opened, healthy.full.ok, healthy.after.ok) == (disconnect.STREAMS, True, True)
    assert refusing.opened == 0
    assert outcome(disconnect.judge(refusing)) == fails("long-answer-failed", "stream-refused", "dead-after-disconnect")


@dataclass(frozen=True)
class Card:
    """A device that rests at the first look, works at the second and for some time after it."""

    works_s: float
    rests: bool = True
    looked: list[float] = field(default_factory=list)

    def held(self) -> None:
        """Not told."""

    used = held

    @contextmanager
    def stretch(self) -> Iterator[SimpleNamespace]:
        """What it does now; the load is told at the end."""
        seen = SimpleNamespace(utilisation_max=None, energy_j=None)
        yield seen
        self.looked.append(time.monotonic())
        idle = len(self.looked) != 2 and (len(self.looked) == 1 or time.monotonic() > self.looked[1] + self.works_s)
        seen.utilisation_max = 0.0 if idle and self.rests else 100.0


@pytest.mark.parametrize(("works_s", "expected"), [(0.0, PASS), (2.0, PASS), (60.0, fails("works-for-nobody"))])
def test_a_device_is_looked_at_until_it_rests(works_s: float, expected: tuple[Verdict, tuple[str, ...]],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang gives up two seconds after its client left: it is given that time, and no more than twice as much."""
    monkeypatch.setattr(disconnect, "NOTICE_S", 0.01)
    with serving() as server:
        observed = disconnect.observe(Client(server.url, MODEL), CONTEXT, None, Card(works_s))
    judged = disconnect.judge(replace(observed, full=LONG))
    assert outcome(judged) == expected
    until = judged.figures["device_until_s"]
    assert min(works_s, 4) <= until.value < disconnect.DEVICE_LIMIT_S + 1  # type: ignore[operator]
    assert until.limit == disconnect.DEVICE_LIMIT_S
    assert disconnect.judge(replace(observed, full=replace(LONG, e2e_s=0.001))).figures["device_until_s"].limit == (
        until.limit if works_s == 60 else None)


def test_a_device_that_others_keep_busy_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour works for somebody: the processor's time of the server's own processes is all there is."""
    monkeypatch.setattr(disconnect, "NOTICE_S", 0.01)
    monkeypatch.setattr(disconnect, "IDLE_LIMIT_S", 0.1)
    with serving() as server:
        observed = disconnect.observe(Client(server.url, MODEL), CONTEXT, lambda: 1.0, Card(60, rests=False))
    assert observed.looks == ()
    judged = disconnect.judge(replace(observed, full=LONG))
    assert judged.verdict is Verdict.PASS
    assert judged.figures["busy_share"].limit == disconnect.BUSY_SHARE


def test_a_server_that_is_gone_is_judged_too() -> None:
    """Nothing listens: every request fails, and nothing breaks."""
    observed = disconnect.observe(Client("http://127.0.0.1:9", MODEL), CONTEXT, None)
    assert disconnect.judge(observed).verdict is Verdict.FAIL


# --- crowds -------------------------------------------------------------------------------------------------------------

CROWD = OverloadObserved((GOOD,) * 64, 5.0, GOOD)


def refusal(status: int, body: str) -> Answer:
    """A refusal with this body."""
    return Answer(status, failure=Failure.STATUS, message=body, streamed=True)


BUSY = refusal(503, '{"error": {"message": "the queue is full", "code": 503}}')


@pytest.mark.parametrize(("some", "cause"), [
    (EMPTY, "empty-answers"),
    (replace(GOOD, done=False, finish_reason=None), "cut-off-answers"),
    (refusal(503, ""), "refused-without-words"),
    (refusal(429, "  \n"), "refused-without-words"),
    (refusal(503, '{"error": {"message": "", "code": 503, "param": null}}'), "refused-without-words"),
    (refusal(503, "<html><body></body></html>"), "refused-without-words"),
    (HANG, "hang"),
    (RESET, "failed-under-overload"),
    (Answer(None, failure=Failure.CONNECT, message="refused"), "failed-under-overload"),
    (refusal(500, "internal error"), "failed-under-overload"),
    (replace(GOOD, failure=Failure.STREAM_ERROR, message="out of memory"), "failed-under-overload"),
])
def test_one_of_a_crowd_that_fares_ill_fails(some: Answer, cause: str) -> None:
    """Each is answered or refused in words; 63 good answers make up for nothing."""
    assert outcome(overload.judge(replace(CROWD, answers=(*CROWD.answers[1:], some)))) == fails(cause)


@pytest.mark.parametrize("said", [BUSY, refusal(429, "Too Many Requests"), refusal(503, "请稍后再试"),
                                  refusal(503, "<h1>Service Unavailable</h1>")])
def test_a_refusal_in_words_is_fair(said: Answer) -> None:
    """In the API's form, in plain text or in HTML, in any language."""
    assert outcome(overload.judge(replace(CROWD, answers=(GOOD,) * 8 + (said,) * 56))) == PASS


def test_a_crowd_of_which_nobody_is_answered() -> None:
    """Refusing everybody politely is not serving."""
    assert outcome(overload.judge(replace(CROWD, answers=(BUSY,) * 64))) == fails("nothing-answered")
    assert overload.judge(replace(CROWD, answers=())).verdict is Verdict.FAIL


@pytest.mark.parametrize("after", [RESET, HANG, BUSY, EMPTY])
def test_the_next_request_is_answered(after: Answer) -> None:
    """The crowd is gone, so there is room."""
    assert outcome(overload.judge(replace(CROWD, after=after))) == fails("dead-after-overload")


def test_a_whole_crowd_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is kept, and a healthy server stands it."""
    monkeypatch.setattr(overload, "CROWD", 12)
    with serving() as server:
        observed = overload.observe(Client(server.url, MODEL))
    assert len(observed.answers) == 12
    assert outcome(overload.judge(observed)) == PASS


# --- the end ------------------------------------------------------------------------------------------------------------

TERM = Stop("a", "term", 0.4, 30.0, exit_code=0, stream=GOOD, stream_seconds=0.3)
KILL = Stop("a", "kill", 0.01, 10.0, exit_code=-9, stream=RESET, stream_seconds=0.02)
RUNNER = Stop("a", "kill", 0.05, 10.0)
ORPHAN = Leftovers(processes=("77 EngineCore",))
SHARED = Leftovers(shared_bytes=8 << 20, shared_files=("/dev/shm/psm_1",))
REFUSED = Answer(503, failure=Failure.MALFORMED, message="busy", streamed=True)

LEFT_BEHIND = [
    ({"leftovers": ORPHAN}, "process-left"),
    ({"leftovers": SHARED}, "memory-left"),
    ({"held_bytes": 60 << 20}, "memory-left"),
    ({"stream": None, "stream_seconds": None}, "client-left-hanging"),
    ({"stream": REFUSED}, "stream-refused"),
    ({"stream": RESET, "stream_seconds": 0.0}, "stream-refused"),
]


def test_healthy_endings_pass() -> None:
    """Drained, or broken off; the runner of a shared server has no stream of its own."""
    assert outcome(ending.judge_shutdown([TERM, replace(TERM, stream=RESET)])) == PASS
    assert outcome(ending.judge_kill([KILL, RUNNER])) == PASS


def test_a_stream_that_was_over_before_the_signal_is_no_fault() -> None:
    """A short answer on a busy machine: nobody was refused and nobody left hanging."""
    assert outcome(ending.judge_shutdown([replace(TERM, stream_seconds=0.0)])) == PASS


@pytest.mark.parametrize(("change", "cause"), LEFT_BEHIND)
def test_endings_that_leave_something(change: dict[str, object], cause: str) -> None:
    """An orphan, a file in /dev/shm, a client that is never told, and no stream to see the end of; among healthy ones."""
    assert outcome(ending.judge_shutdown([TERM, replace(TERM, **change)])) == fails(cause)  # type: ignore[arg-type]
    assert outcome(ending.judge_kill([KILL, replace(KILL, **change)])) == fails(cause)  # type: ignore[arg-type]


def test_a_server_that_does_not_end_hangs() -> None:
    """By SIGTERM within its limit, by SIGKILL at all."""
    shut = replace(TERM, seconds=None, exit_code=None, leftovers=ORPHAN)
    assert outcome(ending.judge_shutdown([TERM, shut])) == fails("hangs-on-shutdown", "process-left")
    killed = replace(KILL, seconds=None, exit_code=None, leftovers=ORPHAN)
    assert outcome(ending.judge_kill([killed])) == fails("survives-kill", "process-left")


def test_no_end_is_no_pass() -> None:
    """Nothing was stopped, so nothing was seen."""
    assert outcome(ending.judge_shutdown([])) == (Verdict.ERROR, ("no-samples",))
    assert outcome(ending.judge_kill([])) == (Verdict.ERROR, ("no-samples",))
