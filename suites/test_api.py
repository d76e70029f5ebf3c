"""The OpenAI API as clients rely on it."""

from fixtures.api import contract, errors, robust
from fixtures.check import Step, check
from fixtures.here import Here
from fixtures.verdict import Judgement


@check("api.contract", Step.TOGETHER)
def test_contract(here: Here) -> Judgement:
    """Models, chat, completions, streaming, usage, finish reasons, max_tokens and stop; a stream that is really one."""
    return contract.judge(contract.observe(here.client, here.subject))


@check("api.errors", Step.TOGETHER)
def test_errors(here: Here) -> Judgement:
    """Each bad request gets a 4xx with a message, and the next good request is answered."""
    return errors.judge(errors.observe(here.client, here.subject))


@check("api.robust", Step.ROBUST)
def test_robust(here: Here) -> Judgement:
    """Generated requests never kill or hang the server and never bring a 5xx."""
    examples = 600 if here.thorough else robust.EXAMPLES
    return robust.judge(robust.observe(here.solo, here.subject, here.alive, examples=examples))
