"""Documented claims: each comes to an outcome, from what was printed and what is measured.

A cell passes where an outcome was reached, whichever it is; it fails where the record says another for the same engine.
They are judged where -m, -k or the file's own name asks for findings, not in every run of a profile.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fixtures.check import Check, Step
from fixtures.findings import claim as claims
from fixtures.findings import procedures
from fixtures.findings.claim import Claim
from fixtures.here import Here
from fixtures.place import Place
from fixtures.verdict import Judgement


def _promise(claim: Claim, *, static: bool) -> Callable[[Here], Judgement]:
    """The test of one claim: by what starts nothing, or by servers."""

    def variants(place: Place) -> tuple[str, ...]:
        return tuple(procedures.ways(claim, place, static=static))

    def when(place: Place) -> Step:
        return procedures.step(procedures.ways(claim, place, static=static)[place.variant])

    def test(here: Here) -> Judgement:
        return procedures.judge(here, claim, procedures.ways(claim, here.place, static=static)[here.place.variant])

    test.__doc__ = claim.sentence
    found = Check(f"finding.{claim.id}", Step.NOTHING if static else when, False, static, variants,
                  lambda place: bool(variants(place)))
    test.check = found  # type: ignore[attr-defined]
    marked: Callable[[Here], Judgement] = pytest.mark.findings(test)
    return pytest.mark.static(marked) if static else marked


for _claim in claims.committed().values():
    for _static, _name in ((True, "at_rest"), (False, "live")):
        globals()[f"test_{_claim.id}_{_name}"] = _promise(_claim, static=_static)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make no cell of a claim in a run that did not ask for findings."""
    option, arguments = metafunc.config.option, map(str, metafunc.config.invocation_params.args)
    named = any("test_findings" in words for words in arguments if not words.startswith("-"))
    if not named and "finding" not in f"{option.markexpr} {option.keyword}":
        check: Check = metafunc.function.check
        metafunc.function.check = replace(check, applies=lambda place: False)
