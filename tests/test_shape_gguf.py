"""The random GGUF file: sizes and mix of a real q4_K_M, sound numbers, and a real llama.cpp that speaks from it."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import httpx
import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer

from fixtures import setup
from fixtures.engines.base import Served
from fixtures.engines.registry import engine
from fixtures.launchers.attest import occupied
from fixtures.launchers.process import launch
from fixtures.lineup import ModelEntry
from fixtures.load.client import Client
from fixtures.models import random_gguf, shape
from fixtures.models.random_gguf import Quantisation
from fixtures.models.random_tokenizer import OLLAMA_TEMPLATE, RandomTokenizer

# Tensors by type that llama.cpp lists for a q4_K_M of this many layers, and the size that it tells for TinyLlama's.
MIX = {"tinyllama": (45, 135, 21), "qwen2.5-3b": (181, 216, 37), "yi-6b": (65, 193, 33)}
TINYLLAMA_MIB = 636.18
PROMPTS = ("Write a song about autumn.", "It's 3.14, don't 1234567", "  two  spaces ", "[user] x=y+1; {a: 'b'} #~^", "")
KINDS: tuple[Quantisation, ...] = get_args(Quantisation)
# Change RECIPE where these change, or what is made already is taken for the new.
BYTES = {
    "tiny": "a1f1a8baec210a38be200e90e87fd95838700f9d51069ddc90dafb461081bd76",
    "tiny-qwen2": "cbf02bc2e293c642d0c16ef7d722398a77676d960abc175b9e32c3a23f807410",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Quantisation], Path]:
    """Both small shapes in both kinds."""
    folder = tmp_path_factory.mktemp("gguf")
    made = {(name, kind): folder / f"{name}.{kind}.gguf" for name in BYTES for kind in KINDS}
    for (name, kind), file in made.items():
        random_gguf.write(shape.find(name), kind, file)
    return made


@pytest.mark.parametrize("name", MIX)
def test_the_mix_is_llama_cpps(name: str) -> None:
    """As many tensors of each type as in a file that llama.cpp quantised."""
    found = Counter(placed.block.type for placed in random_gguf.plan(shape.find(name), "q4_K_M"))
    assert (found["F32"], found["Q4_K"], found["Q6_K"]) == MIX[name]


def test_the_size_is_the_real_ones() -> None:
    """TinyLlama's q4_K_M, to the digits that llama.cpp prints."""
    assert round(shape.weights_bytes("tinyllama", "q4_K_M") / 2**20, 2) == TINYLLAMA_MIB


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BYTES)
def test_every_number_is_sound(files: dict[tuple[str, Quantisation], Path], name: str, kind: Quantisation) -> None:
    """Every tensor of the shape is there, its numbers finite, around 0 and as wide as they are meant to be; norms are 1."""
    planned = {one.tensor.name: one for one in random_gguf.plan(shape.find(name), kind)}
    tensors = GGUFReader(files[name, kind]).tensors
    assert {tensor.name for tensor in tensors} == set(planned)
    for tensor in tensors:
        numbers, meant = dequantize(tensor.data, tensor.tensor_type), planned[tensor.name]
        assert numbers.shape == meant.tensor.shape
        assert np.isfinite(numbers).all()
        if tensor.name.endswith("norm.weight"):
            assert (numbers == 1).all()
            continue
        width = numbers.std() / meant.deviation
        assert 0.7 < width < 1.45 if meant.block.type in ("F16", "F32") else 0.97 < width < 1.03, tensor.name
        assert abs(numbers.mean()) < 5 * meant.deviation / numbers.size**0.5, tensor.name


@pytest.mark.parametrize("name", BYTES)
def test_the_same_shape_gives_the_same_bytes(files: dict[tuple[str, Quantisation], Path], name: str) -> None:
    """What is made, file and folder, is what was made before; a change of it needs another recipe."""
    wanted = shape.find(name)
    tokenizer = RandomTokenizer(wanted.vocabulary, wanted.family)
    texts = (wanted.config(), tokenizer.json(), tokenizer.settings(wanted.positions), OLLAMA_TEMPLATE)
    found = hashlib.sha256("".join(texts).encode() + files[name, "q4_K_M"].read_bytes()).hexdigest()
    assert (shape.RECIPE, found) == (1, BYTES[name]), "the bytes are others: raise shape.RECIPE, then note the new digest"


def test_it_is_made_in_small_pieces() -> None:
    """The largest matrix is never in memory as a whole."""
    largest = max(random_gguf.plan(shape.find("qwen2.5-3b"), "q4_K_M"), key=lambda placed: placed.size)
    sizes = [piece.nbytes for piece in random_gguf._chunks(largest, np.random.PCG64(1))]
    assert sum(sizes) == largest.size > 200 * 2**20
    assert max(sizes) <= 8 * 2**20


def test_its_digest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama's name for the file is that of its content, and is not computed twice."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    assert shape.gguf_digest("tiny") == hashlib.sha256(shape.gguf("tiny").read_bytes()).hexdigest()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert len(shape.gguf_digest("tiny")) == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BYTES)
def test_llama_cpp_speaks_from_it(files: dict[tuple[str, Quantisation], Path], tmp_path: Path, name: str,
                                  kind: Quantisation, llama_environment: setup.Environment) -> None:
    """The real engine loads it, reads prompts as our own tokenizer does, and streams printable text, the same twice and
    another for another prompt."""
    entry = ModelEntry(name=name, context=256)
    served = replace(Served(entry, None, str(files[name, kind]), {}), slots=1)
    command = engine("llamacpp").command(llama_environment, [served], tmp_path)
    with launch(command, name=name, log=tmp_path / "log", scratch_root=tmp_path, run_id="tests") as handle:
        deadline = time.monotonic() + 30
        while not (occupied(handle.port) and Client(handle.url, name).chat("Hello!", max_tokens=1).ok):
            assert handle.wait(0.05) is None, (tmp_path / "log").read_text()[-800:]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-800:]
        answers = [_streamed(handle.url, name, prompt) for prompt in ("Hello!", "Hello!", "Sing about autumn.")]
        ids = [_ids(handle.url, text) for text in PROMPTS]
    tokenizer = Tokenizer.from_str(RandomTokenizer(shape.find(name).vocabulary, shape.find(name).family).json())
    assert ids == [tokenizer.encode(text).ids for text in PROMPTS]
    assert answers[0] == answers[1] != answers[2]
    assert all(len(answer) >= 24 and answer.isascii() and answer.isprintable() for answer in answers)


def _ids(url: str, text: str) -> object:
    return httpx.post(f"{url}/tokenize", json={"content": text, "add_special": True}, timeout=20).json()["tokens"]


def _streamed(url: str, model: str, prompt: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 24, "temperature": 0,
            "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=20) as reply:
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
