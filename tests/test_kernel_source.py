"""The source of a cell's reading: the user's files, or wheels that are fetched, read, kept as a reading and let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from fixtures.configuration import ConfigurationError
from fixtures.kernels import catalogue, record, source
from fixtures.kernels.image import Reading
from fixtures.kernels.inputs import reader
from fixtures.kernels.source import Source
from fixtures.plan import Asked, deployments
from fixtures.setup import SetupFailed, wheels
from fixtures.setup.wheels import Pin
from fixtures.verdict import Unavailable
from tests.fatbins import code, library
from tests.runs import lineup

TORCH, VLLM = "torch/lib/libtorch_cuda.so", "vllm/_C.abi3.so"
MADE = library([[code("sm_80", kernels=("_Z6kernelv",)), code("compute_80")], [code("sm_120a")]])


@pytest.mark.parametrize(("text", "expected"), [
    ("vllm==0.33.0", "vllm==0.33.0"), ("torch (==2.7.1)", "torch==2.7.1"), ("sgl_kernel == 0.3.9", "sgl-kernel==0.3.9"),
    ("triton==3.3.1; platform_system == 'Linux'", "triton==3.3.1"), ("torch>=2", "None"), ("./vllm.whl", "None"),
    ("vllm", "None"), ("torch==2.8.0+cu128", "torch==2.8.0+cu128")])
def test_a_pin_is_one_version(text: str, expected: str) -> None:
    """What Requires-Dist and people write; anything else is no pin."""
    assert str(wheels.parse(text)) == expected


def wheel(folder: Path, pin: str, files: Mapping[str, bytes], *needs: str) -> Path:
    """A wheel with these files that asks for these lines."""
    name, _, version = pin.partition("==")
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"Requires-Dist: {line}\n" for line in needs)
    with ZipFile(path, "w") as archive:
        for inner, data in files.items():
            archive.writestr(inner, data)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{name}-{version}.dist-info/METADATA", head + lines)
    return path


def test_what_serves_on_a_gpu_is_asked_for(tmp_path: Path) -> None:
    """Exact versions of what may hold kernels, those of the extra for serving too; no range, no other extra or name."""
    made = wheel(tmp_path, "sglang==0.5.2", {}, "requests==2", "torch==2.8.0; extra == 'srt'",
                 'sgl-kernel==0.3.9; extra == "srt"', "torch==1; extra == 'test'", "xformers>=1", "triton==3.4.0")
    found = [str(pin) for pin in wheels.pins_in(made, source.HOLD_KERNELS)]
    assert found == ["torch==2.8.0", "sgl-kernel==0.3.9", "triton==3.4.0"]


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    """A page saved in its place, or half of it."""
    (tmp_path / "x.whl").write_text("<html>")
    with pytest.raises(SetupFailed, match=r"x\.whl is no wheel"):
        wheels.pins_in(tmp_path / "x.whl", ())


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """vLLM 1 and the torch 2 that it pins, as if they had been fetched; what was fetched is listed."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path / "home"))
    there = {"vllm==1": ({VLLM: MADE}, ["torch==2"]), "torch==2": ({TORCH: MADE, "torch/version.py": b"cuda = '13.0'"}, [])}
    fetched: list[str] = []

    def fetch(pin: Pin, say: object) -> Path:
        if str(pin) not in there:
            raise SetupFailed(f"wheel {pin}: there is no such version", "ask for another version")
        fetched.append(str(pin))
        files, needs = there[str(pin)]
        return wheel(tmp_path / "home" / "wheels" / f"{pin.name}-{pin.version}", str(pin), files, *needs)

    monkeypatch.setattr(wheels, "fetch", fetch)
    return fetched


VLLM_1 = Source(pins=(Pin("vllm", "1"),))


def test_what_a_wheel_pins_is_read_with_it(published: list[str], tmp_path: Path) -> None:
    """And both are let go: the readings stay."""
    reading = source.read(VLLM_1, print)
    assert [library.path for library in reading.libraries] == [VLLM, TORCH]
    assert reading.cuda == "13.0"
    assert published == ["vllm==1", "torch==2"]
    assert not list((tmp_path / "home" / "wheels").rglob("*.whl"))


