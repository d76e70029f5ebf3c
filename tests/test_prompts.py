"""The prompts: exactly as long as asked for, by any tokenizer, in the language asked for."""

from __future__ import annotations

import time
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from fixtures.configuration import ConfigurationError
from fixtures.languages.script import wrong
from fixtures.lineup import Language
from fixtures.load.client import Client
from fixtures.load.prompts import FILE, Prompts, mixed
from tests.conftest import MODELS, NAMES, LlamaServers

LANGUAGES: tuple[Language, ...] = ("en", "zh", "ko")
OURS = Tokenizer.from_file(str(MODELS / NAMES[0] / "tokenizer.json"))
LLAMA3 = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of the text alone."""
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def trained(kind: str) -> Tokenizer:
    """A small tokenizer that cuts text as a well-known family does."""
    texts = [Prompts(OURS).of_tokens(language, 200, seed).text for language in LANGUAGES for seed in range(8)]
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=900, unk_token="<unk>",
                                                                      special_tokens=["<unk>"], show_progress=False))
        return tokenizer
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    llama3 = pre_tokenizers.Sequence([pre_tokenizers.Split(LLAMA3, "isolated"), split])
    tokenizer.pre_tokenizer = {"gpt2": split, "llama3": llama3, "uncut": split}[kind]
    # Uncut, tokens run from one sentence into the next, so that their lengths do not add up.
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1200, show_progress=False,
                                                             initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


@given(language=st.sampled_from(LANGUAGES), count=st.integers(8, 600), seed=st.integers(0, 2**32))
@settings(derandomize=True, deadline=None, max_examples=80)
def test_a_prompt_has_exactly_the_tokens_asked_for(language: Language, count: int, seed: int) -> None:
    """By counting them again; whole sentences, the same again for the same seed."""
    prompt = Prompts(OURS).of_tokens(language, count, seed)
    assert (len(ids(OURS, prompt.text)), prompt.tokens, prompt.language) == (count, count, language)
    assert prompt.text[-1] in ".。?"
    assert Prompts(OURS).of_tokens(language, count, seed) == prompt


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "unigram", "uncut"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_any_family_of_tokenizers_is_met(kind: str, language: Language) -> None:
    """Bytes or pieces, marks before words or after, tokens that end with a sentence or run on."""
    tokenizer = trained(kind)
    prompts = Prompts(tokenizer)
    for count in (64, 101, 256, 1000):
        assert len(ids(tokenizer, prompts.of_tokens(language, count, seed=count).text)) == count
    if kind != "uncut":
        shared = [ids(tokenizer, prompt.text) for prompt in prompts.shared(language, 100, 200, 5)]
        assert {common(one, other) for one, other in combinations(shared, 2)} == {100}


@pytest.mark.parametrize("language", LANGUAGES)
def test_prompts_read_as_their_language(language: Language) -> None:
    """In its script throughout, by the check that answers are judged with."""
    for seed in range(20):
        assert wrong(language, Prompts(OURS).of_tokens(language, 200, seed).text) is None


def test_seeds_and_lengths_make_other_prompts() -> None:
    """Else the cache of one would serve the next."""
    texts = {Prompts(OURS).of_tokens("en", 64, seed).text for seed in range(50)}
    assert len(texts) == 50


def test_three_languages_have_equally_many_tokens() -> None:
    """One of each language for every count, and no two begin with one sentence, so fewer tokens than a cache's block."""
    counts = [128, 64, 256] * 8
    made = Prompts(OURS).in_each(LANGUAGES, counts, seed=5)
    assert [prompt.language for prompt in made] == list(LANGUAGES) * len(counts)
    assert [len(ids(OURS, prompt.text)) for prompt in made] == [count for count in counts for _ in LANGUAGES]
    assert max(common(ids(OURS, one.text), ids(OURS, other.text)) for one, other in combinations(made, 2)) < 16
    assert Prompts(OURS).in_each(LANGUAGES, counts, seed=5) == made


