"""api.errors passes a server that refuses bad requests and names each way of not doing so."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.api import errors
from fixtures.api.badrequest import bad_requests
from fixtures.api.errors import ErrorsObserved, Refusal
from fixtures.api.subject import Subject
from fixtures.load.answer import Answer, Failure, Reply
from fixtures.load.client import Client
from fixtures.verdict import Verdict
from tests.scripted import CONTEXT, MODEL, VOCABULARY, serving

SUBJECT = Subject(MODEL, CONTEXT, VOCABULARY, "Tell me of the spring")
CASES = bad_requests(SUBJECT)
FINE = Answer(200, "fine")
HANGS = "hangs-on-bad"
GONE = Answer(None, failure=Failure.CONNECT, message="refused")


def observed(fault: str = "") -> ErrorsObserved:
    """What the check sees of a scripted server."""
    with serving(fault) as server:
        return errors.observe(Client(server.url, MODEL, timeout_s=5), SUBJECT, timeout_s=0.5 if fault == HANGS else 5)


def refused(payload: Any, status: int | None = 400, failure: Failure | None = None, then: Answer = FINE) -> ErrorsObserved:
    """One bad request that brought this."""
    return ErrorsObserved(FINE, (Refusal(CASES[0], Reply(status, json=payload, failure=failure), then),))


def test_a_server_that_refuses_passes() -> None:
    """Every bad request is sent, refused with a message, and survived."""
    seen = observed()
    judgement = errors.judge(seen)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert len(seen.refusals) == len(CASES)


@pytest.mark.parametrize(("fault", "prefix"),
                         [("accepts-bad", "accepted-"), ("5xx-for-bad", "5xx-"), ("no-message", "no-message-")])
def test_each_fault_is_named_for_each_case(fault: str, prefix: str) -> None:
    """A server that treats all bad requests wrong fails with one cause for each that it refuses itself."""
    causes = errors.judge(observed(fault)).causes
    assert {f"{prefix}{case.name}" for case in CASES if case.name != "wrong-method"} == set(causes)


def test_a_hang_is_bounded_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad request that is never answered costs its limit and has its own cause."""
    monkeypatch.setattr(errors, "bad_requests", lambda subject: CASES[:2])
    assert set(errors.judge(observed(HANGS)).causes) == {f"hang-{case.name}" for case in CASES[:2]}


def test_a_message_elsewhere_is_counted_and_no_fault() -> None:
    """A message that official clients find, though not under "error", is still a message."""
    judgement = errors.judge(observed("message-elsewhere"))
    assert judgement.causes == ()
    assert judgement.figures["message_elsewhere"].value == len(CASES) - 1


def test_a_server_without_good_answers_never_passes() -> None:
    """500 for good requests fails before anything bad is sent."""
    seen = observed("5xx-for-good")
    assert seen.refusals == ()
    assert errors.judge(seen).causes == ("not-answering",)


@pytest.mark.parametrize(("seen", "cause"), [
    (refused({"error": {"message": "no"}}), None),
    (refused({"error": "no"}), None),
    (refused({"error": {"message": ""}}), "no-message"),
    (refused({"error": {"message": 7}}), "no-message"),
    (refused(["error"]), "no-message"),
    (refused(None), "no-message"),
    (refused({"error": {"message": "no"}}, 200), "accepted"),
    (refused({"error": {"message": "no"}}, 302), "accepted"),
    (refused({"error": {"message": "no"}}, 503), "5xx"),
    (refused(None, None, Failure.TIMEOUT), "hang"),
    (refused(None, None, Failure.DISCONNECT), "dropped"),
    (refused({"error": "no"}, then=GONE), "died-after"),
])
def test_what_counts_as_a_refusal(seen: ErrorsObserved, cause: str | None) -> None:
    """Only a 4xx with words under "error", after which a good request is answered."""
    assert errors.judge(seen).causes == ((f"{cause}-{CASES[0].name}",) if cause else ())


def test_nothing_asked_never_passes() -> None:
    """No bad request sent is not a pass."""
    assert errors.judge(ErrorsObserved(FINE, ())).verdict is Verdict.ERROR


def test_names_are_unique() -> None:
    """Causes can be told apart, and waived one by one."""
    assert len({case.name for case in CASES}) == len(CASES)
