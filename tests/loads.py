"""Loads as they would have been measured, made by hand to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fixtures.load import latency
from fixtures.load.answer import Answer, Failure, Usage
from fixtures.load.chunk import Chunk
from fixtures.load.result import Beside, ClientError, LoadResult, Noise
from fixtures.verdict import Verdict

ALL = ("ttft", "itl", "tpot", "e2e", "throughput")
OPEN = "open loop, 20 requests/s at equal distances"
FAILED = Answer(None, failure=Failure.DISCONNECT, message="connection reset", streamed=True)


def answer(ttft_s: float = 0.1, gap_s: float = 0.01, chunks: int = 12, tokens: int | None = 24) -> Answer:
    """A good streamed answer: `chunks` chunks, which are not its `tokens`."""
    made = tuple(Chunk(ttft_s + n * gap_s, "word ") for n in range(chunks))
    usage = None if tokens is None else Usage(9, tokens, 9 + tokens)
    return Answer(200, "word " * chunks, made, usage, "length", "m", True, True, ttft_s, made[-1].at_s)


def blurred(whole: Answer, *places: int, since_s: float | None = None) -> Answer:
    """The same answer with these chunks dated by a read that held more: they came after the chunk before, or `since_s`."""
    chunks = list(whole.chunks)
    for place in places:
        before = chunks[place - 1].at_s if place else 0.0
        chunks[place] = chunks[place]._replace(since_s=before if since_s is None else since_s)
    return replace(whole, chunks=tuple(chunks))


def queued(count: int, seats: int, apart_s: float) -> list[Answer]:
    """Answers of an open loop bounded to `seats`, one due each `apart_s`, each waiting until the server has answered those
    before it."""
    made: list[Answer] = []
    for number in range(count):
        due = 100 + number * apart_s
        free = sorted(one.started_s + one.e2e_s for one in made)[number - seats] if number >= seats else due
        made.append(answer().starting(max(due, free), max(0.0, free - due)))
    return made


def load(answers: Sequence[Answer], seconds: float = 8.0, beside: tuple[Beside, ...] = (), arrivals: str = "closed loop",
         concurrency: int | None = 4, client: ClientError = ClientError(), noise: Noise | None = None) -> LoadResult:
    """The answers as one load."""
    return LoadResult(tuple(answers), seconds, concurrency, 24, beside, arrivals, client, noise)


def verdict(result: LoadResult, figures: Sequence[str] = ALL, /, **limits: float) -> tuple[Verdict, tuple[str, ...]]:
    """Verdict and causes."""
    judgement = latency.judge(result, limits, figures)
    assert judgement.verdict is Verdict.PASS or judgement.reason
    return judgement.verdict, judgement.causes


HEALTHY = load([answer()] * 64)
PASS, FAIL = Verdict.PASS, Verdict.FAIL


def open_(cause: str) -> tuple[Verdict, tuple[str, ...]]:
    """Inconclusive for this cause."""
    return Verdict.INCONCLUSIVE, (cause,)
