"""junit.xml is what Jenkins and GitLab read: valid whatever a record holds, and never greener than the gate."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
import xmlschema
from hypothesis import given

from reports import gate, junit
from reports.comparison import Comparison, Regression
from reports.record import Cell, Figure, Matrix, Verdict
from tests.cells import any_cells, cell, runs, steady
from tests.test_matrix import HOSTILE

SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "schemas" / "junit-10.xsd")
GITLAB = {"testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped", "system-out"}


def document(*cells: Cell, **run: object) -> ElementTree.Element:
    """The document of a run, valid by the schema."""
    matrix = Matrix(run={"id": "r", "started": "2026-11-21T12:00:00+00:00", "finished": "now", **run}, cells=cells)
    text = junit.render(matrix, gate.of(matrix))
    SCHEMA.validate(text)
    return ElementTree.fromstring(text)


@steady
@given(runs(any_cells))
def test_any_record_is_valid(cells: list[Cell]) -> None:
    """Every cell is one test case, with the outcome that its verdict says; counts are what is there."""
    root = document(*cells)
    assert {element.tag for element in root.iter()} <= GITLAB
    cases = root.findall("testsuite/testcase")
    assert len(cases) == len(cells) + 1
    kinds = Counter(outcome.tag for case in cases[:-1] for outcome in case if outcome.tag != "system-out")
    assert kinds == Counter(kind for one in cells if (kind := junit.OUTCOMES.get(one.verdict, "skipped")))
    for suite in root.findall("testsuite"):
        for count, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error"),
                           ("skipped", "testcase/skipped")):
            assert int(suite.attrib[count]) == len(suite.findall(tag))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict(verdict: Verdict) -> None:
    """fail and a waived cell that passes are failures, an error is an error, what was not judged is skipped."""
    case = document(cell(verdict=verdict, causes=("usage",), reason="3 tokens of 8", cure="update"))[0][1]
    found = [element for element in case if element.tag != "system-out"]
    expected = {"fail": "failure", "unexpected-pass": "failure", "error": "error", "pass": None}.get(verdict, "skipped")
    assert [element.tag for element in found] == ([expected] if expected else [])
    for element in found:
        assert element.attrib == {"type": "usage", "message": f"{verdict}: 3 tokens of 8"}
        assert element.text == "3 tokens of 8\ncause: usage\ncure: update"


def test_where_it_is_and_what_it_says() -> None:
    """A case is named by check and variant in the class of its model; figures, evidence and time are shown."""
    one = cell("languages.script", variant="ko", figures={"share": Figure(value=0.5, limit=0.9)}, evidence=("logs/x.json",))
    case = document(one, seconds={junit.key(one): 1.25})[0][1]
    assert case.attrib == {"name": "languages.script/ko", "classname": "cpu.process.vllm.trilingual.small", "time": "1.250"}
    said = case.findtext("system-out") or ""
    assert "figure.share: 0.5 (limit 0.9)" in said
    assert "evidence: logs/x.json" in said


def test_a_shut_gate_is_a_failure() -> None:
    """All cells pass, yet something required has no cell, or is worse than it was: nothing looks green."""
    shut = document(cell(), require={"trilingual": ["startup"]})
    (failure,) = shut.findall(".//failure")
    assert "required startup has no cell" in failure.attrib["message"]
    name = "cpu/process/vllm/trilingual/small/latency.itl"
    worse = Regression(what="figure", cell=name, deployment="", sentence="20 % worse")
    compared = Comparison(name="main", sha256="0", runs=5, compared=1, regressions=(worse,))
    (failure,) = document(cell(), baseline=compared.facts()).findall(".//failure")
    assert failure.text == f"regression {worse.cell}: 20 % worse"
    assert document(cell()).findall(".//failure") == []


def test_words_of_others_are_data() -> None:
    """What an engine says neither breaks the document nor leaks: a token is gone before the text is cut."""
    token = "hf_" + "a1B2" * 8
    odd = cell(verdict="fail", reason=f"{HOSTILE} HF_TOKEN={token} " + "x" * 5000, cure=f"Authorization: Bearer {token}",
               model="</testcase>")
    text = ElementTree.tostring(document(odd), encoding="unicode")
    assert token[:8] not in text
    assert "\x1b" not in text
    assert "‮" not in text
    assert len(text) < 8000
