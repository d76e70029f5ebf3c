"""Deployments and their script, over servers that are really launched: a small program in the place of an engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.coexistence import neighbours
from fixtures.deployment.deployment import MAX_RESTARTS, Deployment
from fixtures.deployment.ready import judge_ready
from fixtures.deployment.script import Script
from fixtures.faults import ending
from fixtures.launchers.attest import occupied
from fixtures.launchers.proc import stat
from fixtures.load import latency
from fixtures.memory import judge as memory
from fixtures.verdict import Unavailable, Verdict
from tests.launching import eventually
from tests.small import CONTEXT, Deployments, Shared, Small, die
from tests.small_server import CAPACITY

PASS = Verdict.PASS


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    """Makes deployments; its folder has a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="cot") as folder:
        monkeypatch.setenv("COTENANT_HOME", folder + "/home")
        deployments = Deployments(Path(folder))
        yield deployments
        deployments.close()


def broken(**faults: str) -> Small:
    """The small engine with broken servers, by model."""
    engine = Small()
    engine.faults = faults
    return engine


def kill_behind_its_back(deployment: Deployment, name: str, code: int = 3) -> None:
    """The server of this model ends although nobody stopped it."""
    server = deployment.tenants[name].server
    assert server is not None
    die(server.handle.url, code)
    assert eventually(lambda: not server.alive)


# --- starts ---------------------------------------------------------------------------------------------------------------


def test_a_start_is_timed_attested_and_kept(make: Deployments) -> None:
    """From the launch to the first token, with what the server says of itself."""
    script = make.script("a")
    boot = script.first_start("a")
    assert judge_ready(boot).verdict is PASS
    assert (boot.order, boot.version, boot.capacity, boot.planned) == ("sequential", "1.0", CAPACITY, CONTEXT * 8)
    assert boot.attestation is not None
    assert boot.attestation.owned
    assert 0 < boot.seconds < boot.limit_s
    assert script.first_start("a") is boot
    assert script.deployment.start("a") is boot
    assert len(make.launched) == 1


def test_an_exit_with_code_0_is_no_start(make: Deployments) -> None:
    """It said that it was ready, and ended well. The neighbour starts all the same, and nothing is tried twice."""
    script = make.script("a", "b", engine=broken(a="exit-0"))
    first, second = script.sequential()
    assert (judge_ready(first).verdict, judge_ready(first).causes) == (Verdict.FAIL, ("exit-0",))
    assert first.exit_code == 0
    assert second.ok
    with pytest.raises(Unavailable) as raised:
        script.model("a")
    assert raised.value.causes == ("not-started",)
    assert script.model("b").running
    assert make.launched == [["a"], ["b"]]
    assert neighbours.judge_starts(script.sequential(), 2).causes == ("exit-0",)


@pytest.mark.parametrize("fault", ["never-listens", "never-speaks"])
def test_a_start_that_hangs_ends_at_its_limit(make: Deployments, fault: str) -> None:
    """No port, or a stream that is kept alive without a word: over at ready_s, and the server is gone."""
    script = make.script("a", engine=broken(a=fault), ready_s=1.0)
    began = time.monotonic()
    boot = script.first_start("a")
    assert time.monotonic() - began < 4
    assert judge_ready(boot).causes == ("no-first-token",)
    assert not script.deployment.running()


def test_models_start_together(make: Deployments) -> None:
    """What ran is stopped first, then all start at once."""
    script = make.script("a", "b")
    script.first_start("a")
    (boots,) = tries = script.concurrent()
    assert neighbours.judge_starts(boots, 2).verdict is PASS
    assert [boot.order for boot in boots] == ["concurrent"] * 2
    assert [stop.model for stop in script.deployment.stops] == ["a"]
    assert script.concurrent() is tries


def test_a_model_that_lost_a_race_is_started_again_alone(make: Deployments) -> None:
    """What failed only beside others that started at the same time is judged further; what never started is not."""
    engine = Small()
    script = make.script("a", "b", engine=engine)
    script.sequential()
    engine.faults["b"] = "exit-0"
    script.concurrent()
    del engine.faults["b"]
    assert [boot.ok for boot in script.deployment.tenants["b"].boots] == [True, False]
    assert script.model("b").running
    assert script.model("b").boots[-1].order == "again"


# --- deaths -------------------------------------------------------------------------------------------------------------


