"""nginx.conf as it is generated: sound for nginx with any names, and looked up only where there is something to look up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fixtures.gateway import configuration
from fixtures.gateway.configuration import Backend, Njs
from fixtures.lineup import Lineup
from tests.gateways import here

ODD = [Backend("Qwen2.5-3b.instruct_q4:1", "127.0.0.1", 8001), Backend("a", "::1", 8002), Backend("v1", "vllm-a", 8000),
       Backend("health", "10.0.0.2", 80), *(Backend(f"model-{at}", f"service-{at}", 8000) for at in range(40))]


@pytest.mark.parametrize("njs", [True, False])
@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "8080", "[::1]:8080"])
def test_nginx_takes_it(tmp_path: Path, njs: bool, listen: str) -> None:
    """With every name that a lineup may give a model, IPv6, names that cannot be looked up now, and many models."""
    found = here()
    file = tmp_path / "nginx.conf"
    file.write_text(configuration.of(ODD, listen=listen, njs=found.njs if njs else None, scratch=str(tmp_path)))
    words = [found.program, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_a_resolver_only_where_a_host_is_a_name() -> None:
    """nginx asks Docker's own, which outside of Docker is not there."""
    assert "resolver" not in configuration.of(ODD[:2])
    assert "resolver 127.0.0.11 " in configuration.of(ODD)
    assert "resolver 10.89.0.1 " in configuration.of(ODD, resolver="10.89.0.1")


def test_it_listens_on_loopback_unless_told() -> None:
    """Who may come from elsewhere is not decided by default."""
    assert configuration.of(ODD, njs=Njs()).count("listen ") == 1
    assert "listen 127.0.0.1:8080;" in configuration.of(ODD)


@pytest.mark.parametrize("models", [[], [ODD[0], Backend(ODD[0].name, "127.0.0.1", 1)]])
def test_names_that_lead_nowhere_or_to_two_places_are_refused(models: list[Backend]) -> None:
    """None at all, or one twice."""
    with pytest.raises(ValueError, match="a name of its own"):
        configuration.of(models)


@pytest.mark.parametrize("name", ["a'b", "a b", 'a"', "a;", "$a", "a/b", "a{"])
def test_a_lineup_has_no_name_that_would_say_something_to_nginx(name: str) -> None:
    """The names go into the file as they are."""
    entry = {"name": name, "source": "x"}
    with pytest.raises(ValueError, match="name"):
        Lineup.model_validate({"name": "x", "profiles": ["cpu"], "engines": ["vllm"], "models": [entry], "path": "/x.toml"})
