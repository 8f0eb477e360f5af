"""The table a run prints."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table

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
