"""The load rules: what was seen on hardware, what NVIDIA's documents add, and what must hold for any module."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.kernels import driver
from fixtures.kernels.image import Architecture, Image, Kind, Module
from fixtures.kernels.rules import Fate, Target, compiles, holds_kernels, labels, rule, rulings, runs_native
from tests.modules import module

H200 = Target((9, 0), 580)
NINE = (9, 0)  # the PTX version of CUDA 13.0, which made what was loaded

# Each row as it came out on an H200 (capability 9.0, driver 580.159.03, CUDA 13.0): the modules of one file, what a kernel
# of the last one gave. None: it ran.
SEEN: list[tuple[str, list[Module], int | None]] = [
    *((f"sm_{number}", [module(f"sm_{number}")], 209)
      for number in ("75", "80", "86", "89", "100", "100a", "100f", "120", "120f")),
    *((f"sm_{number}", [module(f"sm_{number}")], None) for number in ("90", "90a")),
    *((f"compute_{number}", [module(f"compute_{number}", isa=NINE)], None)
      for number in ("75", "80", "89", "90", "90a")),
    *((f"compute_{number}", [module(f"compute_{number}", isa=NINE)], 209) for number in ("100", "100f", "120")),
    ("sm_80 compute_80", [module("sm_80", "compute_80", isa=NINE)], None),
    ("sm_80 compute_90a", [module("sm_80", "compute_90a", isa=NINE)], None),
    ("sm_80 sm_120", [module("sm_80", "sm_120")], 209),
    ("two files, the first", [module("sm_90"), module("sm_80")], 209),
    ("two files, the second", [module("sm_80"), module("sm_90")], None),
    ("-rdc sm_80 compute_80", [module("sm_80", "compute_80", isa=NINE, relocatable=True), module("sm_80")], None),
    ("-rdc sm_80", [module("sm_80", relocatable=True), module("sm_80")], 500),
]


def test_all_cases_that_were_loaded_are_here() -> None:
    """The table has every case that was tried without an environment variable; the one with it has a test of its own."""
    assert len(SEEN) == 26
    assert len({name for name, _, _ in SEEN}) == 26


@pytest.mark.parametrize(("modules", "error"), [row[1:] for row in SEEN], ids=[row[0] for row in SEEN])
def test_what_was_seen_on_hardware(modules: list[Module], error: int | None) -> None:
    """The rule says of every case what the card did, with the error number where it did not run."""
    ruling = rulings(modules, H200)[-1]
    assert ruling is not None
    assert (ruling.error, ruling.fate.runs) == (error, error is None)
    assert (ruling.image is None) == (error is not None)


def test_forced_jit_ignores_machine_code() -> None:
    """Seen on hardware: sm_90 alone gives error 209 with CUDA_FORCE_PTX_JIT=1."""
    ruling = rule(module("sm_90"), Target((9, 0), 580, force_ptx_jit=True))
    assert (ruling.fate, ruling.error) == (Fate.GAP, 209)
    assert "CUDA_FORCE_PTX_JIT" in ruling.reason


@pytest.mark.parametrize(("images", "fate"), [
    (["compute_80"], Fate.JIT), (["sm_90"], Fate.RUNS), (["sm_80", "compute_80"], Fate.JIT),
    (["sm_90", "compute_90"], Fate.RUNS),
])
def test_by_which_way_it_runs(images: list[str], fate: Fate) -> None:
    """Machine code for the card is taken before PTX; PTX alone is compiled by the driver."""
    assert rule(module(*images), H200).fate is fate


@pytest.mark.parametrize(("image", "capability", "runs"), [
    ("sm_80", (8, 6), True), ("sm_80", (8, 9), True), ("sm_86", (8, 0), False), ("sm_89", (8, 6), False),
    ("sm_70", (7, 5), True), ("sm_90", (10, 0), False), ("sm_100", (10, 3), True), ("sm_100", (12, 0), False),
    ("sm_120", (12, 1), True), ("sm_121", (12, 0), False),
    ("sm_100f", (10, 0), True), ("sm_100f", (10, 3), True), ("sm_103f", (10, 0), False), ("sm_103f", (10, 7), True),
    ("sm_100f", (11, 0), False), ("sm_100f", (12, 0), False), ("sm_110f", (11, 0), True),
    ("sm_120f", (12, 0), True), ("sm_120f", (12, 1), True), ("sm_121f", (12, 0), False),
    ("sm_90a", (9, 0), True), ("sm_100a", (10, 3), False), ("sm_120a", (12, 1), False), ("sm_121a", (12, 1), True),
])
def test_machine_code_of_a_family(image: str, capability: tuple[int, int], runs: bool) -> None:
    """Plain code and `f` are for higher minor numbers of the same major number, `a` for one capability only."""
    assert rule(module(image), Target(capability)).fate.runs is runs


@pytest.mark.parametrize(("image", "capability", "runs"), [
    ("sm_87", (8, 7), True), ("sm_80", (8, 7), False), ("sm_86", (8, 7), False), ("sm_87", (8, 9), False),
    ("sm_72", (7, 5), False), ("sm_70", (7, 2), False), ("sm_101", (10, 3), False), ("sm_110", (11, 0), True),
    ("compute_80", (8, 7), True), ("compute_87", (8, 9), True),
])
def test_tegra_takes_no_code_of_other_chips(image: str, capability: tuple[int, int], runs: bool) -> None:
    """Machine code goes neither to nor from a Tegra of another number; PTX does."""
    assert rule(module(image), Target(capability)).fate.runs is runs


def test_a_chip_that_is_said_to_be_tegra_is_one() -> None:
    """The caller may know more than the number tells."""
    assert not rule(module("sm_120"), Target((12, 1), tegra=True)).fate.runs
    assert rule(module("sm_121"), Target((12, 1), tegra=True)).fate.runs


@pytest.mark.parametrize(("image", "capability", "runs"), [
    ("compute_90", (12, 0), True), ("compute_120", (9, 0), False), ("compute_100f", (10, 3), True),
    ("compute_100f", (12, 0), False), ("compute_120f", (12, 1), True), ("compute_121f", (12, 0), False),
    ("compute_90a", (10, 0), False), ("compute_120a", (12, 1), False), ("compute_120a", (12, 0), True),
])
def test_ptx_of_a_family(image: str, capability: tuple[int, int], runs: bool) -> None:
    """Plain PTX becomes code for any newer card, `f` within its family, `a` for one capability."""
    assert (rule(module(image), Target(capability)).fate is Fate.JIT) is runs


@pytest.mark.parametrize(("images", "fate"), [
    (["sm_90a"], Fate.GATED), (["sm_90a", "sm_100a"], Fate.GATED), (["sm_100f"], Fate.GATED), (["sm_130"], Fate.GATED),
    (["compute_90a"], Fate.GATED), (["compute_130"], Fate.GATED), (["sm_121", "sm_90a"], Fate.GATED),
    (["sm_80"], Fate.GAP), (["sm_80", "sm_90a"], Fate.GAP), (["sm_80", "sm_89"], Fate.GAP), (["lto_90"], Fate.GAP),
])
def test_never_meant_or_missing(images: list[str], fate: Fate) -> None:
    """Only images that are for other GPUs, or newer: it was never meant for this one. Plain older code: it is missing."""
    ruling = rule(module(*images), Target((12, 0)))
    assert (ruling.fate, ruling.error) == (fate, 209)
    assert all(image in ruling.reason for image in images)


@pytest.mark.parametrize(("isa", "branch", "fate", "error"), [
    ((8, 7), 570, Fate.JIT, None), ((8, 7), 565, Fate.GAP, 222), ((9, 0), 580, Fate.JIT, None), ((9, 0), 575, Fate.GAP, 222),
    ((8, 0), 525, Fate.JIT, None), ((9, 9), 610, Fate.GAP, 222),
])
def test_ptx_needs_a_driver_that_knows_its_version(isa: tuple[int, int], branch: int, fate: Fate, error: int | None) -> None:
    """What a newer CUDA wrote is not compiled by an older driver, whatever its major number."""
    ruling = rule(module("compute_80", isa=isa), Target((9, 0), branch))
    assert (ruling.fate, ruling.error) == (fate, error)
    assert ruling.needs_driver == driver.for_ptx(isa)


def test_the_needed_driver_is_told_where_none_is_named() -> None:
    """Without a driver to compare with it runs, and the least one is in the ruling and in its sentence."""
    ruling = rule(module("compute_90", isa=(9, 0)), Target((12, 0)))
    assert (ruling.fate, ruling.needs_driver) == (Fate.JIT, 580)
    assert "580" in ruling.reason


def test_machine_code_keeps_to_minor_version_compatibility() -> None:
    """What CUDA 12.9 made runs on an older driver of 12.x, what 13.0 made does not run on any driver of 12.x."""
    assert rule(module("sm_100", toolkit="12.9.86"), Target((10, 0), 565)).fate is Fate.RUNS
    short = rule(module("sm_100", toolkit="13.0.88"), Target((10, 0), 575))
    assert (short.fate, short.error, short.needs_driver) == (Fate.GAP, 35, 580)
    assert rule(module("sm_90"), Target((9, 0), 575), cuda=(13, 0)).error == 35


def test_a_driver_must_know_the_card() -> None:
    """One that came before it runs nothing there, whatever the code."""
    old = rule(module("sm_120", "compute_90"), Target((12, 0), 550))
    assert (old.fate, old.needs_driver) == (Fate.GAP, 570)
    assert rule(module("sm_120", "compute_90"), Target((12, 0), 570)).fate is Fate.RUNS


def test_disabled_jit_leaves_machine_code() -> None:
    """CUDA_DISABLE_PTX_JIT=1 takes PTX away and nothing else."""
    target = Target((9, 0), 580, disable_ptx_jit=True)
    assert rule(module("sm_90", "compute_90"), target).fate is Fate.RUNS
    refused = rule(module("sm_80", "compute_80"), target)
    assert (refused.fate, refused.error) == (Fate.GAP, 223)


@pytest.mark.parametrize("nothing", [module("sm_90", empty=True), module()])
def test_a_module_without_kernels_is_not_ruled(nothing: Module) -> None:
    """A stub says nothing about a GPU: no ruling, and asking for one is a mistake."""
    assert rulings([nothing], H200) == [None]
    with pytest.raises(ValueError):
        rule(nothing, H200)


def test_relocatable_code_is_linked_from_all_of_its_parts() -> None:
    """One part without PTX is enough for the link to fail; a module of other architectures was not linked from them."""
    parts = [module("sm_80", "compute_80", relocatable=True), module("sm_80", relocatable=True)]
    assert [ruling.error for ruling in rulings([*parts, module("sm_80")], H200) if ruling] == [None, 500, 500]
    whole = [module("sm_80", "compute_80", relocatable=True)] * 2
    linked, other = rulings([*whole, module("sm_80"), module("sm_86")], H200)[2:]
    assert linked is not None
    assert other is not None
    assert (linked.fate, linked.needs_driver) == (Fate.JIT, 570)
    assert (other.fate, other.error) == (Fate.GAP, 209)


def test_labels_are_in_order_and_each_once() -> None:
    """Machine code first, then PTX, oldest first, `f` and `a` behind the plain one."""
    one = module("compute_80", "sm_120f", "sm_90", "sm_90a", "sm_90", "sm_80", "lto_70")
    assert labels(one.images) == ["sm_80", "sm_90", "sm_90a", "sm_120f", "compute_80", "lto_70"]


# --- what must hold for any module ----------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 103, 107, 110, 120, 121])
ARCHITECTURES = st.builds(Architecture, NUMBERS, st.sampled_from(["", "", "a", "f"]))
VERSIONS = st.sampled_from([(7, 8), (8, 0), (8, 7), (9, 0), (9, 3)])
IMAGES = st.builds(lambda kind, made_for, isa: Image(kind, made_for, 1, isa if kind is Kind.PTX else None),
                   st.sampled_from(Kind), ARCHITECTURES, VERSIONS)
MODULES = st.builds(lambda images, relocatable: Module(tuple(images), "", 0, relocatable),
                    st.lists(IMAGES, min_size=1, max_size=6), st.booleans())
DRIVERS = st.sampled_from([450, 525, 570, 580, 610, 700])
TARGETS = st.builds(Target, NUMBERS.map(lambda number: Architecture(number).capability), st.none() | DRIVERS, st.booleans(),
                    st.booleans(), st.booleans())


@given(MODULES, TARGETS)
def test_a_ruling_explains_itself(one: Module, target: Target) -> None:
    """What runs has an image of the module that is for the card; what does not has an error number."""
    ruling = rule(one, target)
    assert ruling.reason
    assert ruling.fate.runs == (ruling.error is None)
    if ruling.image is not None:
        assert ruling.fate.runs
        assert ruling.image in one.images
        suits = runs_native if ruling.fate is Fate.RUNS else compiles
        assert suits(ruling.image.architecture, target)
        assert (ruling.image.kind is Kind.CUBIN) == (ruling.fate is Fate.RUNS)


@given(MODULES, IMAGES, TARGETS)
def test_one_image_more_never_takes_anything_away(one: Module, more: Image, target: Target) -> None:
    """Without a driver to fall short of, a module that runs still runs with another image beside."""
    free = Target(target.capability, None, target.tegra, target.force_ptx_jit, target.disable_ptx_jit)
    larger = Module((*one.images, more), "", 0, one.relocatable)
    assert rule(larger, free).fate.runs >= rule(one, free).fate.runs


@given(MODULES, TARGETS, DRIVERS, DRIVERS)
def test_a_newer_driver_never_takes_anything_away(one: Module, target: Target, older: int, newer: int) -> None:
    """What an older driver loads a newer one loads too, by the same way."""
    older, newer = sorted((older, newer))
    by_old, by_new = (rule(one, Target(target.capability, branch)) for branch in (older, newer))
    assert not by_old.fate.runs or by_new.fate is by_old.fate


@given(MODULES, TARGETS)
def test_a_variable_never_adds_anything(one: Module, target: Target) -> None:
    """Forcing or forbidding the compilation of PTX only takes ways away; both together leave none."""
    plain = rule(one, Target(target.capability, target.driver)).fate
    for forced, forbidden in ((True, False), (False, True)):
        assert rule(one, Target(target.capability, target.driver, False, forced, forbidden)).fate.runs <= plain.runs
    assert not rule(one, Target(target.capability, target.driver, False, True, True)).fate.runs


@given(st.lists(MODULES, max_size=5), TARGETS)
def test_a_library_is_ruled_module_by_module(modules: list[Module], target: Target) -> None:
    """There is a ruling for each that holds kernels; only what is linked anew may fare better than by itself."""
    found = rulings(modules, target)
    assert [ruling is not None for ruling in found] == [holds_kernels(one) for one in modules]
    for one, ruling in zip(modules, found, strict=True):
        alone = rule(one, target)
        assert ruling is not None
        assert ruling.fate.runs >= alone.fate.runs
        assert ruling.fate is alone.fate or not one.relocatable
