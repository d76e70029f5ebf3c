"""Where NVML does not tell memory by process, the meter says what is certain, and how far the rest is open."""

from __future__ import annotations

import time

import pytest

from tests.metering import SETTLED_S, STRANGER, Metering, Servers, end, pids_of
from tests.nvml import GIB, HOST_PIDS, FakeNvml


@pytest.mark.parametrize("listing", ["na", "none", "host", "unsupported"])
def test_one_group_is_known_by_the_total(fake: FakeNvml, metering: Metering, servers: Servers, listing: str) -> None:
    """No figures, no list, or pids of another namespace: what came since the baseline is the only group's."""
    fake.gpu(0, listing=listing)
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 5 * GIB)
    time.sleep(SETTLED_S)
    fake.process(server.pid, 0, 4 * GIB)
    time.sleep(SETTLED_S)
    assert meter.attribution == "device"
    assert (meter.peak_bounds("tiny"), meter.uncertainty_bytes) == ((5 * GIB, 5 * GIB), 0)
    assert meter.held([server.pid]) == 4 * GIB
    assert [size for _, size in meter.samples("tiny")][-1] == 4 * GIB
    end(server)
    assert (meter.held([server.pid]), meter.left()) == (0, 0)


@pytest.mark.parametrize("listing", ["na", "none", "host", "unsupported"])
def test_two_groups_are_known_within_bounds(fake: FakeNvml, metering: Metering, servers: Servers, listing: str) -> None:
    """What came while both lived is either one's: a limit between the bounds is neither kept nor broken."""
    fake.gpu(0, listing=listing)
    meter, (one, other) = metering(), servers
    meter.watch("one", pids_of(one))
    fake.process(one.pid, 0, 5 * GIB)
    time.sleep(SETTLED_S)
    meter.watch("other", pids_of(other))
    fake.process(other.pid, 0, 2 * GIB)
    time.sleep(SETTLED_S)
    assert (meter.peak_bounds("one"), meter.peak_bounds("other")) == ((5 * GIB, 7 * GIB), (0, 2 * GIB))
    assert meter.uncertainty_bytes == 2 * GIB
    end(other)
    time.sleep(SETTLED_S)
    assert meter.held([one.pid]) == 5 * GIB


def test_memory_that_stays_without_a_list_is_left(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """The total alone shows a leak past the end."""
    fake.gpu(0, listing="none")
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 5 * GIB, "keep")
    time.sleep(SETTLED_S)
    end(server)
    time.sleep(SETTLED_S)
    assert (meter.held([server.pid]), meter.left()) == (5 * GIB, 5 * GIB)


def test_who_was_there_first_is_a_stranger_without_pids_too(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """Ours, listed under pids of another namespace, is not."""
    fake.gpu(0, listing="host")
    fake.process(STRANGER, 0, 3 * GIB)
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 5 * GIB)
    time.sleep(SETTLED_S)
    fake.process(STRANGER, 0, 4 * GIB)
    time.sleep(SETTLED_S)
    assert [(one.pid, one.bytes) for one in meter.foreign([])] == [(STRANGER + HOST_PIDS, 4 * GIB)]
    assert (meter.foreign_peak, meter.peak("tiny")) == (4 * GIB, 5 * GIB)


def test_a_group_that_comes_to_life_is_known_at_once(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """A total that moves is reason to look who lives."""
    fake.gpu(0, listing="unsupported")
    meter, (server, _) = metering(), servers
    ready: list[int] = []
    meter.watch("tiny", lambda: ready)
    time.sleep(SETTLED_S)
    ready.append(server.pid)
    fake.process(server.pid, 0, 5 * GIB)
    time.sleep(SETTLED_S)
    assert meter.peak_bounds("tiny") == (5 * GIB, 5 * GIB)


def test_a_stranger_that_is_seen_here_explains_the_memory(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """While ours holds none yet: that is no reason to count it as ours."""
    meter = metering()
    meter.watch("tiny", pids_of(servers[0]))
    fake.process(STRANGER, 0, 9 * GIB)
    time.sleep(SETTLED_S)
    assert (meter.attribution, meter.peak("tiny"), meter.left()) == ("process", 0, 0)
