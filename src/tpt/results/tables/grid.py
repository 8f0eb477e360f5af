"""A report's tables as lines and columns of text, independent of the output format."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

from tpt.data.catalog.entries import group_of
from tpt.results.tables.comparability import Mark, said
from tpt.results.tables.published import AVERAGE, OOD_AVERAGE, PAPER
from tpt.results.tables.report import Cell, Report
from tpt.results.tables.rows import Row, versions_remark
from tpt.results.tables.statistics import Interval

MISSING = "\N{EN DASH}"
STREAMS = "methods that learn along the stream"
OF_STREAMS = "stream: learns from the images before, so answers depend on their order; the others see each image alone"
HEADERS = {AVERAGE: "average", OOD_AVERAGE: "OOD average"}

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def cleaned(text: str) -> str:
    """Replaces control characters, line breaks and surrogates by spaces; names come from files that others wrote."""
    return _CONTROL.sub(" ", text)


@dataclass(frozen=True)
class Text:
    """A cell's text, its marks, and whether it is the best of its column."""

    text: str
    marks: tuple[Mark, ...] = ()
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One line: label, second column and cells; `main` is true for the first line of a row.

    `marks` apply to the whole line; CSV shows them, and the other formats say the same below the tables.
    """

    label: str
    second: str
    cells: tuple[Text, ...]
    main: bool
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Grid:
    """One table: caption, column names, lines, and whether there are no rules between the lines (`dense`)."""

    caption: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    dense: bool = False


@dataclass(frozen=True)
class Legend:
    """The text below the tables: the marks of their cells, then remarks."""

    marks: tuple[Mark, ...]
    remarks: tuple[str, ...]

    @cached_property
    def explained(self) -> dict[str, tuple[str, str]]:
        """The letter a, b, ..., z, aa, ... of each mark and its text, by `Mark.why`, in the order of the marks."""
        letters = ("".join(each) for length in (1, 2, 3) for each in product(string.ascii_lowercase, repeat=length))
        return {why: (letter, text) for letter, (why, text) in zip(letters, said(self.marks).items(), strict=False)}

    def letters(self, marks: Iterable[Mark]) -> list[str]:
        """The letters of some marks, each once."""
        return list(dict.fromkeys(self.explained[mark.why][0] for mark in marks))


def block(
    label: str,
    second: str,
    cells: Sequence[T | None],
    main: Callable[[T], Text],
    below: Sequence[tuple[str, Callable[[T], str]]],
    marks: Sequence[Mark] = (),
) -> Iterator[Line]:
    """A row's main line and the lines below it that have any value; a cell without one is shown as missing."""
    mains = tuple(Text(MISSING) if cell is None else main(cell) for cell in cells)
    yield Line(label, second, mains, True, marks)
    for name, text in below:
        texts = ["" if cell is None else text(cell) for cell in cells]
        if any(texts):
            yield Line(name, "", tuple(Text(each or MISSING) for each in texts), False, marks)


def grids(report: Report) -> tuple[list[Grid], Legend]:
    """All tables of a report and their legend."""
    found = []
    for table in report.tables:
        parts = [
            (row, [*block(row.label, row.first.backbone, [cells[c] for c in table.columns], marked, _below(report))])
            for row, cells in table.rows
        ]
        header = ("method", "backbone", *(HEADERS.get(column, group_of(column)[1]) for column in table.columns))
        found.append(Grid(table.caption, header, tuple(apart(parts, len(table.columns)))))
    return found, Legend(report.marks, tuple(_remarks(report)))


def apart(parts: Sequence[tuple[Row, Sequence[Line]]], columns: int) -> list[Line]:
    """The lines of all rows; if there are both kinds, stream methods come last, under a heading."""
    kinds = [[line for row, lines in parts for line in lines if row.first.stream == stream] for stream in (False, True)]
    heading = [Line(STREAMS, "", (Text(""),) * columns, main=True)] if all(kinds) else []
    return [*kinds[0], *heading, *kinds[1]]


