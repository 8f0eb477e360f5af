"""Tables with one line per row or dataset: the brief report, and the table that a run prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tpt.results.tables.formats import render_grids, terminal_width, to_terminal
from tpt.results.tables.grid import HEADERS, OF_STREAMS, Grid, Legend, Line, Text, apart, marked, number, signed
from tpt.results.tables.published import AVERAGE
from tpt.results.tables.report import Cell, Report, Table, average_cell, make_report
from tpt.results.tables.results import gain_interval
from tpt.results.tables.rows import Row, versions_remark
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import Interval

MOST_DATASETS = 8  # the most datasets that get their own columns next to the average
Value = Callable[[Cell], float | None]
# Sort keys of the rows, the largest first; `order` keeps the order of the runs.
SORTS: Mapping[str, Value] = {
    "accuracy": lambda cell: cell.accuracy,
    "gain": lambda cell: cell.gain and cell.gain.mean,
    "ece": lambda cell: cell.ece and -cell.ece,
    "seconds": lambda cell: cell.seconds and -cell.seconds,
    "order": lambda cell: 0.0,
}


def brief_grids(report: Report, sort: str = "accuracy") -> tuple[list[Grid], Legend]:
    """The tables of a report with one line per row, sorted by one of `SORTS`, and their legend.

    Gain, calibration error and seconds are means over the table's datasets that at least one row has.
    """
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
    return [_grid(table, SORTS[sort]) for table in report.tables], Legend(report.marks, remarks)


def brief_text(runs: Sequence[Run], width: int | None = None) -> str:
    """`brief_grids` of some runs as text for a terminal of this width; without a width, lines are not wrapped."""
    return render_grids(*brief_grids(make_report(runs)), "terminal", width)


def _grid(table: Table, key: Value) -> Grid:
    shown = [name for name in table.datasets if any(cells[name].accuracy is not None for _, cells in table.rows)]
    found = [(row, cells, average_cell(row, "", shown, cells) if shown else Cell()) for row, cells in table.rows]
    found.sort(key=lambda each: (key(each[2]) is None, -(key(each[2]) or 0.0)))
    means = [mean for *_, mean in found]
    of_datasets = [(name, [cells[name] for _, cells, _ in found]) for name in shown if len(shown) <= MOST_DATASETS]
    accuracies = of_datasets if len(shown) == 1 else [*of_datasets, (HEADERS[AVERAGE], means)]
    columns: list[tuple[str, Sequence[Cell], Value, Callable[[Cell], Text]]] = [
        *((name, cells, SORTS["accuracy"], marked) for name, cells in accuracies),
        ("worst", means, lambda cell: cell.worst, lambda cell: Text(number(cell.worst))),
        ("gain [95 %]", means, SORTS["gain"], lambda cell: Text(gain_text(cell.gain))),
        ("ECE", means, SORTS["ece"], lambda cell: Text(number(cell.ece, 1))),
        ("s/image", means, SORTS["seconds"], lambda cell: Text(number(cell.seconds, 3))),
    ]
    if all(mean.worst is None for mean in means):
        columns = [column for column in columns if column[0] != "worst"]
    rows = [row for row, *_ in found]
    lines = zip(*(_best(rows, cells, value, text) for _, cells, value, text in columns), strict=True)
    parts = [
        (row, [Line(row.label, row.first.backbone, cells, main=True)]) for row, cells in zip(rows, lines, strict=True)
    ]
    header = ("method", "backbone", *(name for name, *_ in columns))
    return Grid(table.caption, header, tuple(apart(parts, len(columns))), dense=True)


def _best(rows: Sequence[Row], cells: Sequence[Cell], value: Value, text: Callable[[Cell], Text]) -> list[Text]:
    """The texts, with the largest value of each kind of method marked, unless all values of that kind are equal."""
    # Rounded, so that rounding errors do not break ties.
    values = [None if (own := value(cell)) is None else round(own, 9) for cell in cells]
    kinds = [row.first.stream for row in rows]
    found = []
    for cell, kind, own in zip(cells, kinds, values, strict=True):
        rivals = {other for other, its in zip(values, kinds, strict=True) if its == kind and other is not None}
        found.append(replace(text(cell), best=len(rivals) > 1 and own == max(rivals)))
    return found


def results_grid(results: Mapping[str, Any]) -> Grid:
    """One line per dataset of a `results.json`, then the averages.

    Without labels, the share of answers that changed and the mean confidence replace accuracies and gain.
    """
    labelled = any("acc" in d for d in results["datasets"].values()) or not results["datasets"]
    answers = ("zero-shot", results["method"], "gain [95 %]") if labelled else ("changed", "confidence")
    lines = list(results["datasets"].items())
    if len(lines) > 1:
        means = {"average": results["averages"], "shifted": results["averages"].get("shifted")}
        lines += [(name, mean) for name, mean in means.items() if mean is not None]
    header = ("dataset", "images", *answers, "entropy", "views", "img/s")
    return Grid("", header, tuple(_line(name, d, labelled) for name, d in lines), dense=True)


def _line(name: str, d: Mapping[str, Any], labelled: bool) -> Line:
    """The line of a dataset, or of an average, which has no number of images."""
    answers: tuple[str, ...] = ("", "", "")
    if not labelled:
        answers = (f"{d['changed']:.1f} %", f"{d['confidence_zero_shot']:.1f}→{d['confidence']:.1f} %")
    elif "acc" in d:
        answers = (f"{d['acc_zero_shot']:.2f}", f"{d['acc']:.2f}", gain_text(gain_interval(d.get("gain"))))
    entropies = f"{d['entropy_zero_shot']:.2f}→{d['entropy']:.2f}"
    cells = (*answers, entropies, f"{d['selected_views']:g}", number(d.get("images_per_second"), 1))
    images = str(d.get("images", ""))
    if d.get("size", d.get("images")) != d.get("images"):
        images = f"{images} of {d['size']}"
    return Line(name, images, tuple(map(Text, cells)), main="images" in d)


def gain_text(gain: Interval | None) -> str:
    """The gain as `+1.3 [+0.2,+2.5]`, in percentage points."""
    return "" if gain is None else f"{signed(gain.mean, 1)} [{signed(gain.low, 1)},{signed(gain.high, 1)}]"


def results_text(results: Mapping[str, Any], width: int | None = None) -> str:
    """The table of a `results.json` and remarks on the run; without a width, lines are not wrapped."""
    remarks = list(results["notes"])
    for name, d in results["datasets"].items():
        remarks += [f"{name}: {note}" for note in d["notes"]]
        if not d["complete"]:
            remarks.append(f"{name}: unfinished, {d['images'] + len(d['unanswered'])} of {d['to_test']} images done")
        if d["unanswered"]:
            remarks.append(f"{name}: {len(d['unanswered'])} images without an answer, listed in results.json")
    grid, method = results_grid(results), results["method"]
    said = f"changed: share of answers that {method} changed; confidence: mean probability of the answers, before→after"
    if "zero-shot" in grid.header:
        said = f"zero-shot and {method}: accuracy in %; gain: percentage points, interval for paired proportions"
    remarks.append(f"{said}; entropy: of the selected views in nats, before→after; views: selected")
    return to_terminal([grid], Legend((), tuple(remarks)), width, color=sys.stdout.isatty())


def print_table(results: Mapping[str, Any]) -> None:
    """Prints the table, and remarks such as differences from the paper's protocol."""
    print(f"\n{results_text(results, terminal_width())}", end="")
