"""Every way of asking: what is asked, which broken server fails by which way, and that a recording is judged alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fixtures.kernels import live
from fixtures.kernels.case import Case
from fixtures.kernels.residency import Residency
from fixtures.kernels.said import Said
from fixtures.load.client import Client
from fixtures.verdict import Judgement, Verdict
from tests import kernel_server
from tests.kernel_server import CONTEXT, serving

ALWAYS = ["prefill-short", "prefill-long", "greedy", "top-p", "top-k", "penalties", "repetition-penalty", "decode",
          "long-context", "prefix-reuse", "logprobs", "structured", "prefill-chunked", "streams-1", "streams-2", "streams-4",
          "streams-8"]


def observed(fault: str = "", *, knows_all: bool = True, **options: Any) -> tuple[live.Observed, kernel_server.KernelServer]:
    """What kernels.live sees of such a server, and the server."""
    with serving(fault, knows_all=knows_all) as server:
        return live.observe(Client(server.url, "m", timeout_s=0.6, whole_s=0.9), CONTEXT, **options), server


def judged(fault: str = "", **options: Any) -> Judgement:
    """The verdict on such a server."""
    return live.judge(observed(fault, **options)[0].cases)


# --- healthy ------------------------------------------------------------------------------------------------------------


def test_a_healthy_server_is_asked_in_every_way() -> None:
    """One that says the same word over and over where it is greedy is healthy: so do random weights."""
    seen, server = observed()
    judgement = live.judge(seen.cases)
    assert (judgement.verdict, judgement.reason) == (Verdict.PASS, "")
    assert [case.name for case in seen.cases] == ALWAYS
    assert judgement.figures["ways"].value == len(ALWAYS)
    assert judgement.figures["prefix_cached"].value == CONTEXT // 2
    assert len(server.bodies) > len(ALWAYS)


def test_the_longest_prompt_is_near_the_end_of_the_context() -> None:
    """Which the server's own counts led to, without a tokenizer; no prompt begins as another does."""
    seen, server = observed()
    longest = live.judge(seen.cases).figures["longest_prompt"].value
    assert isinstance(longest, int)
    assert 0.85 * CONTEXT < longest < CONTEXT
    long = [text for body in server.bodies if len((text := body["messages"][-1]["content"]).split()) > CONTEXT // 4]
    assert len({text.split(".")[0] for text in long}) == len(long) - 2  # prefix-reuse and logprobs ask for the same again


def test_a_server_without_counts_is_not_asked_too_much() -> None:
    """Three characters a token is the safe side: nothing is refused, and nothing is missed that only counts could tell."""
    seen, _ = observed("no-usage")
    assert live.judge(seen.cases).verdict is Verdict.PASS


@pytest.mark.parametrize(("streams", "counts"), [(1, [1, 2, 4, 8]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12]),
                                                 (16, [1, 2, 4, 8, 16])])
def test_streams_double_up_to_what_is_wanted(streams: int, counts: list[int]) -> None:
    """At least eight, and the last is the wanted number itself; all of a kind are asked at once, none the same."""
    seen, _ = observed(streams=streams)
    many = {case.name: case for case in seen.cases if case.name.startswith("streams-")}
    assert list(many) == [f"streams-{count}" for count in counts]
    assert [len(case.answers) for case in many.values()] == counts
    assert len({said.text for said in many[f"streams-{counts[-1]}"].answers}) == counts[-1]