def _below(report: Report) -> list[tuple[str, Callable[[Cell], str]]]:
    """Names and texts of the lines below a row."""
    return [
        ("mean of classes", lambda c: number(c.class_accuracy) if unbalanced(c) else ""),
        ("worst", lambda c: number(c.worst)),
        ("published", lambda c: number(c.printed)),
        ("difference", lambda c: signed(c.difference)),
        ("gain over zero-shot", lambda c: signed(c.gain and c.gain.mean)),
        ("95 % interval", lambda c: interval_text(c.gain)),
        ("ECE", lambda c: number(c.ece)),
        ("ECE, 20 bins", lambda c: "" if c.printed_error is None else number(c.ece20)),
        ("published ECE", lambda c: number(c.printed_error)),
        ("seconds per image", lambda c: "" if c.seconds is None else f"{c.seconds:.3g}"),
        (f"over {report.against}", lambda c: signed(c.against and c.against.points.mean)),
        ("95 % interval", lambda c: interval_text(c.against and c.against.points)),
        ("McNemar p", lambda c: "" if c.against is None else _p_text(c.against.p_value)),
        ("shared images", lambda c: "" if c.against is None else _shared(c.against.images, c.against.only_one)),
    ]


def unbalanced(cell: Cell) -> bool:
    """Whether the mean of the class accuracies differs from the accuracy by more than rounding."""
    one, two = cell.class_accuracy, cell.accuracy
    return one is not None and two is not None and round(one - two, 2) != 0


def marked(cell: Cell) -> Text:
    """The accuracy with its standard deviation over seeds and its marks."""
    deviation = "" if cell.std is None else f" ± {cell.std:.2f}"
    return Text(f"{number(cell.accuracy) or MISSING}{deviation}", cell.marks)


def number(value: float | None, digits: int = 2) -> str:
    """A value with this many decimals; empty for None, as in the functions below."""
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A value with its sign; zero has none."""
    text = "" if value is None else f"{value:+.{digits}f}"
    return text if text.strip("+-0.") else text[1:]


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """The limits of an interval."""
    return "" if interval is None else f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


def _p_text(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.2g}" if p_value >= 1e-4 else "<1e-4"


def _shared(images: int, alone: int) -> str:
    """The number of images that both sides have, and the total if some are on one side only."""
    return f"{images:,} of {images + alone:,}" if alone else f"{images:,}"


def _remarks(report: Report) -> Iterator[str]:
    rows, cells = report.rows, [cell for _, cell in report.cells]
    std = " ± standard deviation over seeds or orders" if any(c.std is not None for c in cells) else ""
    worst = ", worst: the lowest of them" if any(c.worst is not None for c in cells) else ""
    yield f"accuracy in %{std}{worst}; {MISSING}: missing, and so is an average over it"
    if any(row.first.stream for row in rows):
        yield OF_STREAMS
    sources: dict[str, dict[str, None]] = {}  # of published numbers, with the methods they are for
    for row, cell in report.cells:
        if cell.source is not None:
            sources.setdefault(cell.source, {})[row.first.method] = None
    if sources:
        texts = [source if source == PAPER else f"{', '.join(names)} {source}" for source, names in sources.items()]
        yield f"published: {'; '.join(texts)}; the difference is given for cells without a mark"
    if any(c.gain is not None for c in cells):
        yield (
            "gain over zero-shot: over the same prompt before tuning, in percentage points; "
            "Bonett and Price's 95 % interval for paired proportions"
        )
    if any(c.ece is not None for c in cells):
        yield "ECE: expected calibration error over 15 bins, in %; seconds: from decoding to the record"
    if any(map(unbalanced, cells)):
        yield f"mean of classes: of the accuracies of all classes; {MISSING}: the same as the accuracy"
    if report.against is not None:
        yield f"over {report.against}: on the images that both have; exact McNemar test, Bonett and Price's interval"
    yield from versions_remark(rows)
    if any(OOD_AVERAGE in table.averages for table in report.tables):
        yield "OOD average: without the dataset that prompts are learned on"
