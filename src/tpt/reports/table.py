"""The table a run prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("dataset", "images", "zero-shot", "{method}", "gain [95 % interval]", "entropy", "views", "images/s")


def results_table(results: dict[str, Any]) -> Table:
    """Per dataset: accuracy before and after, the paired gain, entropy, selected views, speed; then the averages.

    Args:
        results: the content of a `results.json`.
    """
    table = Table(title=None, show_edge=False, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name.format(method=results["method"]), justify="left" if name == "dataset" else "right")
    for name, d in results["datasets"].items():
        table.add_row(*_row(name, d))
    if len(results["datasets"]) > 1:
        mean = results["averages"]
        table.add_section()
        gain = f"{mean['acc'] - mean['acc_zero_shot']:+.2f}"
        row = ("average", "", f"{mean['acc_zero_shot']:.2f}", f"{mean['acc']:.2f}", gain, _entropies(mean))
        table.add_row(*row, f"{mean['selected_views']:g}", "")
    return table


def _row(name: str, d: dict[str, Any]) -> tuple[str, ...]:
    images = f"{d['images']}" if d["images"] == d["size"] else f"{d['images']} of {d['size']}"
    gain = d["gain"]
    return (
        name,
        images,
        f"{d['acc_zero_shot']:.2f}",
        f"{d['acc']:.2f}",
        f"{gain['points']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]",
        _entropies(d),
        f"{d['selected_views']:g}",
        f"{d['images_per_second']:.1f}",
    )


def _entropies(d: dict[str, Any]) -> str:
    return f"{d['entropy_zero_shot']:.2f} → {d['entropy']:.2f}"


def print_table(results: dict[str, Any]) -> None:
    """Prints the table and what differs from the paper's protocol."""
    console = Console()
    if not console.is_terminal and console.width < 120:
        console = Console(width=120)  # a log file has no width; do not fold the table into 80 columns
    console.print()
    console.print(results_table(results))
    for name, d in results["datasets"].items():
        for note in d["notes"]:
            console.print(f"{name}: {note}.", style="dim", highlight=False)
        if d["skipped"]:
            console.print(
                f"{name}: {len(d['skipped'])} unreadable images left out, listed in results.json.", style="yellow"
            )
    console.print(
        "accuracy in %, gain in percentage points with a paired bootstrap interval, "
        "entropy of the selected views in nats, before → after",
        style="dim",
        highlight=False,
    )
