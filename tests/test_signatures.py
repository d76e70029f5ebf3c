"""Every signature shows by its own examples that it is read, wins, is strict, and cannot be made to run away."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from fixtures.configuration import ConfigurationError, read
from fixtures.engines.failure import classify, facts, find_cause
from fixtures.engines.signatures import FOLDER, Signature, SignatureFile, load

ENGINES = ("vllm", "sglang", "ollama", "llamacpp")
READERS = {"common": (*ENGINES, "openai"), "torch": ("vllm", "sglang"), "ggml": ("ollama", "llamacpp")}
FILES = {path.stem: read(path, SignatureFile) for path in sorted(FOLDER.glob("*.toml"))}
EXAMPLES = [
    pytest.param(name, signature, example, id=f"{name}-{signature.id}-{number}")
    for name, content in FILES.items()
    for number, (signature, example) in enumerate(
        (signature, example) for signature in content.signature for example in signature.example)
]


@pytest.mark.parametrize(("file", "signature", "example"), EXAMPLES)
def test_example_gives_its_own_signature(file: str, signature: Signature, example: str) -> None:
    """Each example of each signature gives that class in every engine that reads the file, and no other beats it."""
    for engine in READERS.get(file, (file,)):
        assert signature in load(engine)
        for started in (False, True) if signature.neighbours is None else (signature.neighbours,):
            found = find_cause(engine, example, neighbours_started=started, gpu=signature.gpu)
            expected = signature.id if signature.kind in ("cause", "consequence") else None
            if signature.kind == "fact":
                assert signature.id in facts(engine, example)
            else:
                assert (found.cause if found else None) == expected


@pytest.mark.parametrize(("file", "signature", "example"), EXAMPLES)
def test_example_matches_its_pattern(file: str, signature: Signature, example: str) -> None:
    """An example is an example of that very entry, not only of another one with the same id."""
    lines = [line for line in example.lower().split("\n") if any(text in line for text in signature.contains)]
    assert lines
    if signature.pattern:
        assert any(re.search(signature.pattern, line, re.IGNORECASE) for line in lines)
    for reason in (signature.reason, signature.value):
        assert "\n" not in reason


def test_every_literal_is_lower_case_and_has_an_example() -> None:
    """`contains` is compared with lowered lines, and a text that no example shows is a guess that nothing guards."""
    for content in FILES.values():
        for signature in content.signature:
            examples = "\n".join(signature.example).lower()
            assert all(text == text.lower() for text in signature.contains), signature.id
            assert all(text in examples for text in signature.contains), signature.id


@pytest.mark.parametrize("filler", [" ", "(9", "a' [sm_120 "])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_line_makes_a_pattern_run_away(engine: str, filler: str) -> None:
    """1 MB of lines made of what the patterns look for, repeated, takes less than 1 s of processor time."""
    literals = sorted({text for signature in load(engine) for text in signature.contains})
    starts = [re.sub(r"\W{0,3}\w{1,3}$", "", text) for text in literals] + literals
    lines = [(start + filler * 9) * (1_000_000 // len(starts) // (len(start) + 9 * len(filler))) for start in starts]
    for log in ("\n".join(lines), "".join(lines), "\n".join((text + filler) * 3 for text in literals * 20)):
        began = time.process_time()
        classify(engine, log, 1, gpu=True)
        assert time.process_time() - began < 1


@pytest.mark.parametrize(("body", "words"), [
    ('patern = "x"', "did you mean 'pattern'"),
    ("pattern = '.*x'", "unbounded repetition"),
    ("pattern = '(a{1,})x'", "unbounded repetition"),
    ("pattern = '(x'", "pattern"),
    ("unless = 'x+'", "unbounded repetition"),
    ('value = "x"', "has a value"),
    ('kind = "guess"', "kind"),
])
def test_mistake_in_a_file_is_named(tmp_path: Path, body: str, words: str) -> None:
    """A signature file is read strictly: unknown keys, unbounded patterns and missing parts are refused."""
    file = tmp_path / "own.toml"
    file.write_text(f'[[signature]]\nid = "x"\ncontains = ["x"]\nexample = ["x"]\nreason = "r"\ncure = "c"\n{body}\n')
    with pytest.raises(ConfigurationError, match=re.escape(words)) as fault:
        read(file, SignatureFile)
    assert "own.toml" in str(fault.value)


@pytest.mark.parametrize("reason", ['reason = "no {group}"\ncure = "c"', 'reason = "r"', 'cure = "c"', ""])
def test_cause_needs_reason_and_cure(tmp_path: Path, reason: str) -> None:
    """A cause without a sentence, without a cure, or with a figure that its pattern does not read is refused."""
    file = tmp_path / "own.toml"
    file.write_text(f'[[signature]]\nid = "x"\ncontains = ["x"]\nexample = ["x"]\n{reason}\n')
    with pytest.raises(ConfigurationError):
        read(file, SignatureFile)


def test_a_warning_that_was_asked_for_is_no_cause() -> None:
    """With its look at unequal cards turned off SGLang says the same as a warning; what ends it then is something else."""
    said = "The memory capacity is unbalanced. Some GPUs may be occupied by other processes. pre_model_load_memory=102, x"
    ended = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    found = find_cause("sglang", f"[2026-11-21 19:48:44 TP0] {said}\n{ended}\n", gpu=True)
    assert found is not None
    assert found.cause != "devices-unequal"
    refused = find_cause("sglang", f"RuntimeError: {said.replace(', x', ', local_gpu_memory=120')}\n", gpu=True)
    assert refused is not None
    assert refused.cause == "devices-unequal"
    assert "102 GB free and another 120" in refused.reason
