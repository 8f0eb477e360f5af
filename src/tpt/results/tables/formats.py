"""Renders a report as text for the terminal, Markdown, LaTeX, CSV or HTML."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tpt.errors import UserError
from tpt.files import harmless
from tpt.results.tables.grid import Grid, Legend, Line, cleaned, grids, legend_of, unbalanced
from tpt.results.tables.markup import to_html, to_latex, to_markdown
from tpt.results.tables.report import Cell, Report

FORMATS = ("terminal", "markdown", "latex", "csv", "html")
SUFFIXES = {".txt": "terminal", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html", ".htm": "html"}
# Numbers, ranges and intervals; no names, and no cell references of a spreadsheet.
_NUMBERS = re.compile(r"[-+]?\d(?:[\d.,%eE+\- \[\]()]| to )*")
WIDTH = 160  # characters per line of a terminal table in a file


def format_of(name: str | None, out: str | Path | None) -> str:
    """The requested format, or the one that the file's suffix implies."""
    if name is None and out is not None:
        suffix = Path(out).suffix.lower()
        if suffix not in SUFFIXES:
            raise UserError(f"Expected a file that ends in {', '.join(SUFFIXES)}, got {str(out)!r}; or pass --format.")
        return SUFFIXES[suffix]
    if name not in (None, *FORMATS):
        raise UserError(f"Expected a format out of {', '.join(FORMATS)}, got {name!r}; choose one of them.")
    return name or "terminal"


def render(report: Report, format: str, width: int | None = WIDTH) -> str:
    """The whole report in one of `FORMATS`; on the terminal, a table wider than `width` is split into several."""
    return to_csv(report) if format == "csv" else render_grids(*grids(report), format, width)


def terminal_width() -> int | None:
    """Characters per line of the terminal; None if the output goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render_grids(tables: Sequence[Grid], legend: Legend, format: str, width: int | None = WIDTH) -> str:
    """Tables and their legend in one format; CSV has the meaning of marks in a column instead."""
    if format == "terminal":
        from tpt.results.tables.terminal import to_terminal  # noqa: PLC0415 -- rich takes time to load

        return to_terminal(tables, legend, width)
    if format == "csv":
        return _csv([_rows(table, dict(legend.marks), len(tables) > 1) for table in tables])
    makers = {"markdown": to_markdown, "latex": to_latex, "html": to_html}
    return makers[format_of(format, None)](tables, legend)


def _rows(table: Grid, says: Mapping[str, str], several: bool) -> list[list[str]]:
    """Header and lines; extra columns name the table, if there are several, and explain the marks."""
    rows = [list(map(_harmless, table.header)), *map(_line, table.lines)]
    more = [["table", *(table.caption for _ in table.lines)]] if several else []
    letters = ((*line.marks, *(says[each] for cell in line.cells for each in cell.letters)) for line in table.lines)
    marks = ["; ".join(dict.fromkeys(each)) for each in letters]
    more += [["marks", *marks]] if any(marks) else []
    return [[*row, *map(_harmless, added)] for row, *added in zip(rows, *more, strict=True)]


def _line(line: Line) -> list[str]:
    cells = (text if _NUMBERS.fullmatch(text) else _harmless(text) for text in (cell.text for cell in line.cells))
    return [_harmless(line.label), _harmless(line.second), *cells]


def _csv(tables: Sequence[Sequence[Sequence[str]]]) -> str:
    """Tables of cells, separated by empty lines; there is nothing else, because programs would read it as a row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, rows in enumerate(tables):
        writer.writerows([[], *rows] if number else rows)
    return buffer.getvalue()


# The numbers of a cell in CSV, each in a column `<dataset> <name>`.
VALUES: Mapping[str, Callable[[Cell], float | None]] = {
    "": lambda c: c.accuracy,
    "std": lambda c: c.std,
    "mean of classes": lambda c: c.class_accuracy if unbalanced(c) else None,
    "worst": lambda c: c.worst,
    "published": lambda c: c.printed,
    "difference": lambda c: c.difference,
    "gain": lambda c: c.gain and c.gain.mean,
    "gain low": lambda c: c.gain and c.gain.low,
    "gain high": lambda c: c.gain and c.gain.high,
    "gain p": lambda c: c.p_value,
    "against": lambda c: c.against and c.against.points.mean,
    "against low": lambda c: c.against and c.against.points.low,
    "against high": lambda c: c.against and c.against.points.high,
    "against p": lambda c: c.against and c.against.p_value,
    "against images": lambda c: c.against and c.against.images,
    "images": lambda c: c.images or None,
    "ece": lambda c: c.ece,
    "ece20": lambda c: c.ece20,
    "published ece20": lambda c: c.printed_error,
    "seconds": lambda c: c.seconds,
}


def to_csv(report: Report) -> str:
    """One line per row and one group of columns per dataset, without empty columns; marks are written out."""
    letters, legend = legend_of(report)
    marks, tables = dict(legend.marks), []
    for table in report.tables:
        columns = [
            (name, value)
            for name in table.columns
            for value in VALUES
            if value == "" or any(VALUES[value](cells[name]) is not None for _, cells in table.rows)
        ]
        marked = [name for name in table.columns if any(cells[name].marks for _, cells in table.rows)]
        head = [f"{name} {value}".strip() for name, value in columns] + [f"{name} marks" for name in marked]
        rows = [["method", "backbone", *map(_harmless, head)]]
        for row, cells in table.rows:
            shown = ["" if (v := VALUES[value](cells[name])) is None else f"{v:.10g}" for name, value in columns]
            whys = [dict.fromkeys(_harmless(marks[letters[m.why]]) for m in cells[name].marks) for name in marked]
            shown += ["; ".join(why) for why in whys]
            rows.append([_harmless(row.label), _harmless(row.first.backbone), *shown])
        tables.append(rows)
    return _csv(tables)


def _harmless(text: str) -> str:
    """A name in one line, escaped so that a spreadsheet does not run it as a formula."""
    return harmless(cleaned(text))
