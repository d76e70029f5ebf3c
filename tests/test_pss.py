"""Memory is what the tree occupies: shared pages once, short peaks seen, and the look itself is cheap."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from fixtures.launchers import proc
from fixtures.memory.pss import anonymous_bytes, cpu_seconds, pss_bytes, tree_pss
from fixtures.memory.sampler import AT_FIRST_S, BUDGET, Sampler
from tests.launching import eventually

MIB = 2**20
# Runs every line of its standard input, which is Python code.
OBEDIENT = """
import sys
held = {}
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Child:
    """A process that does what it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-S", "-c", OBEDIENT], text=True, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self.pid = self._process.pid
        self._answer()

    def do(self, line: str) -> None:
        """Run one line of code there."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def end(self) -> None:
        """Kill and reap it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def children(count: int) -> Iterator[list[Child]]:
    """Several of them."""
    born = [Child() for _ in range(count)]
    try:
        yield born
    finally:
        for child in born:
            child.end()


def test_what_is_allocated_is_what_is_seen() -> None:
    """64 MiB more are 64 MiB more, by rollup, by the full table and by the cheap count."""
    with children(1) as (child,):
        before, cheap = pss_bytes(child.pid), anonymous_bytes(child.pid)
        child.do(f"held[0] = b'x' * {64 * MIB}")
        after, dear = pss_bytes(child.pid), anonymous_bytes(child.pid)
        assert None not in (before, cheap, after, dear)
        assert after - before == pytest.approx(64 * MIB, rel=0.02)  # type: ignore[operator]
        assert dear - cheap == pytest.approx(64 * MIB, rel=0.02)  # type: ignore[operator]


def test_an_old_kernel_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without smaps_rollup the mappings are summed."""
    real = proc.read

    def without_rollup(path: str) -> bytes:
        if path.endswith("rollup"):
            raise FileNotFoundError(path)
        return real(path)

    with children(1) as (child,):
        rolled = pss_bytes(child.pid)
        monkeypatch.setattr(proc, "read", without_rollup)
        assert pss_bytes(child.pid) == pytest.approx(rolled, rel=0.01)


def test_shared_memory_counts_once() -> None:
    """Two processes that map the same 32 MiB occupy 32 MiB."""
    name = f"/dev/shm/cot-{uuid4().hex}"
    with children(2) as pair:
        pids = [child.pid for child in pair]
        before = tree_pss(pids)
        for child in pair:
            child.do(f"import mmap; f = open('{name}', 'ab+'); f.truncate({32 * MIB}); m = mmap.mmap(f.fileno(), 0); "
                     f"m[:] = b'x' * {32 * MIB}")
        pair[0].do(f"import os; os.unlink('{name}')")
        assert tree_pss(pids) - before == pytest.approx(32 * MIB, rel=0.1)


def test_a_process_that_is_gone_has_no_size() -> None:
    """None alone, nothing in a sum."""
    with children(1) as (child,):
        child.end()
        assert (pss_bytes(child.pid), anonymous_bytes(child.pid), tree_pss([child.pid])) == (None, None, 0)
        assert cpu_seconds([child.pid]) == 0


def test_cpu_time_tells_idle_from_busy() -> None:
    """Nothing while it waits, about what it burns while it works, and not lost when a child of it has ended."""
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    with children(1) as (child,):
        before = cpu_seconds([child.pid])
        time.sleep(0.2)
        assert cpu_seconds([child.pid]) - before < 0.05
        child.do(f"import subprocess; subprocess.run([sys.executable, '-S', '-c', {burn!r}])")
        assert 0.25 < cpu_seconds([child.pid]) - before < 1


def test_a_short_peak_is_seen_in_its_phase() -> None:
    """80 MiB for half a second, gone before and after: the phase has it, the next one has not."""
    with children(1) as (child,), Sampler({"server": lambda: [child.pid]}) as sampler:
        with sampler.phase("rest"):
            time.sleep(0.3)
        with sampler.phase("load"):
            child.do(f"import time; held[0] = b'x' * {80 * MIB}; time.sleep(0.5); held.clear()")
        with sampler.phase("after"):
            time.sleep(0.3)
    peaks = sampler.peaks("server")
    assert peaks["load"] - peaks["rest"] == pytest.approx(80 * MIB, rel=0.05)
    assert peaks["after"] - peaks["rest"] < 4 * MIB
    assert sampler.peak("server") == peaks["load"]
    assert sampler.peak("server", "never") is None


def test_members_come_and_go() -> None:
    """A process that appears is counted within about a second, and one that ends is no longer."""
    with children(2) as (first, second):
        members = [first.pid]
        with Sampler({"tree": lambda: list(members)}) as sampler:
            assert eventually(lambda: sampler.samples("tree"))
            alone = sampler.samples("tree")[-1][1]
            second.do(f"held[0] = b'x' * {48 * MIB}")
            members.append(second.pid)
            assert eventually(lambda: sampler.samples("tree")[-1][1] > alone + 48 * MIB)
            second.end()
            assert eventually(lambda: sampler.samples("tree")[-1][1] < alone + MIB)


def test_groups_are_apart_and_may_be_added() -> None:
    """Each has its own samples, in order of time; an empty one occupies nothing, an invisible one is not 0."""
    with children(2) as (small, large):
        large.do(f"held[0] = b'x' * {32 * MIB}")
        with Sampler({"small": lambda: [small.pid], "none": list}, interval_s=0.05) as sampler:
            sampler.watch("large", lambda: [large.pid])
            assert eventually(lambda: len(sampler.samples("large")) > 3)
    peaks = {name: sampler.peak(name) for name in ("small", "large", "none")}
    assert peaks["none"] == 0
    assert peaks["large"] > peaks["small"] + 30 * MIB  # type: ignore[operator]
    times = [at for at, _ in sampler.samples("large")]
    assert times == sorted(times)


def test_a_sampling_that_breaks_off_is_not_silent() -> None:
    """Whatever the thread meets is raised where the sampler is stopped."""

    def broken() -> list[int]:
        raise LookupError("no such tree")

    sampler = Sampler({"tree": broken}).start()
    with pytest.raises(RuntimeError, match="no such tree"):
        sampler.stop()


def test_the_sampler_keeps_to_its_budget() -> None:
    """Full readings of a large process that grows all the time are made, and rationed; samples are not."""
    with children(1) as (child,):
        child.do(f"held[0] = b'x' * {600 * MIB}")
        with Sampler({"server": lambda: [child.pid]}, interval_s=0.02) as sampler:
            for number in range(20):
                child.do(f"held[{number + 1}] = b'x' * {24 * MIB}; import time; time.sleep(0.1)")
        cost, samples = sampler.cost, sampler.samples("server")
    assert len(samples) >= 20
    assert samples[-1][1] == pytest.approx((600 + 20 * 24) * MIB, rel=0.05)
    assert cost.full_readings > 4
    assert cost.cpu_s < BUDGET * cost.wall_s + AT_FIRST_S + 0.08
