"""The table that a run prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tpt.results.tables.formats import terminal_width
from tpt.results.tables.grid import Grid, Legend, Line, Text, interval_text, signed
from tpt.results.tables.results import gain_interval
from tpt.results.tables.statistics import Interval


def results_grid(results: Mapping[str, Any]) -> Grid:
    """One line per dataset of a `results.json`, then the averages.

    Without labels, the share of answers that changed and the mean confidence replace accuracies and gain.
    """
    labelled = has_labels(results)
    answers = ("zero-shot", results["method"], "gain [95 %]") if labelled else ("changed", "confidence")
    header = ("dataset", "images", *answers, "entropy", "views", "img/s")
    lines = [_line(name, d, labelled) for name, d in results["datasets"].items()]
    if len(lines) > 1:
        means = {"average": results["averages"], "shifted": results["averages"].get("shifted")}
        lines += [_line(name, mean, labelled) for name, mean in means.items() if mean is not None]
    return Grid("", header, tuple(lines), dense=True)


def has_labels(results: Mapping[str, Any]) -> bool:
    """Whether any dataset has labels; also true if there are no datasets yet."""
    return any("acc" in d for d in results["datasets"].values()) or not results["datasets"]


def _line(name: str, d: Mapping[str, Any], labelled: bool) -> Line:
    """The line of a dataset, or of an average, which has no number of images."""
    entropies = f"{d['entropy_zero_shot']:.2f}→{d['entropy']:.2f}"
    rate = f"{d['images_per_second']:.1f}" if "images_per_second" in d else ""
    answers: tuple[str, ...]
    if not labelled:
        answers = (f"{d['changed']:.1f} %", f"{d['confidence_zero_shot']:.1f}→{d['confidence']:.1f} %")
    elif "acc" in d:
        answers = (f"{d['acc_zero_shot']:.2f}", f"{d['acc']:.2f}", gain_text(gain_interval(d.get("gain"))))
    else:
        answers = ("", "", "")
    cells = (*answers, entropies, f"{d['selected_views']:g}", rate)
    images = f"{d['images']}" if "images" in d else ""
    if d.get("size", d.get("images")) != d.get("images"):
        images = f"{images} of {d['size']}"
    return Line(name, images, tuple(map(Text, cells)), main="images" in d)


def gain_text(gain: Interval | None) -> str:
    """The gain as `+1.3 [+0.2,+2.5]`, in percentage points."""
    return "" if gain is None else f"{signed(gain.mean, 1)} [{interval_text(gain).replace(' to ', ',')}]"


def results_text(results: Mapping[str, Any], width: int | None = None) -> str:
    """The table of a `results.json` and remarks on the run; without a width, lines are not wrapped."""
    from tpt.results.tables.terminal import to_terminal  # noqa: PLC0415 -- rich takes time to load

    remarks = list(results["notes"])
    for name, d in results["datasets"].items():
        remarks += [f"{name}: {note}" for note in d["notes"]]
        if not d["complete"]:
            done = d["images"] + len(d["unanswered"])
            remarks.append(f"{name}: unfinished, {done} of {d['to_test']} images done")
        if d["unanswered"]:
            remarks.append(f"{name}: {len(d['unanswered'])} images without an answer, listed in results.json")
    method = results["method"]
    said = f"changed: share of answers that {method} changed; confidence: mean probability of the answers, before→after"
    if has_labels(results):
        said = f"zero-shot and {method}: accuracy in %; gain: percentage points, interval for paired proportions"
    remarks.append(f"{said}; entropy: of the selected views in nats, before→after; views: selected")
    return to_terminal([results_grid(results)], Legend((), tuple(remarks)), width, color=sys.stdout.isatty())


def print_table(results: Mapping[str, Any]) -> None:
    """Prints the table, and remarks such as differences from the paper's protocol."""
    print(f"\n{results_text(results, terminal_width())}", end="")
