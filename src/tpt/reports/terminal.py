"""A report on the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from tpt.reports.grid import Grid, Legend, Text, plain

# Unicode's small raised letters; it has no q.
_RAISED = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
LABELS = 2  # columns in front of the cells
WIDEST_LABEL = 44


def to_terminal(tables: Sequence[Grid], legend: Legend, width: int, color: bool = False) -> str:
    """The tables as they stand on a terminal of so many characters; a wider one is broken into blocks of columns."""
    console = Console(width=width, file=io.StringIO(), force_terminal=color, highlight=False, markup=False)
    for table in tables:
        for number, (first, last) in enumerate(blocks(table, width)):
            console.print(RichText(plain(table.caption) + (", continued" if number else ""), "bold"))
            console.print(_drawn(table, first, last))
            console.print()
    for letter, why in legend.marks:
        console.print(RichText(f"{raised((letter,))} {plain(why)}."))
    for remark in legend.remarks:
        console.print(RichText(f"{plain(remark)}.", "dim"))
    written = console.file
    assert isinstance(written, io.StringIO)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def raised(letters: tuple[str, ...]) -> str:
    """Letters of marks as they stand behind a number; between two stands a thin comma."""
    return "˒".join(letters).translate(_RAISED)


def blocks(table: Grid, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of columns that fit a width; at least one column each."""
    widths = [
        max(len(table.header[c]), *(len(_shown(line.cells[c - LABELS])) for line in table.lines)) + 2
        for c in range(LABELS, len(table.header))
    ]
    labels = min(WIDEST_LABEL, max(len(line.label) for line in table.lines) + 2) + 2
    room = width - labels - max(len(line.second) for line in table.lines) - 4
    first, used = 0, 0
    for column, wide in enumerate(widths):
        if used + wide > room and column > first:
            yield first, column
            first, used = column, 0
        used += wide
    yield first, len(widths)


def _drawn(table: Grid, first: int, last: int) -> Table:
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    drawn.add_column(table.header[0], overflow="fold", max_width=WIDEST_LABEL)
    drawn.add_column(table.header[1], overflow="fold")
    for name in table.header[LABELS + first : LABELS + last]:
        drawn.add_column(RichText(plain(name)), justify="right", no_wrap=True)
    for number, line in enumerate(table.lines):
        if line.main and number:
            drawn.add_section()
        label = RichText(plain(line.label) if line.main else f"  {plain(line.label)}", "bold" if line.main else "dim")
        cells = [RichText(_shown(text), "bold" if line.main else "dim") for text in line.cells[first:last]]
        drawn.add_row(label, RichText(plain(line.second)), *cells)
    return drawn


def _shown(text: Text) -> str:
    return plain(text.text) + raised(text.letters)
