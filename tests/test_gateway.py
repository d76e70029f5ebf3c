"""The generated gateway keeps every promise, with njs and without; and where a gateway cannot be judged, that is said."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from fixtures.deployment.gateway import Front
from fixtures.gateway import nginx
from fixtures.launchers.process import LaunchError
from fixtures.verdict import Unavailable, Verdict
from tests.gateways import VICTIM, Telling, fell, front, here, quick, replaced, routed, streamed, told, without_njs
from tests.small import Deployments

PASS = Verdict.PASS


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    """Makes deployments of small servers."""
    with quick(monkeypatch) as deployments:
        yield deployments


@pytest.mark.parametrize("njs", [True, False])
def test_the_generated_gateway_keeps_every_promise(make: Deployments, njs: bool) -> None:
    """By the body with njs, by the path without; with a model killed and brought back twice in between."""
    found = here() if njs else without_njs(here())
    with front(make, found=found) as made:
        judged = {name: act(made) for name, act in
                  (("route", routed), ("stream", streamed), ("down", fell), ("health", told), ("again", routed))}
    assert {name: (one.verdict, one.reason) for name, one in judged.items()} == dict.fromkeys(judged, (PASS, ""))
    assert judged["route"].figures["told_apart_by"].value == "answers and logs"
    assert judged["down"].samples["return"] == "the gateway was told its new address"


def test_without_njs_a_header_says_the_model_too(make: Deployments) -> None:
    """As well as a path; with neither, the refusal says what to do."""
    with front(make, found=without_njs(here())) as made:
        body = {"model": "first", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1}
        replies = [httpx.post(f"{made.door.url}/v1/chat/completions", json=body, headers=headers, trust_env=False)
                   for headers in ({"x-model": "first"}, {"x-model": "nobody"}, {})]
    assert [reply.status_code for reply in replies] == [200, 404, 400]
    assert "X-Model" in replies[2].json()["error"]["message"]


def test_requests_keep_their_ids_and_nginx_keeps_its_version(make: Deployments) -> None:
    """An id of the client's own is used where it is sound, and every answer has one."""
    with front(make) as made:
        replies = [httpx.get(f"{made.door.url}/v1/models", headers={"x-request-id": own}, trust_env=False)
                   for own in ("mine-1", 'mine"\t{', "x" * 65)]
        log = made.own.handle.log.read_text() if made.own else ""
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert ids[0] == "mine-1"
    assert all(len(one) == 32 and one.isalnum() for one in ids[1:])
    assert all(reply.headers["server"] == "nginx" for reply in replies)
    assert f'"id": "{ids[1]}"' in log


def test_without_nginx_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As unavailable, never as the engine's fault."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(nginx, "ELSEWHERE", "")
    nginx.find.cache_clear()
    with pytest.raises(Unavailable) as raised:
        nginx.find()
    nginx.find.cache_clear()
    assert raised.value.causes == ("no-nginx",)
    assert "apt install" in raised.value.cure


def test_a_configuration_that_nginx_refuses_is_told_in_its_words(make: Deployments) -> None:
    """And nothing is left running."""
    with pytest.raises(LaunchError, match="unknown directive"), front(make, replaced(("gzip off;", "no_such off;"))):
        pass


def test_somebody_elses_servers_are_asked_and_never_stopped(make: Deployments) -> None:
    """Routing and streams are judged; a death is not, and of /health the half that was seen is no pass."""
    with front(make) as made:
        known = make.script("first", VICTIM, engine=Telling(), endpoints=list(made.direct().values()))
        for name in known.names:
            known.model(name)
        theirs = Front(known.deployment, made.door)
        assert routed(theirs).verdict is PASS
        assert streamed(theirs).verdict is PASS
        with pytest.raises(Unavailable):
            fell(theirs)
        judgement = told(theirs)
    assert (judgement.verdict, judgement.causes) == (Verdict.UNAVAILABLE, ("not-ours",))
