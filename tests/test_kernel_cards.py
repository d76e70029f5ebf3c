"""The cards and the drivers: every spelling finds its card, and the tables agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.configuration import ConfigurationError
from fixtures.gpu import profile
from fixtures.kernels import card, driver
from fixtures.kernels.card import Card
from fixtures.kernels.rules import TEGRA

SHARED = ("RTX 4000", "RTX 5000", "RTX 6000")  # each of three cards, of three generations


@pytest.mark.parametrize(("name", "found", "capability"), [
    ("rtx5090", "NVIDIA GeForce RTX 5090", (12, 0)),
    ("5090", "NVIDIA GeForce RTX 5090", (12, 0)),
    ("NVIDIA GeForce RTX 5090", "NVIDIA GeForce RTX 5090", (12, 0)),
    ("GeForce RTX 5070 Ti", "NVIDIA GeForce RTX 5070 Ti", (12, 0)),
    ("rtx-4080-super", "NVIDIA GeForce RTX 4080 SUPER", (8, 9)),
    ("h100", "NVIDIA H100", (9, 0)),
    ("NVIDIA H100 80GB HBM3", "NVIDIA H100", (9, 0)),
    ("gh200", "NVIDIA GH200", (9, 0)),
    ("b200", "NVIDIA B200", (10, 0)),
    ("B300", "NVIDIA B300", (10, 3)),
    ("gb10", "NVIDIA GB10", (12, 1)),
    ("DGX Spark", "NVIDIA GB10", (12, 1)),
    ("t4", "Tesla T4", (7, 5)),
    ("V100", "Tesla V100", (7, 0)),
    ("a6000", "NVIDIA RTX A6000", (8, 6)),
    ("RTX 6000 Ada", "NVIDIA RTX 6000 Ada Generation", (8, 9)),
    ("rtxpro6000", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", (12, 0)),
    ("Jetson AGX Thor", "NVIDIA Jetson T5000", (11, 0)),
    ("Orin", "NVIDIA Jetson AGX Orin", (8, 7)),
])
def test_a_card_is_found_by_what_people_call_it(name: str, found: str, capability: tuple[int, int]) -> None:
    """Case, spaces and the maker's words do not matter."""
    one = card.find(name)
    assert (one.name, one.capability) == (found, capability)


@pytest.mark.parametrize("name", ["12.0", "sm_120", "sm_120a", "compute_120f", "SM120"])
def test_a_capability_stands_for_any_card_of_it(name: str) -> None:
    """A card that no table has is asked for by its capability; nothing else is said of it."""
    one = card.find(name)
    assert (one.capability, one.memory_gib) == ((12, 0), None)
    assert "12.0" in one.name


def test_a_laptop_has_the_chip_but_not_the_memory() -> None:
    """NVML calls it Laptop GPU; its capability is the desktop card's."""
    one = card.find("NVIDIA GeForce RTX 5090 Laptop GPU")
    assert (one.capability, one.memory_gib) == ((12, 0), None)
    assert card.find("rtx5090").memory_gib == 32


@pytest.mark.parametrize(("name", "near"), [("rtx5900", "RTX 5090"), ("h1000", "NVIDIA H100"), ("gtx 1661", "GTX 1660")])
def test_an_unknown_card_names_the_nearest(name: str, near: str) -> None:
    """The mistake says what was meant, perhaps, and that a capability does as well."""
    with pytest.raises(ConfigurationError) as refusal:
        card.find(name)
    assert near in str(refusal.value)
    assert "--gpu 12.0" in str(refusal.value)


@pytest.mark.parametrize("name", [name.lower() for name in SHARED])
def test_a_name_of_several_cards_is_refused(name: str) -> None:
    """There are three of them, of three generations: a guess would be wrong for two."""
    with pytest.raises(ConfigurationError) as refusal:
        card.find(name)
    assert all(number in str(refusal.value) for number in ("7.5", "8.9", "12.0"))


@given(st.text(max_size=40))
def test_no_name_breaks_the_search(name: str) -> None:
    """Any text is either a card or a mistake with a sentence."""
    try:
        said = card.find(name).name
    except ConfigurationError as refusal:
        said = str(refusal)
    assert said


