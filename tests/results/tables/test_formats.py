"""Output formats of tables."""

import csv
import html.parser
import io
from pathlib import Path

import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.results.tables.formats import FORMATS, format_of, render
from tpt.results.tables.report import Report, make_report
from tpt.results.tables.runs import load_runs

NASTY = "a_b & <script>$x^2$|%#{}~\\*`\x1b[31m\n"


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """A report that compares two rows with a third; one name needs escaping in every format."""
    accuracies = {"clip": (50, 50), "tpt": (50, 62), NASTY: (50, 40)}
    for number, (method, (before, after)) in enumerate(accuracies.items()):
        rows = {name: answers(name, before, after, 50) for name in ("mine", "imagenet")}
        about = {"mine": {"size": 99}}
        make_run(tmp_path / str(number), rows, method, "RN50-quickgelu/openai", about=about)
    return make_report(load_runs([tmp_path]), against="clip")


def test_terminal(report: Report) -> None:
    text = render(report, "terminal", width=200)
    lines = [line.split() for line in text.splitlines()]
    assert "Table 1: robustness to natural distribution shifts" in text
    assert ["published", "60.74", "26.67", "54.70", "59.11", "35.09", "47.26", "43.89"] in lines
    assert ["over", "clip", "+12.00"] in lines  # the other dataset's table
    assert "62.00ᵇ" in text and "ᵇ on part of the images: mine 50 of 99." in text
    assert "\x1b" not in text


def test_a_wide_table_is_split(report: Report) -> None:
    text = render(report, "terminal", width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("continued") >= 1 and text.count("imagenet_sketch") == 1


def test_markdown(report: Report) -> None:
    lines = [line for line in render(report, "markdown").splitlines() if line.startswith("|")]
    tables = {line.replace("\\|", "").count("|") for line in lines}
    assert tables == {10, 4}  # all lines of a table have the same number of cells
    assert not any("<script>" in line for line in lines)


def test_latex(report: Report) -> None:
    text = render(report, "latex")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {8, 2}
    assert r"a\_b \& \textless{}script\textgreater{}\$x\textasciicircum{}2\$\textbar{}\%\#\{\}" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


def test_html(report: Report) -> None:
    class Counter(html.parser.HTMLParser):
        cells: list[int]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            assert tag != "script"
            if tag == "tr":
                self.cells.append(0)
            if tag in ("td", "th"):
                self.cells[-1] += 1

    counter = Counter()
    counter.cells = []
    counter.feed(render(report, "html"))
    assert set(counter.cells) == {9, 3}


def test_csv(report: Report) -> None:
    text = render(report, "csv")
    tables = text.split("\n\n")
    rows = list(csv.DictReader(io.StringIO(tables[1])))
    tpt = next(row for row in rows if row["method"] == "tpt")
    assert float(tpt["mine"]) == 62 and float(tpt["mine gain"]) == 12 and float(tpt["mine against"]) == 12
    assert float(tpt["mine gain low"]) < 12 < float(tpt["mine gain high"]) and float(tpt["mine images"]) == 50
    assert tpt["mine marks"] == "on part of the images: mine 50 of 99" and not any(
        line.startswith("#") for line in text.splitlines()
    )
    assert next(csv.DictReader(io.StringIO(tables[0])))["imagenet published"] == "58.16"


def test_names_in_csv_are_not_formulas(tmp_path: Path) -> None:
    make_run(tmp_path, {"=cmd()": answers("=cmd()", 50, 50, 4)}, "=1+1")
    text = render(make_report(load_runs([tmp_path])), "csv")
    assert text.startswith("method,backbone,'=cmd()") and "\n'=1+1," in text


def test_names_of_formats() -> None:
    assert [format_of(name, None) for name in FORMATS] == list(FORMATS)
    assert [format_of(None, f"a.{s}") for s in ("txt", "md", "tex", "CSV", "html")] == list(FORMATS)
    assert format_of(None, None) == "terminal" and format_of("csv", "a.dat") == "csv"
    with pytest.raises(ValueError, match="Expected --format out of terminal, .*, got 'xls'"):
        format_of("xls", None)
    with pytest.raises(ValueError, match=r"a file that ends in \.txt, .*, got 'a\.doc'"):
        format_of(None, "a.doc")