def test_nothing_is_fetched_twice(published: list[str]) -> None:
    """The same reading comes from what was kept."""
    assert source.read(VLLM_1, print) == source.read(VLLM_1, print)
    assert (len(published), VLLM_1.missing) == (2, [])


def test_another_reader_reads_anew(published: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older reader made of the bytes is not believed."""
    source.read(VLLM_1, print)
    monkeypatch.setattr(record, "made_by", lambda: "another")
    source.read(VLLM_1, print)
    assert len(published) == 4


@pytest.mark.parametrize("damage", ["", "{", '{"reading": {}, "asks_for": []}', "[]"])
def test_a_kept_reading_that_is_damaged_is_not_believed(published: list[str], tmp_path: Path, damage: str) -> None:
    """It is fetched again."""
    source.read(VLLM_1, print)
    (tmp_path / "home" / "readings" / "vllm-1.json").write_text(damage)
    assert len(source.read(VLLM_1, print).libraries) == 2
    assert published == ["vllm==1", "torch==2", "vllm==1"]


@pytest.mark.usefixtures("published")
def test_a_version_that_does_not_exist_is_unavailable() -> None:
    """With the reason and the cure."""
    with pytest.raises(Unavailable, match=r"no such version"):
        source.read(Source(pins=(Pin("vllm", "99"),)), print)


def test_a_reading_survives_its_record(tmp_path: Path) -> None:
    """Kinds, architectures, names and all."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / VLLM).write_bytes(MADE)
    reading = reader.read(tmp_path, names=lambda path: True)
    assert reading.libraries[0].modules[0].names == ("_Z6kernelv",)
    assert record.load(record.dump(reading)) == reading
    assert record.load(record.dump(replace(reading, cuda="13.0"))) != reading
    assert catalogue.wants_names(VLLM)


def test_versions_of_the_wheels_name_the_cells(tmp_path: Path) -> None:
    """On a GPU the lineup's wheel, or the version asked for; on a CPU the version that is set up there."""
    head = '[wheels]\nvllm = ["vllm==0.33.0"]'
    mine = lineup(tmp_path / "mine.toml", engines=["vllm"], profiles=["cpu", "rtx5090"], head=head)
    places = deployments(Asked(lineups=(str(mine),)), {"vllm": "0.32.0"})
    assert [(place.profile.name, place.version) for place in places] == [("cpu", "0.32.0"), ("rtx5090", "0.33.0")]
    asked = deployments(Asked(engines=(("vllm", "0.10.1.1"),), lineups=(str(mine),)), {"vllm": "0.32.0"})
    assert [source.of(place, "").pins for place in asked if place.profile.name == "rtx5090"] == [(Pin("vllm", "0.10.1.1"),)]


@pytest.mark.parametrize(("line", "words"), [
    ('vllm = ["vllm>=1"]', "wheels.vllm: 'vllm>=1' is neither name==version nor a file that is there"),
    ('vlm = ["vllm==1"]', "wheels: no engine 'vlm'; did you mean 'vllm'?")])
def test_mistakes_in_a_lineup_are_told(tmp_path: Path, line: str, words: str) -> None:
    """Before anything is fetched."""
    mine = lineup(tmp_path / "mine.toml", engines=["vllm"], profiles=["rtx5090"], head=f"[wheels]\n{line}")
    with pytest.raises(ConfigurationError) as raised:
        deployments(Asked(lineups=(str(mine),)), {})
    assert words in str(raised.value)


def test_a_build_of_ones_own_goes_before_the_wheels(tmp_path: Path) -> None:
    """--engine-env names it; without either the cell is unavailable, with the cure."""
    mine = lineup(tmp_path / "mine.toml", engines=["ollama"], profiles=["rtx5090"])
    place = deployments(Asked(lineups=(str(mine),)), {})[0]
    assert source.of(place, "/one:/other").folders == (Path("/one"), Path("/other"))
    with pytest.raises(Unavailable) as raised:
        source.of(place, "")
    assert "--engine-env ollama=" in raised.value.cure
    assert isinstance(source.together([Reading("a", files=1), Reading("b", files=2)]), Reading)
