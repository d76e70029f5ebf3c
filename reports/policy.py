"""The policy: what a gate does with open questions and regressions, by profile; it is strict unless a file says otherwise.

fail, error and unexpected-pass always shut a gate, and no policy can name them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reports.record import Verdict

FILE = Path(__file__).resolve().parent.parent / "suites" / "policy.toml"
FACT = "policy"  # the key of a run's facts under which its policy stands
WORSE_BY, LARGEST = 0.10, 0.50


class PolicyError(ValueError):
    """A policy that says what none may, in one sentence."""


class Shuts(StrEnum):
    """Which cells of a verdict shut the gate: none, those that a lineup requires, or any. Declared loosest first."""

    NEVER = "never"
    REQUIRED = "required"
    ANY = "any"

    @property
    def strictness(self) -> int:
        """0 for the loosest."""
        return list(Shuts).index(self)


class Rules(BaseModel):
    """The rules of one profile. `worse_by` is the share of the baseline by which a figure may be worse."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inconclusive: Shuts = Shuts.REQUIRED
    unavailable: Shuts = Shuts.REQUIRED
    worse_by: Annotated[float, Field(gt=0, le=LARGEST)] = WORSE_BY

    @model_validator(mode="after")
    def _worse_is_no_looser(self) -> Rules:
        # Else a cell that gets worse, from unavailable to inconclusive, would open a gate.
        if self.inconclusive.strictness < self.unavailable.strictness:
            raise ValueError(f"inconclusive = '{self.inconclusive}' is looser than unavailable = '{self.unavailable}', "
                             "although it is the worse verdict")
        return self

    def shuts(self, verdict: Verdict, *, required: bool) -> bool:
        """Whether an open question shuts the gate."""
        rule = self.inconclusive if verdict is Verdict.INCONCLUSIVE else self.unavailable
        return rule is Shuts.ANY or (rule is Shuts.REQUIRED and required)


class Policy(BaseModel):
    """The rules of every profile: `default`, and what a profile says differently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Rules = Field(default_factory=Rules)
    profile: dict[str, Rules] = Field(default_factory=dict)

    def of(self, profile: str) -> Rules:
        """The rules of this profile."""
        return self.profile.get(profile, self.default)

    def with_worse_by(self, share: float) -> Policy:
        """The same with another share for every profile. Raises PolicyError."""
        whole = self.model_dump(mode="json")
        return parse({"default": {**whole["default"], "worse_by": share},
                      "profile": {name: {**rules, "worse_by": share} for name, rules in whole["profile"].items()}})


STRICT = Policy()


def parse(document: Mapping[str, Any]) -> Policy:
    """A policy from what TOML or JSON holds; a profile takes from `default` what it does not say. Raises PolicyError."""
    whole, default = dict(document), document.get("default", {})
    if isinstance(default, dict) and isinstance(document.get("profile"), dict):
        whole["profile"] = {name: {**default, **rules} if isinstance(rules, dict) else rules
                            for name, rules in document["profile"].items()}
    try:
        return Policy.model_validate(whole)
    except ValidationError as fault:
        problem = fault.errors()[0]
        raise PolicyError(_explained(".".join(str(part) for part in problem["loc"]), problem)) from None


def read(path: Path = FILE) -> Policy:
    """The policy of a file; the strict one where the checkout has none. Raises PolicyError."""
    if path == FILE and not path.exists():
        return STRICT
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, PolicyError) as fault:
        raise PolicyError(f"{path}: {fault}") from None


def recorded(run: Mapping[str, Any]) -> Policy:
    """The policy that a run was judged by; of merged runs the strictest that any had. Raises PolicyError."""
    merged = run.get("merged")
    if isinstance(merged, list | tuple) and merged:
        return strictest([recorded(one) for one in merged])
    known = run.get(FACT)
    if known is None:
        return STRICT
    if not isinstance(known, Mapping):
        raise PolicyError(f"run.{FACT}: not an object")
    return parse(known)


def strictest(policies: list[Policy]) -> Policy:
    """For each profile the strictest rule that any of the policies has."""
    profiles = {name for policy in policies for name in policy.profile}
    return Policy(default=_strictest([policy.default for policy in policies]),
                  profile={name: _strictest([policy.of(name) for policy in policies]) for name in sorted(profiles)})


def _strictest(rules: list[Rules]) -> Rules:
    return Rules(inconclusive=max((one.inconclusive for one in rules), key=lambda rule: rule.strictness),
                 unavailable=max((one.unavailable for one in rules), key=lambda rule: rule.strictness),
                 worse_by=min(one.worse_by for one in rules))


def _explained(where: str, problem: Any) -> str:
    key = where.rpartition(".")[2]
    if key in ("fail", "error", "unexpected-pass", "unexpected_pass"):
        return f"{where}: a {key.replace('_', '-')} always shuts the gate, no policy changes that"
    if key == "worse_by":
        return f"{where}: write a share above 0 and up to {LARGEST:g}, such as {WORSE_BY:g}; more lets everything through"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key; known: default and profile.NAME with inconclusive, unavailable, worse_by"
    known = f"; known: {', '.join(Shuts)}" if problem["type"] == "enum" else ""
    return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}{known}".removeprefix(": ")
