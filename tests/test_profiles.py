"""Profiles agree with what is known of their cards, and the lineups fit the cards that they are for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fixtures import lineup
from fixtures.gpu import profile
from fixtures.gpu.profile import Profile
from fixtures.kernels import card
from fixtures.lineup import Lineup, ModelEntry
from fixtures.models import shape
from fixtures.models.folder import ModelFolder

SLOTS = 4  # requests that are to fit at their full context at once
# GiB of one vLLM 0.26.0 on an H200: activations, buffers and its own inside the share, and what stands outside of it, less
# without CUDA graphs; SGLang's share holds weights and cache only. CUDA tells less than NVML: 0.35 to 0.75 GiB were seen.
INSIDE = {"tinyllama": 0.60, "qwen2.5-3b": 0.91, "yi-6b": 0.94}
INSIDE_OF_OTHERS, OUTSIDE, OUTSIDE_EAGER, UNTOLD = 1.0, 2.1, 0.6, 0.8
# A study's presets are tried as they were published, whether or not they can work.
NO_ROOM = {
    ("study-conservative", "rtx5090", "qwen"): "KV cache",
    ("study-conservative", "rtx5090", "yi"): "KV cache",
    ("study-aggressive", "rtx5090", ""): "device",
}
GPUS = [one for one in profile.committed().values() if not one.is_cpu]
PLACES = [(one, profile.committed()[name]) for one in lineup.committed() for name in one.profiles if name != "cpu"]


@dataclass(frozen=True)
class Needs:
    """What a model takes in 16-bit floats: GiB of weights and of one token's cache, and GiB beside them in its share."""

    weights: float
    token: float
    inside: float


def needs(one: Lineup, model: ModelEntry) -> Needs:
    """By the shape it asks for or the one that its hub's model has, else by its folder."""
    source = model.source_for("vllm")
    found = shape.known().get(model.random("vllm")) or shape.of_hub(source)
    if found:
        return Needs(shape.weights_bytes(found.name) / 2**30, found.kv_bytes_per_token / 2**30, INSIDE[found.name])
    folder = one.folder_of(model, "vllm")
    assert folder is not None, f"{one.name}: nothing is known of {source}: add its shape to fixtures/models/shapes.toml"
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Needs(size / 2**30, ModelFolder(folder).kv_bytes_per_token / 2**30, INSIDE_OF_OTHERS)


def misfits(one: Lineup, gpu: Profile) -> dict[tuple[str, str, str], str]:
    """Models whose share leaves less cache than four requests need, and lineups that are more than the card."""
    assert gpu.total_gib is not None
    total, found = gpu.total_gib - UNTOLD, {}
    for model in one.models:
        its, parts = needs(one, model), len(model.devices)
        if model.share * total - its.weights / parts - its.inside < SLOTS * model.context * its.token / parts:
            found[one.name, gpu.name, model.name] = "KV cache"
    eager = all("--enforce-eager" in model.flags.get("vllm", ()) for model in one.models)
    for position in range(one.devices_needed):
        here = (model for model in one.models if position in model.devices)
        if sum(model.share * total + (OUTSIDE_EAGER if eager else OUTSIDE) for model in here) > total:
            found[one.name, gpu.name, ""] = "device"
    return found


@pytest.mark.parametrize(("one", "gpu"), PLACES, ids=[f"{one.name}-{gpu.name}" for one, gpu in PLACES])
def test_shares_leave_a_cache(one: Lineup, gpu: Profile) -> None:
    """On each of its cards each model has room for four requests at full context, and all together for themselves."""
    expected = {key: what for key, what in NO_ROOM.items() if key[:2] == (one.name, gpu.name)}
    assert misfits(one, gpu) == expected


def test_shapes_is_for_every_card_that_holds_it() -> None:
    """No card with memory enough is left out, and none without is promised."""
    shapes = lineup.load("shapes")
    assert set(shapes.profiles) == {one.name for one in GPUS if not misfits(shapes, one)}


def test_ceilings_fit_the_card() -> None:
    """The memory limits that a lineup states for a card hold its shares, and are together no more than the card has."""
    stated = 0
    for one, gpu in PLACES:
        limits = [one.limits_for(model, gpu.name, gpu.limits).get("memory_gib") for model in one.models]
        if None not in limits:
            stated += 1
            assert sum(limit for limit in limits if limit) <= (gpu.total_gib or 0)
            assert all(limit and limit > model.share * (gpu.total_gib or 0)
                       for limit, model in zip(limits, one.models, strict=True))
    assert stated


@pytest.mark.parametrize("one", GPUS, ids=[one.name for one in GPUS])
def test_a_profile_knows_its_card(one: Profile) -> None:
    """Each name is in the table of cards with this capability, no other profile has it, and the facts have a source."""
    assert one.names
    assert one.source
    for name in one.names:
        assert card.find(name).target().name == one.capability
        assert [other.name for other in GPUS if name in other.names] == [one.name]


@pytest.mark.parametrize("one", GPUS, ids=[one.name for one in GPUS])
def test_totals_are_near_what_is_sold(one: Profile) -> None:
    """What NVML reports is a little less than what is on the box; where it reports nothing the host's memory is meant."""
    assert one.memory_gib is not None
    assert one.total_gib is not None
    assert 0.92 <= one.total_gib / one.memory_gib <= 1
    assert one.unified == (one.total_mib is None)


def test_the_table_and_the_profiles_have_one_name_each() -> None:
    """A profile is found under its own name among the cards: `--gpu rtx5090` and `-m rtx5090` are one card."""
    for one in GPUS:
        assert card.find(one.name).target().name == one.capability, one.name


def test_a_run_takes_nothing_dear_unasked() -> None:
    """Lineups that need gigabytes of a hub, a second card or nginx are taken only where they are named."""
    assert {one.name for one in lineup.committed() if one.optional} == {
        "study-conservative", "study-balanced", "study-aggressive", "two-devices", "gateway"}
