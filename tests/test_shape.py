"""A shape is made once, whole, and its text is text: folders and tokenizers of random models."""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from fixtures import lineup, plan, setup
from fixtures.configuration import ConfigurationError
from fixtures.engines.base import Served
from fixtures.engines.registry import engine
from fixtures.launchers.attest import occupied
from fixtures.launchers.process import launch
from fixtures.lineup import ModelEntry
from fixtures.load.client import Client
from fixtures.models import random_gguf, shape
from fixtures.models.folder import ModelFolder
from fixtures.models.random_tokenizer import SPECIAL, Family, RandomTokenizer
from fixtures.plan import Asked
from fixtures.setup import SetupFailed
from tests import runs

PRINTABLE = "".join(map(chr, range(32, 127)))
SMALL = {family: Tokenizer.from_str(RandomTokenizer(4096, family).json()) for family in get_args(Family)}
# Parameters that the hub shows, and GiB of weights that vLLM 0.26.0 logged on an H200.
REAL = {"tinyllama": (1_100_048_384, 2.05), "qwen2.5-3b": (3_085_938_688, 5.79), "yi-6b": (6_061_035_520, 11.29)}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for what is made."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def made(home: Path) -> list[str]:
    """What lies among the shapes, hidden files too."""
    return sorted(path.name for path in (home / "store" / "shapes").iterdir())


@pytest.mark.parametrize("name", REAL)
def test_sizes_are_the_real_ones(name: str) -> None:
    """As many parameters as the real model, and the weights that an engine says it loaded."""
    parameters, gib = REAL[name]
    assert shape.weights_bytes(name) == 2 * parameters
    assert shape.weights_bytes(name) / 2**30 == pytest.approx(gib, rel=0.01)


def test_an_unknown_shape_names_the_nearest() -> None:
    """A mistyped name is a user's mistake."""
    with pytest.raises(ConfigurationError, match="no shape 'random:tinylama'; did you mean 'tinyllama'\\?"):
        shape.folder("tinylama")


def test_a_shape_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that quantised blocks do not divide, or heads that do not divide, name the key."""
    for key, text, word in (("hidden = 256", "hidden = 300", "multiple of 256"),
                            ("heads = 4", "heads = 3", "multiple of heads")):
        file = tmp_path / "shapes.toml"
        file.write_text(shape.FILE.read_text().replace(key, text))
        monkeypatch.setattr(shape, "FILE", file)
        with pytest.raises(ConfigurationError, match=word):
            shape.known.__wrapped__()


@pytest.mark.parametrize("name", [*REAL, "tiny"])
def test_every_token_is_plain_text(name: str) -> None:
    """Each id below the vocabulary's size is printable ASCII when decoded, special ones apart, and no two are the same."""
    made = RandomTokenizer(shape.find(name).vocabulary, shape.find(name).family)
    tokenizer = Tokenizer.from_str(made.json())
    texts = [tokenizer.decode([number], skip_special_tokens=False) for number in range(made.size)]
    assert tokenizer.get_vocab_size() == made.size == len(set(texts))
    assert texts[:3] == list(SPECIAL)
    assert all(text and set(text) <= set(PRINTABLE) for text in texts)


@pytest.mark.parametrize("family", SMALL)
@given(text=st.text(alphabet=PRINTABLE, max_size=80))
def test_any_printable_prompt_is_encoded(family: Family, text: str) -> None:
    """Printable ASCII comes back as it went in, behind a start token and without unknown ones."""
    encoded = SMALL[family].encode(text)
    assert encoded.ids[0] == SPECIAL.index("<s>")
    assert SPECIAL.index("<unk>") not in encoded.ids
    assert SMALL[family].decode(encoded.ids) == text


@pytest.mark.parametrize("text", ["é", "한", "\n", "🙂"])
def test_other_characters_are_unknown(text: str) -> None:
    """They never become another token."""
    assert set(SMALL["llama"].encode(text, add_special_tokens=False).tokens) == {"<unk>"}
    assert SMALL["qwen2"].encode(text, add_special_tokens=False).tokens == []


