"""What a server on a CPU says of its weights and cache, against what its flags ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fixtures import lineup as lineups
from fixtures.check import of_our_flags
from fixtures.deployment.events import Boot
from fixtures.engines.base import Served
from fixtures.engines.failure import Failure
from fixtures.engines.registry import engine
from fixtures.gpu import profile
from fixtures.load.client import Client
from fixtures.memory import account, judge
from fixtures.memory.account import MIB, Account
from fixtures.models.folder import ModelFolder
from fixtures.place import Place
from fixtures.planner import on_cpu, source
from fixtures.planner.anatomy import CannotSay
from fixtures.verdict import Verdict

LINEUP = lineups.load("trilingual")
PLANNED = Account(31 * MIB, 24 * MIB, 8192)
TOLD = Account(weights=30.51 * MIB, cache=24 * MIB, tokens=8192, digit=0.005 * MIB)


@pytest.mark.parametrize(("told", "expected"), [
    (TOLD, (Verdict.PASS, ())),
    (replace(TOLD, cache=48 * MIB), (Verdict.FAIL, ("above-plan",))),
    (replace(TOLD, cache=12 * MIB, tokens=4096), (Verdict.FAIL, ("below-plan",))),
    (replace(TOLD, weights=62 * MIB), (Verdict.FAIL, ("above-plan",))),
    (replace(TOLD, weights=15 * MIB, cache=48 * MIB), (Verdict.FAIL, ("below-plan", "above-plan"))),
    (Account(tokens=8192), (Verdict.PASS, ())),
    (Account(tokens=8100), (Verdict.PASS, ())),
    (Account(tokens=8000), (Verdict.FAIL, ("below-plan",))),
    (Account(tokens=16384), (Verdict.FAIL, ("above-plan",))),
    (Account(cache=24 * MIB), (Verdict.PASS, ())),
    (Account(), (Verdict.UNAVAILABLE, ("not-reported",))),
])
def test_what_is_told_is_what_was_planned(told: Account, expected: tuple[Verdict, tuple[str, ...]]) -> None:
    """Three hundredths of a size and two of the tokens are allowed; who says nothing is not judged."""
    judged = account.judge(PLANNED, told)
    assert (judged.verdict, judged.causes) == expected


def test_a_coarse_figure_is_allowed_its_digit() -> None:
    """A cache told as 0.01 GiB may be anything that is written so."""
    planned, digit = Account(cache=10 * MIB, tokens=1), 0.005 * 2**30
    assert account.judge(planned, Account(cache=0.01 * 2**30, digit=digit)).verdict is Verdict.PASS
    assert account.judge(planned, Account(cache=0.03 * 2**30, digit=digit)).verdict is Verdict.FAIL


def test_figures_stand_beside_their_plan() -> None:
    """MiB and tokens, each with the most that would pass."""
    figures = account.judge(PLANNED, TOLD).figures
    assert {name: figure.value for name, figure in figures.items()} == {
        "weights_mib": 30.51, "planned_weights_mib": 31, "cache_mib": 24, "planned_cache_mib": 24, "kv_tokens": 8192,
        "planned_tokens": 8192}
    assert figures["kv_tokens"].limit == 8356


def test_a_model_that_did_not_start_is_not_judged() -> None:
    """Whatever was planned for it."""
    boot = Boot("m", "sequential", 1, 60, Failure("exit-1", "it ended", "", None, ""), account=TOLD)
    assert judge.judge_account(boot, lambda: PLANNED).causes == ("not-started",)


def served(name: str, *words: str) -> Served:
    """A model of the lineup with more on its engine's command line."""
    entry = next(model for model in LINEUP.models if model.name == name)
    folder = LINEUP.folder_of(entry, "vllm")
    assert folder is not None
    return Served(entry, ModelFolder(folder), str(folder), {}, arguments=words)


