"""Answers are in the language asked for, unbroken, and say something."""

from fixtures.check import Step, check, languages
from fixtures.here import Here
from fixtures.languages import content, script, utf8
from fixtures.verdict import Judgement


@check("languages.script", Step.TOGETHER, variants=languages)
def test_script(here: Here) -> Judgement:
    """The answers are in the script of the language asked for."""
    return script.judge(here.script.language(here.model, here.language))


@check("languages.utf8", Step.TOGETHER, variants=languages)
def test_utf8(here: Here) -> Judgement:
    """No broken character in the joined stream, and at temperature 0 the stream is the whole answer."""
    return utf8.judge(here.script.language(here.model, here.language))


@check("languages.content", Step.TOGETHER, variants=languages)
def test_content(here: Here) -> Judgement:
    """Not empty, not one token repeated, not an echo of the prompt."""
    return content.judge(here.script.language(here.model, here.language))
