"""gateway.down and gateway.health: each fault that is planted in nginx's configuration fails with its own cause."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fixtures.deployment.gateway import Front
from fixtures.verdict import Verdict
from tests.gateways import VICTIM, Plant, fell, front, here, quick, replaced, told, without_njs
from tests.small import Deployments


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    """Makes deployments of small servers."""
    with quick(monkeypatch) as deployments:
        yield deployments


def test_a_gateway_that_hangs_on_a_dead_model_fails(make: Deployments) -> None:
    """The dead model's requests are sent on to somebody who takes them and says nothing, for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        plant = replaced(("error_page 502 504 =503 @unavailable;", "error_page 502 504 = @mute;"),
                         ("location @refused {", f"location @mute {{ proxy_pass http://{where}; }} location @refused {{"))
        with front(make, plant) as made:
            judgement = fell(made)
    assert judgement.causes == ("hangs-on-dead-model",)


DOWN_FAULTS = {
    "no-openai-error": replaced(("error_page 502 504 =503 @unavailable;", "")),
    "dead-model-not-5xx": replaced(("=503 @unavailable", "=200 @unavailable")),
    "neighbour-failed": replaced(("location @backend {", f"location @backend {{ auth_request /ask/token/{VICTIM};")),
}


@pytest.mark.parametrize("cause", DOWN_FAULTS)
def test_a_gateway_that_does_not_bear_a_dead_model_fails(make: Deployments, cause: str) -> None:
    """HTML in place of an error, 200 for an answer that is none, and a neighbour that is refused with it."""
    with front(make, DOWN_FAULTS[cause]) as made:
        judgement = fell(made)
    assert judgement.verdict is Verdict.FAIL
    assert cause in judgement.causes


def test_a_gateway_that_never_looks_again_fails(make: Deployments, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is back at another address, and nobody is sent there."""
    with front(make) as made:
        monkeypatch.setattr(Front, "follow", lambda self: False)
        judgement = fell(made)
    assert judgement.causes == ("not-served-again",)


static = replaced(("js_content gateway.health;", "return 200 '{\"status\": \"ok\"}';"))
port_only = replaced(("proxy_method POST;", "proxy_method GET;"), ("/v1/chat/completions;", "/health;"))


@pytest.mark.parametrize(("plant", "njs", "causes"), [
    (static, True, ("healthy-while-silent", "healthy-while-dead")),
    (port_only, False, ("healthy-while-silent",)),
    (replaced(("=503 @silent1", "=500 @silent1")), False, ("not-503",)),
    (replaced(("proxy_read_timeout 500ms", "proxy_read_timeout 60s")), True, ("health-hangs",)),
    (replaced(("no token from second", "no token")), False, ("culprit-not-named",)),
])
def test_a_gateway_that_says_it_is_well_when_it_is_not_fails(make: Deployments, plant: Plant, njs: bool,
                                                             causes: tuple[str, ...]) -> None:
    """A word that never changes, a look at the servers' own /health, another status, no end, and no name."""
    with front(make, plant, found=here() if njs else without_njs(here())) as made:
        assert told(made).causes == causes
