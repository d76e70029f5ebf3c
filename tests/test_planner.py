"""What the planner reads of models: caches by architecture, weights by header, places where models lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import lineup as lineups
from fixtures.configuration import ConfigurationError
from fixtures.gpu import profile as profiles
from fixtures.models import shape
from fixtures.models.folder import ModelFolder
from fixtures.planner import card as cards
from fixtures.planner import config, costs, picture, source, tensors
from fixtures.planner.anatomy import CACHE_BYTES, Anatomy, CannotSay, Group
from fixtures.planner.card import Card
from fixtures.planner.plan import make
from fixtures.planner.settings import Settings
from fixtures.planner.span import Span, gib, tokens

MODELS = Path(__file__).resolve().parents[1] / "fixtures" / "models"
PLAIN: dict[str, Any] = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                         "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 131072}


def told(tmp_path: Path, **keys: Any) -> config.Sizes:
    """What a config.json of these keys says."""
    (tmp_path / "config.json").write_text(json.dumps({**PLAIN, **keys}))
    return config.sizes(tmp_path / "config.json")


def cached(sizes: config.Sizes, context: int, dtype: str = "auto", devices: int = 1) -> Span:
    """Bytes of one sequence's cache."""
    anatomy = Anatomy(sizes.family, "safetensors", 0, 0, sizes.tied, sizes.vocabulary, sizes.hidden, sizes.ffn, sizes.layers,
                      sizes.heads, sizes.groups, sizes.positions, "")
    return anatomy.sequence_bytes(context, dtype, devices, block=1)


