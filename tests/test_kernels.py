"""Verdicts on kernels: instruction sets read from files, and tokens in every way of asking."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.engines.registry import ENGINES
from fixtures.kernels import cpu, live
from fixtures.kernels.cpu import Library
from fixtures.kernels.live import Case
from fixtures.load.answer import Answer, Failure, Usage
from fixtures.load.client import Client
from fixtures.verdict import Verdict
from tests.scripted import CONTEXT, MODEL, serving

HAVE = frozenset({"sse2", "sse4_2", "avx2", "fma"})
FOUND = {"lib/*.so": [Library("lib/a.so", ("avx2",), 10), Library("lib/b.so", ("avx2", "fma"), 10)]}


@pytest.mark.parametrize(("found", "have", "causes"), [
    (FOUND, HAVE, ()),
    (FOUND, HAVE - {"fma"}, ("instruction-set-missing",)),
    (FOUND | {"bin/server": []}, HAVE, ("library-missing",)),
    ({"lib/*.so": []}, HAVE, ("library-missing",)),
    (FOUND | {"bin/server": []}, HAVE - {"avx2"}, ("instruction-set-missing", "library-missing")),
])
def test_libraries_and_what_they_need(found: dict[str, list[Library]], have: frozenset[str],
                                      causes: tuple[str, ...]) -> None:
    """One missing library, or one that needs what the CPU lacks, is a fail that names it."""
    judgement = cpu.judge(found, have)
    assert judgement.verdict is (Verdict.FAIL if causes else Verdict.PASS)
    assert judgement.causes == causes
    assert bool(judgement.cure) == bool(causes)


def test_the_missing_instruction_set_is_named() -> None:
    """The reader learns which library and which set."""
    assert cpu.judge(FOUND, HAVE - {"fma"}).reason == "lib/b.so needs fma, which this CPU lacks"


def test_nothing_to_look_at_is_no_pass() -> None:
    """An engine without a claim makes no cell; asked all the same, it is an error of ours."""
    assert cpu.judge({}, HAVE).verdict is Verdict.ERROR


@pytest.mark.parametrize("have", [frozenset(), frozenset({"fp", "asimd", "aes"})])
def test_another_processor_is_not_blamed(have: frozenset[str]) -> None:
    """On ARM, or where the kernel shows no flags, the wheels are others: unavailable, neither pass nor fail."""
    assert cpu.judge(FOUND, have).verdict is Verdict.UNAVAILABLE


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are x86-64's")
def test_the_instruction_sets_of_this_machine() -> None:
    """Those that every core has, by the kernel's names, as another reader of /proc/cpuinfo counts them."""
    have = cpu.instruction_sets()
    assert cpu.BASE in have
    lines = subprocess.run(["grep", "-c", "-w", "^flags.*avx2", "/proc/cpuinfo"], capture_output=True, text=True,
                           check=False).stdout
    cores = subprocess.run(["grep", "-c", "^processor", "/proc/cpuinfo"], capture_output=True, text=True, check=False).stdout
    assert ("avx2" in have) == (lines == cores)


def test_what_the_engines_claim_are_names_that_a_kernel_uses() -> None:
    """A misspelt set would fail every machine: avx512-vnni is avx512_vnni in /proc/cpuinfo."""
    known = {"sse2", "sse4_2", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl",
             "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "amx_tile"}
    for engine in ENGINES.values():
        for pattern, sets in engine.instruction_sets.items():
            assert set(sets) <= known, pattern


def test_libraries_are_found_below_the_environment(tmp_path: Path) -> None:
    """At any depth, files only, a missing one with an empty list."""
    folder = tmp_path / "site-packages" / "lib"
    (folder / "folder.so").mkdir(parents=True)
    (folder / "a.so").write_bytes(b"four")
    found = cpu.libraries(tmp_path, {"lib/*.so": ("avx2",), "bin/server": ("avx2",)})
    assert found == {"lib/*.so": [Library("site-packages/lib/a.so", ("avx2",), 4)], "bin/server": []}


GOOD = Answer(200, "Hello!", usage=Usage(4, 16, 20), done=True, streamed=True)
CASES = [Case("short-greedy", (GOOD,)), Case("sampled", (GOOD,)), Case("many-streams", (GOOD,) * 8)]


@pytest.mark.parametrize("bad", [
    replace(GOOD, text=""),
    replace(GOOD, usage=Usage(4, 0, 4)),
    Answer(None, failure=Failure.DISCONNECT, message="connection reset"),
    Answer(500, failure=Failure.STATUS, message="CUDA error: no kernel image is available"),
    replace(GOOD, failure=Failure.STREAM_ERROR, message="illegal memory access"),
])
def test_one_way_that_gives_no_tokens_fails_by_its_name(bad: Answer) -> None:
    """The last of eight streams is enough, and the others' tokens do not make up for it."""
    judgement = live.judge([*CASES[:2], Case("many-streams", (*CASES[2].answers[:7], bad))])
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, ("no-tokens-many-streams",))


def test_tokens_without_a_count_are_tokens() -> None:
    """Missing usage is api.contract's to judge."""
    assert live.judge([*CASES[:2], Case("many-streams", (replace(GOOD, usage=None),))]).verdict is Verdict.PASS


def test_ways_that_were_not_asked_are_no_pass() -> None:
    """Neither all of them nor one."""
    assert live.judge([]).verdict is Verdict.ERROR
    assert live.judge([*CASES, Case("long-greedy", ())]).causes == ("no-tokens-long-greedy",)


def test_every_way_is_asked_of_a_server() -> None:
    """Within its context, the long ones long, the many at once; a server that fails them all fails them by name."""
    with serving() as server:
        client = Client(server.url, MODEL)
        cases = live.observe(client, CONTEXT)
        server.fault = "5xx-for-good"
        broken = live.judge(live.observe(client, CONTEXT))
    assert live.judge(cases).verdict is Verdict.PASS
    prompts = {case.name: [answer.usage.prompt_tokens for answer in case.answers if answer.usage] for case in cases}
    assert len(prompts["many-streams"]) == live.STREAMS
    assert min(prompts["long-greedy"]) > 10 * max(prompts["short-greedy"])
    assert set(broken.causes) == {f"no-tokens-{case.name}" for case in cases}
