"""Renders a report for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from tpt.results.tables.grid import Grid, Legend, Text, cleaned

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
    first, columns = 0, len(table.header) - LABELS
    unlimited = console.options.update_width(NO_END)
    while first < columns:
        last = columns
        drawn = _drawn(table, legend, first, last)
        while last > first + 1 and console.measure(drawn, options=unlimited).maximum > console.width:
            last -= 1
            drawn = _drawn(table, legend, first, last)
        yield drawn
        first = last


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
