"""A report's tables as texts in lines and columns, before any format."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tpt.data.catalog.entries import group_of
from tpt.results.tables.comparability import merged
from tpt.results.tables.published import AVERAGE, OOD_AVERAGE, PAPER
from tpt.results.tables.remarks import versions_remark
from tpt.results.tables.report import Cell, Report, Table
from tpt.results.tables.rows import Row
from tpt.results.tables.statistics import Interval

MISSING = "\N{EN DASH}"
STREAMS = "methods that learn along the stream"
OF_STREAMS = "stream: learns from the images before, so answers depend on their order; the others see each image alone"
HEADERS = {AVERAGE: "average", OOD_AVERAGE: "OOD average"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def plain(text: str) -> str:
    """Without what would break a line or cannot be written; names come from files that others wrote."""
    return _CONTROL.sub(" ", text)


@dataclass(frozen=True)
class Text:
    """A cell's text, the letters of its marks, and whether it is the best of its column."""

    text: str
    letters: tuple[str, ...] = ()
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One line: its label, what stands in the second column, and cells; `main` is a row's first."""

    label: str
    second: str
    cells: tuple[Text, ...]
    main: bool


@dataclass(frozen=True)
class Grid:
    """One table: caption, the names of its columns, its lines, and whether these stand without rules between them."""

    caption: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    dense: bool = False


@dataclass(frozen=True)
class Legend:
    """What is said under the tables: marks with their letters, then remarks."""

    marks: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


def grids(report: Report) -> tuple[list[Grid], Legend]:
    """All tables of a report and what stands under them."""
    letters = letters_of(report)
    found = [_grid(table, letters, report.against) for table in report.tables]
    return found, legend_of(report, letters)


def legend_of(report: Report, letters: Mapping[str, str]) -> Legend:
    """What stands under a report's tables."""
    details = merged([mark for cell in _cells(report) for mark in cell.marks])
    marks = tuple((letters[why], f"{why}{_list(details[why])}") for why in letters)
    return Legend(marks, tuple(_remarks(report)))


def _list(details: Sequence[str]) -> str:
    return f": {'; '.join(details)}" if details else ""


def _cells(report: Report) -> Iterator[Cell]:
    for table in report.tables:
        for _, cells in table.rows:
            yield from cells.values()


def letters_of(report: Report) -> dict[str, str]:
    """a, b, ..., z, aa, ... by what a mark says, in the order in which the marks come."""
    names = ("".join(c) for length in (1, 2, 3) for c in product(string.ascii_lowercase, repeat=length))
    why = dict.fromkeys(mark.why for cell in _cells(report) for mark in cell.marks)
    return dict(zip(why, names, strict=False))


def _grid(table: Table, letters: Mapping[str, str], against: str | None) -> Grid:
    parts = [(row, [*_lines(row, cells, table.columns, letters, against)]) for row, cells in table.rows]
    lines = apart(parts, len(table.columns))
    header = ("method", "backbone", *(HEADERS.get(column, group_of(column)[1]) for column in table.columns))
    return Grid(table.caption, header, tuple(lines))


def apart(parts: Sequence[tuple[Row, Sequence[Line]]], columns: int) -> list[Line]:
    """The lines of all rows, those of stream methods behind the others and under a heading."""
    kinds = [[line for row, lines in parts for line in lines if row.first.stream == stream] for stream in (False, True)]
    heading = [Line(STREAMS, "", (Text(""),) * columns, main=True)] if all(kinds) else []
    return [*kinds[0], *heading, *kinds[1]]


def _lines(
    row: Row, cells: Mapping[str, Cell], columns: Sequence[str], letters: Mapping[str, str], against: str | None
) -> Iterator[Line]:
    ordered = [cells[column] for column in columns]
    yield Line(row.label, row.first.backbone, tuple(marked(cell, letters) for cell in ordered), main=True)
    for label, text in _below(against):
        texts = [text(cell) for cell in ordered]
        if any(texts):
            yield Line(label, "", tuple(Text(t or MISSING) for t in texts), main=False)


