"""When an answer beside neighbours counts as changed, and when two names hide one server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pytest

from fixtures.coexistence.isolation import FEWEST_SHARED, PROBES, compare, judge, learn
from fixtures.load.answer import Answer, Failure
from fixtures.load.client import Client
from fixtures.verdict import Verdict

Say = Callable[[str, int], str | None]


class LlamaServer(Protocol):
    def url(self, model: str) -> str: ...


class Scripted(Client):
    """A client whose server says what a function of (prompt, times it was asked) returns; None is a failure."""

    def __init__(self, say: Say, model: str = "tiny", named: str | None = "tiny") -> None:
        self.model, self.say, self.named = model, say, named  # no connection is ever opened
        self.times: dict[str, int] = {}

    def chat(self, messages: Sequence[Mapping[str, str]] | str, *, stream: bool = True, **options: Any) -> Answer:
        assert isinstance(messages, str)
        self.times[messages] = self.times.get(messages, 0) + 1
        text = self.say(messages, self.times[messages])
        if text is None:
            return Answer(500, failure=Failure.STATUS, message="boom")
        return Answer(200, text, finish_reason="stop", model=self.named, done=True)


def plain(prompt: str, _: int) -> str:
    return f"about {prompt}"


def test_at_least_twelve_probes_over_three_languages() -> None:
    """Twelve different probes: Latin, Han and Hangul, four each."""
    assert len(set(PROBES)) == len(PROBES) == 12
    assert sum(prompt.isascii() for prompt in PROBES) == 4
    assert sum(any("가" <= character <= "힣" for character in prompt) for prompt in PROBES) == 4


def test_the_same_answers_pass() -> None:
    """Six requests a probe to learn, one to compare, and nothing to say."""
    client = Scripted(plain)
    baseline = learn(client)
    assert set(client.times.values()) == {6}
    judged = judge(baseline, [compare(client, baseline)])
    assert judged.verdict is Verdict.PASS
    assert set(client.times.values()) == {7}
    assert judged.figures["stable"].value == 12


def test_the_first_answer_only_warms_the_cache() -> None:
    """A first answer from a cold cache that differs makes no prompt unstable."""
    baseline = learn(Scripted(lambda prompt, times: f"{prompt} cold" if times == 1 else prompt))
    assert len(baseline.stable) == 12


def test_unstable_probes_are_left_out() -> None:
    """A probe that answers otherwise once in five is never compared."""
    wavering = PROBES[0]
    client = Scripted(lambda prompt, times: f"{prompt} {times}" if prompt == wavering and times == 6 else prompt)
    baseline = learn(client)
    assert [stable.prompt for stable in baseline.stable] == list(PROBES[1:])
    assert wavering not in {again.stable.prompt for again in compare(client, baseline).again}


@pytest.mark.parametrize(
    ("wrong_times", "verdict"),
    [((7,), Verdict.PASS), ((7, 9), Verdict.FAIL), ((7, 8), Verdict.FAIL), ((7, 8, 9), Verdict.FAIL)],
)
def test_two_of_three_differences_fail(wrong_times: tuple[int, ...], verdict: Verdict) -> None:
    """One difference is a near-tie; a second of three asks is a changed answer."""
    client = Scripted(lambda prompt, times: "other" if times in wrong_times else prompt)
    baseline = learn(client, PROBES[:1])
    assert judge(baseline, [compare(client, baseline)]).verdict is verdict


def test_nothing_stable_is_inconclusive() -> None:
    """Where no prompt answers the same five times, no difference means anything."""
    client = Scripted(lambda prompt, times: f"{times}")
    baseline = learn(client)
    judged = judge(baseline, [compare(client, baseline)])
    assert (judged.verdict, judged.causes) == (Verdict.INCONCLUSIVE, ("no-stable-prompts",))


def test_nothing_compared_never_passes() -> None:
    """A baseline alone is no evidence of isolation."""
    assert judge(learn(Scripted(plain)), []).verdict is Verdict.ERROR


@pytest.mark.parametrize("named", ["other", None, ""])
def test_an_answer_under_another_name_fails(named: str | None) -> None:
    """An answer must name the model that was asked."""
    client = Scripted(plain, named=named)
    baseline = learn(client)
    judged = judge(baseline, [compare(client, baseline)])
    assert (judged.verdict, judged.causes) == (Verdict.FAIL, ("wrong-model-name",))


def test_a_neighbours_answers_are_recognised() -> None:
    """A route that goes astray beside neighbours is named with the model whose answers came."""
    neighbour = learn(Scripted(lambda prompt, _: f"big {prompt}", "big", "big"))
    baseline = learn(Scripted(plain))
    astray = compare(Scripted(lambda prompt, _: f"big {prompt}"), baseline, "a neighbour under load")
    judged = judge(baseline, [astray], [neighbour])
    assert judged.causes == ("answers-changed",)
    assert "12 of 12" in judged.reason
    assert "what 'big' answers" in judged.reason


def test_one_server_behind_two_names_fails() -> None:
    """Two models of different sources do not answer every probe alike; on few probes they may."""
    client = Scripted(plain)
    baseline, twin = learn(client), learn(Scripted(plain, "big", "big"))
    assert judge(baseline, [compare(client, baseline)], [twin]).causes == ("same-answers-as-neighbour",)
    few = learn(client, PROBES[: FEWEST_SHARED - 1])
    assert judge(few, [compare(client, few)], [twin]).verdict is Verdict.PASS


def test_failed_requests_fail() -> None:
    """A probe without an answer is a fault, alone or beside neighbours."""
    baseline = learn(Scripted(plain))
    judged = judge(baseline, [compare(Scripted(lambda *_: None), baseline)])
    assert (judged.verdict, judged.causes) == (Verdict.FAIL, ("request-failed",))
    assert judge(learn(Scripted(lambda *_: None)), []).causes == ("request-failed",)


def test_real_models_are_isolated_and_told_apart(llama_server: LlamaServer) -> None:
    """Two real models pass beside each other; a client that is routed to the wrong one fails."""
    clients = [Client(llama_server.url(f"trilingual-{size}"), f"trilingual-{size}") for size in ("2m", "4m")]
    baselines = [learn(client) for client in clients]
    for client, baseline in zip(clients, baselines, strict=True):
        others = [other for other in baselines if other is not baseline]
        judged = judge(baseline, [compare(client, baseline)], others)
        assert judged.verdict is Verdict.PASS, judged
    astray = judge(baselines[0], [compare(clients[1], baselines[0])], baselines[1:])
    assert set(astray.causes) == {"wrong-model-name", "answers-changed"}
