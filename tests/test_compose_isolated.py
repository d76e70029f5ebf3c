"""A user's file as it is run: what is changed is told, and nothing else is changed."""

from __future__ import annotations

from fixtures.compose.isolated import isolated


def test_every_change_to_a_user_s_file_is_told() -> None:
    """And nothing else is changed."""
    service = {"image": "a:1", "container_name": "mine", "restart": "always", "environment": {"A": "$1"}, "privileged": True,
               "ports": [{"target": 80, "published": "8080", "mode": "ingress", "protocol": "tcp"}]}
    resolved = {"name": "theirs", "services": {"one": service, "two": {"image": "b:1", "network_mode": "host"}},
                "networks": {"default": {"name": "theirs_default"}}, "volumes": {"v": {"name": "theirs_v"}}}
    before = str(resolved)
    found, changes = isolated(resolved, "ours", lambda server: {"by": server})
    assert str(resolved) == before
    assert found["services"]["one"] == {
        "image": "a:1", "restart": "no", "environment": {"A": "$1"}, "privileged": True, "labels": {"by": "one"},
        "ports": [{"target": 80, "mode": "ingress", "protocol": "tcp", "host_ip": "127.0.0.1"}]}
    assert (found["name"], found["networks"], found["volumes"]) == (
        "ours", {"default": {"labels": {"by": ""}}}, {"v": {"labels": {"by": ""}}})
    assert changes == (
        "one: container_name mine is left out, the user's own container may have it",
        'one: restart always is "no", a restart would hide an exit',
        "one: port 80 is published on 127.0.0.1 and a free port, not on 0.0.0.0:8080",
        "two: it is in the host's network and keeps its ports",
        "volume v: a new one in place of theirs_v")


def test_an_image_that_is_built_keeps_its_name() -> None:
    """It is the user's build that is judged, and no second one is left over."""
    found, _ = isolated({"name": "theirs", "services": {"one": {"build": {"context": "/x"}}}}, "ours", lambda _: {})
    assert found["services"]["one"]["image"] == "theirs-one"


def test_the_user_s_volumes_can_be_asked_for() -> None:
    """As external ones, which nothing removes."""
    found, changes = isolated({"name": "t", "services": {}, "volumes": {"v": {"name": "t_v"}}}, "o", lambda _: {},
                              keep_volumes=True)
    assert found["volumes"] == {"v": {"name": "t_v", "external": True}}
    assert "left as it is" in changes[0]


def test_nothing_of_the_user_s_that_runs_is_reached() -> None:
    """Their networks, addresses, proxies and copies are not these servers'; what may be written to is named."""
    service = {"image": "a:1", "labels": {"traefik.enable": "true", "mine": "yes"}, "scale": 2,
               "logging": {"driver": "none"},
               "networks": {"front": {"ipv4_address": "172.9.0.2", "aliases": ["llm"]}},
               "volumes": [{"type": "bind", "source": "/models", "target": "/m"},
                           {"type": "bind", "source": "/cache", "target": "/c", "read_only": True}]}
    resolved = {"name": "theirs", "services": {"one": service},
                "networks": {"front": {"name": "proxy", "external": True},
                             "back": {"ipam": {"config": [{"subnet": "172.9.0.0/16"}]}}},
                "volumes": {"v": {"name": "v", "driver_opts": {"o": "bind", "device": "/srv/models"}}}}
    found, changes = isolated(resolved, "ours", lambda _: {})
    own = found["services"]["one"]
    assert (own["labels"], own["logging"], own["networks"]) == (
        {"mine": "yes"}, {"driver": "json-file"}, {"front": {"aliases": ["llm"]}})
    assert "scale" not in own
    assert found["networks"] == {"default": {"labels": {}}, "front": {"labels": {}}, "back": {"labels": {}}}
    assert set(changes) >= {
        "one: labels traefik.enable are left out, others act on them", "one: one container is judged, not 2",
        "one: its fixed address is left out, the user's own container may have it",
        "one: its log goes to Docker, not to none",
        "one: /models is the user's own, and may be written to", "network front: one of its own, not the user's",
        "volume v: /srv/models is the user's own, and may be written to"}
    assert not any("/cache" in change for change in changes)
