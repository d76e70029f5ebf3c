"""Arrivals: the times at which requests are due, drawn or read, and nothing sent on bad ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.configuration import ConfigurationError
from fixtures.load.arrivals import Arrivals, Closed, Constant, Gamma, Poisson, Trace
from fixtures.load.workload import Ask, Workload

RATE = 20.0


def distances(arrivals: Arrivals, count: int) -> numpy.ndarray:
    """Seconds between requests, from the start on."""
    due = arrivals.due(count)
    assert due is not None
    return numpy.diff(numpy.array([0.0, *due]))


@given(rate=st.floats(1e-3, 1e6), burstiness=st.floats(1e-2, 1e3), seed=st.integers(0, 2**32), count=st.integers(1, 200))
@settings(derandomize=True, deadline=None)
def test_times_ascend_from_the_start(rate: float, burstiness: float, seed: int, count: int) -> None:
    """As many as there are requests, and the same again for the same seed."""
    for made in (Constant(rate), Poisson(rate, seed), Gamma(rate, burstiness, seed)):
        due = made.due(count)
        assert len(due) == count
        assert all(math.isfinite(time) and time >= 0 for time in due)
        assert list(due) == sorted(due) == list(made.due(count))


def test_a_closed_loop_has_no_times() -> None:
    """Its requests are due when a seat is free."""
    assert Closed(4).due(100) is None  # type: ignore[func-returns-value]
    assert Closed(4).concurrency == 4


def test_equal_distances_are_equal() -> None:
    """The first request is due at once, and the distance does not add up rounding."""
    due = Constant(10).due(100_001)
    assert due[:3] == [0, 0.1, 0.2]
    assert due[-1] == 10_000


def test_a_poisson_process_is_one() -> None:
    """Its distances are exponential: by the largest deviation between the two distributions, at a billionth's odds."""
    found = numpy.sort(distances(Poisson(RATE, seed=1), 20_000))
    expected = 1 - numpy.exp(-RATE * found)
    deviation = numpy.abs(expected - numpy.arange(1, len(found) + 1) / len(found)).max()
    assert deviation < math.sqrt(math.log(2e9) / (2 * len(found)))


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_burstiness_is_the_shape_of_the_distances(burstiness: float) -> None:
    """Their mean is 1/rate and their variance 1/(rate² burstiness), as vLLM's benchmark has them; 1 is Poisson."""
    found = distances(Gamma(RATE, burstiness, seed=1), 40_000)
    assert found.mean() == pytest.approx(1 / RATE, rel=0.05)
    assert found.var() == pytest.approx(1 / (RATE**2 * burstiness), rel=0.1)


def test_another_rate_is_the_same_pattern() -> None:
    """So that what differs between two rates of a ramp is the rate; another seed is another pattern."""
    for made in (lambda rate, seed: Poisson(rate, seed), lambda rate, seed: Gamma(rate, 0.5, seed)):
        slow, fast = made(5, 3).due(50), made(10, 3).due(50)
        assert numpy.array(slow) == pytest.approx(2 * numpy.array(fast))
        assert made(5, 4).due(50) != slow


