"""The brief report: one line per row with accuracies, gain, calibration error and seconds, the best first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tpt.errors import UserError
from tpt.results.tables.formats import render_grids
from tpt.results.tables.grid import HEADERS, OF_STREAMS, Grid, Legend, Line, Text, apart, legend_of, marked, number
from tpt.results.tables.published import AVERAGE
from tpt.results.tables.report import Cell, Report, Table, average_cell, make_report
from tpt.results.tables.rows import versions_remark
from tpt.results.tables.runs import Run
from tpt.results.tables.table import gain_text

MOST_DATASETS = 8  # the most datasets that get their own columns next to the average
# Sort keys of the rows, the best first; `order` keeps the order of the runs.
SORTS: Mapping[str, Callable[[Cell], float | None]] = {
    "accuracy": lambda cell: None if cell.accuracy is None else -cell.accuracy,
    "gain": lambda cell: None if cell.gain is None else -cell.gain.mean,
    "ece": lambda cell: cell.ece,
    "seconds": lambda cell: cell.seconds,
    "order": lambda cell: 0.0,
}


def brief_grids(report: Report, sort: str = "accuracy") -> tuple[list[Grid], Legend]:
    """The tables of a report with one line per row, sorted by one of `SORTS`, and their legend.

    Gain, calibration error and seconds are means over the table's datasets that at least one row has.
    """
    if sort not in SORTS:
        raise UserError(f"Expected an order out of {', '.join(SORTS)}, got {sort!r}; choose one of them.")
    letters, legend = legend_of(report)
    grids = [_grid(table, letters, sort) for table in report.tables]
    streams = any(row.first.stream for row in report.rows)
    deviations = any(cell.std is not None for _, cell in report.cells)
    best = "* best, of stream methods and of the others" if streams else "* best"
    remarks = (
        *((OF_STREAMS,) if streams else ()),
        *(("±: standard deviation over seeds or orders; worst: the lowest average over them",) if deviations else ()),
        f"accuracy and ECE (15 bins) in %, gain over zero-shot in points with Bonett and Price's 95 % interval; {best}",
        "seconds per image, from decoding to the record; where a cache had its features, without encoding",
        *versions_remark(report.rows),
    )
    return grids, Legend(legend.marks, remarks)


def brief_text(runs: Sequence[Run], width: int | None = None) -> str:
    """`brief_grids` of some runs as text for a terminal of this width; without a width, lines are not wrapped."""
    return render_grids(*brief_grids(make_report(runs)), "terminal", width)


def _grid(table: Table, letters: Mapping[str, str], sort: str) -> Grid:
    shown = tuple(name for name in table.datasets if any(cells[name].accuracy is not None for _, cells in table.rows))
    rows = [(row, cells, average_cell(row, "", shown, cells) if shown else Cell()) for row, cells in table.rows]
    rows.sort(key=lambda each: (SORTS[sort](each[2]) is None, SORTS[sort](each[2]) or 0.0))
    means = [mean for _, _, mean in rows]
    kinds = [row.first.stream for row, _, _ in rows]
    columns: list[tuple[str, list[float | None], list[Text]]] = []  # name, values (the largest is best), and texts
    of_datasets = [(name, [cells[name] for _, cells, _ in rows]) for name in shown if len(shown) <= MOST_DATASETS]
    for name, cells in of_datasets if len(shown) == 1 else (*of_datasets, (HEADERS[AVERAGE], means)):
        columns.append((name, [c.accuracy for c in cells], [marked(c, letters) for c in cells]))
    if any(c.worst is not None for c in means):
        columns.append(("worst", [c.worst for c in means], [Text(number(c.worst)) for c in means]))
    columns += [
        ("gain [95 %]", [c.gain and c.gain.mean for c in means], [Text(gain_text(c.gain)) for c in means]),
        ("ECE", [c.ece and -c.ece for c in means], [Text(number(c.ece, 1)) for c in means]),
        ("s/image", [c.seconds and -c.seconds for c in means], [Text(number(c.seconds, 3)) for c in means]),
    ]
    lines = zip(*(_best(values, texts, kinds) for _, values, texts in columns), strict=True)
    parts = [
        (row, [Line(row.label, row.first.backbone, cells, main=True)])
        for (row, _, _), cells in zip(rows, lines, strict=True)
    ]
    header = ("method", "backbone", *(name for name, _, _ in columns))
    return Grid(table.caption, header, tuple(apart(parts, len(columns))), dense=True)


def _best(values: Sequence[float | None], texts: Sequence[Text], kinds: Sequence[bool]) -> list[Text]:
    """The texts, with the largest value of each kind of method marked, unless all values of that kind are equal."""
    # Rounded, so that rounding errors do not break ties.
    rounded = [None if value is None else round(value, 9) for value in values]
    found = []
    for value, text, kind in zip(rounded, texts, kinds, strict=True):
        rivals = {other for other, its in zip(rounded, kinds, strict=True) if its == kind and other is not None}
        found.append(replace(text, best=len(rivals) > 1 and value == max(rivals)))
    return found
