"""A label tells whose a thing is: this process, one that has ended, or one that cannot be seen from here."""

from __future__ import annotations

import os
import subprocess

import pytest

from fixtures.docker.labels import PID, RUN, SERVER, STARTED, Owner, labels


def test_this_process_has_not_gone() -> None:
    """And its labels tell run and server."""
    owner = Owner.of(labels("run", "server"))
    assert owner is not None
    assert (owner.run, owner.server, owner.pid, owner.gone) == ("run", "server", os.getpid(), False)
    assert SERVER not in labels("run")


def test_a_process_that_has_ended_has_gone() -> None:
    """Also where its pid has been given to another since."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    marks = labels("run")
    assert _gone({**marks, PID: str(ended.pid)})
    world, _, ticks = marks[STARTED].rpartition("/")
    assert _gone({**marks, STARTED: f"{world}/{int(ticks) - 1}"})


def test_who_cannot_be_seen_may_live() -> None:
    """A pytest in another container; one from before the machine's restart has gone."""
    marks = labels("run")
    boot, space, ticks = marks[STARTED].split("/")
    elsewhere = {**marks, PID: "4194304"}
    assert not _gone({**elsewhere, STARTED: f"{boot}/pid:[1]/{ticks}"})
    assert _gone({**elsewhere, STARTED: f"0000/{space}/{ticks}"})
    assert _gone({**elsewhere, STARTED: ""})


@pytest.mark.parametrize("marks", [None, {}, {RUN: "run"}, {PID: "1"}, {RUN: "run", PID: "x"}])
def test_what_has_not_our_labels_has_no_owner(marks: dict[str, str] | None) -> None:
    """And is left alone."""
    assert Owner.of(marks) is None


def _gone(marks: dict[str, str]) -> bool:
    owner = Owner.of(marks)
    assert owner is not None
    return owner.gone
