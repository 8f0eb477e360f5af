"""One line per row: accuracies, gain, calibration error and seconds side by side, the best first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tpt.errors import UserError
from tpt.results.tables.formats import render_grids
from tpt.results.tables.grid import HEADERS, OF_STREAMS, Grid, Legend, Line, Text, apart, legend_of, letters_of, marked
from tpt.results.tables.published import AVERAGE
from tpt.results.tables.remarks import versions_remark
from tpt.results.tables.report import Cell, Report, Table, average_cell, make_report
from tpt.results.tables.rows import Row
from tpt.results.tables.runs import Run
from tpt.results.tables.table import gain_text

MOST_DATASETS = 8  # that have columns of their own beside their average
# What rows are sorted by, each the best first; `order` leaves them as the runs come.
SORTS: Mapping[str, Callable[[Cell], float | None]] = {
    "accuracy": lambda cell: None if cell.accuracy is None else -cell.accuracy,
    "gain": lambda cell: None if cell.gain is None else -cell.gain.mean,
    "ece": lambda cell: cell.ece,
    "seconds": lambda cell: cell.seconds,
    "order": lambda cell: 0.0,
}


def brief_grids(report: Report, sort: str = "accuracy") -> tuple[list[Grid], Legend]:
    """The tables of a report with one line a row, and what stands under them.

    Gain, calibration error and seconds are means over the table's datasets that any of the rows has.

    Args:
        report: of runs.
        sort: one of `SORTS`.

    Raises:
        UserError: there is no such order.
    """
    if sort not in SORTS:
        raise UserError(f"Expected an order out of {', '.join(SORTS)}, got {sort!r}; choose one of them.")
    letters = letters_of(report)
    grids = [_grid(table, letters, sort) for table in report.tables]
    legend = legend_of(report, letters)
    cells = [cell for table in report.tables for _, row in table.rows for cell in row.values()]
    streams = (OF_STREAMS,) if any(row.first.stream for table in report.tables for row, _ in table.rows) else ()
    deviations = ("±: standard deviation over seeds or orders; worst: the lowest average over them",)
    remarks = (
        *streams,
        *(deviations if any(cell.std is not None for cell in cells) else ()),
        "accuracy and ECE (15 bins) in %, gain over zero-shot in points with Bonett and Price's 95 % interval; * best",
        "seconds: an image, from decoding to the record; where a cache had its features, without encoding",
        *versions_remark(list(dict.fromkeys(row for table in report.tables for row, _ in table.rows))),
    )
    return grids, Legend(legend.marks, remarks)


def brief_text(runs: Sequence[Run], width: int | None = None) -> str:
    """`brief_grids` of some runs as they stand on a terminal of a width, or in a log file."""
    return render_grids(*brief_grids(make_report(runs)), "terminal", width)


def _grid(table: Table, letters: Mapping[str, str], sort: str) -> Grid:
    shown = tuple(name for name in table.datasets if any(cells[name].accuracy is not None for _, cells in table.rows))
    means = [(row, cells, _mean(row, shown, cells)) for row, cells in table.rows]
    means.sort(key=lambda each: (SORTS[sort](each[2]) is None, SORTS[sort](each[2]) or 0.0))
    datasets = shown if len(shown) <= MOST_DATASETS else ()
    columns: list[tuple[str, list[Text]]] = [
        (name, _best([c[name].accuracy for _, c, _ in means], [marked(c[name], letters) for _, c, _ in means]))
        for name in datasets
    ]
    cells = [mean for _, _, mean in means]
    if len(shown) != 1:
        columns.append((HEADERS[AVERAGE], _best([c.accuracy for c in cells], [marked(c, letters) for c in cells])))
    if any(c.worst is not None for c in cells):
        worst = [c.worst for c in cells]
        columns.append(("worst", _best(worst, [Text(_number(value, 2)) for value in worst])))
    gains = [None if c.gain is None else c.gain.mean for c in cells]
    columns.append(("gain [95 %]", _best(gains, [Text(gain_text(c.gain)) for c in cells])))
    for name, values, digits in (("ECE", [c.ece for c in cells], 1), ("s/image", [c.seconds for c in cells], 3)):
        least = [None if value is None else -value for value in values]
        columns.append((name, _best(least, [Text(_number(value, digits)) for value in values])))
    lines = [
        (row, [Line(row.label, row.first.backbone, tuple(texts[number] for _, texts in columns), main=True)])
        for number, (row, _, _) in enumerate(means)
    ]
    header = ("method", "backbone", *(name for name, _ in columns))
    return Grid(table.caption, header, tuple(apart(lines, len(columns))), dense=True)


def _mean(row: Row, shown: Sequence[str], cells: Mapping[str, Cell]) -> Cell:
    return cells[shown[0]] if len(shown) == 1 else average_cell(row, "", shown, cells) if shown else Cell()


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _best(values: Sequence[float | None], texts: Sequence[Text]) -> list[Text]:
    """The texts, those of the largest value marked if there are several to choose from."""
    rounded = [None if value is None else round(value, 9) for value in values]  # means of the same numbers are ties
    known = [value for value in rounded if value is not None]
    most = max(known) if len(set(known)) > 1 else None
    return [
        Text(text.text, text.letters, best=value is not None and value == most)
        for value, text in zip(rounded, texts, strict=True)
    ]