@pytest.mark.parametrize("family", SMALL)
def test_english_takes_fewer_tokens_than_letters(family: Family) -> None:
    """The merges are those that prompts have, as in a real tokenizer of few words."""
    text = "Write a song about autumn, and tell me what the weather is like in the mountains."
    assert len(SMALL[family].encode(text).ids) < 0.62 * len(text)


@pytest.mark.parametrize("family", SMALL)
def test_a_stream_of_random_tokens_is_the_whole_text(family: Family) -> None:
    """Piece by piece as an engine does it, no character is held back or broken."""
    ids = random.Random(1).choices(range(len(SPECIAL), 4096), k=500)
    stream = DecodeStream(skip_special_tokens=True)
    pieces = [stream.step(SMALL[family], number) for number in ids]
    assert None not in pieces
    assert "".join(piece or "" for piece in pieces) == SMALL[family].decode(ids)


@pytest.mark.usefixtures("home")
def test_the_folder_is_that_of_the_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes, special ids and chat template are told to engines, what is made is said; a second time nothing is."""
    folder = shape.folder("tiny-qwen2")
    assert "random:tiny-qwen2: making its folder at " in capsys.readouterr().out
    found, wanted = ModelFolder(folder), shape.find("tiny-qwen2")
    assert (found.vocabulary, found.context, found.kv_bytes_per_token) == (16384, 2048, wanted.kv_bytes_per_token)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["tie_word_embeddings"]) == (["Qwen2ForCausalLM"], True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert [found.tokenizer.token_to_id(settings[key]) for key in ("bos_token", "eos_token")] == [
        config["bos_token_id"], config["eos_token_id"]]
    assert "message['content']" in settings["chat_template"]
    assert shape.folder("tiny-qwen2") == folder
    assert not capsys.readouterr().out


def test_another_definition_is_made_anew(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made of an older definition is not taken for the new one; where it is from changes nothing."""
    before, same = shape.folder("tiny"), shape.find("tiny").model_copy(update={"hub": "elsewhere"})
    assert same.digest == shape.find("tiny").digest
    file = tmp_path / "shapes.toml"
    file.write_text(shape.FILE.read_text().replace("vocabulary = 4096", "vocabulary = 4100"))
    monkeypatch.setattr(shape, "FILE", file)
    monkeypatch.setattr(shape, "known", shape.known.__wrapped__)
    after = shape.folder("tiny")
    assert after != before
    assert ModelFolder(after).vocabulary == 4100
    assert len(made(home)) == 2


def test_two_at_once_make_it_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first and takes what it made."""
    write, written, found = random_gguf.write, [], []
    begun = threading.Event()

    def slowly(*arguments: object) -> None:
        written.append(arguments)
        begun.set()
        time.sleep(0.5)  # the other is given time to make the mistake
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(random_gguf, "write", slowly)
    said: list[str] = []
    one, two = (threading.Thread(target=lambda: found.append(shape.gguf("tiny", say=said.append))) for _ in range(2))
    one.start()
    assert begun.wait(10)
    two.start()
    one.join(20)
    two.join(20)
    assert (len(written), len(found), len(set(found))) == (1, 2, 1)
    assert any("waiting" in line for line in said)
    assert made(home) == [found[0].name]


def test_what_breaks_off_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk names itself and its cure; the half-made file is gone, and the next try is a whole one."""
    write = random_gguf.write

    def full(of: shape.Shape, kind: random_gguf.Quantisation, target: Path) -> None:
        write(of, kind, target)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(random_gguf, "write", full)
    with pytest.raises(SetupFailed, match=r"random:tiny cannot be written: .*No space left") as caught:
        shape.gguf("tiny")
    assert "COTENANT_HOME" in caught.value.cure
    assert made(home) == []
    monkeypatch.undo()
    monkeypatch.setenv("COTENANT_HOME", str(home))
    assert shape.gguf("tiny").stat().st_size > shape.weights_bytes("tiny", "q4_K_M")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_killed_process_left_is_no_hindrance(home: Path, kind: str) -> None:
    """A process that was killed while it wrote leaves a hidden part, which is never taken for the whole."""
    target = home / "store" / "shapes" / f".tiny-{shape.find('tiny').digest}.part"
    target.parent.mkdir(parents=True)
    if kind == "folder":
        target.mkdir()
        (target / "config.json").write_text("{")
    else:
        target.write_text("half")
    assert ModelFolder(shape.folder("tiny")).vocabulary == 4096
    assert made(home) == [f"tiny-{shape.find('tiny').digest}"]