@pytest.mark.parametrize("one", card.known(), ids=lambda one: one.name)
def test_every_card_is_found_by_its_names(one: Card) -> None:
    """Its name, and what else it is called unless that is another generation's name too, lead to its capability."""
    assert card.find(one.name).capability == one.capability
    assert one.source.startswith(("NVIDIA's", "not listed by NVIDIA"))
    assert one.memory_gib is None or 2 <= one.memory_gib <= 300
    for alias in one.aliases:
        if alias in SHARED:
            with pytest.raises(ConfigurationError, match=re.escape(one.name)):
                card.find(alias)
        else:
            assert card.find(alias).capability == one.capability


def test_no_card_is_listed_twice() -> None:
    """Each name once, so that none has two capabilities."""
    names = [one.name for one in card.known()]
    assert len(names) == len(set(names))


def test_jetsons_are_tegra_and_others_are_not() -> None:
    """What NVIDIA's table has in its column for Jetson is what other rules hold for."""
    for one in card.known():
        assert one.tegra == ("Jetson" in one.name), one.name
        assert one.target().tegra == (one.capability in TEGRA)


def test_profiles_agree_with_the_table() -> None:
    """The capability and the memory that a profile states are its card's."""
    for one in profile.committed().values():
        for name in () if one.is_cpu else one.names:
            known = card.find(name)
            assert known.target().name == one.capability, name
            assert known.memory_gib in (None, one.memory_gib), name


def test_the_file_has_no_field_that_is_not_read() -> None:
    """A mistyped field would be a fact that nobody sees."""
    data = tomllib.loads((Path(card.__file__).with_name("cards.toml")).read_text(encoding="utf-8"))
    assert set(data) == {"sources", "group"}
    for group in data["group"]:
        assert set(group) == {"capability", "source", "cards"}
        assert all(set(one) <= {"name", "gib", "aliases"} for one in group["cards"])


# --- drivers --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("version", "branch"), [("580.159.03", 580), ("575.64.05", 575), ("570", 570), (" 580.65\n", 580)])
def test_the_branch_of_a_driver(version: str, branch: int) -> None:
    """What NVML reports, or what a person types."""
    assert driver.branch(version) == branch


@pytest.mark.parametrize("version", ["", "latest", "12.8", "580.x", "v580"])
def test_what_is_no_driver_is_refused(version: str) -> None:
    """A CUDA release is no driver."""
    with pytest.raises(ValueError):
        driver.branch(version)


@pytest.mark.parametrize(("isa", "cuda", "branch"), [
    ((8, 0), (12, 0), 525), ((8, 5), (12, 5), 555), ((8, 7), (12, 8), 570), ((9, 0), (13, 0), 580), ((9, 2), (13, 2), 595),
])
def test_ptx_versions(isa: tuple[int, int], cuda: tuple[int, int], branch: int) -> None:
    """As NVIDIA's table of PTX releases has them."""
    assert (driver.cuda_of(isa), driver.for_ptx(isa)) == (cuda, branch)


@pytest.mark.parametrize(("cuda", "branch"), [
    ((11, 8), 450), ((12, 0), 525), ((12, 9), 525), ((13, 0), 580), ((13, 2), 580), ((10, 2), 440),
])
def test_toolkits_keep_to_minor_version_compatibility(cuda: tuple[int, int], branch: int) -> None:
    """From CUDA 11 on the first driver of a major number loads what any release of it made."""
    assert driver.for_toolkit(cuda) == branch


def test_what_is_newer_than_the_table_needs_a_newer_driver() -> None:
    """Unknown is not free: a lower bound beyond the newest known branch."""
    newest = max(release.branch for release in driver.RELEASES)
    assert driver.for_ptx((99, 0)) > newest
    assert driver.for_toolkit((99, 0)) > newest
    assert driver.for_card((99, 0)) > newest


def test_every_known_card_has_a_driver_and_a_toolkit() -> None:
    """The first CUDA release that knows a card is there, so that a cure can name it."""
    for one in card.known():
        release = next(release for release in driver.RELEASES if release.cuda == driver.first_cuda(one.capability))
        assert one.capability in release.cards, one.name
        assert driver.for_card(one.capability) == release.branch


def test_releases_are_in_order() -> None:
    """Releases, PTX versions and branches only grow."""
    for column in ([one.cuda for one in driver.RELEASES], [one.isa for one in driver.RELEASES],
                   [(one.branch, 0) for one in driver.RELEASES]):
        assert column == sorted(column)