def _below(against: str | None) -> list[tuple[str, Callable[[Cell], str]]]:
    """The lines under a row; one without a single value is left out."""
    return [
        ("mean of classes", lambda c: f"{c.class_accuracy:.2f}" if unbalanced(c) else ""),
        ("worst", lambda c: "" if c.worst is None else f"{c.worst:.2f}"),
        ("published", lambda c: "" if c.printed is None else f"{c.printed:.2f}"),
        ("difference", lambda c: "" if c.difference is None else signed(c.difference)),
        ("gain over zero-shot", lambda c: "" if c.gain is None else signed(c.gain.mean)),
        ("95 % interval", lambda c: interval_text(c.gain)),
        ("ECE", lambda c: "" if c.ece is None else f"{c.ece:.2f}"),
        ("ECE, 20 bins", lambda c: "" if c.printed_error is None or c.ece20 is None else f"{c.ece20:.2f}"),
        ("published ECE", lambda c: "" if c.printed_error is None else f"{c.printed_error:.2f}"),
        ("seconds an image", lambda c: "" if c.seconds is None else f"{c.seconds:.3g}"),
        (f"over {against}", lambda c: "" if c.against is None else signed(c.against.points.mean)),
        ("95 % interval", lambda c: interval_text(None if c.against is None else c.against.points)),
        ("McNemar p", lambda c: "" if c.against is None or c.against.p_value is None else p_text(c.against.p_value)),
        ("shared images", lambda c: "" if c.against is None else shared_text(c)),
    ]


def unbalanced(cell: Cell) -> bool:
    """Whether the mean of the classes' accuracies is another number than the accuracy."""
    known = cell.class_accuracy is not None and cell.accuracy is not None
    return known and round(cell.class_accuracy - cell.accuracy, 2) != 0  # type: ignore[operator]


def marked(cell: Cell, letters: Mapping[str, str]) -> Text:
    """The accuracy, with its deviation over seeds and its marks."""
    deviation = "" if cell.std is None else f" ± {cell.std:.2f}"
    text = MISSING if cell.accuracy is None else f"{cell.accuracy:.2f}{deviation}"
    return Text(text, tuple(dict.fromkeys(letters[mark.why] for mark in cell.marks)))


def signed(value: float, digits: int = 2) -> str:
    """With its sign, which a zero has not."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """Its ends."""
    return "" if interval is None else f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


def p_text(p_value: float) -> str:
    """Two digits, or `<1e-4`."""
    return f"{p_value:.2g}" if p_value >= 1e-4 else "<1e-4"


def shared_text(cell: Cell) -> str:
    """How many images the comparison is on, and of how many if some are on one side only."""
    assert cell.against is not None
    shared, alone = cell.against.images, cell.against.only_one
    return f"{shared:,}" + (f" of {shared + alone:,}" if alone else "")


def _remarks(report: Report) -> Iterator[str]:
    cells = list(_cells(report))
    std = " ± standard deviation over seeds or orders" if any(c.std is not None for c in cells) else ""
    worst = ", worst: the lowest of them" if any(c.worst is not None for c in cells) else ""
    yield f"accuracy in %{std}{worst}; {MISSING}: missing, and so is an average over it"
    if any(row.first.stream for table in report.tables for row, _ in table.rows):
        yield OF_STREAMS
    if sources := _sources(report):
        yield f"published: {'; '.join(sources)}; the difference is given for cells without a mark"
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
    yield from versions_remark(list(dict.fromkeys(row for table in report.tables for row, _ in table.rows)))
    if any(OOD_AVERAGE in table.averages for table in report.tables):
        yield "OOD average: without the dataset that prompts are learned on"


def _sources(report: Report) -> list[str]:
    """Sources of the published numbers, with their rows if the source is not the paper itself."""
    rows: dict[str, dict[str, None]] = {}
    for table in report.tables:
        for row, cells in table.rows:
            for cell in cells.values():
                if cell.source is not None:
                    rows.setdefault(cell.source, {})[row.first.method] = None
    return [source if source == PAPER else f"{', '.join(names)} {source}" for source, names in rows.items()]
