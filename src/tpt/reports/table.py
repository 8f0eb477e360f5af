"""The table a run prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table

from tpt.reports.results import SOURCES

COLUMNS = ("dataset", "images", "zero-shot", "{method}", "gain [95 %]", "entropy", "views", "img/s")


def results_table(results: dict[str, Any]) -> Table:
    """Per dataset: accuracy before and after, the paired gain, entropy, selected views, speed; then the averages.

    Args:
        results: the content of a `results.json`.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)  # with the bundled names it fits 80 columns
    for name in COLUMNS:
        justify: JustifyMethod = "left" if name == "dataset" else "right"
        table.add_column(name.format(method=results["method"]), justify=justify, no_wrap=True)
    for name, d in results["datasets"].items():
        table.add_row(*_row(name, d))
    if len(results["datasets"]) > 1:
        table.add_section()
        for name, mean in (("average", results["averages"]), ("shifted", results["averages"].get("shifted"))):
            if mean is not None:
                gain = f"{mean['acc'] - mean['acc_zero_shot']:+.1f}"
                row = (name, "", f"{mean['acc_zero_shot']:.2f}", f"{mean['acc']:.2f}", gain, _entropies(mean))
                table.add_row(*row, f"{mean['selected_views']:g}", "")
    return table


def comparison_table(runs: Sequence[dict[str, Any]], source: Sequence[str] = SOURCES) -> Table:
    """The shape of the paper's Table 1: a row per run, a column per dataset, average and shifted average.

    A cell computed on part of a dataset is marked with an asterisk; one that no run filled is a dash.

    Args:
        runs: contents of `results.json` files.
        source: datasets that the shifted average leaves out.
    """
    datasets = list(dict.fromkeys(name for run in runs for name in run["datasets"]))
    table = Table("method", "backbone", *datasets, "average", "shifted average", show_edge=False, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for run in runs:
        cells = {name: run["datasets"].get(name) for name in datasets}
        shown = [_cell(cells[name]) for name in datasets]
        everything = _mean_accuracy(list(cells.values()))
        shifted = _mean_accuracy([cell for name, cell in cells.items() if name not in source])
        table.add_row(run["method"], run["backbone"]["name"], *shown, everything, shifted)
    return table


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{found['acc']:.2f}{'' if found['images'] == found['size'] else '*'}"


def _mean_accuracy(cells: Sequence[dict[str, Any] | None]) -> str:
    accuracies = [cell["acc"] for cell in cells if cell is not None]
    if not cells or len(accuracies) < len(cells):
        return "-"  # a mean over other datasets than the row above would compare nothing
    return f"{sum(accuracies) / len(accuracies):.2f}"


def _row(name: str, d: dict[str, Any]) -> tuple[str, ...]:
    gain = d["gain"]
    return (
        name,
        str(d["images"]),
        f"{d['acc_zero_shot']:.2f}",
        f"{d['acc']:.2f}",
        f"{gain['points']:+.1f} [{gain['low']:+.1f},{gain['high']:+.1f}]",
        _entropies(d),
        f"{d['selected_views']:g}",
        f"{d['images_per_second']:.1f}",
    )


def _entropies(d: dict[str, Any]) -> str:
    return f"{d['entropy_zero_shot']:.2f}→{d['entropy']:.2f}"


def print_table(results: dict[str, Any]) -> None:
    """Prints the table and what differs from the paper's protocol."""
    console = Console()
    console.print()
    console.print(results_table(results))
    for note in results["notes"]:
        console.print(f"{note}.", style="dim", highlight=False)
    for name, d in results["datasets"].items():
        for note in d["notes"]:
            console.print(f"{name}: {note}.", style="dim", highlight=False)
        if d["unanswered"]:
            console.print(
                f"{name}: {len(d['unanswered'])} images without an answer, listed in results.json.", style="yellow"
            )
    console.print(
        "zero-shot and {method}: accuracy in %; gain: percentage points, paired bootstrap; "
        "entropy: of the selected views in nats, before→after; views: selected.".format(method=results["method"]),
        style="dim",
        highlight=False,
    )
