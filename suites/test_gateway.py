"""A gateway before the models: it routes by model, does not buffer, survives a dead model, tells the truth."""

from fixtures.check import Step, check, several_models
from fixtures.deployment import gateway
from fixtures.gateway import down, health, route, stream
from fixtures.here import Here
from fixtures.place import Place
from fixtures.verdict import Judgement


def _has_gateway(place: Place) -> bool:
    return bool(place.lineup.gateway)


def _shares_server(place: Place, name: str) -> bool:
    return place.member(place.lineup.by_name[name]).engine.shares_server


def _victim(place: Place) -> str | None:
    """The last model that can die alone: of a server that loads several, none can."""
    alone = [model.name for model in place.lineup.models if not _shares_server(place, model.name)]
    return alone[-1] if alone else None


def _can_lose_one(place: Place) -> bool:
    return _has_gateway(place) and several_models(place) and _victim(place) is not None


@check("gateway.route", Step.GATEWAY, per_model=False, applies=_has_gateway)
def test_route(here: Here) -> Judgement:
    """Each model's requests reach its own server; a model that is not there is refused as the API refuses it."""
    with gateway.before(here) as front:
        return front.told(route.judge(route.observe(front.door, front.direct(), front.activity())))


@check("gateway.stream", Step.GATEWAY, applies=_has_gateway)
def test_stream(here: Here) -> Judgement:
    """Content comes through the gateway while it is generated, as it comes straight from the server."""
    with gateway.before(here) as front:
        return front.told(stream.judge(stream.observe(front.door, here.model, front.direct()[here.model])))


@check("gateway.down", Step.FALL, per_model=False, applies=_can_lose_one)
def test_down(here: Here) -> Judgement:
    """A model is killed: the others' streams go on, its own requests end soon, and it is served again when it is back."""
    with gateway.before(here) as front:
        return front.told(down.judge(gateway.fall(front, _victim(here.place) or "")))


@check("gateway.health", Step.FALL, per_model=False, applies=_has_gateway)
def test_health(here: Here) -> Judgement:
    """/health is 200 while every model generates and 503 with their names while some do not: hanging or killed."""
    victim = _victim(here.place)
    with gateway.before(here) as front:
        name = victim or here.script.names[-1]
        return front.told(health.judge(gateway.ask_health(front, name, kill=victim is not None)))
