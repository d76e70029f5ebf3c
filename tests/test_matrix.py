"""The matrix shows the worst of each promise, tells every cell that is not pass, and lets no text of others act."""

from __future__ import annotations

import io
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from reports import gate, markdown, terminal, text
from reports.matrix import Tally, View, tally
from reports.promise import CHECKS, IDS, PROMISES
from reports.record import Cell, Matrix, Verdict
from tests.cells import any_cells, cell, plain_cells, runs, steady

HOSTILE = (
    "\u202eevil\u2066 \x1b[31mred\x00 `code` | <script>alert(1)</script> "
    "[x](javascript:y) @you\n# head\r\u2028end \u200b"
)
TIMES = {
    "total": 912.3,
    "setup": 371.0,
    "boots": {"count": 3, "seconds": 84, "each": [{"engine": "vllm", "seconds": time} for time in (31, 29)]},
    "waits": [{"condition": "memory given back", "seconds": 12.0}, {"condition": "port", "seconds": 1.0}],
    "own": {"seconds": 31.2, "percent": 3.4},
}


def printed(matrix: Matrix, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    terminal.show(matrix, gate.of(matrix), terminal.console(file, width))
    file.flush()
    return raw.getvalue().decode(encoding)


def a_matrix(*cells: Cell, **run: object) -> Matrix:
    return Matrix(run={"id": "20261121T021733Z-3f9a", "finished": "now", **run}, cells=cells)


def four_engines() -> Matrix:
    cells = [
        cell(check, engine=engine, model=model)
        for engine in ("llamacpp", "vllm", "sglang")
        for check in IDS
        if check.split(".")[0] not in ("gateway", "finding")
        for model in ("small", "large")
    ]
    cells[8] = cells[8].model_copy(update={"verdict": Verdict.FAIL, "causes": ("usage",), "reason": "3 tokens of 8"})
    cells[60] = cells[60].model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": "noise of 40 %"})
    missing = {"engine": "ollama", "version": "", "reason": "no compiler", "cure": "apt-get install gcc"}
    cells += [cell(check, "unavailable", **missing) for check in ("startup.ready", "api.errors", "languages.script")]
    return a_matrix(*cells, timesheet=TIMES)


def test_contract_order() -> None:
    """Columns stand in the contract's order whatever the order of the cells; what is unknown comes last."""
    cells = [cell(check) for check in ("weather.rain", "faults.kill", "api.errors", "startup.ready")]
    assert View(cells).columns == ("startup", "api", "faults", "weather")
    assert PROMISES[0] == "startup"
    assert IDS[:3] == ("startup.ready", "startup.identity", "kernels.static")
    assert sum(map(len, CHECKS.values())) == len(set(IDS))


def test_tally() -> None:
    """The worst verdict stands for all, with its number among them; nothing is no verdict."""
    cells = [cell(verdict=verdict) for verdict in ("pass", "fail", "error", "fail", "waived")]
    assert tally(cells) == Tally(Verdict.FAIL, 2, 5)
    assert tally([]) is None


@steady
@given(runs(plain_cells))
def test_every_cell_is_told(cells: list[Cell]) -> None:
    """Each cell is in one row, and each that is not pass in one entry of that row; nothing else is in an entry."""
    view = View(cells)
    assert {one.key for row in view.rows for one in row.cells} == {one.key for one in cells}
    told = [one for row in view.rows for entry in view.entries(row) for one in entry.cells]
    assert sorted(map(repr, told)) == sorted(repr(one) for one in cells if one.verdict is not Verdict.PASS)
    for row in view.rows:
        ranks = [entry.first.verdict.rank for entry in view.entries(row)]
        assert ranks == sorted(ranks)


def test_what_differs_is_said() -> None:
    """Profile, machine and device stand in a row only where rows differ in them, else once above all."""
    one, other = cell(), cell(profile="rtx5090", device="GPU-1")
    assert View([one]).label(View([one]).rows[0].deployment) == ("vllm 1.0", "process · trilingual")
    assert View([one]).shared == ("cpu", "desk", "CPU")
    both = View([one, other])
    assert both.label(both.rows[1].deployment) == ("vllm 1.0", "process · trilingual · rtx5090 · GPU-1")
    assert both.shared == ("desk",)


def test_folding() -> None:
    """The same failure of several models is one entry naming them; another reason or check is another."""
    same: dict[str, Any] = {"verdict": "fail", "causes": ("usage",), "reason": "3 of 8"}
    cells = [cell("api.contract", model=name, **same) for name in ("a", "b")]
    cells += [cell("api.contract", model="c", **{**same, "reason": "4 of 8"}), cell("api.errors", model="a", **same)]
    view = View(cells)
    named = [entry.named_in(view.rows[0]) for entry in view.entries(view.rows[0])]
    assert named == [("api.contract", "a, b"), ("api.contract", "c"), ("api.errors", "a")]


def test_subjects_are_exact() -> None:
    """Models and variants are named apart only where each model has each variant."""

    def subjects(*pairs: tuple[str | None, str]) -> str:
        view = View([cell("languages.script", "fail", model, variant=variant) for model, variant in pairs])
        return view.entries(view.rows[0])[0].subjects

    assert subjects(("a", "ko"), ("a", "zh"), ("b", "ko"), ("b", "zh")) == "a, b: ko, zh"
    assert subjects(("a", "ko"), ("b", "zh")) == "a/ko, b/zh"
    assert subjects((None, "")) == ""
    assert subjects((None, ""), ("a", "")) == "deployment, a"


def test_unavailable_is_told_once() -> None:
    """What could not run for one reason is one entry: a promise for its checks, and everything for the whole row."""
    lost = {"verdict": "unavailable", "reason": "never ready"}
    all_api = [cell("api.contract", **lost), cell("api.errors", **lost)]
    part = View([cell("startup.ready", "fail"), *all_api, cell("memory.plan", **lost), cell("memory.growth")])
    assert [entry.named_in(part.rows[0]) for entry in part.entries(part.rows[0])][1] == ("api, memory.plan", "3 cells")
    whole = View(all_api)
    assert whole.entries(whole.rows[0])[0].named_in(whole.rows[0]) == ("everything", "2 cells")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_fits_the_width(width: int) -> None:
    """No line is wider than the terminal but the last, which scripts read; every engine, promise and reason is there."""
    shown = printed(four_engines(), width)
    *lines, last = shown.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert last == "Gate shut: 1 cell failed (llamacpp api.contract)."
    engines, told = ("llamacpp 1.0", "sglang 1.0"), ("3 tokens of 8", "usage", "apt-get install gcc")
    for word in (*engines, "languages", "coexistence", *told):
        assert word in shown
    assert not re.search(r" $", shown, re.MULTILINE)
    assert " ".join(shown.split()).endswith(gate.of(four_engines()).reason)


def test_words_beside_signs() -> None:
    """Plain output says each verdict in letters and holds no escape sequence."""
    shown = printed(four_engines(), 120)
    assert "\x1b" not in shown
    for words in ("✗ fail 1/6", "✓ pass 4/4", "? inconclusive 1/", "- unavailable, all 3 cells"):
        assert words in shown


def test_colour_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours, NO_COLOR takes them away."""

    def codes() -> set[str]:
        monkeypatch.setenv("TERM", "xterm-256color")
        out = io.StringIO()
        terminal.row([cell(verdict="fail")], Console(file=out, force_terminal=True, width=80))
        return set(re.findall(r"\x1b\[[\d;]*m", out.getvalue()))

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert any("31" in code for code in codes())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(re.search(r"3[0-7]", code) for code in codes())


def test_a_file_that_knows_only_ascii() -> None:
    """Signs have ASCII forms, and what has none is written as an escape instead of breaking the report."""
    shown = printed(a_matrix(cell(verdict="fail", reason="가 instead of a")), encoding="ascii")
    assert "x fail" in shown
    assert "\\uac00 instead of a" in shown


def test_one_line_for_a_cell() -> None:
    """A judged cell is one line whatever its reason; a pass needs none, and shows what there is to say of it."""
    out = io.StringIO()
    terminal.line(cell(verdict="fail", reason="two\nlines " + "x" * 900), terminal.console(out, 40))
    terminal.line(cell(), terminal.console(out, 40))
    terminal.line(cell(reason="by JIT"), terminal.console(out, 40))
    first, second, third = out.getvalue().splitlines()
    assert first.startswith("✗ fail         cpu/process/vllm/trilingual/small/api.contract: two lines xxx")
    assert len(first) < 400
    assert second == "✓ pass         cpu/process/vllm/trilingual/small/api.contract"
    assert third == f"{second}: by JIT"


def test_timesheet() -> None:
    """Where the time went: boots by engine, long waits by condition, short ones together, the run's own share."""
    shown = printed(four_engines(), 100)
    told = ("3: vllm 31 s, 29 s", "12 s  memory given back", "1 of at most 5 s", "31 s  3.4 %")
    for words in ("6 min 11 s", *told, "15 min 12 s"):
        assert words in shown
        assert words in markdown.render(four_engines(), gate.of(four_engines())).replace(" | ", "  ")


def test_nothing_judged() -> None:
    """A run without a cell says so and shows no grid."""
    assert "No cell was judged." in printed(a_matrix())
    assert "No cell was judged." in markdown.render(a_matrix(), gate.of(a_matrix()))


@steady
@given(st.text() | st.text(alphabet=HOSTILE), st.integers(1, 400))
def test_visible(raw: str, limit: int) -> None:
    """One line, not longer than the limit, in which every character can be seen."""
    shown = text.visible(raw, limit)
    assert len(shown) <= limit
    assert all(unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for one in shown)
    assert "\n" not in shown


def test_visible_keeps_what_can_be_read() -> None:
    """Text of any script stays as it is, the rest is written out, and a cut is shown."""
    assert text.visible("한국어 中文 naïve\n\n  next") == "한국어 中文 naïve next"
    assert text.visible("a\u202eb\x1b[0m\x00\U000e0041") == "a\\u202eb\\x1b[0m\\x00\\U000e0041"
    assert text.visible("x" * 301) == "x" * 299 + "…"
    assert text.visible("y" * 10_000_000) == "y" * 299 + "…"


def test_hostile_words_do_nothing() -> None:
    """No answer, name or path of others brings control characters, markup, a mention or a script link into a report."""
    odd = cell(
        *("api.contract", "fail", HOSTILE),
        **dict.fromkeys(("reason", "cure", "variant", "engine", "machine"), HOSTILE),
        causes=(HOSTILE,),
        evidence=("javascript:alert(1)", "logs/a) [b](http://x", HOSTILE),
    )
    matrix = a_matrix(odd, notes=[HOSTILE])
    page = markdown.render(matrix, gate.of(matrix))
    for shown in (printed(matrix), page):
        assert not [one for one in shown if unicodedata.category(one) in {"Cc", "Cf"} and one != "\n"]
    assert not re.search(r"<(?!!-- -->)", page)
    assert not re.search(r"(?<!\\)`", page)
    assert "@you" not in page
    assert not re.search(r"(?<!\\)\]\(javascript:", page)
    assert {target.split(":")[0] for target in re.findall(r"(?<!\\)\]\(([^)]*)\)", page)} == {
        "javascript%3Aalert%281%29",
        "logs/a%29%20%5Bb%5D%28http%3A//x",
        *(target for target in re.findall(r"\]\((%5Cu202e[^)]*)\)", page)),
    }


@settings(steady, max_examples=60)
@given(runs(any_cells), st.sampled_from([40, 80, 130]))
def test_any_cells_can_be_shown(cells: list[Cell], width: int) -> None:
    """No text, count or mixture of verdicts breaks the terminal or the page, and each table row has every column."""
    matrix = a_matrix(*cells)
    assert printed(matrix, width)
    page = markdown.render(matrix, gate.of(matrix))
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("| ")}
    assert len(bars) <= 1


