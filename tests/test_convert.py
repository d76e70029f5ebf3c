"""The GGUF file is the same model: every weight, every token, and what a real llama.cpp makes of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import pytest
from gguf import GGUFReader, TokenType

from fixtures.configuration import ConfigurationError
from fixtures.models.convert import to_gguf
from fixtures.models.folder import ModelFolder
from fixtures.models.weights import Weights, widened

MODELS = Path(__file__).resolve().parent.parent / "fixtures" / "models"
NAMES = ("trilingual-2m", "trilingual-4m", "trilingual-8m")
SMALLEST = MODELS / NAMES[0]

VARIED = (
    "Hello, world!", "It's 3.14 and I'm  here\n\n  tabs\tx", "春天来了，山上的雪慢慢融化。",
    "봄이 오면 산에 쌓인 눈이 녹아요.",
    "混合 mixed 한국어 123456 ①②", "emoji 🙂👩‍👩‍👧 é ñ ü", "  leading", "trailing  ", "全角　空白", "日本語のテスト",
    "<|user|>Hello!<|assistant|>", "Ünïcödé — “quotes”…", "1,000,000 files' don't we'll", " \n \n x",
    "𠮷野家", "x\r\ny",
)


class LlamaServer(Protocol):
    """A real llama.cpp server for each trilingual model."""

    def url(self, model: str) -> str: ...


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> GGUFReader:
    return GGUFReader(to_gguf(SMALLEST, tmp_path_factory.mktemp("gguf") / "small.gguf"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder that a test may spoil."""
    return Path(shutil.copytree(SMALLEST, tmp_path / "model"))


def bare(text: str) -> str:
    """Without what the token limit left of a character."""
    assert text
    return text.rstrip("\ufffd")


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_every_weight_keeps_its_value(converted: GGUFReader) -> None:
    """Every tensor holds the BF16 values exactly; q and k hold them in llama.cpp's order of rows."""
    weights = Weights.open(SMALLEST / "model.safetensors")
    tensors = {tensor.name: np.array(tensor.data) for tensor in converted.tensors}
    assert len(tensors) == len(weights.header)
    assert "output.weight" not in tensors
    for ours, theirs in (("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"),
                         ("blk.3.ffn_down", "model.layers.3.mlp.down_proj"),
                         ("blk.0.attn_v", "model.layers.0.self_attn.v_proj")):
        np.testing.assert_array_equal(tensors[f"{ours}.weight"], widened(weights.bf16(f"{theirs}.weight")))
    query = widened(weights.bf16("model.layers.1.self_attn.q_proj.weight")).reshape(2, 64, 128)
    stored = tensors["blk.1.attn_q.weight"].reshape(2, 64, 128)
    np.testing.assert_array_equal(stored[:, 0::2], query[:, :32])
    np.testing.assert_array_equal(stored[:, 1::2], query[:, 32:])