def common(one: list[int], other: list[int]) -> int:
    """Tokens that both begin with."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (mine, yours) in enumerate(pairs) if mine != yours), min(len(one), len(other)))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("prefix", "total"), [(16, 48), (128, 256), (1000, 1030)])
def test_a_shared_prefix_is_shared_to_the_token(language: Language, prefix: int, total: int) -> None:
    """Any two of 64 have exactly that many tokens in common."""
    made = [ids(OURS, prompt.text) for prompt in Prompts(OURS).shared(language, prefix, total, 64, seed=2)]
    assert {len(one) for one in made} == {total}
    assert {common(one, other) for one, other in combinations(made, 2)} == {prefix}


def test_mixed_lengths_follow_their_weights() -> None:
    """Seeded; a weight of nothing never comes."""
    drawn = mixed({100: 3, 500: 1, 900: 0}, 4000, seed=3)
    assert drawn == mixed({100: 3, 500: 1, 900: 0}, 4000, seed=3) != mixed({100: 3, 500: 1, 900: 0}, 4000, seed=4)
    assert set(drawn) == {100, 500}
    assert drawn.count(100) / 4000 == pytest.approx(0.75, abs=0.035)
    for weights in ({}, {5: 0.0}, {5: -1.0, 6: 2.0}, {5: float("nan")}):
        with pytest.raises(ValueError, match="weights"):
            mixed(weights, 3)


@pytest.mark.parametrize("language", LANGUAGES)
def test_lengths_that_cannot_be_met_are_refused(language: Language) -> None:
    """With what can be."""
    prompts = Prompts(OURS)
    for count in (-1, 0, 1):
        with pytest.raises(ConfigurationError, match=f"no text in '{language}' has {count} tokens.*; ask for more: its"):
            prompts.of_tokens(language, count)
    with pytest.raises(ConfigurationError, match="has 64 tokens of which 64 are given"):
        prompts.shared(language, 64, 64, 2)
    with pytest.raises(ConfigurationError, match=r"500 prompts .* ask for at most \d\d"):
        prompts.shared(language, 64, 128, 500)
    with pytest.raises(ConfigurationError, match="has 4 tokens with a beginning of its own"):
        prompts.in_each([language], [4] * 40)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json: no such file; .* put its tokenizer\.json there"):
        Prompts.of_model(tmp_path)
    for content in ("{", '{"model": 5}', ""):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ConfigurationError, match=r"tokenizer\.json: no tokenizer: .*; fetch it again"):
            Prompts.of_model(tmp_path)


def test_a_tokenizer_that_makes_nothing_is_refused() -> None:
    """One without letters, whose every text has no token, must not keep the search going for ever."""
    with pytest.raises(ConfigurationError, match="makes no token"):
        Prompts(Tokenizer(models.BPE())).of_tokens("en", 64)


def test_a_tokenizer_that_cuts_and_pads_is_not_believed() -> None:
    """Its file may say so for training; a server neither cuts nor pads. The caller's own stays as it is."""
    tokenizer = Tokenizer.from_str(OURS.to_str())
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=100)
    assert len(ids(OURS, Prompts(tokenizer).of_tokens("ko", 80).text)) == 80
    assert len(ids(tokenizer, "word " * 200)) == 100


def test_sixty_four_prompts_take_no_time() -> None:
    """Half a second at most for 64 of 256 tokens, on a shared core."""
    began = time.process_time()
    prompts = Prompts.of_model(MODELS / NAMES[0])
    for seed in range(64):
        prompts.of_tokens(LANGUAGES[seed % 3], 256, seed)
    assert time.process_time() - began < 0.5


def test_the_sentences_are_whole_and_without_doubles() -> None:
    """A word twice in a list would come twice as often."""
    grammars = tomllib.loads(FILE.read_text(encoding="utf-8"))
    for language in LANGUAGES:
        grammar = grammars[language]
        for part in ("who", "did", "where", "when", "short"):
            assert len(set(grammar[part])) == len(grammar[part]) >= 12
            assert all(text == text.strip() and wrong(language, text) is None for text in grammar[part])


@pytest.mark.parametrize("model", NAMES)
def test_a_real_server_counts_the_same(llama_server: LlamaServers, model: str) -> None:
    """llama.cpp has a tokenizer of its own, made from the same file: it counts the text's tokens, and the one start token
    that this model's configuration asks for on top; nothing else may differ."""
    prompts, client = Prompts.of_model(MODELS / model), Client(llama_server.url(model), model)
    for prompt in (*prompts.in_each(LANGUAGES, [16, 100, 400]), *prompts.shared("ko", 64, 96, 3)):
        answer = client.complete(prompt.text, max_tokens=1, stream=False)
        assert answer.usage is not None, answer.message
        assert answer.usage.prompt_tokens == prompt.tokens + 1
