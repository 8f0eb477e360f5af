"""Renders tables as text for the terminal, Markdown, LaTeX, CSV or HTML.

All names are escaped, because they come from files that others wrote.
"""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from tpt.errors import UserError
from tpt.files import harmless
from tpt.results.tables.comparability import Mark, said
from tpt.results.tables.grid import Grid, Legend, Line, Text, cleaned, grids, unbalanced
from tpt.results.tables.report import Cell, Report

FORMATS = ("terminal", "markdown", "latex", "csv", "html")
SUFFIXES = {".txt": "terminal", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html", ".htm": "html"}
# Numbers, ranges and intervals; no names, and no cell references of a spreadsheet.
_NUMBERS = re.compile(r"[-+]?\d(?:[\d.,%eE+\- \[\]()]| to )*")
WIDTH = 160  # characters per line of a terminal table in a file


def format_of(name: str | None, out: str | Path | None) -> str:
    """The requested format, or the one that the file's suffix implies; "terminal" without either."""
    if name is None:
        name = "terminal" if out is None else SUFFIXES.get(Path(out).suffix.lower())
    if name not in FORMATS:
        raise UserError(
            f"Expected --format out of {', '.join(FORMATS)}, or a file that ends in {', '.join(SUFFIXES)}, got "
            f"{name or str(out)!r}; choose one of them."
        )
    return name


def render(report: Report, format: str, width: int | None = WIDTH) -> str:
    """The whole report in one of `FORMATS`; on the terminal, a table wider than `width` is split into several."""
    return to_csv(report) if format == "csv" else render_grids(*grids(report), format, width)


def terminal_width() -> int | None:
    """Characters per line of the terminal; None if the output goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render_grids(tables: Sequence[Grid], legend: Legend, format: str, width: int | None = WIDTH) -> str:
    """Tables and their legend in one format; CSV has the meaning of marks in a column instead."""
    match format_of(format, None):
        case "terminal":
            return to_terminal(tables, legend, width)
        case "csv":
            return _csv(tables, len(tables) > 1)
        case "markdown":
            return to_markdown(tables, legend)
        case "latex":
            return to_latex(tables, legend)
    return html_page("Report", html_tables(tables, legend))


def _csv(tables: Sequence[Grid], several: bool = False) -> str:
    """Tables separated by empty lines; there is nothing else, because programs would read it as a row.

    Extra columns name the table, if there are `several`, and explain the marks.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, table in enumerate(tables):
        marks = [_spelled((*line.marks, *(mark for cell in line.cells for mark in cell.marks))) for line in table.lines]
        named, marked = ["table"] if several else [], ["marks"] if any(marks) else []
        writer.writerows([[]] if number else [])
        writer.writerow(map(_harmless, (*table.header, *named, *marked)))
        for line, spelled in zip(table.lines, marks, strict=True):
            more = [*([table.caption] if named else []), *([spelled] if marked else [])]
            cells = [text.text if _NUMBERS.fullmatch(text.text) else _harmless(text.text) for text in line.cells]
            writer.writerow([_harmless(line.label), _harmless(line.second), *cells, *map(_harmless, more)])
    return buffer.getvalue()


def _harmless(text: str) -> str:
    """A name in one line, escaped so that a spreadsheet does not run it as a formula."""
    return harmless(cleaned(text))


def _spelled(marks: Sequence[Mark]) -> str:
    return "; ".join(said(marks).values())


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
    tables = []
    for table in report.tables:
        columns = [
            (f"{name} {value}".strip(), name, VALUES[value])
            for name in table.columns
            for value in VALUES
            if value == "" or any(VALUES[value](cells[name]) is not None for _, cells in table.rows)
        ]
        marked = [name for name in table.columns if any(cells[name].marks for _, cells in table.rows)]
        lines = []
        for row, cells in table.rows:
            texts = ["" if (v := value(cells[name])) is None else f"{v:.10g}" for _, name, value in columns]
            texts += [_spelled(cells[name].marks) for name in marked]
            lines.append(Line(row.label, row.first.backbone, tuple(map(Text, texts)), True))
        header = ("method", "backbone", *(each for each, *_ in columns), *(f"{name} marks" for name in marked))
        tables.append(Grid(table.caption, header, tuple(lines)))
    return _csv(tables)


_NAMED = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_LATEX = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {c: rf"\text{name}{{}}" for c, name in _NAMED.items()}
    | {"\N{EN DASH}": "--", "±": r"$\pm$", "→": r"$\rightarrow$"}
)


