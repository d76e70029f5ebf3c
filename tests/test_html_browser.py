"""The page in a real Chromium: it asks for nothing, nothing in it runs but its own script, and everybody can use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports import html
from reports.differences import Differences
from reports.html import compare
from reports.record import Figure, Matrix, Verdict
from tests.browsing import PHONE, Visit, browser
from tests.cells import cell
from tests.pages import HOSTILE, a_page_run, keep

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """One Chromium for all."""
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with every part."""
    folder = tmp_path_factory.mktemp("run")
    return html.write(folder, a_page_run(folder))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runs of which one has a failure more."""
    old, new = (a_page_run(tmp_path_factory.mktemp(name)) for name in ("old", "new"))
    worse = new.cells[0].model_copy(update={"verdict": Verdict.FAIL, "reason": "slow", "figures": {
        **new.cells[0].figures, "ttft_p95_ms": Figure(value=39.0, unit="ms", limit=60.0),
        "ttft_p95_low_ms": Figure(value=37.0), "ttft_p95_high_ms": Figure(value=41.0)}})
    changed = Matrix(run={**new.run, "id": "later"}, cells=(worse, *new.cells[1:]))
    return html.save(compare.render(Differences(old, changed)), tmp_path_factory.mktemp("page") / "compare.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_everybody_can_read_it(chrome: Browser, name: str, scheme: str, request: pytest.FixtureRequest) -> None:
    """axe-core finds nothing with every cell open, in both colour schemes; nothing is asked for, nothing complained of."""
    visit = Visit(chrome, request.getfixturevalue(name), color_scheme=scheme)
    visit.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert visit.audit() == []
    assert (visit.foreign, visit.complaints) == ([], [])


@pytest.mark.parametrize("width", [320, 360, 768])
def test_narrow_windows_do_not_scroll_sideways(chrome: Browser, report: Path, comparison: Path, width: int) -> None:
    """A phone shows the whole width, also with every cell open."""
    for path in (report, comparison):
        visit = Visit(chrome, path, viewport={"width": width, "height": 700})
        visit.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert visit.overflow() <= 0


def test_a_square_opens_its_cells_by_keyboard(chrome: Browser, report: Path) -> None:
    """Enter on a square opens its group and goes on from there; Enter on a cell opens it."""
    page = Visit(chrome, report).page
    square = page.locator("a.square.v-fail").first
    square.focus()
    page.keyboard.press("Enter")
    group = page.locator("details.group", has=page.locator(square.get_attribute("href") or "none"))
    assert group.evaluate("one => one.open")
    assert page.evaluate("document.activeElement.parentElement.className").startswith("group")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    opened = page.locator("details.cell[open]")
    assert opened.count() == 1
    for words in ("CUDA out of memory", "lower the model's share", "./cotenant run -m cpu --engine sglang", "12 s", "9 s"):
        assert words in opened.inner_text()
    assert "OutOfMemoryError" in opened.locator("mark").inner_text()


def test_a_link_opens_its_cell(chrome: Browser, report: Path) -> None:
    """What shut the gate links to its cell, and the link works from outside and without a script."""
    for scripts in (True, False):
        page = Visit(chrome, report, java_script_enabled=scripts).page
        page.locator(".gate a[href^='#c-']").first.click()
        body = page.locator("details.cell .body").locator("visible=true")
        body.first.wait_for()
        assert body.count() == 1
        linked = Visit(chrome, report, fragment=page.url.partition("#")[2], java_script_enabled=scripts).page
        linked.locator("details.cell .body").locator("visible=true").first.wait_for()


def test_every_cell_opens_without_a_script(chrome: Browser, report: Path) -> None:
    """All there is can be read where scripts are off."""
    page = Visit(chrome, report, java_script_enabled=False).page
    for group in page.locator("#cells details.group > summary").all():
        group.click()
    cells = page.locator("#cells details.cell > summary")
    assert cells.count() == 19
    for summary in cells.all():
        summary.click()
    assert page.locator("#cells details.cell .body").locator("visible=true").count() == cells.count()
    assert not page.locator("form.filter").is_visible()


def test_filters_count_and_hide(chrome: Browser, report: Path) -> None:
    """Unchecked verdicts, an engine and a promise leave what fits, and the page says how many that are."""
    page = Visit(chrome, report).page
    assert page.locator("#shown").inner_text() == "all 19 cells"
    page.get_by_label("pass", exact=False).first.uncheck()
    assert page.locator("#shown").inner_text() == "2 of 19 cells"
    page.get_by_label("Promise").select_option("api")
    assert page.locator("#shown").inner_text() == "1 of 19 cells"
    assert page.locator("#cells details.group").locator("visible=true").count() == 1


def test_the_button_changes_the_colours(chrome: Browser, report: Path) -> None:
    """Light becomes dark and the button then offers the other."""
    page = Visit(chrome, report, color_scheme="light").page
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Change between light and dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.locator("#theme").inner_text() == "Light"


def test_print_shows_what_shut_the_gate(chrome: Browser, report: Path) -> None:
    """On paper the failed cell is open, the bar of the page is gone, and the others stay closed."""
    page = Visit(chrome, report).page
    page.emulate_media(media="print")
    assert page.get_by_text("lower the model's share").is_visible()
    assert not page.locator("header.top").is_visible()
    assert page.locator(".cell .body").locator("visible=true").count() == 1
    assert page.pdf()[:5] == b"%PDF-"


def test_texts_of_others_stay_texts(chrome: Browser, tmp_path: Path) -> None:
    """Markup, bidi overrides, terminal escapes, NUL and a line of a megabyte in every field: shown, never acted upon."""
    folder = tmp_path / "run"
    matrix = a_page_run(folder)
    cells = [*matrix.cells]
    for place, text in enumerate(HOSTILE):
        fields = dict.fromkeys(("machine", "device", "version", "build", "lineup", "variant", "reason", "cure"), text)
        one = cell(f"languages.{text}", "fail", text, engine=f"engine{place}{text}", causes=(text,), **fields,
                   figures={text: Figure(value=text, unit=text, limit=text), "share": Figure(value=0.5, unit=text)})
        answers = [{"kind": "native", "prompt": text, "streamed": text * 3}]
        cells.append(keep(folder, one, {"answers": answers, "ttft": [1.0 + at for at in range(20)]},
                          log=f"Error: {text}\n" + "A" * 1_000_000 + f"\nError: {text}"))
        script = one.model_copy(update={"check": "languages.script", "evidence": cells[-1].evidence})
        cells += [script, one.model_copy(update={"check": "latency.ttft", "figures": {
            "ttft_p95_ms": Figure(value=3.0, unit=text, limit=9.0)}, "evidence": cells[-1].evidence})]
    run = {**matrix.run, "id": HOSTILE[0], "notes": list(HOSTILE), "machine": HOSTILE[1], "arguments": [*HOSTILE],
           "timesheet": {"boots": {"each": [{"engine": text, "seconds": 1.0} for text in HOSTILE]}}}
    page = html.write(folder, Matrix(run=run, cells=tuple(cells)))
    visit = Visit(chrome, page, viewport=PHONE)
    visit.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert "owned" not in visit.page.title().replace(HOSTILE[0], "")
    assert (visit.foreign, visit.complaints) == ([], [])
    for planted in ("body script", "body img", "body style", "[onload], [onerror]", "a:not([href^='#'])"):
        assert visit.page.locator(planted).count() == 0
    assert visit.overflow() <= 0
    assert "\\u202egnp.exe\\u2066" in visit.page.inner_text("main")
    assert not any(sign in page.read_text() for sign in ("\u202e", "\u2066", "\x1b", "\x00"))
    assert page.stat().st_size < 1_500_000


def test_a_large_run_opens(chrome: Browser, tmp_path: Path) -> None:
    """Thousands of cells: the worst are told in full, all are there, and none is lost on the way."""
    cells = [cell("api.contract", "fail" if place % 40 == 0 else "pass", f"m{place}", lineup=f"l{place % 50}")
             for place in range(4000)]
    page = html.write(tmp_path, Matrix(run={}, cells=tuple(cells)))
    visit = Visit(chrome, page)
    assert visit.page.locator("#cells .cell").count() == 4000
    assert visit.page.locator("#cells details.cell.bad").count() == 100
    assert visit.page.locator("#shown").inner_text() == "all 4000 cells"
