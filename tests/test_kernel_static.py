"""kernels.static for GPUs: told from files, for cards that are not here; as a cell of a run and as a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from fixtures.engines import registry
from fixtures.gpu.profile import committed
from fixtures.kernels import cli, static
from fixtures.kernels.image import Reading
from fixtures.kernels.inputs import reader
from fixtures.verdict import Judgement, Verdict
from tests.fatbins import code, library
from tests.runs import Running, lineup

PASS, FAIL, UNAVAILABLE, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.UNAVAILABLE, Verdict.INCONCLUSIVE
TORCH, VLLM, FA3 = "torch/lib/libtorch_cuda.so", "vllm/_C.abi3.so", "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so"
GGML = "lib/ollama/cuda_v12/libggml-cuda.so"
ALL = ("sm_80", "sm_90", "sm_120")


def made(*targets: str) -> bytes:
    """A library of two modules, each with code for all of these."""
    return library([[code(target) for target in targets]] * 2)


# PyTorch's CPU build, a library of device-link stubs, and one of which all but one of nine modules are missing.
CPU_TORCH = {"torch-2.13.0+cpu.dist-info/METADATA": b"Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"}
STUBS = library([[], []])
MOSTLY_OLD = library([[code("sm_80")]] * 8 + [[code("compute_90")]])


def laid(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files below a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def judged(folder: Path, files: Mapping[str, bytes], engine: str = "vllm", card: str = "rtx5090",
           driver: int | None = None) -> Judgement:
    """The verdict on a build that lies in a folder."""
    return static.judge(reader.read(laid(folder, files)), registry.engine(engine), committed()[card], driver)


@pytest.mark.parametrize(("files", "engine", "expected"), [
    ({TORCH: made(*ALL), VLLM: made(*ALL)}, "vllm", (PASS, ())),
    ({TORCH: made("sm_80", "sm_90"), VLLM: made(*ALL)}, "vllm", (FAIL, ("no-kernel-image",))),
    ({TORCH: made(*ALL), VLLM: made("sm_80", "sm_90a")}, "vllm", (FAIL, ("no-kernel-image",))),
    ({TORCH: made(*ALL), VLLM: made("sm_80", "compute_80")}, "vllm", (PASS, ())),
    ({TORCH: made(*ALL), VLLM: made(*ALL), FA3: made("sm_80", "sm_90a")}, "vllm", (PASS, ())),
    ({TORCH: made(*ALL)}, "vllm", (UNAVAILABLE, ("no-gpu-build",))),
    ({VLLM: made(*ALL)}, "vllm", (UNAVAILABLE, ("no-gpu-build",))),
    ({VLLM: made(*ALL), **CPU_TORCH}, "vllm", (FAIL, ("no-kernel-image",))),
    ({TORCH: made(*ALL), VLLM: STUBS}, "vllm", (FAIL, ("no-kernel-image",))),
    ({TORCH: STUBS, VLLM: made(*ALL)}, "vllm", (FAIL, ("no-kernel-image",))),
    ({TORCH: MOSTLY_OLD, VLLM: made(*ALL)}, "vllm", (INCONCLUSIVE, ("not-readable",))),
    ({TORCH: made(*ALL), "sgl_kernel/sm90/common_ops.abi3.so": made("sm_90a")}, "sglang", (FAIL, ("no-kernel-image",))),
    ({f"a/{TORCH}": made("sm_80"), f"b/{TORCH}": made(*ALL), VLLM: made(*ALL)}, "vllm", (INCONCLUSIVE, ("not-readable",))),
    ({GGML: made("sm_80"), GGML.replace("v12", "v13"): made("sm_120")}, "ollama", (PASS, ())),
    ({TORCH: made(*ALL), VLLM: made(*ALL)}, "sglang", (UNAVAILABLE, ("no-gpu-build",))),
    ({GGML: made("sm_80", "sm_120")}, "ollama", (PASS, ())),
    ({GGML: made("sm_80", "sm_90")}, "ollama", (FAIL, ("no-kernel-image",))),
    ({"bin/libggml-cuda.so": made("sm_80", "sm_90")}, "llamacpp", (FAIL, ("no-kernel-image",))),
    ({"bin/libggml-cuda.so": made("sm_120a")}, "llamacpp", (PASS, ())),
    ({}, "llamacpp", (UNAVAILABLE, ("no-gpu-build",))),
])
def test_what_is_always_used_must_run(tmp_path: Path, files: Mapping[str, bytes], engine: str,
                                      expected: tuple[Verdict, tuple[str, ...]]) -> None:
    """One such library without code for the card is a fail, one that is called on other cards only is not, and what is not
    there is no pass."""
    judgement = judged(tmp_path, {"other/readme.txt": b"x", **files}, engine)
    assert (judgement.verdict, judgement.causes) == expected


def test_a_damaged_library_is_not_judged(tmp_path: Path) -> None:
    """What could not be read may be what runs: neither a fail nor a pass."""
    whole = made("sm_80", "sm_90")
    cut = judged(tmp_path, {TORCH: made(*ALL), VLLM: whole[: len(whole) // 2]})
    assert cut.verdict in (INCONCLUSIVE, UNAVAILABLE)


def test_an_old_driver_compiles_no_new_code(tmp_path: Path) -> None:
    """PTX runs only where the driver knows its version: the same files fail with an older one."""
    files = {TORCH: made(*ALL), VLLM: made("sm_80", "compute_80")}
    assert judged(tmp_path, files, driver=580).verdict is PASS
    assert judged(tmp_path, files, driver=550).verdict is FAIL


def test_a_pass_says_from_what_and_without_what(tmp_path: Path) -> None:
    """Nothing was started, and the record says so; what the owner of the card goes without is named."""
    judgement = judged(tmp_path, {TORCH: made(*ALL), VLLM: made(*ALL), FA3: made("sm_80", "sm_90a")})
    assert "nothing was started" in judgement.reason
    assert "FlashAttention 3" in judgement.reason
    assert judgement.figures["modules_run"].value == 4
    assert judgement.samples["coverage"]["capability"] == "12.0"


@pytest.mark.parametrize(("card", "expected"), [("rtx5090", FAIL), ("rtxpro6000", FAIL), ("b200", FAIL), ("rtx4090", PASS),
                                                 ("a100", PASS), ("h100", FAIL), ("h200", FAIL)])
def test_each_card_has_its_own_verdict(tmp_path: Path, card: str, expected: Verdict) -> None:
    """Code for 8.0 runs on what is 8.x and nowhere else."""
    assert judged(tmp_path, {TORCH: made("sm_80"), VLLM: made("sm_80")}, card=card).verdict is expected


# --- a run ----------------------------------------------------------------------------------------------------------------


def wheel(path: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """A wheel of these files."""
    with ZipFile(path / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for inner, data in files.items():
            archive.writestr(inner, data)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return path / f"{name}-1.0-py3-none-any.whl"


def test_a_run_judges_cards_that_are_not_here(tmp_path: Path) -> None:
    """`-m "static and (rtx5090 or a100)"` on any machine: a cell each, marked as told from files, and a gate."""
    wheel(tmp_path, "torch", {TORCH: made("sm_80", "sm_90")})
    wheel(tmp_path, "vllm", {VLLM: made(*ALL)})
    mine = lineup(tmp_path / "mine.toml", engines=["vllm", "llamacpp"], profiles=["rtx5090", "a100"],
                  head='[wheels]\nvllm = ["vllm-1.0-py3-none-any.whl", "./torch-1.0-py3-none-any.whl"]')
    run = Running(tmp_path, "-m", "static and (rtx5090 or a100)", f"--lineup={mine}")
    assert run.process.wait(60) == 1
    matrix = json.loads((run.folder / "matrix.json").read_text())
    cells = {(cell["profile"], cell["engine"]): cell for cell in matrix["cells"]}
    found = {key: cell["verdict"] for key, cell in cells.items()}
    assert found == {("rtx5090", "vllm"): "fail", ("a100", "vllm"): "pass", ("rtx5090", "llamacpp"): "unavailable",
                     ("a100", "llamacpp"): "unavailable"}
    assert all(cell["device"].endswith("(not in this machine)") for cell in cells.values())
    assert "libtorch_cuda.so: of 2 modules 2 have no image" in cells["rtx5090", "vllm"]["reason"]
    assert "--engine-env llamacpp=" in cells["a100", "llamacpp"]["cure"]
    assert "nothing was started" in (run.folder / "matrix.md").read_text()


def test_a_build_that_is_here_is_read_as_it_is(tmp_path: Path) -> None:
    """--engine-env names a folder of files: they are judged, by their own version; nothing is set up for it."""
    info = {"vllm-0.10.1.1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: vllm\nVersion: 0.10.1.1\n"}
    build = laid(tmp_path / "build", {TORCH: made(*ALL), VLLM: made(*ALL), **info})
    mine = lineup(tmp_path / "mine.toml", engines=["vllm"], profiles=["rtx5090"])
    run = Running(tmp_path, "-m", "static and rtx5090", f"--lineup={mine}", "--engine", "vllm", f"--engine-env=vllm={build}",
                  variables={"COTENANT_HOME": str(tmp_path / "home")})
    assert run.process.wait(60) == 0, run.output
    (cell,) = json.loads((run.folder / "matrix.json").read_text())["cells"]
    assert (cell["verdict"], cell["version"]) == ("pass", "0.10.1.1")
    assert not (tmp_path / "home" / "engines").exists()


# --- the command ----------------------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `cotenant kernels`."""
    status = cli.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_tells_of_one_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 where something fails, the library and what is there in the sentence; 0 where all runs."""
    laid(tmp_path, {TORCH: made("sm_80", "sm_90"), VLLM: made(*ALL)})
    status, output, _ = said(capsys, str(tmp_path), "--gpu", "rtx5090")
    assert status == 1
    assert "rtx5090: fails: torch/lib/libtorch_cuda.so: of 2 modules 2 have no image (images: sm_80, sm_90)" in output
    status, output, _ = said(capsys, str(tmp_path / VLLM), "--gpu", "RTX 5090")
    assert (status, "2 run" in output) == (0, True)


def test_several_sources_are_not_mixed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two environments with files of one name: which is loaded is not known, so neither hides the other."""
    bad, good = laid(tmp_path / "bad", {TORCH: made("sm_80")}), laid(tmp_path / "good", {TORCH: made(*ALL)})
    for order in ((bad, good), (good, bad)):
        status, output, _ = said(capsys, *map(str, order), "--gpu", "rtx5090")
        assert (status, "rtx5090: cannot be told" in output) == (1, True)