Escape = Callable[[str], str]
Raise = Callable[[Sequence[str]], str]


def _lines(table: Grid, legend: Legend, escape: Escape, raised: Raise) -> Iterator[tuple[bool, list[str]]]:
    """Whether each line is the first of its row; label, second column and cells, escaped, with raised letters."""
    for line in table.lines:
        cells = [escape(text.text) + (raised(legend.letters(text.marks)) if text.marks else "") for text in line.cells]
        yield line.main, [escape(line.label), escape(line.second), *cells]


def _notes(legend: Legend, escape: Escape, raised: Raise) -> list[str]:
    marks = [f"{raised([letter])} {escape(why)}" for letter, why in legend.explained.values()]
    return [*marks, *map(escape, legend.remarks)]


def _sup(letters: Sequence[str]) -> str:
    return f"<sup>{' '.join(letters)}</sup>"


def to_markdown(tables: Sequence[Grid], legend: Legend) -> str:
    """Pipe tables with marks as superscripts."""

    def escape(text: str) -> str:
        return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", cleaned(text))

    parts = []
    for table in tables:
        rows = [list(map(escape, table.header)), ["---", "---", *("---:" for _ in table.header[2:])]]
        for main, (label, second, *cells) in _lines(table, legend, escape, _sup):
            strong = "**" if main else ""
            rows.append([f"{strong}{label}{strong}", second, *(f"{strong}{cell}{strong}" for cell in cells)])
        body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"**{escape(table.caption)}**\n\n{body}\n")
    return "\n".join([*parts, "  \n".join(_notes(legend, escape, _sup)), ""])


def to_latex(tables: Sequence[Grid], legend: Legend) -> str:
    r"""`tabular` environments with booktabs rules; needs \usepackage{booktabs}."""

    def escape(text: str) -> str:
        return cleaned(text).translate(_LATEX)

    def raised(letters: Sequence[str]) -> str:
        return rf"\textsuperscript{{{','.join(letters)}}}"

    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        parts += [r"\begin{table}", r"\centering", rf"\caption{{{escape(table.caption)}}}"]
        parts += [rf"\begin{{tabular}}{{ll{'r' * (len(table.header) - 2)}}}", r"\toprule"]
        parts += [" & ".join(map(escape, table.header)) + r" \\"]
        for main, (label, *cells) in _lines(table, legend, escape, raised):
            parts += [r"\midrule"] if main else []
            parts += [" & ".join([label if main else rf"\quad {label}", *cells]) + r" \\"]
        parts += [r"\bottomrule", r"\end{tabular}", "", r"\footnotesize"]
        parts += [f"{note}." for note in _notes(legend, escape, raised)]
        parts += [r"\end{table}", ""]
    return "\n".join(parts)


def in_html(text: str) -> str:
    """A name, escaped for HTML."""
    return html.escape(cleaned(text))


def html_page(title: str, body: Sequence[str]) -> str:
    """A page with a title and a body; it has no script and loads nothing from other hosts."""
    head = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{in_html(title)}</title><style>',
        "body{font-family:sans-serif;margin:2em} table{border-collapse:collapse;margin-bottom:1.5em}",
        "caption{text-align:left;font-weight:bold;padding-bottom:.5em} th,td{padding:.15em .6em;text-align:right}",
        "th:first-child,th:nth-child(2){text-align:left} td:nth-child(2){text-align:left}",
        "tr.main>*{border-top:1px solid #999;font-weight:bold} tr.below>*{color:#444;font-weight:normal}",
        "tr.below>th{padding-left:1.5em} img{max-width:100%}",
        "</style></head><body>",
    ]
    return "\n".join([*head, *body, "</body></html>", ""])