@pytest.mark.parametrize(("keys", "low", "high"), [
    ({}, 2 * 32 * 4096 * 2, None),  # every head has its own keys and values
    ({"num_key_value_heads": 8}, 2 * 32 * 8 * 128 * 2, None),
    ({"num_key_value_heads": 8, "head_dim": 256}, 2 * 32 * 8 * 256 * 2, None),
    # DeepSeek-V3: one vector of 512 and a key of 64 for all heads.
    ({"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_hidden_layers": 61},
     61 * 576 * 2, None),
    # A window that Qwen's file names and does not use.
    ({"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 32768, "use_sliding_window": False},
     2 * 32 * 2 * 128 * 2, None),
])
def test_bytes_of_one_token(tmp_path: Path, keys: dict[str, Any], low: float, high: float | None) -> None:
    """By hand: twice layers x heads x dimensions x 2 bytes; a latent cache once."""
    found = cached(told(tmp_path, **keys), 1000)
    assert (found.low, found.high) == (1000 * low, 1000 * (high or low))


def test_windows_keep_only_their_tokens(tmp_path: Path) -> None:
    """Gemma 3: five of six layers keep 1024 tokens; engines that do not use that keep all."""
    found = told(tmp_path, model_type="gemma3_text", num_hidden_layers=48, num_key_value_heads=8, head_dim=256,
                 sliding_window=1024)
    assert [(group.layers, group.window) for group in found.groups] == [(8, None), (40, 1024)]
    each = 2 * 8 * 256 * 2
    sequence = cached(found, 32768)
    assert sequence.high == 48 * 32768 * each
    assert sequence.low == pytest.approx((8 * 32768 + 40 * 1025) * each)
    assert cached(found, 512).low == cached(found, 512).high == 48 * 512 * each


def test_layer_types_count_more_than_patterns(tmp_path: Path) -> None:
    """Where the file lists its layers, that list is used."""
    types = ["sliding_attention", "full_attention"] * 12
    found = told(tmp_path, model_type="gpt_oss", num_hidden_layers=24, layer_types=types, sliding_window=128)
    assert [(group.layers, group.window) for group in found.groups] == [(12, None), (12, 128)]


def test_recurrent_layers_keep_a_state(tmp_path: Path) -> None:
    """Qwen3-Next and Granite 4: what the recurrent layers keep does not grow with the sequence."""
    delta = told(tmp_path, model_type="qwen3_next", num_hidden_layers=48, num_key_value_heads=2, head_dim=256,
                 full_attention_interval=4, linear_num_key_heads=16, linear_num_value_heads=32,
                 linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4)
    assert [group.layers for group in delta.groups] == [12, 36]
    growth = cached(delta, 20000).low - cached(delta, 10000).low
    assert growth == 10000 * 12 * 2 * 2 * 256 * 2
    mamba = told(tmp_path, model_type="granitemoehybrid", num_hidden_layers=40, num_key_value_heads=4,
                 layer_types=["mamba"] * 36 + ["attention"] * 4, mamba_n_heads=64, mamba_d_head=64, mamba_d_state=128,
                 mamba_d_conv=4, mamba_n_groups=1)
    assert mamba.groups[1].state == 64 * 64 * 128 + 3 * (64 * 64 + 2 * 128)


@pytest.mark.parametrize(("dtype", "part"), [("fp8", 0.5), ("q8_0", 34 / 64), ("q4_0", 18 / 64), ("bfloat16", 1.0)])
def test_quantised_caches(tmp_path: Path, dtype: str, part: float) -> None:
    """Eight-bit floats halve it; llama.cpp's blocks carry a scale."""
    found = told(tmp_path)
    assert cached(found, 64, dtype).low == part * cached(found, 64).low
    assert CACHE_BYTES[dtype] == 2 * part


def test_heads_are_spread_whole(tmp_path: Path) -> None:
    """Over more devices than heads each keeps one; a latent cache is kept by every device."""
    grouped = told(tmp_path, num_key_value_heads=4)
    parts = [cached(grouped, 64, devices=count).low / cached(grouped, 64).low for count in (1, 2, 4, 8)]
    assert parts == [1, 0.5, 0.25, 0.25]
    latent = told(tmp_path, model_type="deepseek_v2", kv_lora_rank=512, qk_rope_head_dim=64)
    assert cached(latent, 64, devices=8) == cached(latent, 64)


@pytest.mark.parametrize(("keys", "words"), [
    ({"model_type": "made_up"}, "type 'made_up'"),
    ({"model_type": "qwen22"}, "did you mean 'qwen2'"),
    ({"vision_config": {}}, "images or sound"),
    ({"text_config": {"model_type": "llama"}}, "images or sound"),
    ({"num_hidden_layers": None}, "no key 'num_hidden_layers'"),
    ({"model_type": "bamba"}, "which of its layers"),
    ({"num_attention_heads": 0}, "'num_attention_heads' is 0"),
    ({"num_key_value_heads": -1}, "'num_key_value_heads' is -1"),
    ({"hidden_size": True}, "no key 'hidden_size'"),
])
def test_what_is_not_known_is_not_guessed(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    """A clear reason that names the file and the key."""
    with pytest.raises(CannotSay, match=words):
        told(tmp_path, **keys)


def test_experts_widen_activations(tmp_path: Path) -> None:
    """A token passes through all the experts that it is sent to."""
    found = told(tmp_path, model_type="qwen3_moe", num_experts_per_tok=8, moe_intermediate_size=1536)
    assert found.mixture
    assert found.ffn == 8 * 1536


def _safetensors(file: Path, **entries: tuple[str, int]) -> None:
    header, end = {}, 0
    for name, (dtype, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def test_weights_by_their_headers(tmp_path: Path) -> None:
    """Shards are summed; 32-bit floats are loaded in 16; a tied output that is stored too counts once."""
    _safetensors(tmp_path / "model-1.safetensors", **{"model.embed_tokens.weight": ("BF16", 100), "a": ("F32", 80)})
    _safetensors(tmp_path / "model-2.safetensors", **{"lm_head.weight": ("BF16", 100), "b": ("U8", 7)})
    index = {"weight_map": {"model.embed_tokens.weight": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert tensors.of_folder(tmp_path, tied=False, quantised=False) == tensors.Stored(100 + 40 + 100 + 7, 100)
    assert tensors.of_folder(tmp_path, tied=True, quantised=False).weights == 100 + 40 + 7
    assert tensors.of_folder(tmp_path, tied=True, quantised=True).weights == 100 + 80 + 7
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(CannotSay, match=r"model-2\.safetensors"):
        tensors.of_folder(tmp_path, tied=True, quantised=False)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    """Nothing is made of a configuration alone."""
    (tmp_path / "config.json").write_text(json.dumps(PLAIN))
    with pytest.raises(CannotSay, match="no safetensors"):
        source.of_folder(tmp_path, "vllm")
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match="cut short"):
        source.of_folder(tmp_path, "vllm")


@pytest.mark.parametrize("name", ["trilingual-2m", "trilingual-4m", "trilingual-8m"])
def test_the_repositorys_models(name: str) -> None:
    """Weights are the file less its header, the cache is as the folder's own reader says."""
    found = source.of_folder(MODELS / name, "vllm")
    assert found.weights == pytest.approx((MODELS / name / "model.safetensors").stat().st_size, rel=0.01)
    assert found.token_bytes("auto") == ModelFolder(MODELS / name).kv_bytes_per_token


def test_a_gguf_file_is_as_its_shape_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the list of tensors of a real GGUF file says is what the shape was planned with."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    for name in ("tiny", "tiny-qwen2"):
        read = tensors.of_gguf(shape.gguf(name, say=lambda _: None))
        known = source.of_shape(shape.find(name), "ollama")
        assert (read.weights, read.embedding, read.tied) == (known.weights, known.embedding, known.tied)
        assert (read.vocabulary, read.hidden, read.ffn) == (known.vocabulary, known.hidden, known.ffn)
        assert (read.layers, read.heads, read.positions) == (known.layers, known.heads, known.positions)
        assert read.token_bytes("f16") == known.token_bytes("f16")


def _lineup(tmp_path: Path, model: str, engines: str) -> lineups.Lineup:
    file = tmp_path / "x.toml"
    head = f'name = "x"\nprofiles = ["rtx5090"]\nengines = ["{engines}"]\n'
    file.write_text(f'{head}[[models]]\nname = "m"\nsource = "{model}"\n')
    return lineups.load(str(file))


def test_a_hub_id_by_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot that `main` names; without a cache the shape that has the model's sizes; else the command."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    found = _lineup(tmp_path, "owner/one", "vllm")
    with pytest.raises(CannotSay) as unknown:
        source.find(found, found.models[0], "vllm")
    assert unknown.value.cure == "fetch it: hf download owner/one"
    kept = tmp_path / "hub" / "models--owner--one"
    for revision in ("old", "new"):
        (kept / "snapshots" / revision).mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("new")
    (kept / "snapshots" / "new" / "config.json").write_text(json.dumps(PLAIN))
    _safetensors(kept / "snapshots" / "new" / "model.safetensors", a=("BF16", 640))
    assert source.find(found, found.models[0], "vllm").weights == 640
    study = _lineup(tmp_path, "01-ai/Yi-6B-Chat", "vllm")
    assert source.find(study, study.models[0], "vllm").weights == shape.weights_bytes("yi-6b")


def test_a_model_of_ollamas_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its manifest, with and without a tag."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path / "home"))
    file = shape.gguf("tiny", say=lambda _: None)
    manifests, blobs = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "tiny", tmp_path / "blobs"
    manifests.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "sha256-1234").symlink_to(file)
    layers = [{"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:0"},
              {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:1234"}]
    (manifests / "latest").write_text(json.dumps({"layers": layers}))
    found = _lineup(tmp_path, "tiny", "ollama")
    assert source.find(found, found.models[0], "ollama").weights == source.of_shape(shape.find("tiny"), "ollama").weights
    tagged = _lineup(tmp_path, "tiny:4b", "ollama")
    with pytest.raises(CannotSay, match="not in Ollama's store"):
        source.find(tagged, tagged.models[0], "ollama")


def test_no_gguf_for_vllm(tmp_path: Path) -> None:
    """What an engine makes of another's files is not guessed."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    found = _lineup(tmp_path, "m.gguf", "vllm")
    with pytest.raises(CannotSay, match="GGUF"):
        source.find(found, found.models[0], "vllm")
    llama = _lineup(tmp_path, "m.gguf", "llamacpp")
    with pytest.raises(ConfigurationError, match=r"m\.gguf"):
        source.find(llama, llama.models[0], "llamacpp")


def test_later_words_win() -> None:
    """As engines have it, with `=` or without."""
    given = Settings(("--max-num-seqs", "32", "--max-num-seqs=64", "--enforce-eager"))
    assert given.number("--max-num-seqs", default=1) == 64
    assert given.has("--enforce-eager")
    assert not given.has("--max-num-seqs=32")
    assert Settings(("--max-model-len", "4k")).number("--max-model-len", default=1) == 4000
    assert Settings().number("--max-model-len", default=7) == 7


def test_figures_are_no_finer_than_known() -> None:
    """Ranges are rounded outward, to three digits."""
    assert tokens(Span(93_061, 114_704)) == "93,000 to 115,000"
    assert tokens(Span(8192, 8192)) == "8,192"
    assert gib(Span.gib((7.46, 8.11))) == "7.5 to 8.1"
    assert gib(Span.gib((2.05, 2.07))) == "2.06"


def test_every_card_has_a_span_of_usable_memory() -> None:
    """Programs get less than NVML reports, and not much less."""
    for profile in profiles.committed().values():
        if profile.is_cpu or profile.unified:
            continue
        found = Card.of(profile)
        assert 0.95 * found.total < found.usable.low <= found.usable.high < found.total
    assert set(costs.committed().cards.usable) <= set(profiles.committed())


def test_the_bar_is_the_card(tmp_path: Path) -> None:
    """As wide as asked for, in proportion; what goes beyond the card is marked."""
    found = lineups.load("shapes")
    plan = make(found, "vllm", "", cards.find("rtx5090", found))
    for width in (40, 80, 120):
        for line in picture.draw(plan, 0, width):
            assert len(line) == width
    bar = picture.draw(plan, 0, 101)[1].plain
    weights = sum(seat.weights.mid for seat in plan.seats) / plan.card.usable.mid
    assert bar.count(picture.WEIGHTS) == pytest.approx(100 * weights, abs=2)
    small = make(found, "vllm", "", cards.find("rtx4080", found))
    assert picture.draw(small, 0, 80)[1].plain.endswith(">")


def test_each_device_has_its_own(tmp_path: Path) -> None:
    """A model over two devices takes half of its weights of each, whole heads of its cache."""
    found = lineups.load("two-devices")
    plan = make(found, "vllm", "", cards.find("rtx5090", found))
    assert plan.devices == 2
    assert [seat.ask.model for seat in plan.on(1)] == ["qwen2.5-3b", "yi-6b"]
    both = plan.on(0)[-1]
    assert both.weights.low == pytest.approx(shape.weights_bytes("yi-6b") / 2)
    assert both.ask.anatomy.token_bytes("auto", 2) == both.ask.anatomy.token_bytes("auto") / 2


def test_a_group_of_no_heads_is_kept_whole() -> None:
    """States are spread, latent vectors are not."""
    assert Group(1, 10).share_of(4) == 1
    assert Group(1, state=10).share_of(4) == 0.25
    assert np.isclose(Group(1, 10, heads=2).share_of(4), 0.5)
