"""The judge of the ways: what of an answer is a flaw, what is a refusal, and what only looks like one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.kernels import live, schema
from fixtures.kernels.case import Case
from fixtures.kernels.said import Said
from fixtures.load.answer import Answer, Failure, Usage
from fixtures.verdict import Verdict

GOOD = Said(16, text="Hello there", finish="length", prompt_tokens=4, completion_tokens=16, e2e_s=0.1)


def many(*texts: str) -> Case:
    """Sampled answers with these texts."""
    return Case("streams-8", tuple(replace(GOOD, text=text) for text in texts), varied=True)


@pytest.mark.parametrize(("texts", "causes"), [
    ("aaaaaaaa", ("one-text-streams-8",)),
    ("aaaabcde", ("one-text-streams-8",)),
    ("aaabcdef", ()),  # a small model has a favourite
    ("aaaabcdef", ()),
    ("aaa", ()),  # too few to tell
    ("abcd", ()),
])
def test_one_text_needs_half_of_many(texts: str, causes: tuple[str, ...]) -> None:
    """Four and half of all: the prompts are in three languages, the seeds differ, and the answers are sampled."""
    assert live.judge([many(*texts)]).causes == causes


def test_one_text_is_no_fault_of_greedy_answers() -> None:
    """Random weights with a fixed last token say one word to all prompts."""
    assert live.judge([replace(many(*"aaaaaaaa"), varied=False)]).verdict is Verdict.PASS


@pytest.mark.parametrize(("said", "cause"), [
    (replace(GOOD, text=""), "no-tokens"),
    (replace(GOOD, completion_tokens=0), "no-tokens"),
    (replace(GOOD, completion_tokens=15), "too-few-tokens"),
    (replace(GOOD, cut_off=True), "too-few-tokens"),
    (Said(16, None, failure=Failure.DISCONNECT, message="closed"), "no-tokens"),
    (Said(16, 500, failure=Failure.STATUS, message="CUDA error: no kernel image is available"), "no-tokens"),
    (Said(16, 400, failure=Failure.STATUS, message="no"), "no-tokens"),
    (replace(GOOD, failure=Failure.STREAM_ERROR, message="illegal memory access"), "no-tokens"),
    (Said(16, None, failure=Failure.TIMEOUT, message="silent"), "hang"),
])
def test_the_last_of_many_is_enough(said: Said, cause: str) -> None:
    """The others' tokens do not make up for it."""
    texts = [replace(GOOD, text=text) for text in "abcdefg"]
    assert live.judge([Case("streams-8", (*texts, said), varied=True)]).causes == (f"{cause}-streams-8",)


@pytest.mark.parametrize("said", [
    replace(GOOD, completion_tokens=None, prompt_tokens=None),  # missing usage is api.contract's to judge
    replace(GOOD, completion_tokens=3, finish="stop"),  # the model had no more to say
    replace(GOOD, completion_tokens=17),
])
def test_what_is_not_of_kernels_is_no_fault_here(said: Said) -> None:
    """Counts and ends are other checks' business where there are tokens."""
    assert live.judge([Case("greedy", (said,))]).verdict is Verdict.PASS


def test_ways_that_were_not_asked_are_no_pass() -> None:
    """Neither all of them nor one."""
    assert live.judge([]).verdict is Verdict.ERROR
    assert live.judge([Case("greedy", (GOOD,)), Case("decode", ())]).causes == ("no-tokens-decode",)


@pytest.mark.parametrize(("status", "message", "refused"), [
    (400, "no grammar backend", True), (422, "unknown field", True), (501, "not implemented", True), (400, " ", False),
    (500, "no grammar backend", False), (None, "closed", False)])
def test_a_refusal_has_words_and_the_right_status(status: int | None, message: str, *, refused: bool) -> None:
    """A crash is none, and silence is none."""
    said = Said(16, status, failure=Failure.STATUS, message=message)
    judgement = live.judge([Case("structured", (said,), optional=True)])
    assert judgement.verdict is (Verdict.PASS if refused else Verdict.FAIL)


@pytest.mark.parametrize(("text", "finish", "fits"), [
    ('{"season": "winter", "warm": false}', "stop", True),
    ('{"warm":true,\n "season":"autumn"}', "stop", True),
    ('{"season": "monsoon", "warm": false}', "stop", False),
    ('{"season": "winter"}', "stop", False),
    ('{"season": "winter", "warm": 0}', "stop", False),
    ('{"season": "winter", "warm": false, "more": 1}', "stop", False),
    ('["winter", false]', "stop", False),
    ('{"season": "win', "stop", False),
    ('{"season": "win', "length", True),
    ("   {   ", "length", True),
    ('{"season": "wet', "length", False),
    ("Sure! ", "length", False),
    ("```json", "stop", False),
])
def test_what_fits_the_schema(text: str, finish: str, *, fits: bool) -> None:
    """Whole, or as far as max_tokens let it go."""
    assert (schema.misfit(text, finish) == "") == fits


@pytest.mark.parametrize(("raw", "cached", "logprobs"), [
    ({"usage": {"prompt_tokens_details": {"cached_tokens": 7}}}, 7, None),
    ({"usage": {"prompt_tokens_details": None}}, None, None),
    ({"choices": [{"logprobs": {"content": [{"logprob": -1}, {"logprob": None}, {}, 3]}}]}, None, (-1.0, None, None, None)),
    ({"choices": [{"logprobs": {"content": None}}]}, None, None),
    ({"choices": []}, None, None),
    ("text", None, None),
    (None, None, None),
])
def test_what_is_read_of_an_answer(raw: object, cached: int | None, logprobs: tuple[float | None, ...] | None) -> None:
    """Whatever a server sends there."""
    said = Said.of(Answer(200, "x", usage=Usage(4, 16, 20), raw=raw), 16)
    assert (said.cached_tokens, said.logprobs, said.completion_tokens) == (cached, logprobs, 16)