def written(folder: Path, name: str, text: str) -> Path:
    """A trace file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [
    ("times.txt", "# seconds\n0\n\n0.5  # half\n0.5\n1e1\n"),
    ("times", "\ufeff0\r\n0.5\r\n0.5\r\n10"),
    ("times.jsonl", '0\n{"timestamp": 0.5, "input": 7}\n\n{"timestamp": 0.5}\n{"timestamp": 10}\n'),
    ("times.CSV", 'timestamp,model\n0,"a, b"\n0.5,a\n0.5,a\n10,a\n'),
])
def test_a_trace_is_read(tmp_path: Path, name: str, text: str) -> None:
    """Comments, blank lines, a byte order mark and equal times are in order; of the times the first ones count."""
    trace = Trace(written(tmp_path, name, text))
    assert list(trace.due(4)) == [0, 0.5, 0.5, 10]
    assert list(trace.due(2)) == [0, 0.5]


def test_a_trace_may_name_its_column_and_count_milliseconds(tmp_path: Path) -> None:
    """As published traces do."""
    path = written(tmp_path, "t.jsonl", '{"arrival": 0}\n{"arrival": 27482}\n')
    assert Trace(path, column="arrival", unit_s=0.001).due(2) == pytest.approx([0, 27.482])


@pytest.mark.parametrize(("name", "text", "words"), [
    ("t.txt", "0\n-1\n", ":2: '-1' is before the start; count from"),
    ("t.txt", "1\n0.5\n", ":2: '0.5' comes before the time above it; sort"),
    ("t.txt", "0\n\n# x\n1.5s\n", ":4: '1.5s' is no time; write"),
    ("t.txt", "nan\n", ":1: 'nan' is no time; write"),
    ("t.txt", "inf\n", ":1: 'inf' is no time; write"),
    ("t.txt", "", ": no time in it; write"),
    ("t.txt", "# nothing\n\n", ": no time in it; write"),
    ("t.txt", "0\n1\n", ": 2 times for 3 requests; add"),
    ("t.jsonl", '0\n{"time": 1}\n', ":2: no key 'timestamp'; name"),
    ("t.jsonl", "0\n[1]\n", ":2: [1] is no time; write"),
    ("t.jsonl", "0\ntrue\n", ":2: True is no time; write"),
    ("t.jsonl", "0\nnull\n", ":2: None is no time; write"),
    ("t.jsonl", "0\n{\n", ":2: no JSON: "),
    ("t.jsonl", "1" + "0" * 400, "is no time; write"),
    ("t.jsonl", "[" * 100_000, ":1: no JSON: "),
    ("t.csv", "time,x\n0,1\n", ":1: no column 'timestamp' among time, x; name"),
    ("t.csv", "", ":1: no column 'timestamp' among none; name"),
    ("t.csv", "timestamp,x\n0,1\n,1\n", ":3: '' is no time; write"),
    ("t.csv", "x,timestamp\n1,0\n1\n", ":3: '' is no time; write"),
    ("t.csv", "timestamp\n2023-11-16 18:15:46\n", ":2: '2023-11-16 18:15:46' is no time; write"),
    ("t.csv", "timestamp\n" + "9" * 200_000 + "\n", ":2: no CSV: "),
])
def test_a_bad_trace_is_named_with_file_line_and_cure(tmp_path: Path, name: str, text: str, words: str) -> None:
    """The user can go to the place and correct it."""
    path = written(tmp_path, name, text)
    with pytest.raises(ConfigurationError) as fault:
        Trace(path).due(3)
    assert str(fault.value).startswith(f"{path}:")
    assert words in str(fault.value)
    assert len(str(fault.value)) < len(str(path)) + 250


def test_a_trace_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Not there, a folder, or no text: told when it is made, before any server starts."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path, tmp_path / "binary"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            Trace(path)


@pytest.mark.parametrize("make", [
    lambda: Closed(0), lambda: Closed(-1), lambda: Constant(0), lambda: Constant(-1), lambda: Constant(math.nan),
    lambda: Constant(math.inf), lambda: Constant(1e-310), lambda: Constant(1, concurrency=0), lambda: Poisson(0),
    lambda: Poisson(1, seed=-1), lambda: Poisson(1, concurrency=-1), lambda: Gamma(0, 1), lambda: Gamma(1, 0),
    lambda: Gamma(1, math.nan), lambda: Gamma(1, math.inf), lambda: Gamma(1e-200, 1e-200), lambda: Gamma(1, 1, seed=-1),
    lambda: Gamma(1, 1, concurrency=0), lambda: Trace(Path(__file__), unit_s=0),
    lambda: Trace(Path(__file__), concurrency=0),
])
def test_figures_out_of_range_are_refused(make: Callable[[], Arrivals]) -> None:
    """A load with no seat or no rate would wait for ever."""
    with pytest.raises(ConfigurationError, match=r"must|cannot|give"):
        make()


@pytest.mark.parametrize(("arrivals", "words"), [
    (Closed(8), "closed loop of 8"),
    (Constant(2.5), "open loop, 2.5 requests/s at equal distances"),
    (Poisson(3, seed=7, concurrency=16), "open loop, 3 requests/s (Poisson, seed 7), at most 16 open"),
    (Gamma(3, 0.5), "open loop, 3 requests/s (gamma, burstiness 0.5, seed 0)"),
])
def test_the_record_tells_them_apart(arrivals: Arrivals, words: str) -> None:
    """Everything that makes the times is in the words."""
    assert str(arrivals) == words


def test_a_workload_is_checked_and_stays() -> None:
    """No request, or a warm-up that is none, is a mistake of the caller's."""
    asks: Sequence[Ask] = [Ask("/v1/completions", {"prompt": "Hello!"})]
    with pytest.raises(ValueError, match="at least one"):
        Workload([], Closed(1))
    with pytest.raises(ValueError, match="negative"):
        Workload(asks, Closed(1), warm_up=-1)
    for thing, name in ((Workload(asks, Closed(1), warm_up=0), "warm_up"), (asks[0], "path"), (Poisson(1), "rate")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)