def html_tables(tables: Sequence[Grid], legend: Legend) -> list[str]:
    """Tables and their legend, as lines of a page's body."""
    parts = []
    for table in tables:
        head = "".join(f'<th scope="col">{in_html(name)}</th>' for name in table.header)
        parts += [f"<table><caption>{in_html(table.caption)}</caption><thead><tr>{head}</tr></thead><tbody>"]
        for main, (label, *cells) in _lines(table, legend, in_html, _sup):
            shown = "".join(f"<td>{cell}</td>" for cell in cells)
            parts.append(f'<tr class="{"main" if main else "below"}"><th scope="row">{label}</th>{shown}</tr>')
        parts.append("</tbody></table>")
    return [*parts, *(f"<p>{note}</p>" for note in _notes(legend, in_html, _sup))]


# Superscript letters; q is left out.
_RAISED = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
LABELS = 2  # columns before the cells
WIDEST_LABEL = 44
NO_END = 100_000  # characters: wider than any table
BEST = "*"


def to_terminal(tables: Sequence[Grid], legend: Legend, width: int | None, color: bool = False) -> str:
    """Tables as text; tables wider than `width` characters are split into blocks of columns, so no number is cut.

    Without a width, lines are not wrapped; with `color`, bold and dim are escape codes.
    """
    written = io.StringIO()
    console = Console(width=width or NO_END, file=written, force_terminal=color, highlight=False, markup=False)
    for table in tables:
        for number, block in enumerate(_blocks(table, legend, console)):
            if table.caption:
                console.print(RichText(cleaned(table.caption) + (", continued" if number else ""), "bold"))
            console.print(block)
            console.print()
    for letter, why in legend.explained.values():
        console.print(RichText(f"{_raised([letter])} {cleaned(why)}."))
    for remark in legend.remarks:
        console.print(RichText(f"{cleaned(remark)}.", "dim"))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _blocks(table: Grid, legend: Legend, console: Console) -> Iterator[Table]:
    """The table, split into blocks of columns that fit the console, each with at least one column."""

    def width(first: int, last: int) -> int:
        unlimited = console.options.update_width(NO_END)
        return console.measure(_drawn(table, legend, first, last), options=unlimited).maximum

    labels, columns = width(0, 0), len(table.header) - LABELS
    first, used = 0, labels
    for column in range(columns):
        own = width(column, column + 1) - labels
        if used + own > console.width and column > first:
            yield _drawn(table, legend, first, column)
            first, used = column, labels
        used += own
    yield _drawn(table, legend, first, columns)


def _drawn(table: Grid, legend: Legend, first: int, last: int) -> Table:
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0 if table.dense else 1))
    drawn.add_column(RichText(cleaned(table.header[0])), overflow="fold", max_width=WIDEST_LABEL)
    numbers = table.dense and all(line.second.isdecimal() or not line.second for line in table.lines)
    drawn.add_column(RichText(cleaned(table.header[1])), overflow="fold", justify="right" if numbers else "left")
    for name in table.header[LABELS + first : LABELS + last]:
        drawn.add_column(RichText(cleaned(name)), justify="right", no_wrap=True)
    for before, line in zip((None, *table.lines), table.lines, strict=False):
        if before is not None and (before.main and not line.main if table.dense else line.main):
            drawn.add_section()
        style = "" if table.dense else "bold" if line.main else "dim"
        label = cleaned(line.label) if line.main or table.dense else f"  {cleaned(line.label)}"
        cells = [RichText(_shown(text, legend), "bold" if text.best else style) for text in line.cells[first:last]]
        drawn.add_row(RichText(label, style), RichText(cleaned(line.second)), *cells)
    return drawn


def _shown(text: Text, legend: Legend) -> str:
    return cleaned(text.text) + (BEST if text.best else "") + _raised(legend.letters(text.marks))


def _raised(letters: Sequence[str]) -> str:
    """The letters of marks as superscripts, separated by small commas."""
    return "˒".join(letters).translate(_RAISED)
