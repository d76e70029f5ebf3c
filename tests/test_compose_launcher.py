"""The launcher `compose`: a project that is started beside the user's own, and leaves nothing."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fixtures.docker import labels
from fixtures.docker.fault import DockerFault
from tests.composing import HEALTHY, IDLE, SERVE, Projects, projects_in


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[Projects]:
    with projects_in(tmp_path) as made:
        yield made


def test_one_service_is_started_alone_and_again(projects: Projects) -> None:
    """What it depends on stays where it is, and a second start is another container."""
    project = projects({"one": {"command": IDLE}, "two": {"command": SERVE, "ports": ["8999:8000"], "depends_on": ["one"]}})
    first = project.up("two")
    with pytest.raises(DockerFault, match=r"service one of .* has 0 containers"):
        project.container_of("one")
    url = f"http://127.0.0.1:{project.port_of('two', 8000)}/"
    assert eventually_answers(url)
    again = project.up("two")
    assert again != first
    assert project.container_of("two") == again
    project.stop("two")
    with pytest.raises(DockerFault, match=r"service two of .* has 0 containers"):
        project.container_of("two")


def eventually_answers(url: str) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.05)
    return False


def test_all_are_started_as_the_user_would(projects: Projects) -> None:
    """The second starts when the first is healthy, not before."""
    project = projects({"one": {"command": SERVE, "healthcheck": HEALTHY},
                        "two": {"command": IDLE, "depends_on": {"one": {"condition": "service_healthy"}}}})
    project.up_all()
    one, two = (projects.state(project.container_of(name)) for name in ("one", "two"))
    healthy = next(check["End"] for check in one["State"]["Health"]["Log"] if check["ExitCode"] == 0)
    assert two["State"]["StartedAt"][:23] >= healthy.replace("Z", "")[:19]


def test_everything_is_labelled(projects: Projects) -> None:
    """Containers, networks and volumes can be found again, whatever becomes of this process."""
    project = projects({"one": {"command": IDLE, "volumes": ["kept:/kept"], "labels": ["mine=yes"]}},
                       {"volumes": {"kept": {}}})
    found = projects.state(project.up("one"))["Config"]["Labels"]
    assert (found[labels.RUN], found[labels.SERVER], found["mine"]) == (projects.run, "one", "yes")
    marked = {"label": f"{labels.RUN}={projects.run}"}
    assert len(projects.engine.client.networks.list(filters=marked)) == 1
    assert len(projects.engine.client.volumes.list(filters=marked)) == 1


def test_nothing_is_left_but_what_is_the_user_s(projects: Projects) -> None:
    """A volume that the user's own project would have is neither used nor removed, an external one is used and kept."""
    client, external = projects.engine.client, f"cotenant-test-{uuid4().hex[:8]}"
    theirs = [client.volumes.create(name) for name in (external, f"{projects.folder.name.lower()}_data")]
    write = ["python3", "-S", "-c", "open('/data/x', 'w'); open('/shared/x', 'w')"]
    try:
        project = projects({"one": {"command": write, "volumes": ["data:/data", "shared:/shared"]}},
                           {"volumes": {"data": {}, "shared": {"external": True, "name": external}}})
        project.up("one")
        assert client.containers.get(project.container_of("one")).wait(timeout=20)["StatusCode"] == 0
        project.down()
        left = {volume.name for volume in client.volumes.list()}
        assert {volume.name for volume in theirs} <= left
        assert not [name for name in left if name.startswith(project.name)]
        assert not client.networks.list(filters={"label": f"{labels.RUN}={projects.run}"})
        held = client.containers.run(projects.image, ["ls", "/a", "/b"], remove=True, volumes=[
            f"{theirs[0].name}:/a", f"{theirs[1].name}:/b"])
        assert held.split() == [b"/a:", b"x", b"/b:"]
    finally:
        for volume in theirs:
            volume.remove()


def test_a_service_can_be_put_in_place_of_another(projects: Projects) -> None:
    """For a command line that is known only when it is started."""
    project = projects({"one": {"command": ["sh", "-c", "exit 3"]}})
    project.put("one", {**project.definition("one"), "command": ["sh", "-c", "exit 4"], "labels": {"new": "yes"}})
    identity = project.up("one")
    assert projects.engine.client.containers.get(identity).wait(timeout=20)["StatusCode"] == 4
    assert projects.state(identity)["Config"]["Labels"][labels.RUN] == projects.run


def test_a_taken_port_is_no_trouble_unless_it_is_wanted(projects: Projects) -> None:
    """The user's own deployment may hold it."""
    services = {"one": {"command": SERVE, "ports": ["127.0.0.1:0:8000"]}}
    holder = projects(services)
    holder.up("one")
    port = holder.port_of("one", 8000)
    services["one"]["ports"] = [f"127.0.0.1:{port}:8000"]
    other = projects(services)
    other.up("one")
    assert other.port_of("one", 8000) != port
    with pytest.raises(DockerFault) as refused:
        projects(services, keep_ports=True).up("one")
    assert refused.value.cause == "port-in-use"


def test_what_is_not_published_can_be_reached_if_it_must(projects: Projects) -> None:
    """On loopback, and told."""
    project = projects({"one": {"command": SERVE}}, publish={"one": (8000,)})
    project.up("one")
    assert eventually_answers(f"http://127.0.0.1:{project.port_of('one', 8000)}/")
    assert project.changes == ("one: port 8000 is published on 127.0.0.1, it was not published",)