@pytest.mark.parametrize(("chunk", "at_once"), [(4 * CONTEXT, 5), (CONTEXT // 2, 0)])
def test_prompts_at_once_are_longer_than_a_chunk(chunk: int, at_once: int) -> None:
    """Several where one is not; one that is longer by itself was long-context."""
    seen, _ = observed(chunk=chunk)
    chunked = [case for case in seen.cases if case.name == "prefill-chunked"]
    assert bool(chunked) == bool(at_once)
    for case in chunked:
        assert sum(said.prompt_tokens or 0 for said in case.answers) > chunk
        assert len(case.answers) == at_once


def test_what_only_some_engines_have_may_be_refused() -> None:
    """In words: it is shown as not offered, is no way that was passed, and a long answer is had without it."""
    judgement = judged(knows_all=False)
    assert judgement.verdict is Verdict.PASS
    assert judgement.figures["not_offered"].value == "top-k, repetition-penalty"
    assert judgement.figures["ways"].value == len(ALWAYS) - 2
    assert "unrecognized request argument: top_k" in judgement.reason
    assert "decode_tokens" in judgement.figures


@pytest.mark.parametrize(("fault", "way", "words"), [
    ("refuses:response_format", "structured", "not supported by this build"),
    ("no-logprobs:logprobs", "logprobs", "the answers list none"),
])
def test_what_is_not_offered_is_said(fault: str, way: str, words: str) -> None:
    """An engine without grammars is no broken one, and never has passed."""
    judgement = judged(fault)
    assert (judgement.verdict, judgement.figures["not_offered"].value) == (Verdict.PASS, way)
    assert words in judgement.reason


def test_an_answer_cut_within_the_schema_fits_so_far() -> None:
    """Random weights may choose blanks for ever where the grammar lets them."""
    judgement = judged("blanks:response_format")
    assert (judgement.verdict, judgement.figures["structured"].value) == (Verdict.PASS, "fits so far, cut by max_tokens")


# --- broken -------------------------------------------------------------------------------------------------------------

LONG = ("long-context", "prefix-reuse", "prefill-chunked")


@pytest.mark.parametrize(("fault", "cause", "ways"), [
    ("empty:long", "no-tokens", (*LONG[:2], "logprobs", LONG[2])),
    ("no-tokens:top_k", "no-tokens", ("top-k",)),
    ("no-tokens:decode", "no-tokens", ("decode",)),
    ("500:frequency_penalty", "no-tokens", ("penalties",)),
    ("500:response_format", "no-tokens", ("structured",)),
    ("500:repetition_penalty", "no-tokens", ("repetition-penalty",)),
    ("refuses:top_p", "no-tokens", ("top-p",)),
    ("too-few:top_p", "too-few-tokens", ("top-p",)),
    ("too-few:decode", "too-few-tokens", ("decode",)),
    ("one-token-and-stop:decode", "too-few-tokens", ("decode",)),
    ("cut:long", "too-few-tokens", LONG),
    ("nan:logprobs", "bad-logprobs", ("logprobs",)),
    ("null:logprobs", "bad-logprobs", ("logprobs",)),
    ("never:logprobs", "bad-logprobs", ("logprobs",)),
    ("ignores-schema:response_format", "wrong-format", ("structured",)),
    ("one-text:many", "one-text", ("streams-8",)),
    ("hangs:decode", "hang", ("decode",)),
])
def test_what_is_broken_in_one_way_fails_by_that_way(fault: str, cause: str, ways: tuple[str, ...]) -> None:
    """And by no other, although all others were asked."""
    judgement = judged(fault)
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, tuple(f"{cause}-{way}" for way in ways))
    assert len(judgement.samples["cases"]) == len(ALWAYS)
    assert ways[0] in judgement.reason
    assert judgement.cure


@pytest.mark.parametrize("fault", ["500", "no-tokens", "empty", "refuses"])
def test_what_is_broken_in_all_ways_fails_by_all_of_them(fault: str) -> None:
    """No way stands for another; what may be refused is not offered."""
    judgement = judged(fault)
    kept = {"top-k", "repetition-penalty", "logprobs", "structured"} if fault == "refuses" else set()
    assert set(judgement.causes) == {f"no-tokens-{way}" for way in ALWAYS if way not in kept}


@pytest.mark.parametrize(("fault", "causes"), [
    ("dies:many", ("no-tokens-streams-8", "died-streams-8")),
    ("sticks:many", ("hang-streams-8", "died-streams-8")),
])
def test_a_server_that_ends_under_many_streams_ends_the_questions(fault: str, causes: tuple[str, ...]) -> None:
    """The cause names the number of streams; nothing is asked of what is gone, or answers nobody any more."""
    seen, _ = observed(fault, streams=16)
    judgement = live.judge(seen.cases)
    assert (seen.cases[-1].name, judgement.causes) == ("streams-8", causes)
    assert "answers nothing any more" in judgement.reason


def test_a_stuck_sampler_fails() -> None:
    """The same text to every prompt by every seed: what kernels that give NaN come to."""
    assert judged("one-text").causes == ("one-text-streams-4", "one-text-streams-8", "one-text-sampling")


# --- on a device --------------------------------------------------------------------------------------------------------

GOOD = Said(16, text="Hello there", finish="length", prompt_tokens=4, completion_tokens=16, e2e_s=0.1)


@dataclass
class Stretched:
    """What a stretch showed."""

    utilisation_max: float | None = 40.0
    energy_j: float | None = 12.0


@dataclass
class Device:
    """A device that is seen; kernels are seen from the `late`-th stretch on."""

    bytes_held: int | None = 3 << 30
    late: int = 0
    stretches: int = 0

    def held(self) -> int | None:
        """As told."""
        return self.bytes_held

    def used(self) -> int:
        """More than one model's."""
        return 5 << 30

    @contextmanager
    def stretch(self) -> Iterator[Stretched]:
        """Count it."""
        seen = Stretched(utilisation_max=0.0 if self.stretches < self.late else 40.0)
        yield seen
        self.stretches += 1


def test_the_device_is_watched_in_every_way() -> None:
    """Memory, utilisation and energy come with the answers."""
    device = Device()
    seen, _ = observed(device=device)
    assert seen.residency == Residency(held=3 << 30, used=5 << 30, utilisation_max=40.0)
    assert device.stretches == len(ALWAYS)
    judgement = live.judge(seen.cases, replace(seen.residency, weights=2 << 30))
    tokens = judgement.figures["decode_tokens"].value
    assert judgement.verdict is Verdict.PASS
    assert isinstance(tokens, int)
    assert judgement.figures["decode_j_per_token"].value == round(12 / tokens, 3)
    assert judgement.figures["held_mib"].value == 3 * 1024


@pytest.mark.parametrize(("late", "verdict"), [(len(ALWAYS), Verdict.PASS), (len(ALWAYS) + 9, Verdict.FAIL)])
def test_a_slow_driver_is_given_time(late: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it calls utilisation is up to a second old; one that never sees a kernel is believed in the end."""
    monkeypatch.setattr("fixtures.kernels.ways.LOOK_S", 0.05)
    seen, _ = observed(device=Device(late=late))
    assert live.judge(seen.cases, seen.residency).verdict is verdict


def test_answers_without_a_sight_of_the_device_are_no_pass() -> None:
    """Of a server on another machine nobody knows what it runs on."""
    judgement = live.judge([Case("greedy", (GOOD,))], Residency())
    assert (judgement.verdict, judgement.causes) == (Verdict.INCONCLUSIVE, ("device-not-seen",))


def test_broken_answers_are_a_fail_wherever_they_came_from() -> None:
    """A fail needs no sight of the device."""
    judgement = live.judge([Case("greedy", (replace(GOOD, text=""),))], Residency())
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, ("no-tokens-greedy",))


# --- recordings ---------------------------------------------------------------------------------------------------------


def recorded(fault: str = "") -> dict[str, Any]:
    """What a run leaves in its record of a server on a device."""
    seen, _ = observed(fault, device=Device())
    loaded: dict[str, Any] = json.loads(json.dumps(dict(live.judge(seen.cases, seen.residency).samples)))
    return loaded


@pytest.mark.parametrize("fault", ["", "nan:logprobs", "dies:many", "too-few:top_p", "refuses:response_format"])
def test_a_recording_is_judged_as_it_was_alive(fault: str) -> None:
    """By the same function, to the same figures, although it went through JSON."""
    seen, _ = observed(fault, device=Device())
    alive = live.judge(seen.cases, seen.residency)
    again = live.judge_recorded(json.loads(json.dumps(dict(alive.samples), allow_nan=False)))
    assert (again.verdict, again.causes, again.reason, again.figures) == (
        alive.verdict, alive.causes, alive.reason, alive.figures)


@pytest.mark.parametrize(("way", "change", "cause"), [
    ("greedy", {"text": ""}, "no-tokens-greedy"),
    ("decode", {"completion_tokens": 5}, "too-few-tokens-decode"),
    ("streams-8", {"status": 500, "failure": "status", "message": "x"}, "no-tokens-streams-8"),
    ("logprobs", {"logprobs": [None]}, "bad-logprobs-logprobs"),
    ("structured", {"text": '{"season": "never"}'}, "wrong-format-structured"),
    ("top-p", {"failure": "timeout", "status": None}, "hang-top-p"),
])
def test_an_altered_recording_fails(way: str, change: dict[str, Any], cause: str) -> None:
    """One answer in it is enough."""
    samples = recorded()
    assert live.judge_recorded(samples).verdict is Verdict.PASS
    next(case for case in samples["cases"] if case["name"] == way)["answers"][0].update(change)
    judgement = live.judge_recorded(samples)
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, (cause,))


def test_a_recording_that_moved_to_the_cpu_fails() -> None:
    """What was seen of the device is part of it."""
    samples = recorded()
    samples["residency"]["held"] = 0
    assert live.judge_recorded(samples).causes == ("not-on-the-device",)


# --- graphs and eager ---------------------------------------------------------------------------------------------------


def test_the_speed_of_one_stream() -> None:
    """Tokens by the server's count over the time of the whole answer, of three answers; a refused option is left out."""
    with serving(knows_all=False) as server:
        speed = live.single_stream_speed(Client(server.url, "m"), tokens=24)
    assert (len(speed.rates), speed.tokens, speed.failure) == (3, 24, "")
    assert speed.tok_s == sorted(speed.rates)[1]
    assert {body["max_tokens"] for body in server.bodies} == {24}


def test_a_server_that_fails_has_no_speed() -> None:
    """And says why."""
    with serving("500") as server:
        speed = live.single_stream_speed(Client(server.url, "m"), tokens=8)
    assert (speed.tok_s, "illegal memory access" in speed.failure) == (None, True)


GRAPHS, EAGER = live.Speed((460.0, 461.0, 470.0), 128), live.Speed((98.0,), 128)


def test_the_price_of_eager_is_shown() -> None:
    """Both speeds and how many times the one is the other; there is no limit on it."""
    judgement = live.judge_eager([Case("greedy", (GOOD,))], GRAPHS, EAGER)
    assert judgement.verdict is Verdict.PASS
    assert {name: judgement.figures[name].value for name in ("graphs_tok_s", "eager_tok_s", "graphs_over_eager")} == {
        "graphs_tok_s": 461.0, "eager_tok_s": 98.0, "graphs_over_eager": 4.7}


@pytest.mark.parametrize(("graphs", "eager", "causes"), [
    (None, EAGER, ()),
    (live.Speed(failure="status: 500"), EAGER, ("no-tokens-graphs",)),
    (GRAPHS, live.Speed(failure="timeout"), ("no-tokens-eager",)),
])
def test_a_mode_without_tokens_fails(graphs: live.Speed | None, eager: live.Speed, causes: tuple[str, ...]) -> None:
    """By its name; a speed that nobody measured is none that failed. A recording of it is judged alike."""
    judgement = live.judge_eager([Case("greedy", (GOOD,))], graphs, eager)
    assert judgement.causes == causes
    again = live.judge_recorded(json.loads(json.dumps(dict(judgement.samples))))
    assert (again.causes, again.figures) == (judgement.causes, judgement.figures)


def test_ways_that_fail_in_eager_mode_fail_beside_the_price() -> None:
    """The speed does not make up for them."""
    judgement = live.judge_eager([Case("greedy", (replace(GOOD, text=""),))], GRAPHS, live.Speed(failure="gone"))
    assert judgement.causes == ("no-tokens-greedy", "no-tokens-eager")
