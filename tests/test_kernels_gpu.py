"""kernels.live as a whole run judges it on a fake NVML: with graphs and without, and again from its own record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.kernels import live
from fixtures.setup import Environment
from tests.gpus import Bench
from tests.runs import Running

MODEL = "trilingual-2m"
FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "models" / MODEL


def cells(folder: Path, environment: Environment, utilisation: int) -> list[dict[str, Any]]:
    """The cells of kernels.live of one model on a card whose driver tells of this utilisation, with what they leave."""
    bench = Bench(folder, environment)
    bench.models(MODEL)
    bench.nvml.gpu(0, utilisation=utilisation)
    (folder / "one.toml").write_text('name = "one"\nprofiles = ["h200"]\nengines = ["vllm"]\n[[models]]\n'
                                     f'name = "{MODEL}"\nsource = "{FOLDER}"\ncontext = 512\nshare = 0.1\n')
    running = Running(folder, *bench.arguments, f"--lineup={folder}/one.toml", "--engine=vllm", "-m", "h200 and kernels",
                      "-k", "live", variables=bench.variables())
    ended = running.end(120)
    found = [json.loads(line) for line in running.cells()]
    assert found, ended.output
    for cell in found:
        evidence = folder / "results" / "latest" / cell["evidence"][0]
        cell["samples"] = json.loads(evidence.read_text(encoding="utf-8"))["samples"]
    return found


@pytest.mark.parametrize(("utilisation", "verdict"), [(40, "pass"), (0, "fail")])
def test_graphs_and_eager(tmp_path: Path, llama_environment: Environment, utilisation: int, verdict: str) -> None:
    """Both cells hold what is judged on the device, the eager one its price; a card that stays idle fails both."""
    found = {cell["variant"]: cell for cell in cells(tmp_path, llama_environment, utilisation)}
    assert set(found) == {"", "eager"}
    for cell in found.values():
        assert cell["verdict"] == verdict, cell["reason"]
        assert cell["causes"] == ([] if utilisation else ["not-on-the-device"])
        assert {"held_mib", "weights_mib", "utilisation_max", "decode_j_per_token", "prefix_cached"} <= set(cell["figures"])
        again = live.judge_recorded(cell["samples"])
        assert (again.verdict, list(again.causes), again.reason) == (cell["verdict"], cell["causes"], cell["reason"])
    assert "graphs_over_eager" in found["eager"]["figures"]