def test_the_head_says_what_the_folder_says(converted: GGUFReader) -> None:
    """Sizes, special tokens and chat template of the file are those of the folder."""
    def value(key: str) -> Any:
        return converted.fields[key].contents()

    config = ModelFolder(SMALLEST).config
    assert value("llama.context_length") == config.max_position_embeddings
    assert value("llama.vocab_size") == config.vocab_size == len(value("tokenizer.ggml.tokens"))
    assert value("llama.attention.key_length") == config.head_size
    assert value("llama.attention.head_count_kv") == config.kv_heads
    assert value("tokenizer.ggml.model") == "gpt2"
    assert (value("tokenizer.ggml.bos_token_id"), value("tokenizer.ggml.eos_token_id")) == (0, 1)
    assert value("tokenizer.ggml.token_type")[:9] == [TokenType.CONTROL] * 8 + [TokenType.NORMAL]
    settings = json.loads((SMALLEST / "tokenizer_config.json").read_text())
    assert value("tokenizer.chat_template") == settings["chat_template"]


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.json", lambda c: c.update(model_type="qwen3"), "key 'model_type'"),
        ("config.json", lambda c: c.update(attention_bias=True), "key 'attention_bias'"),
        ("config.json", lambda c: c.update(rope_scaling={"type": "linear", "factor": 2}), "key 'rope_scaling'"),
        ("config.json", lambda c: c.pop("vocab_size"), "key 'vocab_size'"),
        ("config.json", lambda c: c.update(vocab_size=8000), "outside config.json's vocab_size 8000"),
        ("config.json", lambda c: c.update(num_hidden_layers=5), "no tensor 'model.layers.4"),
        ("tokenizer.json", lambda t: t["model"].update(type="Unigram"), "key 'model'"),
        ("tokenizer.json", lambda t: t["pre_tokenizer"].update(use_regex=False), "key 'pre_tokenizer.use_regex'"),
        ("tokenizer.json", lambda t: t.update(normalizer={"type": "NFC"}), "key 'normalizer'"),
        ("tokenizer_config.json", lambda t: t.pop("chat_template"), "key 'chat_template'"),
        ("tokenizer_config.json", lambda t: t.update(eos_token="<end>"), "key 'eos_token'"),
    ],
)
def test_a_folder_that_cannot_be_converted_is_refused(
    copy: Path, tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    """What would be converted wrongly is named with its file and key, and nothing is left behind."""
    edit(copy / file, change)
    with pytest.raises(ConfigurationError) as refused:
        to_gguf(copy, tmp_path / "out" / "x.gguf")
    assert says in str(refused.value)
    assert str(copy) in str(refused.value)
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(copy: Path, tmp_path: Path, name: str) -> None:
    """Each file that is needed is asked for by its path."""
    (copy / name).unlink()
    with pytest.raises(ConfigurationError, match=name):
        to_gguf(copy, tmp_path / "x.gguf")


def test_cut_weights_are_refused(copy: Path, tmp_path: Path) -> None:
    """A download that ended early is never taken for a model."""
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigurationError, match="ends at byte"):
        to_gguf(copy, tmp_path / "x.gguf")


def test_an_older_file_stays_until_the_new_one_is_whole(copy: Path, tmp_path: Path) -> None:
    """A conversion that fails leaves the earlier file as it was."""
    target = to_gguf(copy, tmp_path / "x.gguf")
    before = target.read_bytes()
    edit(copy / "config.json", lambda config: config.update(num_hidden_layers=9))
    with pytest.raises(ConfigurationError):
        to_gguf(copy, target)
    assert target.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*x.gguf*")] + [file.name for file in tmp_path.glob(".*")] == ["x.gguf"]


def test_the_digest_follows_the_contents(copy: Path) -> None:
    """Equal folders have equal digests wherever they lie; one changed byte changes it."""
    folder = ModelFolder(copy)
    before = folder.digest
    assert before == ModelFolder(SMALLEST).digest
    edit(copy / "generation_config.json", lambda config: config.update(eos_token_id=3))
    assert folder.digest != before


@pytest.mark.parametrize(("name", "bytes_"), list(zip(NAMES, (1024, 1280, 3072), strict=True)))
def test_the_cache_of_a_token_is_counted(name: str, bytes_: int) -> None:
    """Two (key, value) x layers x key/value heads x head dimensions x two bytes."""
    folder = ModelFolder(MODELS / name)
    assert folder.kv_bytes_per_token == bytes_
    assert (folder.vocabulary, folder.context) == (8192, 2048)


@pytest.mark.parametrize("name", NAMES)
def test_llama_cpp_reads_text_as_the_model_does(llama_server: LlamaServer, name: str) -> None:
    """The server's tokens are those of the folder's own tokenizer, special tokens included."""
    tokenizer = ModelFolder(MODELS / name).tokenizer
    with httpx.Client(base_url=llama_server.url(name), trust_env=False, timeout=20) as http:
        for text in VARIED:
            found = http.post("/tokenize", json={"content": text, "add_special": True}).json()["tokens"]
            assert found == tokenizer.encode(text).ids, text


@pytest.mark.parametrize("name", NAMES)
def test_llama_cpp_continues_as_the_model_did(llama_server: LlamaServer, name: str) -> None:
    """Greedy answers equal those recorded with the weights; a near-tie may fall either way, one of 14 at most."""
    samples = json.loads((MODELS / name / "report.json").read_text())["samples"][::2]
    with httpx.Client(base_url=llama_server.url(name), trust_env=False, timeout=20) as http:
        def continued(sample: dict[str, Any]) -> str:
            body = {"prompt": sample["prompt_ids"], "max_tokens": 24, "temperature": 0}
            return str(http.post("/v1/completions", json=body).json()["choices"][0]["text"])

        different = [sample["prompt"] for sample in samples if not sample["text"].startswith(bare(continued(sample)))]
    assert len(samples) == 14
    assert len(different) <= 1, different
