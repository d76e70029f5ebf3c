"""A policy may be stricter or looser about open questions, and about nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports import policy
from reports.policy import STRICT, Policy, PolicyError, Shuts


def test_the_committed_policy_is_the_contract() -> None:
    """Without a change of the file, and without the file, the gate is as strict as the contract has it."""
    assert policy.read() == STRICT
    assert policy.FILE.is_file()
    assert (STRICT.default.inconclusive, STRICT.default.unavailable) == (Shuts.REQUIRED, Shuts.REQUIRED)
    assert STRICT.default.worse_by == 0.10


def test_a_profile_takes_what_it_does_not_say_from_the_default(tmp_path: Path) -> None:
    """One key of a profile changes one rule."""
    file = tmp_path / "policy.toml"
    file.write_text('[default]\nworse_by = 0.2\ninconclusive = "any"\n[profile.cpu]\nworse_by = 0.3\n')
    found = policy.read(file)
    assert (found.of("cpu").worse_by, found.of("cpu").inconclusive) == (0.3, Shuts.ANY)
    assert (found.of("h200").worse_by, found.of("h200").unavailable) == (0.2, Shuts.REQUIRED)


@pytest.mark.parametrize(("text", "words"), [
    ('[default]\nfail = "never"', "a fail always shuts the gate"),
    ('[default]\nerror = "never"', "a error always shuts the gate"),
    ('[profile.cpu]\nunexpected-pass = "never"', "a unexpected-pass always shuts the gate"),
    ('[default]\ninconclusive = "open"', "known: never, required, any"),
    ('[default]\ninconclusive = "never"', "looser than unavailable"),
    ("[default]\nworse_by = 0.6", "lets everything through"),
    ("[default]\nworse_by = 0", "write a share above 0"),
    ("[default]\nworse_by = inf", "lets everything through"),
    ("[default]\nworse_by = nan", "write a share"),
    ("[cpu]\nworse_by = 0.1", "unknown key"),
    ("[default", "policy.toml"),
])
def test_mistakes(tmp_path: Path, text: str, words: str) -> None:
    """A policy that would let through what none may, or is mistyped, is refused with the file, the key and the cure."""
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(PolicyError) as refused:
        policy.read(file)
    assert words in str(refused.value)
    assert "policy.toml" in str(refused.value)


def test_no_such_file(tmp_path: Path) -> None:
    """A policy that was named and is not there is no strict one."""
    with pytest.raises(PolicyError, match=r"none\.toml"):
        policy.read(tmp_path / "none.toml")


def test_merged_runs_are_judged_by_the_strictest() -> None:
    """One lenient run among those merged loosens nothing."""
    lenient = {"policy": {"default": {"inconclusive": "never", "unavailable": "never", "worse_by": 0.4}}}
    found = policy.recorded({"merged": [lenient, {"policy": {"profile": {"cpu": {"inconclusive": "any"}}}}]})
    assert found.default == STRICT.default
    assert found.of("cpu").inconclusive is Shuts.ANY
    assert policy.recorded({"merged": [lenient, {}]}) == STRICT
    assert policy.recorded(lenient) == Policy.model_validate(lenient["policy"])