def test_a_server_that_dies_is_started_again_twice_and_no_more(make: Deployments) -> None:
    """Every death is told once, with its exit code; after the last the model is out for good and its neighbour is not."""
    script = make.script("a", "b")
    script.sequential()
    deployment = script.deployment
    for _ in range(MAX_RESTARTS):
        kill_behind_its_back(deployment, "a")
        assert script.model("a").running
        deaths = deployment.take_deaths()
        assert [name for name, _ in deaths] == ["a"]
        assert "exit code 3" in deaths[0][1]
        assert deployment.take_deaths() == []
    kill_behind_its_back(deployment, "a")
    assert [name for name, _ in deployment.take_deaths()] == ["a"]
    for _ in range(2):
        with pytest.raises(Unavailable, match="died 3 times") as raised:
            script.model("a")
        assert raised.value.causes == ("keeps-dying",)
    assert script.model("b").running
    assert deployment.take_deaths() == []
    assert make.launched == [["a"], ["b"], ["a"], ["a"]]


def test_a_neighbour_that_cannot_come_back_is_no_reason_not_to_judge(make: Deployments) -> None:
    """It died, and its restart fails: the model that was asked for is there."""
    engine = Small()
    script = make.script("a", "b", engine=engine)
    script.sequential()
    engine.faults = {"b": "exit-0"}
    kill_behind_its_back(script.deployment, "b")
    assert script.model("a").running
    assert script.model("a").running
    assert make.launched == [["a"], ["b"], ["b"]]


# --- steps, each asked singly and all in order --------------------------------------------------------------------------

STEPS: dict[str, Callable[[Script], Verdict]] = {
    "sequential": lambda script: neighbours.judge_starts(script.sequential(), len(script.names)).verdict,
    "leave": lambda script: neighbours.judge_departure(script.leave()).verdict,
    "crash": lambda script: neighbours.judge_departure(script.crash()).verdict,
    "beside": lambda script: neighbours.judge_arrival(script.beside()).verdict,
    "return": lambda script: neighbours.judge_arrival(script.returns()).verdict,
    "shutdown": lambda script: ending.judge_shutdown(script.shutdown()).verdict,
    "concurrent": lambda script: neighbours.judge_races(script.concurrent(), len(script.names)).verdict,
    "kill": lambda script: ending.judge_kill(script.killed()).verdict,
    "returned": lambda script: memory.judge_returned(script.all_stops()).verdict,
}
ENDS = ("shutdown", "kill", "returned")


@pytest.mark.parametrize(("step", "engine"), [
    *((step, Small) for step in ("leave", "crash", "beside", "return", "shutdown", "kill", "returned")),
    *((step, Shared) for step in ("crash", "concurrent", "returned")),
])
def test_a_step_makes_its_own_precondition(make: Deployments, step: str, engine: type[Small]) -> None:
    """`pytest -k leave` judges what a whole run judges."""
    script = make.script("a", "b", engine=engine())
    assert STEPS[step](script) is PASS
    assert not script.deployment.running() or step not in ENDS


@pytest.mark.parametrize(("engine", "launches"), [(Small, 7), (Shared, 3)])
def test_all_steps_in_order(make: Deployments, engine: type[Small], launches: int) -> None:
    """Each finds the deployment as the one before left it; few starts serve them all; asked again, nothing happens. An
    end that was intended is no death."""
    script = make.script("a", "b", engine=engine())
    assert {step: judge(script) for step, judge in STEPS.items()} == dict.fromkeys(STEPS, PASS)
    assert len(make.launched) <= launches
    before, stops = len(make.launched), len(script.deployment.stops)
    assert {step: judge(script) for step, judge in STEPS.items()} == dict.fromkeys(STEPS, PASS)
    assert (len(make.launched), len(script.deployment.stops)) == (before, stops)
    assert script.deployment.take_deaths() == []


def test_one_model_alone(make: Deployments) -> None:
    """It has no neighbour to leave; it starts and ends like any other."""
    script = make.script("a")
    for act in (script.leave, script.beside):
        with pytest.raises(Unavailable, match="no neighbour"):
            act()
    assert all(STEPS[step](script) is PASS for step in ("shutdown", "kill", "returned"))


