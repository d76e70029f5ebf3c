"""The timesheet: every second of the main thread counts once, and what nobody claims is the run's own."""

from __future__ import annotations

import threading
import time

import pytest

from fixtures.timesheet import Timesheet


class Clock:
    """A clock that tells the time it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In the place of time.monotonic."""
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


def test_a_span_inside_another_counts_for_the_inner_one(clock: Clock) -> None:
    """Three deep, twice on one level: the sum is the wall time."""
    sheet = Timesheet(started=clock())
    with sheet.spend("generation", "vllm"):
        clock.now += 1
        with sheet.spend("boot", "vllm"):
            clock.now += 10
            with sheet.spend("wait", "port is free"):
                clock.now += 4
        clock.now += 2
        with sheet.spend("wait", "vllm stops"):
            clock.now += 3
    clock.now += 5
    found = sheet.summary()
    assert (found["generation"], found["boots"]["seconds"], found["boots"]["count"]) == (3, 10, 1)
    assert found["waits"] == [{"condition": "port is free", "seconds": 4}, {"condition": "vllm stops", "seconds": 3}]
    assert (found["total"], found["own"]) == (25, {"seconds": 5, "percent": 20.0})


def test_a_span_that_ends_in_an_exception_is_kept(clock: Clock) -> None:
    """A boot that failed took its time, and the next span is not inside it."""
    sheet = Timesheet(started=clock())

    def boot() -> None:
        with sheet.spend("boot", "vllm"):
            clock.now += 7
            raise RuntimeError

    with pytest.raises(RuntimeError):
        boot()
    with sheet.spend("setup", "vllm"):
        clock.now += 2
    assert sheet.entries == [("boot", "vllm", 7.0), ("setup", "vllm", 2.0)]


def test_waits_are_summed_by_condition_and_boots_are_each_told(clock: Clock) -> None:
    """A reader wants to know which condition was waited for, and every boot's length."""
    sheet = Timesheet(started=clock())
    for seconds in (1, 2):
        with sheet.spend("wait", "vllm stops"):
            clock.now += seconds
        with sheet.spend("boot", "vllm"):
            clock.now += seconds
    found = sheet.summary()
    assert found["waits"] == [{"condition": "vllm stops", "seconds": 3.0}]
    assert [boot["seconds"] for boot in found["boots"]["each"]] == [1.0, 2.0]


def test_other_threads_are_ignored() -> None:
    """They run beside what the main thread waits for already, which would count twice."""
    sheet = Timesheet()

    def work() -> None:
        with sheet.spend("boot", "b"):
            time.sleep(0.02)

    with sheet.spend("boot", "all"):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [what for _, what, _ in sheet.entries] == ["all"]
    assert sheet.summary()["boots"]["seconds"] <= sheet.summary()["total"] + 0.01


def test_a_timesheet_without_entries_is_all_own(clock: Clock) -> None:
    """And one that is read at once divides by nothing."""
    assert Timesheet(started=clock()).summary()["own"] == {"seconds": 0.0, "percent": 0.0}
    clock.now += 4
    assert Timesheet(started=clock() - 4).summary()["own"] == {"seconds": 4.0, "percent": 100.0}
