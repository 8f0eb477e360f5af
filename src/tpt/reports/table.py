"""The table a run prints."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table

LABELLED = ("zero-shot", "{method}", "gain [95 %]")
UNLABELLED = ("changed", "confidence")  # in their place, where no dataset has labels
BESIDE = ("dataset", "images"), ("entropy", "views", "img/s")


def results_table(results: dict[str, Any]) -> Table:
    """Per dataset: accuracy before and after, the paired gain, entropy, selected views, speed; then the averages.

    Without labels, the share of answers that changed and the mean confidence before and after stand in place of
    accuracies.

    Args:
        results: the content of a `results.json`.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)  # with the bundled names it fits 80 columns
    labelled = has_labels(results)
    for name in (*BESIDE[0], *(LABELLED if labelled else UNLABELLED), *BESIDE[1]):
        justify: JustifyMethod = "left" if name == "dataset" else "right"
        table.add_column(name.format(method=results["method"]), justify=justify, no_wrap=True)
    for name, d in results["datasets"].items():
        table.add_row(*_row(name, d, labelled))
    if len(results["datasets"]) > 1:
        table.add_section()
        for name, mean in (("average", results["averages"]), ("shifted", results["averages"].get("shifted"))):
            if mean is not None:
                cells = _answers(mean, labelled)
                table.add_row(name, "", *cells, _entropies(mean), f"{mean['selected_views']:g}", "")
    return table


def has_labels(results: dict[str, Any]) -> bool:
    """Whether any dataset has, or nothing is known yet."""
    return any("acc" in d for d in results["datasets"].values()) or not results["datasets"]


def _row(name: str, d: dict[str, Any], labelled: bool) -> tuple[str, ...]:
    beside = (_entropies(d), f"{d['selected_views']:g}", f"{d['images_per_second']:.1f}")
    return (name, str(d["images"]), *_answers(d, labelled), *beside)


def _answers(d: dict[str, Any], labelled: bool) -> tuple[str, ...]:
    """Accuracies and their gain; what changed, where no dataset has labels."""
    if not labelled:
        return f"{d['changed']:.1f} %", f"{d['confidence_zero_shot']:.1f}→{d['confidence']:.1f} %"
    if "acc" not in d:
        return ("",) * len(LABELLED)
    gain = d.get("gain")  # an average has none
    points = d["acc"] - d["acc_zero_shot"] if gain is None else gain["points"]
    interval = "" if gain is None else f" [{gain['low']:+.1f},{gain['high']:+.1f}]"
    return f"{d['acc_zero_shot']:.2f}", f"{d['acc']:.2f}", f"{points:+.1f}{interval}"


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
    said = (
        "changed: share of answers that {method} changed; confidence: mean probability of the answers, before→after; "
    )
    if has_labels(results):
        said = "zero-shot and {method}: accuracy in %; gain: percentage points, paired bootstrap; "
    console.print(
        said.format(method=results["method"])
        + "entropy: of the selected views in nats, before→after; views: selected.",
        style="dim",
        highlight=False,
    )