@pytest.mark.parametrize("inner", [TORCH, VLLM, "vllm", "torch", "mine/other.so"])
def test_a_part_is_judged_as_what_it_is_part_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], inner: str) -> None:
    """A file or a package's folder given by itself: what has nothing for the card is no success."""
    laid(tmp_path, {TORCH: made("sm_80"), VLLM: made("sm_80"), "mine/other.so": made("sm_80")})
    assert said(capsys, str(tmp_path / inner), "--gpu", "rtx5090")[0] == 1
    assert said(capsys, str(tmp_path / inner), "--gpu", "a100")[0] == 0


def test_what_was_not_handed_over_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """vLLM's library alone runs; the PyTorch that it needs was not seen."""
    laid(tmp_path, {VLLM: made(*ALL)})
    status, output, _ = said(capsys, str(tmp_path), "--gpu", "rtx5090")
    assert (status, "PyTorch, on which it is built, was not read" in output) == (0, True)


def test_several_cards_are_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row a library, one column a card, one sentence a card."""
    laid(tmp_path, {TORCH: made("sm_80", "sm_90"), VLLM: made(*ALL)})
    status, output, _ = said(capsys, str(tmp_path), "--gpu", "rtx5090,a100", "--gpu", "9.0")
    assert status == 1
    assert [name for name in ("rtx5090", "a100", "9.0") if f"{name}: runs" in output] == ["a100", "9.0"]
    assert "gap: FAIL 0/2" in output


def test_json_holds_what_the_table_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By card; the same exit status."""
    laid(tmp_path, {TORCH: made("sm_80", "sm_90"), VLLM: made(*ALL)})
    status, output, _ = said(capsys, str(tmp_path), "--gpu", "rtx5090,a100", "--json")
    told = json.loads(output)
    assert status == 1
    assert {name: found["fails"] for name, found in told["gpus"].items()} == {"rtx5090": [TORCH], "a100": []}


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["{}", "--gpu", "rtx509x"], 4, "no card 'rtx509x' is known; the nearest are NVIDIA GeForce RTX 5090"),
    (["{}/none", "--gpu", "rtx5090"], 4, "there is no file or folder"),
    (["{}"], 4, "--gpu"),
    (["{}", "--gpu", ","], 4, "--gpu names no card"),
    (["{}", "--gpu", "rtx5090", "--driver", "new"], 4, "'new' is no driver version"),
    (["{}", "--gpu", "rtx5090"], 5, "no GPU code was found"),
])
def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int,
                           words: str) -> None:
    """4 for a mistake in the command, 5 where there is nothing to judge; never a pass."""
    (tmp_path / "readme.txt").write_text("x")
    code_, _, errors = said(capsys, *(argument.replace("{}", str(tmp_path)) for argument in arguments))
    assert (code_, words in errors) == (status, True)


def test_readings_of_several_sources_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wheel and the PyTorch beside it are judged together."""
    one, other = wheel(tmp_path, "torch", {TORCH: made(*ALL)}), wheel(tmp_path, "vllm", {VLLM: made(*ALL)})
    assert said(capsys, str(one), str(other), "--gpu", "12.0")[0] == 0
    assert isinstance(reader.read(one), Reading)
