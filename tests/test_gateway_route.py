"""gateway.route and gateway.stream: each fault that is planted in nginx's configuration fails with its own cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.gateway import route
from fixtures.gateway.configuration import SCRIPT
from fixtures.verdict import Verdict
from tests.gateways import Plant, Telling, front, here, quick, replaced, routed, streamed, without_njs
from tests.small import Deployments

LARGE = "proxy_buffering on; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
OLD = ("proxy_http_version 1.1;", "")  # nginx buffers only what is not chunked, and asks by HTTP/1.0 unless told otherwise


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    """Makes deployments of small servers."""
    with quick(monkeypatch) as deployments:
        yield deployments


def first_model_only(text: str) -> str:
    """Every name leads to the first server."""
    first = re.search(r'"first" (127\.0\.0\.1:\d+)', text)
    assert first is not None
    return re.sub(r'"second" 127\.0\.0\.1:\d+', f'"second" {first[1]}', text)


def careless(text: str, folder: Path) -> str:
    """The first name that stands anywhere in the body decides."""
    found = 'const found = r.requestText.match(/model\\W+(\\w+)/);\n        body = {model: found ? found[1] : "?"};'
    script = folder / SCRIPT.name
    script.write_text(replaced(("body = JSON.parse(r.requestText);", found))(SCRIPT.read_text()))
    return replaced((str(SCRIPT), str(script)))(text)


ROUTE_FAULTS = {
    "another-model-answers": first_model_only,
    "unknown-model-not-404": replaced(("return 404", "return 500"),
                                      ("js_content gateway.route", 'set $model "first"; proxy_pass http://$backend')),
    "nameless-not-refused": replaced(("js_content gateway.route", 'set $model "first"; proxy_pass http://$backend')),
    "late-name-failed": replaced(("client_max_body_size 16m", "client_max_body_size 8k")),
}


@pytest.mark.parametrize("cause", ROUTE_FAULTS)
def test_a_gateway_that_does_not_route_fails(make: Deployments, cause: str) -> None:
    """The first model alone, the first name in the text, no refusal of what is not there, a body that is too long."""
    with front(make, ROUTE_FAULTS[cause]) as made:
        judgement = routed(made)
    assert judgement.verdict is Verdict.FAIL
    assert cause in judgement.causes


def test_a_gateway_that_takes_any_name_for_the_model_fails(make: Deployments, tmp_path: Path) -> None:
    """Another model's name stands before, in a text and in an object."""
    with front(make, lambda text: careless(text, tmp_path)) as made:
        judgement = routed(made)
    assert judgement.verdict is Verdict.FAIL
    assert "late-name-misrouted" in judgement.causes


def test_models_that_answer_alike_are_told_apart_by_their_logs(make: Deployments) -> None:
    """One server for both names fails; without the logs nothing can be said."""
    with front(make, first_model_only, engine=Telling(alike=True)) as made:
        assert routed(made).causes == ("server-not-asked",)
        blind = route.judge(route.observe(made.door, made.direct(), prompts=route.PROMPTS[:1]))
    assert (blind.verdict, blind.causes) == (Verdict.INCONCLUSIVE, ("models-alike",))


def test_an_unknown_model_is_refused_as_the_api_refuses(make: Deployments) -> None:
    """404 in HTML is no refusal that a client understands."""
    plant = replaced(("model_not_found", "nothing"))
    with front(make, plant, found=without_njs(here())) as made:
        assert routed(made).causes == ("wrong-error-code",)
    html = re.compile(r"return 404 '.*?';")
    with front(make, lambda text: html.sub("return 404;", text), found=without_njs(here())) as made:
        assert routed(made).causes == ("no-openai-error",)


@pytest.mark.parametrize(("cause", "plant"), [
    ("buffered-to-the-end", replaced(("proxy_buffering off;", LARGE), OLD)),
    ("buffered-in-pieces", replaced(("proxy_buffering off;", "proxy_buffering on;"), OLD)),
])
def test_a_gateway_that_buffers_fails(make: Deployments, cause: str, plant: Plant) -> None:
    """Until the end, or in pieces of four kilobytes as nginx does unasked."""
    with front(make, plant) as made:
        judgement = streamed(made)
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, (cause,)), judgement.figures


@pytest.mark.parametrize("pace_s", [0.0, 0.004])
def test_a_fast_and_a_slow_model_stream_through(make: Deployments, pace_s: float) -> None:
    """Nothing is held back at any pace."""
    with front(make, engine=Telling(pace_s=pace_s)) as made:
        judgement = streamed(made)
    assert judgement.verdict is Verdict.PASS, judgement.reason