@pytest.mark.parametrize(("name", "words", "cache_mib", "tokens"), [
    ("llamacpp", (), 24, 8192), ("ollama", (), 12, 4096), ("sglang", (), 24, 8192), ("vllm", (), 30, 10240),
    ("sglang", ("--max-total-tokens", "4096"), 12, 4096), ("vllm", ("--kv-cache-memory-bytes", "12M"), 12, 4096),
    ("vllm", ("--kv_cache_dtype=fp8",), 30, 20480), ("vllm", ("--dtype", "float32"), 30, 5120),
    ("vllm", ("--kv-cache-memory-bytes", "7.5M"), 7.5, 2560), ("ollama", ("OLLAMA_KV_CACHE_TYPE=q8_0",), 12, 4096),
    ("llamacpp", ("--context", "1000"), 24, 8192), ("llamacpp", ("-ctk", "f32"), 48, 8192),
    ("llamacpp", ("--parallel", "2", "--context", "2048"), 12, 4096),
])
def test_the_plan_follows_the_flags(name: str, words: tuple[str, ...], cache_mib: float, tokens: int) -> None:
    """3,072 bytes a token of trilingual-8m, in as many tokens, or tokens in as many bytes, as each engine is asked for."""
    planned = on_cpu.planned(LINEUP, engine(name), served("trilingual-8m", *words))
    assert planned.cache is not None
    assert planned.cache / MIB == pytest.approx(cache_mib)
    assert planned.tokens == tokens
    if "--dtype" in words:
        assert planned.weights is None
        return
    assert planned.weights is not None
    assert planned.weights / MIB == pytest.approx(30.51 if name == "llamacpp" else 15.26, abs=0.01)


def test_an_architecture_that_nobody_knows_is_not_planned(tmp_path: Path) -> None:
    """The reason names it."""
    (tmp_path / "config.json").write_text('{"model_type": "made-up", "vocab_size": 8}', encoding="utf-8")
    entry = served("trilingual-8m").entry.model_copy(update={"source": str(tmp_path)})
    with pytest.raises(CannotSay, match="made-up"):
        on_cpu.planned(LINEUP, engine("vllm"), replace(served("trilingual-8m"), entry=entry))


def test_llamacpp_tells_its_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of one kind are added; without them it tells tokens alone. Repacked weights are in two of them."""
    log = """
load_tensors:   CPU_Mapped model buffer size =     7.75 MiB
load_tensors:   CPU_MORE model buffer size =     1.25 MiB
llama_context:        CPU  output buffer size =     0.25 MiB
llama_kv_cache:        CPU KV buffer size =     8.00 MiB
"""
    one = engine("llamacpp")
    monkeypatch.setattr(type(one), "capacity", lambda *_: 8192)
    client, model = Client("http://127.0.0.1:9", "m"), served("trilingual-2m")
    assert one.account(client, log, model) == Account(9 * MIB, 8 * MIB, 8192, 0.005 * MIB)
    assert one.account(client, "nothing", model) == Account(None, None, 8192, 0.005 * MIB)
    repacked = log.replace("CPU_MORE", "CPU_REPACK")
    assert one.account(client, repacked, model) == Account(None, 8 * MIB, 8192, 0.005 * MIB)


def test_ollama_tells_what_it_loaded_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several models in one log the last counts, with the digits that it is written with."""
    log = """
level=INFO source=device.go:245 msg="model weights" device=CPU size="8.2 MiB"
level=INFO source=device.go:256 msg="kv cache" device=CPU size="5.0 MiB"
level=INFO source=device.go:245 msg="model weights" device=CPU size="1.2 GiB"
level=INFO source=device.go:256 msg="kv cache" device=CPU size="512 KiB"
level=INFO source=device.go:262 msg="compute graph" device=CPU size="99.0 MiB"
"""
    one = engine("ollama")
    monkeypatch.setattr(type(one), "capacity", lambda *_: 4096)
    client, model = Client("http://127.0.0.1:9", "m"), served("trilingual-2m")
    assert one.account(client, log, model) == Account(1.2 * 2**30, 2**19, 4096, 0.5 * 2**30 / 10)
    assert one.account(client, "nothing", model) == Account(None, None, 4096, 0.0)


