"""The findings about kernels: worked out from files, so that other files come to something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.kernels import findings, source
from fixtures.kernels.findings import Claim, Outcome
from fixtures.kernels.image import Architecture, Compiler, Image, Kind, Library, Module, Reading
from fixtures.kernels.source import Source

REPRODUCED, REFUTED, NOT_MEASURABLE = Outcome.REPRODUCED, Outcome.REFUTED, Outcome.NOT_MEASURABLE
OLD = Compiler("ptxas", "triton/backends/nvidia/bin/ptxas", "12.4.99", (Architecture(80), Architecture(90, "a")))
NEW = replace(OLD, version="12.8.93", architectures=(*(OLD.architectures or ()), Architecture(120)))


def library(path: str, *numbers: int) -> Library:
    """A library of one module with machine code for these."""
    images = tuple(Image(Kind.CUBIN, Architecture(number), 4096) for number in numbers)
    return Library(path, 4096, (Module(images, ".nv_fatbin", 0),))


def published(torch: tuple[int, ...], engine: tuple[int, ...], *compilers: Compiler) -> Reading:
    """What an engine and its PyTorch would bring that carry code for these."""
    return Reading("wheels", (library("torch/lib/libtorch_cuda.so", *torch), library("vllm/_C.abi3.so", *engine)), compilers)


@pytest.mark.parametrize(("holds", "torch", "engine", "compilers", "expected"), [
    ("runs", (90, 120), (90, 120), [NEW], REPRODUCED),
    ("runs", (80, 90), (90, 120), [NEW], REFUTED),
    ("runs", (90, 120), (80, 90), [NEW], REFUTED),
    ("fails", (80, 90), (120,), [NEW], REPRODUCED),
    ("fails", (80, 120), (120,), [OLD], REFUTED),
    ("eager", (80, 120), (120,), [OLD], REPRODUCED),
    ("eager", (80, 120), (120,), [NEW], REFUTED),
    ("eager", (80, 90), (120,), [OLD], REFUTED),
    ("eager", (80, 120), (120,), [], REFUTED),
])
def test_a_claim_is_decided_by_what_the_files_carry(
        holds: str, torch: tuple[int, ...], engine: tuple[int, ...], compilers: list[Compiler], expected: Outcome) -> None:
    """One image more or less, or another compiler, and the same claim comes to the opposite."""
    claim = Claim.model_validate({"id": "x", "claim": "x", "wheels": ["vllm==1"], "holds": holds})
    decision = findings.decide(claim, published(torch, engine, *compilers), "rtx5090")
    assert decision.outcome is expected
    assert "libtorch_cuda.so: of 1 modules" in decision.evidence


def test_nothing_is_decided_without_what_is_always_used() -> None:
    """Neither by files that hold none of it nor by one that could not be read whole."""
    claim = Claim.model_validate({"id": "x", "claim": "x", "wheels": ["vllm==1"], "holds": "fails"})
    other = Reading("wheels", (library("other/lib.so", 80),))
    damaged = replace(library("torch/lib/libtorch_cuda.so", 80), left_out=("it is cut off",))
    assert findings.decide(claim, other, "rtx5090").outcome is NOT_MEASURABLE
    assert findings.decide(claim, Reading("wheels", (damaged,)), "rtx5090").outcome is NOT_MEASURABLE


def test_every_committed_claim_names_what_decides_it() -> None:
    """One version each, and no claim twice."""
    claims = findings.committed().finding
    assert len({claim.id for claim in claims}) == len(claims) >= 5
    assert all(len(claim.pins) == len(claim.wheels) for claim in claims)


@pytest.mark.long
@pytest.mark.parametrize("claim", findings.committed().finding, ids=lambda claim: claim.id)
def test_the_published_wheels_decide_it(claim: Claim) -> None:
    """Fetched and read anew; docs/findings-kernels.md says what was seen, this prints what is."""
    reading = source.read(Source(pins=claim.pins), print)
    decision = findings.decide(claim, reading, findings.committed().gpu)
    print(f"{claim.id}: {decision.outcome}: {decision.evidence}")
    assert decision.outcome is not NOT_MEASURABLE