def test_a_busy_load_says_what_the_neighbours_answered(make: Deployments) -> None:
    """And the plain load has none beside it."""
    script = make.script("a", "b")
    busy, alone = script.busy("a"), script.load("a")
    assert [(beside.model, beside.failed) for beside in busy.beside] == [("b", ())]
    assert busy.beside[0].answered > 0
    assert alone.beside == ()
    limits = {"ttft_p95_ms": 5000.0}
    assert [latency.judge(result, limits, ("ttft",)).verdict for result in (busy, alone)] == [PASS, PASS]


# --- endings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "causes"), [
    ("child-ends-late", ()), ("leaves-a-child", ("process-left",)),
    ("ignores-sigterm", ("hangs-on-shutdown", "process-left")),
])
def test_a_shutdown_is_seen_with_what_it_leaves(make: Deployments, fault: str, causes: tuple[str, ...]) -> None:
    """A stream is open, the client is told, leftovers are found before they are cleaned; and then they are."""
    script = make.script("a", engine=broken(a=fault))
    script.first_start("a")
    server = script.deployment.tenants["a"].server
    assert server is not None
    pids = server.handle.pids()
    (stop,) = script.shutdown()
    assert set(ending.judge_shutdown([stop]).causes) >= set(causes)
    assert (ending.judge_shutdown([stop]).verdict is PASS) == (not causes)
    assert stop.stream is not None or fault == "ignores-sigterm"
    assert eventually(lambda: not any((seen := stat(pid)) and seen.alive for pid in pids))


def test_a_killed_server_breaks_off_the_open_stream(make: Deployments) -> None:
    """The client is told at once."""
    script = make.script("a")
    (stop,) = script.killed()
    assert (stop.exit_code, stop.how) == (-9, "kill")
    assert stop.stream is not None
    assert stop.stream.cut_off or not stop.stream.ok
    assert stop.stream_seconds is not None
    assert 0 < stop.stream_seconds < 2


# --- somebody else's servers --------------------------------------------------------------------------------------------


def test_an_endpoint_is_asked_and_never_stopped(make: Deployments) -> None:
    """No step that would stop, kill or start it is judged, asked singly or after others; it runs on."""
    handles = [make.server("a"), make.server("b")]
    for handle in handles:
        assert eventually(lambda port=handle.port: occupied(port))  # type: ignore[misc]
    urls = [handle.url for handle in handles]
    known = make.script("a", "b", endpoints=urls)
    assert all(boot.ok and boot.attestation is None for boot in known.sequential())
    for step in ("leave", "crash", "beside", "return", "shutdown", "concurrent", "kill", "returned"):
        for script in (known, make.script("a", "b", endpoints=urls)):
            with pytest.raises(Unavailable) as raised:
                STEPS[step](script)
            assert raised.value.causes == ("not-ours",), step
    assert known.model("a").running
    known.deployment.close()
    assert all(handle.running() for handle in handles)


def test_an_endpoint_that_does_not_answer_is_unreachable(make: Deployments) -> None:
    """Said at once, not at the end of the limit."""
    boot = make.script("a", endpoints=["http://127.0.0.1:9"]).first_start("a")
    assert judge_ready(boot).causes == ("unreachable",)
    assert boot.seconds < 5


# --- one server for all models --------------------------------------------------------------------------------------------


def test_a_shared_server_loads_and_unloads(make: Deployments) -> None:
    """One launch for both; each has its own process, which an unload ends and a wake brings back."""
    script = make.script("a", "b", engine=Shared())
    assert all(boot.ok for boot in script.sequential())
    tenants = script.deployment.tenants
    runners = {name: tenant.pids() for name, tenant in tenants.items()}
    assert all(len(pids) == 1 for pids in runners.values())
    assert runners["a"] != runners["b"]
    nap = script.sleep()
    assert neighbours.judge_sleep(nap).verdict is PASS
    assert nap.slept.how == "unload"
    assert tenants["a"].pids() != runners["a"]
    assert tenants["b"].pids() == runners["b"]
    assert len(make.launched) == 1


def test_a_shared_server_that_dies_takes_all_with_it(make: Deployments) -> None:
    """Each model's death is told once, and one restart serves them all."""
    script = make.script("a", "b", engine=Shared())
    script.sequential()
    kill_behind_its_back(script.deployment, "a")
    assert script.model("b").running
    assert sorted(name for name, _ in script.deployment.take_deaths()) == ["a", "b"]
    assert script.model("a").running
    assert script.deployment.take_deaths() == []
    assert len(make.launched) == 2
