"""A narrowed run says how it was narrowed, so that a waiver whose cells were left out shuts no gate, and no other does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from fixtures.waiver import Narrowed
from tests.runs import CHECKOUT

CHECKS, ENGINES, LINEUPS = Narrowed

# One process for all lines: to import takes most of the time.
ASK = """
import json, sys, pytest
from fixtures import options
found = []
class Ask:
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        found.append([sorted(options.narrowed(session.config, interrupted=end)) for end in (False, True)])
        return True
for line in json.loads(sys.argv[1]):
    pytest.main([*line, "-qq"], plugins=[Ask()])
print("\\n" + json.dumps(found))
"""

LINES: list[tuple[Sequence[str], set[Narrowed]]] = [
    ((), set()),
    (("-m", "cpu"), set()),
    (("-m", "rtx5090 or h200"), set()),
    (("suites", "-m", "cpu"), set()),
    (("-m", "cpu and latency"), {CHECKS}),
    (("-m", "cpu", "-k", "ttft"), {CHECKS}),
    (("-m", "cpu", "suites/test_api.py"), {CHECKS}),
    (("-m", "cpu", "--deselect", "suites/test_api.py"), {CHECKS}),
    (("-m", "cpu", "--ignore", "suites/test_api.py"), {CHECKS}),
    (("-m", "cpu", "--benchmark-skip"), {CHECKS}),
    (("-m", "cpu", "--engine", "llamacpp"), {ENGINES}),
    (("-m", "cpu", "--engine", "llamacpp", "--lineup", "trilingual"), {ENGINES, LINEUPS}),
]


@pytest.fixture(scope="module")
def answers() -> list[list[list[str]]]:
    """For each line how the run is narrowed: one that comes to its end, and one that is interrupted."""
    done = subprocess.run([sys.executable, "-c", ASK, json.dumps([line for line, _ in LINES])], cwd=CHECKOUT,
                          capture_output=True, text=True, timeout=100)
    found: list[list[list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("number", range(len(LINES)), ids=[" ".join(line) or "nothing" for line, _ in LINES])
def test_how(answers: list[list[list[str]]], number: int) -> None:
    """Profiles choose machines, not checks; what was still to come when a run broke off may hold a waiver's cells."""
    whole, broken_off = (set(map(Narrowed, words)) for words in answers[number])
    assert whole == LINES[number][1]
    assert broken_off == whole | {CHECKS}
