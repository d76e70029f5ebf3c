"""The `[load]` table of a lineup: what it says is what a server gets, and every mistake is named before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import lineup, plan
from fixtures.configuration import ConfigurationError
from fixtures.deployment.stated import prompts, workload
from fixtures.engines.base import Served
from fixtures.engines.registry import engine
from fixtures.lineup import ModelEntry
from fixtures.load.stated import StatedLoad
from fixtures.models.folder import ModelFolder
from fixtures.plan import Asked
from tests.conftest import MODELS

MODEL = "trilingual-2m"


def write(folder: Path, load: str) -> Path:
    """A lineup of one model with this load."""
    file = folder / "x.toml"
    file.write_text(f'name = "x"\nprofiles = ["cpu"]\nengines = ["llamacpp"]\n[load]\n{load}\n'
                    f'[[models]]\nname = "{MODEL}"\nsource = "{MODELS / MODEL}"\nlanguages = ["en", "zh", "ko"]\n')
    return file


def served(load: StatedLoad, folder: bool = True) -> Served:
    """The model as it is served with this load."""
    model = ModelFolder(MODELS / MODEL) if folder else None
    return Served(ModelEntry(name=MODEL, languages=("en", "zh", "ko")), model, "x", {}, load=load)


@pytest.mark.parametrize(("load", "sentence"), [
    ("arrivals = 'poison'", "load.arrivals: Input should be 'closed', 'constant', 'poisson', 'gamma' or 'trace'"),
    ("arrivals = 'poisson'", "load.rate is missing: arrivals = 'poisson' needs it"),
    ("arrivals = 'gamma'\nrate = 1", "load.burstiness is missing"),
    ("rate = 3", "load.rate has no meaning for arrivals = 'closed'"),
    ("arrivals = 'constant'\nrate = 0", "load.rate: Input should be greater than 0"),
    ("arrivals = 'constant'\nrate = inf", "load.rate: Input should be a finite number"),
    ("requests = 0", "load.requests: Input should be greater than or equal to 1"),
    ("requets = 5", "unknown key 'load.requets'; did you mean 'requests'?"),
])
def test_mistakes(tmp_path: Path, load: str, sentence: str) -> None:
    """A load that means nothing is refused with the key and the cure."""
    with pytest.raises(ConfigurationError) as caught:
        lineup.load(str(write(tmp_path, load)))
    assert sentence in str(caught.value)


def test_a_bad_trace_ends_before_anything_starts(tmp_path: Path) -> None:
    """The trace lies beside the lineup; one that is too short is found by the plan."""
    file = write(tmp_path, "arrivals = 'trace'\ntrace = 'times.txt'\nrequests = 3")
    (tmp_path / "times.txt").write_text("0\n0.5\n")
    with pytest.raises(ConfigurationError, match="2 times for 3 requests"):
        plan.deployments(Asked(lineups=(str(file),)), {})
    (tmp_path / "times.txt").write_text("0\n0.5\n1.5\n")
    places = plan.deployments(Asked(lineups=(str(file),)), {})
    assert list(places[0].lineup.stated_load.come(3).due(3) or ()) == [0, 0.5, 1.5]


def test_what_is_stated_is_sent() -> None:
    """Number, length and way of the requests are those of the table; the engine adds how it counts."""
    load = StatedLoad(arrivals="constant", rate=4, requests=7, max_tokens=9, prompt_tokens=32, ignore_eos=True)
    work = workload(engine("vllm"), served(load))
    assert len(work.asks) == 7
    assert list(work.arrivals.due(3) or ()) == [0, 0.25, 0.5]
    assert {(ask.body["max_tokens"], ask.body["ignore_eos"]) for ask in work.asks} == {(9, True)}
    assert all(ask.body["stream_options"]["continuous_usage_stats"] for ask in work.asks)
    tokenizer = ModelFolder(MODELS / MODEL).tokenizer
    texts = [ask.body["messages"][0]["content"] for ask in work.asks]
    assert [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts] == [32] * 7
    assert len(set(texts)) == 7


def test_nothing_stated_is_a_closed_loop_of_four() -> None:
    """Without a table: 64 requests, four at once, no word to engines that do not count in the stream."""
    work = workload(engine("llamacpp"), served(StatedLoad()))
    assert (len(work.asks), work.arrivals.concurrency, work.arrivals.due(4)) == (64, 4, None)
    assert work.asks[0].body["stream_options"] == {"include_usage": True}
    assert "ignore_eos" not in work.asks[0].body


def test_tokens_are_not_guessed() -> None:
    """Without the model's tokenizer a stated length is refused, not approximated."""
    with pytest.raises(ConfigurationError, match="cannot be counted"):
        prompts(served(StatedLoad(prompt_tokens=32), folder=False), 4)
