"""Renders a report for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from tpt.results.tables.grid import Grid, Legend, Line, Text, cleaned

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
    wide, written = NO_END if width is None else width, io.StringIO()
    console = Console(width=wide, file=written, force_terminal=color, highlight=False, markup=False)
    for table in tables:
        for number, (first, last) in enumerate(blocks(table, wide)):
            caption = cleaned(table.caption) + (", continued" if number else "")
            if table.caption:
                console.print(RichText(caption, "bold"))
            console.print(_drawn(table, first, last))
            console.print()
    for letter, why in legend.marks:
        console.print(RichText(f"{raised((letter,))} {cleaned(why)}."))
    for remark in legend.remarks:
        console.print(RichText(f"{cleaned(remark)}.", "dim"))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def raised(letters: tuple[str, ...]) -> str:
    """The letters of marks as superscripts, separated by small commas."""
    return "˒".join(letters).translate(_RAISED)


def blocks(table: Grid, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of columns that fit the width, each with at least one column."""
    gap, (label, second, *names) = 1 if table.dense else 3, table.header
    lines = [Line(label, second, tuple(map(Text, names)), main=True), *table.lines]
    columns = zip(*(map(_shown, line.cells) for line in lines), strict=True)
    widths = [gap + max(map(cell_len, column)) for column in columns]
    labels = min(WIDEST_LABEL, max(cell_len(_label(line, table.dense)) for line in lines))
    room = width - labels - gap - max(cell_len(cleaned(line.second)) for line in lines)
    first, used = 0, 0
    for column, wide in enumerate(widths):
        if used + wide > room and column > first:
            yield first, column
            first, used = column, 0
        used += wide
    yield first, len(widths)


def _label(line: Line, dense: bool) -> str:
    return cleaned(line.label) if line.main or dense else f"  {cleaned(line.label)}"


def _drawn(table: Grid, first: int, last: int) -> Table:
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
        cells = [RichText(_shown(text), "bold" if text.best else style) for text in line.cells[first:last]]
        drawn.add_row(RichText(_label(line, table.dense), style), RichText(cleaned(line.second)), *cells)
    return drawn


def _shown(text: Text) -> str:
    return cleaned(text.text) + (BEST if text.best else "") + raised(text.letters)