def test_one_server_of_several_models_gives_all_the_longest_context() -> None:
    """OLLAMA_CONTEXT_LENGTH is one for all, cut to what each model was made for; other engines have it by model."""
    models = tuple(model.model_copy(update={"context": context}) for model, context in
                   zip(LINEUP.models, (512, 1024, 4096), strict=True))
    lineup = LINEUP.model_copy(update={"models": models})
    short = replace(served("trilingual-2m"), entry=models[0])
    assert on_cpu.planned(lineup, engine("ollama"), short).tokens == 4 * 2048
    assert on_cpu.planned(lineup, engine("sglang"), short).tokens == 8 * 512


def test_of_a_model_of_unknown_sizes_tokens_alone_are_planned(tmp_path: Path) -> None:
    """Where the flags are in tokens."""
    (tmp_path / "config.json").write_text('{"model_type": "made-up", "vocab_size": 8}', encoding="utf-8")
    entry = served("trilingual-8m").entry.model_copy(update={"source": str(tmp_path)})
    model = replace(served("trilingual-8m"), entry=entry)
    assert on_cpu.planned(LINEUP, engine("sglang"), model) == Account(tokens=8192)
    assert account.judge(Account(tokens=8192), Account(cache=2**20, tokens=8192)).verdict is Verdict.PASS


@pytest.mark.parametrize("word", ["--num-gpu-blocks-override", "--speculative-config", "-ctv"])
def test_words_that_nobody_understands_are_not_planned(word: str) -> None:
    """A healthy server of such flags must not fail."""
    with pytest.raises(CannotSay, match=word):
        on_cpu.planned(LINEUP, engine("vllm"), served("trilingual-8m", word, "60"))


def test_windows_leave_the_weights() -> None:
    """Engines keep a cache of windows in more ways than one, so that its size is not planned."""
    entry = served("trilingual-8m").entry
    with pytest.MonkeyPatch.context() as patch:
        whole = source.find(LINEUP, entry, "sglang")
        windowed = replace(whole, groups=(replace(whole.groups[0], window=128),))
        patch.setattr(source, "find", lambda *_: windowed)
        assert on_cpu.planned(LINEUP, engine("sglang"), served("trilingual-8m")) == Account(whole.weights)
        assert on_cpu.can(LINEUP, engine("sglang"), entry)
        assert not on_cpu.can(LINEUP, engine("vllm"), entry)


def test_untied_models_of_ollama_leave_the_input_table_out() -> None:
    """Its own count does (seen with a model of random weights: 0.56 MiB less)."""
    with pytest.MonkeyPatch.context() as patch:
        tied = source.find(LINEUP, served("trilingual-8m").entry, "ollama")
        patch.setattr(source, "find", lambda *_: replace(tied, tied=False))
        assert on_cpu.planned(LINEUP, engine("ollama"), served("trilingual-8m")).weights == tied.weights - tied.embedding
        assert on_cpu.planned(LINEUP, engine("llamacpp"), served("trilingual-8m")).weights == tied.weights


def test_sglang_tells_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values, two digits each: a cache of 32 bits is seen in a larger model."""
    log = "KV Cache is allocated. dtype: torch.float32, #tokens: 8192, K size: 1.25 GB, V size: 1.25 GB"
    one = engine("sglang")
    told = one.account(Client("http://127.0.0.1:9", "m"), log, served("trilingual-8m"))
    assert told == Account(cache=2.5 * 2**30, tokens=8192, digit=0.01 * 2**30)
    assert account.judge(Account(cache=1.25 * 2**30, tokens=8192), told).causes == ("above-plan",)


def test_only_servers_with_flags_of_our_own_are_planned() -> None:
    """Nobody's endpoint, no Compose file of the user's; every lineup of the suite's on a CPU and on a card."""
    cpu, card = profile.committed()["cpu"], profile.committed()["rtx5090"]
    place = Place(cpu, "process", engine("vllm"), "", LINEUP)
    theirs = LINEUP.model_copy(update={"path": Path("compose.yaml")})
    assert of_our_flags(place)
    assert of_our_flags(replace(place, launcher="container"))
    assert not of_our_flags(replace(place, launcher="endpoint"))
    assert not of_our_flags(replace(place, launcher="compose", lineup=theirs))
    assert of_our_flags(replace(place, profile=card, lineup=theirs))