def test_room_is_looked_for_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is too small is told by its figures before anything is written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9 * 2**30, 5 * 2**30, 4 * 2**30))
    with pytest.raises(SetupFailed, match=r"random:yi-6b takes 3\.4 GiB, and of 4\.0 GiB that are free"):
        shape.gguf("yi-6b")
    assert made(home) == []


def test_a_lineup_asks_for_a_shape(home: Path, tmp_path: Path) -> None:
    """Planning makes nothing, the first look at the folder makes it; an unknown shape is refused by the plan."""
    file = runs.lineup(tmp_path / "x.toml", engines=["vllm", "ollama"], source="random:tiny")
    place = plan.deployments(Asked(lineups=(str(file),)), {})[0]
    assert not home.exists()
    assert place.lineup.folder_of(place.lineup.models[0], "vllm") == shape.folder("tiny")
    wrong = runs.lineup(tmp_path / "y.toml", source="random:tinny")
    with pytest.raises(ConfigurationError) as caught:
        plan.deployments(Asked(lineups=(str(wrong),)), {})
    assert str(caught.value) == f"{tmp_path}/y.toml: models.small.source: no shape 'random:tinny'; did you mean 'tiny'?"


def test_committed_shapes_are_known() -> None:
    """Every shape that a lineup of the repository asks for is there."""
    asked = {model.random(engine) for one in lineup.committed() for model in one.models for engine in one.engines} - {""}
    assert asked >= set(REAL)
    assert asked <= set(shape.known())


@pytest.fixture(scope="module")
def vllm() -> setup.Environment:
    """vLLM as a run has it; set up if need be."""
    return setup.ensure("vllm", setup.DEFAULT_VERSIONS["vllm"], print)


@pytest.mark.long
@pytest.mark.parametrize("name", ["tiny", "tiny-qwen2"])
def test_transformers_reads_the_same_tokens(name: str, vllm: setup.Environment) -> None:
    """The library that engines read tokenizers with makes the same ids of a text as ours, whatever it does to the file."""
    folder, texts = shape.folder(name), ("Write a song!", "It's 3.14, don't 1234567", "é\nx", "")
    program = ("import json, sys; from transformers import AutoTokenizer; read = AutoTokenizer.from_pretrained(sys.argv[1]);"
               "print(json.dumps([read(text).input_ids for text in json.loads(sys.argv[2])]))")
    done = subprocess.run([str(vllm.python), "-c", program, str(folder), json.dumps(texts)], check=True, timeout=120,
                          capture_output=True, text=True)
    tokenizer = ModelFolder(folder).tokenizer
    assert json.loads(done.stdout.splitlines()[-1]) == [tokenizer.encode(text).ids for text in texts]


@pytest.mark.long
def test_vllm_serves_it_without_weights(tmp_path: Path, vllm: setup.Environment) -> None:
    """The real engine takes folder and tokenizer, makes up the weights, and streams printable text."""
    folder = shape.folder("tiny-qwen2")
    flags: dict[str, tuple[str, ...]] = {"vllm": ("--load-format", "dummy")}
    served = Served(ModelEntry(name="tiny", context=512, flags=flags), ModelFolder(folder), str(folder), {}, slots=1)
    command = engine("vllm").command(vllm, [served], tmp_path)
    with launch(command, name="tiny", log=tmp_path / "log", scratch_root=tmp_path, run_id="tests") as handle:
        client, deadline = Client(handle.url, "tiny"), time.monotonic() + 240
        while not (occupied(handle.port) and client.chat("Hello!", max_tokens=1).ok):
            assert handle.wait(0.5) is None, (tmp_path / "log").read_text()[-800:]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-800:]
        answer = client.chat("Sing about autumn.", max_tokens=24, temperature=1.0)
    assert answer.ok
    assert set(answer.text) <= set(PRINTABLE)
    assert len(answer.text) >= 24
