"""gate: results judged again, held against a baseline, or compared with their certificate."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reports import audit, certificate, gate, policy, regression, samples, terminal
from reports import baseline as baselines
from reports.comparison import FACT
from reports.gate import Gate
from reports.merge import merge, relocate
from reports.policy import Policy, PolicyError
from reports.record import Matrix
from reports.store import StoreError, read
from reports.text import visible


class GateError(StoreError):
    """An option of the gate that the user must correct, in one sentence."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options beside RESULTS."""
    parser.add_argument("--require", action="append", default=[], metavar="NAME",
                        help="a promise or check id that every lineup must have judged; may be given again, or a,b")
    parser.add_argument("--baseline", default="", metavar="NAME|FILE",
                        help="fail on what is worse than in this baseline; several RESULTS of the same cells are samples")
    parser.add_argument("--worse-by", type=float, default=None, metavar="SHARE",
                        help=f"the share of the baseline by which a figure may be worse (default {policy.WORSE_BY:g})")
    parser.add_argument("--policy", type=Path, default=None, metavar="FILE",
                        help="stricter rules for open questions than the results were judged by")
    parser.add_argument("--verify", type=Path, default=None, metavar="CERTIFICATE",
                        help="tell whether the results beside a certificate were altered since it was written")


def judge(given: argparse.Namespace, require: Sequence[str]) -> int:
    """Print what decides and the sentence last; the gate's exit code."""
    rules = _rules(given)
    matrix = load(given.results, Path())
    if given.baseline:
        matrix = _held_against(matrix, given, rules)
    also = [clause for path in given.results for clause in (audit.contradictions(path) if path.is_dir() else ())]
    judged = gate.of(matrix, require, rules=rules, also=also)
    _print(judged)
    return judged.exit_code


def verify(path: Path) -> int:
    """Print what was altered and one sentence; 0 where nothing was and the gate is open."""
    found = certificate.verify(path)
    out = terminal.console()
    for sentence in found.altered:
        out.print(f"altered: {visible(sentence, 500)}", soft_wrap=True)
    for name in found.added:
        out.print(f"not named by the certificate: {visible(name, 300)}", soft_wrap=True)
    out.print(visible(found.sentence, 2000), soft_wrap=True)
    return found.exit_code


def load(paths: Sequence[Path], target: Path) -> Matrix:
    """Read results and merge them; evidence is then named from `target`. Raises StoreError."""
    matrices = [(path if path.is_dir() else path.parent, read(path)) for path in paths]
    if len(matrices) == 1:
        return matrices[0][1]
    return merge([relocate(matrix, folder, target) for folder, matrix in matrices])


def _held_against(matrix: Matrix, given: argparse.Namespace, rules: Policy | None) -> Matrix:
    """The matrix with the comparison among its facts, in place of one that was recorded.

    Medians come from the evidence that lies below the folders of the results.
    """
    held = baselines.load(given.baseline)
    folders = [path if path.is_dir() else path.parent for path in given.results]
    parts = [samples.with_medians(read(path), folder) for path, folder in zip(given.results, folders, strict=True)]
    whole = merge(parts)
    known = policy.recorded(whole.run)
    known = known if rules is None else policy.strictest([known, rules])
    found = regression.compare(held, whole, known if given.worse_by is None else known.with_worse_by(given.worse_by))
    return matrix.model_copy(update={"run": {**matrix.run, FACT: found.facts()}})


def _rules(given: argparse.Namespace) -> Policy | None:
    try:
        if given.worse_by is not None:
            policy.STRICT.with_worse_by(given.worse_by)
        return None if given.policy is None else policy.read(given.policy)
    except PolicyError as fault:
        raise GateError(f"gate: {fault}") from None


def _print(judged: Gate) -> None:
    out = terminal.console()
    for cell in judged.deciding:
        terminal.line(cell, out)
    for bad in judged.regressions:
        out.print(f"regression {visible(bad.cell, 300)}: {visible(bad.sentence, 500)}", soft_wrap=True)
    for note in judged.notes:
        out.print(f"note: {visible(note, 600)}", soft_wrap=True)
    # Never folded: it is the last line, and scripts read it.
    out.print(visible(judged.reason, 2000), style="bold green" if judged.open else "bold red", soft_wrap=True)
