"""The gateway's judges on observations made by hand: what passes, what fails, and what cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.coexistence.isolation import Again, Baseline, Observed, Stable
from fixtures.gateway import down, health, route, stream
from fixtures.gateway.door import openai_error
from fixtures.gateway.down import ObservedDown
from fixtures.gateway.health import Bad, ObservedHealth
from fixtures.gateway.route import Hard, Logged, ObservedRoutes
from fixtures.gateway.stream import ObservedStream, Trace
from fixtures.load.answer import Answer, Failure, Reply
from fixtures.load.traffic import Sent
from fixtures.verdict import Judgement, Verdict

ERROR = {"error": {"message": "no", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}


def verdict(judgement: Judgement) -> tuple[Verdict, tuple[str, ...]]:
    return judgement.verdict, judgement.causes


# --- route ------------------------------------------------------------------------------------------------------------

A, B = Stable("Hello?", "one"), Stable("Hello?", "two")


def chat(text: str) -> Reply:
    return Reply(200, json={"choices": [{"message": {"content": text}}]})


def through(name: str, stable: Stable, *texts: str) -> Observed:
    return Observed(name, "the gateway", (Again(stable, texts),), (name,))


ROUTED = ObservedRoutes(
    {"a": Baseline("a", 1, (A,)), "b": Baseline("b", 1, (B,))}, {"a": through("a", A, "one"), "b": through("b", B, "two")},
    {"a": Hard(A, (chat("one"),)), "b": Hard(B, (chat("two"),))}, Reply(404, json=ERROR), Reply(400, json=ERROR),
    ("a", "b"), {})


def test_a_gateway_that_routes_passes() -> None:
    """Also by the path, where nothing is listed and every request names a model; one answer that differs is a near-tie."""
    assert route.judge(ROUTED).verdict is Verdict.PASS
    assert route.judge(replace(ROUTED, nameless=None, listed=None)).verdict is Verdict.PASS
    tie = {**ROUTED.through, "b": through("b", B, "three", "two", "two")}
    assert route.judge(replace(ROUTED, through=tie)).verdict is Verdict.PASS


@pytest.mark.parametrize(("change", "cause"), [
    ({"through": {**ROUTED.through, "b": through("b", B, "one", "one", "one")}}, "another-model-answers"),
    ({"through": {**ROUTED.through, "b": through("b", B, "three", "three", "two")}}, "answers-changed"),
    ({"through": {**ROUTED.through, "b": replace(ROUTED.through["b"], names=("a",))}}, "wrong-model-name"),
    ({"through": {**ROUTED.through, "b": replace(ROUTED.through["b"], failures=("status 502",))}}, "request-failed"),
    ({"hard": {**ROUTED.hard, "b": Hard(B, (chat("one"), chat("one"), chat("two")))}}, "late-name-misrouted"),
    ({"hard": {**ROUTED.hard, "b": Hard(B, (Reply(413),))}}, "late-name-failed"),
    ({"unknown": Reply(500, json=ERROR)}, "unknown-model-not-404"),
    ({"unknown": chat("one")}, "unknown-model-not-404"),
    ({"unknown": Reply(404, "<html>")}, "no-openai-error"),
    ({"unknown": Reply(404, json={"error": {"message": "no", "type": "x", "code": 404}})}, "wrong-error-code"),
    ({"nameless": chat("one")}, "nameless-not-refused"),
    ({"nameless": Reply(500, json=ERROR)}, "nameless-not-refused"),
    ({"listed": ("a",)}, "model-not-listed"),
    ({"logged": {"b": Logged(3, 0)}}, "server-not-asked"),
])
def test_a_gateway_that_does_not_route_fails(change: dict[str, object], cause: str) -> None:
    """Each with its own cause and nothing else."""
    assert verdict(route.judge(replace(ROUTED, **change))) == (Verdict.FAIL, (cause,))  # type: ignore[arg-type]


def test_models_that_nothing_tells_apart_are_no_pass() -> None:
    """The same weights under two names, or answers that are never the same: only the logs can tell."""
    same = {"a": Baseline("a", 1, (A,)), "b": Baseline("b", 1, (A,))}
    for direct in (same, {name: Baseline(name, 1, ()) for name in "ab"}):
        silent = {name: Observed(name, "the gateway", (), (name,)) for name in "ab"}
        observed = replace(ROUTED, direct=direct, through=silent, hard={name: Hard(None, (chat("x"),)) for name in "ab"})
        assert verdict(route.judge(observed)) == (Verdict.INCONCLUSIVE, ("models-alike",))
        logged = {name: Logged(3, 3) for name in "ab"}
        assert route.judge(replace(observed, logged=logged)).verdict is Verdict.PASS
        assert route.judge(replace(observed, logged={**logged, "b": Logged(2, 0)})).verdict is Verdict.INCONCLUSIVE


def test_a_request_that_no_server_takes_is_not_the_gateways_fault() -> None:
    """The model itself refuses what names it last, behind fields that it does not know."""
    observed = replace(ROUTED, hard={**ROUTED.hard, "b": Hard(B, (Reply(422),), refused=True)})
    assert route.judge(observed).verdict is Verdict.PASS


# --- stream -----------------------------------------------------------------------------------------------------------


def trace(*moments: float) -> Trace:
    return Trace(moments, moments[-1] + 0.001, True)


def steady(count: int = 40, pace: float = 0.01, first: float = 0.1, burst: int = 1) -> Trace:
    """Chunks at this pace, held until so many are there."""
    return trace(*(first + pace * (at - at % burst + burst - 1) for at in range(count)))


@pytest.mark.parametrize("held", [steady(), steady(first=0.3), steady(first=0.11),
                                  trace(*(0.1 + 0.01 * at + 0.004 * (at % 2) for at in range(40)))])
def test_a_stream_that_comes_as_it_is_made_passes(held: Trace) -> None:
    """Later as a whole, or unsteady as machines are."""
    assert stream.judge(ObservedStream("a", (steady(),) * 3, (held,) * 3)).verdict is Verdict.PASS


@pytest.mark.parametrize(("held", "cause"), [
    (steady(burst=40), "buffered-to-the-end"), (steady(burst=15), "buffered-in-pieces"),
    (steady(burst=4), "buffered-in-pieces"), (steady(count=10, pace=0.04), "buffered-in-pieces"),
    (trace(*(max(0.24, 0.1 + 0.01 * at) for at in range(40))), "first-words-held"),
    (steady(first=1.1), "late-first-word"),
    (replace(steady(), whole=False), "stream-cut"), (replace(steady(), whole=False, problem="status 502"), "stream-failed"),
])
def test_a_stream_that_is_held_back_fails(held: Trace, cause: str) -> None:
    """Until the end, in pieces, joined into fewer chunks, at its beginning, or as a whole; or it breaks."""
    assert verdict(stream.judge(ObservedStream("a", (steady(),) * 3, (held,) * 3))) == (Verdict.FAIL, (cause,))


def test_a_busy_machine_brings_chunks_together_but_not_always() -> None:
    """One stream that comes apart shows that nothing is held; disturbed ones from the server excuse no gateway."""
    held = steady(burst=15)
    assert stream.judge(ObservedStream("a", (steady(),) * 3, (held, held, steady()))).verdict is Verdict.PASS
    assert stream.judge(ObservedStream("a", (held, held, steady()), (held,) * 3)).verdict is Verdict.FAIL


def test_one_good_stream_of_many_is_no_pass() -> None:
    """One gateway of two that buffers gives good streams by chance: where most are held back nothing is said."""
    held = steady(burst=15)
    mostly = ObservedStream("a", (steady(),) * 8, (*(held,) * 7, steady()))
    assert verdict(stream.judge(mostly)) == (Verdict.INCONCLUSIVE, ("mostly-held-back",))
    busy = ObservedStream("a", (*(held,) * 7, steady()), (*(held,) * 7, steady()))
    assert stream.judge(busy).verdict is Verdict.PASS
    assert stream.judge(busy).figures["rounds_held_back"].value == 0


def test_a_server_that_sends_in_pieces_itself() -> None:
    """Of its pieces no gateway is guilty; where it does not stream, or the answer is tiny, nothing can be said."""
    pieces = (steady(count=160, burst=8),) * 3
    assert stream.judge(ObservedStream("a", pieces, pieces)).verdict is Verdict.PASS
    for few in ((steady(burst=40),) * 3, (steady(count=3),) * 3):
        assert verdict(stream.judge(ObservedStream("a", few, few))) == (Verdict.INCONCLUSIVE, ("server-hardly-streams",))


def test_streams_that_never_came_are_no_pass() -> None:
    """Straight from the server, so that there is nothing to compare with."""
    broken = (replace(steady(), whole=False, problem="refused"),) * 3
    assert stream.judge(ObservedStream("a", broken, (steady(),) * 3)).verdict is Verdict.ERROR


# --- down -------------------------------------------------------------------------------------------------------------

GOOD = Answer(200, text="word", done=True, streamed=True)
REFUSED = Answer(503, failure=Failure.STATUS, raw='{"error": {"message": "down", "type": "server_error"}}')
BROKEN = Answer(200, failure=Failure.DISCONNECT, streamed=True)
# The victim dies at 10, begins to start again at 20 and is ready at 25.
VICTIMS = Sent(9, 10.1, BROKEN), Sent(10.5, 10.6, REFUSED), Sent(11, 11.1, REFUSED), Sent(25.5, 26, GOOD)
OTHERS = tuple(Sent(at - 1.5, at + 0.5, GOOD) for at in range(8, 30, 2))
DOWN = ObservedDown("b", {"a": OTHERS, "b": VICTIMS}, 10, 20, 25)
WRONG = replace(REFUSED, status=404)


def dead(**change: object) -> ObservedDown:
    return replace(DOWN, **change)  # type: ignore[arg-type]


def victims(*sent: Sent) -> ObservedDown:
    return dead(sent={**DOWN.sent, "b": sent})


def test_a_gateway_that_bears_a_dead_model_passes() -> None:
    """Whoever told it where the model is now is evidence."""
    assert down.judge(DOWN).verdict is Verdict.PASS
    assert down.judge(DOWN).samples["return"] == "nobody told the gateway"


@pytest.mark.parametrize(("observed", "cause"), [
    (dead(sent={**DOWN.sent, "a": (Sent(8.5, 10.5, BROKEN), Sent(12, 13, GOOD))}), "neighbours-stream-broken"),
    (dead(sent={**DOWN.sent, "a": (Sent(8.5, 10.5, GOOD), Sent(11, 12, REFUSED), Sent(12, 13, GOOD))}), "neighbour-failed"),
    (dead(sent={**DOWN.sent, "a": (Sent(8.5, 10.5, GOOD),)}), "neighbour-silent"),
    (victims(Sent(9, 70, BROKEN), Sent(70, 70.1, REFUSED), *VICTIMS[1:]), "client-left-hanging"),
    (victims(Sent(10.5, 25.6, Answer(None, failure=Failure.TIMEOUT)), VICTIMS[-1]), "hangs-on-dead-model"),
    (victims(Sent(10.5, 10.6, WRONG), VICTIMS[-1]), "dead-model-not-5xx"),
    (victims(Sent(10.5, 10.6, GOOD), VICTIMS[-1]), "dead-model-not-5xx"),
    (victims(Sent(10.5, 10.6, replace(REFUSED, raw="<html>502</html>")), VICTIMS[-1]), "no-openai-error"),
    (victims(*VICTIMS[:3], Sent(41, 42, GOOD)), "not-served-again"),
    (victims(*VICTIMS[:3], Sent(26, 26.1, REFUSED)), "not-served-again"),
])
def test_a_gateway_that_does_not_bear_it_fails(observed: ObservedDown, cause: str) -> None:
    """Each with its own cause and nothing else."""
    assert verdict(down.judge(observed)) == (Verdict.FAIL, (cause,))


@pytest.mark.parametrize(("observed", "outcome"), [
    (dead(ready=None), (Verdict.INCONCLUSIVE, ("model-not-back",))),
    (dead(sent={**DOWN.sent, "a": (Sent(8, 9.9, GOOD), Sent(10.1, 11, GOOD))}), (Verdict.INCONCLUSIVE, ("no-stream-open",))),
    (victims(VICTIMS[-1]), (Verdict.ERROR, ("no-samples",))),
])
def test_what_was_not_seen_is_no_pass(observed: ObservedDown, outcome: object) -> None:
    """A model that does not start again, no stream over the death, no request for the dead model."""
    assert verdict(down.judge(observed)) == outcome


# --- health -----------------------------------------------------------------------------------------------------------

UP = Reply(200, '{"status": "ok"}')


def states(status: int, **models: str) -> Reply:
    return Reply(status, str(models), {"models": models})


def said(reply: Reply, how: str = "dead", up: Reply = UP, again: Reply | None = UP) -> tuple[Verdict, tuple[str, ...]]:
    return verdict(health.judge(ObservedHealth(("b", "b-large"), up, (Bad("b", how, reply),), again)))


@pytest.mark.parametrize("reply", [states(503, **{"b": "silent", "b-large": "ok"}), Reply(503, "no token from b")])
def test_the_truth_passes(reply: Reply) -> None:
    """With a state for each model, or the name of the one that is gone."""
    assert said(reply) == (Verdict.PASS, ())


@pytest.mark.parametrize(("reply", "cause"), [
    (UP, "healthy-while-dead"), (Reply(None, failure=Failure.TIMEOUT), "health-hangs"), (Reply(500, "b"), "not-503"),
    (Reply(503, "something is wrong"), "culprit-not-named"), (Reply(503, "no token from b-large"), "culprit-not-named"),
    (states(503, **{"b": "silent", "b-large": "silent"}), "wrong-model-blamed"),
    (Reply(503, "one of b, b-large"), "wrong-model-blamed"),
])
def test_another_word_fails(reply: Reply, cause: str) -> None:
    """Each with its own cause; a name that is part of another is not that name."""
    assert said(reply) == (Verdict.FAIL, (cause,))


def test_a_word_that_never_changes_fails_either_way() -> None:
    """Always well, always ill, and ill for good."""
    ill = Reply(503, "no token from b")
    assert said(UP, how="silent") == (Verdict.FAIL, ("healthy-while-silent",))
    assert said(ill, up=ill) == (Verdict.FAIL, ("unhealthy-though-all-answer",))
    assert said(ill, again=ill) == (Verdict.FAIL, ("unhealthy-though-all-answer",))


def test_only_well_was_seen() -> None:
    """Of somebody else's servers: no pass, but a fail where even that was wrong."""
    assert verdict(health.judge(ObservedHealth(("a",), UP, (), None))) == (Verdict.UNAVAILABLE, ("not-ours",))
    assert health.judge(ObservedHealth(("a",), Reply(404), (), None)).verdict is Verdict.FAIL


# --- what an OpenAI error is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["<html>", "", "[]", "null", '{"error": "no"}', '{"error": {"message": ""}}',
                                  '{"detail": "no"}', '{"error": {"message": "no"}}', None, 5])
def test_what_is_no_openai_error(body: object) -> None:
    """HTML, FastAPI's detail, a bare word."""
    assert openai_error(body) is None


def test_what_is_one() -> None:
    """As text or JSON."""
    assert openai_error(ERROR) == openai_error(REFUSED.raw) | ERROR["error"]  # type: ignore[operator]