def test_what_is_worse_than_it_was_is_told() -> None:
    """Terminal and Markdown name each regression with its figures, and what the comparison says beside."""
    worse = {"what": "figure", "cell": "cpu/process/vllm/trilingual/small/latency.itl", "deployment": "",
             "sentence": "itl_p95_ms is 31 ms, 20 % worse than 26 ms"}
    compared = {"name": "main", "sha256": "0", "runs": 5, "compared": 7, "regressions": [worse], "notes": ["driver was 1"]}
    matrix = a_matrix(cell(), baseline=compared)
    for shown in (printed(matrix, 300), markdown.render(matrix, gate.of(matrix)).replace("\\", "").replace("**", "")):
        assert f"regression {worse['cell']}: itl_p95_ms is 31 ms, 20 % worse than 26 ms" in shown
        assert "held against baseline main of 5 runs: 7 figures compared" in shown
        assert "driver was 1" in shown


def test_a_job_summary_links_nowhere() -> None:
    """The evidence lies beside matrix.md, not beside the page of a job."""
    matrix = a_matrix(cell(verdict="fail", evidence=("logs/a.log",)))
    assert "](logs/a.log)" in markdown.render(matrix, gate.of(matrix))
    summary = markdown.render(matrix, gate.of(matrix), links=False)
    assert "logs/a.log" in summary
    assert "](" not in summary


def test_secrets_are_told_nowhere() -> None:
    """A record of an older version, or of somebody else, may hold some: none is printed, nor the half that a cut leaves."""
    token = "hf_" + "a1B2" * 9
    for before in (0, 250, 280):
        reason = "x" * before + f" HF_TOKEN={token}"
        matrix = a_matrix(cell(verdict="fail", reason=reason, cure=reason), notes=[reason])
        out = io.StringIO()
        terminal.line(matrix.cells[0], terminal.console(out, 80), figures=True)
        for shown in (printed(matrix, 300), markdown.render(matrix, gate.of(matrix)), out.getvalue()):
            assert token[:8] not in shown


def test_quieter_than_quiet() -> None:
    """-qq: the sentence alone."""
    file = io.StringIO()
    matrix = four_engines()
    terminal.show(matrix, gate.of(matrix), terminal.console(file, 80), verbosity=-2)
    assert file.getvalue() == "Gate shut: 1 cell failed (llamacpp api.contract).\n"
