"""A report as text: for the terminal, Markdown, LaTeX, CSV and HTML."""

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
from tpt.results.tables.grid import Grid, Legend, Line, grids, legend_of, plain, unbalanced
from tpt.results.tables.markup import to_html, to_latex, to_markdown
from tpt.results.tables.report import Cell, Report

FORMATS = ("terminal", "markdown", "latex", "csv", "html")
SUFFIXES = {".txt": "terminal", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html", ".htm": "html"}
# Numbers and what stands between them; no name, no reference.
_NUMBERS = re.compile(r"[-+]?\d(?:[\d.,%eE+\- \[\]()]| to )*")
WIDTH = 160  # of the terminal's table in a file


def format_of(name: str | None, out: str | Path | None) -> str:
    """The format that was asked for, or that the file's suffix stands for."""
    if name is None and out is not None:
        suffix = Path(out).suffix.lower()
        if suffix not in SUFFIXES:
            raise UserError(f"Expected a file that ends in {', '.join(SUFFIXES)}, got {str(out)!r}; or pass --format.")
        return SUFFIXES[suffix]
    if name not in (None, *FORMATS):
        raise UserError(f"Expected a format out of {', '.join(FORMATS)}, got {name!r}; choose one of them.")
    return name or "terminal"


def render(report: Report, format: str, width: int | None = WIDTH) -> str:
    """The whole report in one of `FORMATS`; a table that is wider than the terminal is broken into several."""
    return to_csv(report) if format == "csv" else render_grids(*grids(report), format, width)


def terminal_width() -> int | None:
    """Characters of a line of the terminal that is printed to; None if that is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render_grids(tables: Sequence[Grid], legend: Legend, format: str, width: int | None = WIDTH) -> str:
    """Tables and what stands under them in one format; as CSV their texts."""
    if format == "terminal":
        from tpt.results.tables.terminal import to_terminal  # noqa: PLC0415 -- rich takes time to load

        return to_terminal(tables, legend, width)
    if format == "csv":
        return _csv([_rows(table, dict(legend.marks), len(tables) > 1) for table in tables])
    makers = {"markdown": to_markdown, "latex": to_latex, "html": to_html}
    return makers[format_of(format, None)](tables, legend)


def _rows(table: Grid, says: Mapping[str, str], several: bool) -> list[list[str]]:
    """Header and lines; a further column names the table if there are several, and one says what marks mean."""
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
    """Tables of cells, an empty line between two, and nothing else: any other line would be read as a row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, rows in enumerate(tables):
        writer.writerows([[], *rows] if number else rows)
    return buffer.getvalue()


# What CSV says of a cell, as numbers; each is a column `<dataset> <name>`.
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
    """One line a row and one group of columns a dataset; what is missing everywhere has no column.

    Marks say what they mean.
    """
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
    """A name that a spreadsheet does not take for a formula."""
    return harmless(plain(text))
