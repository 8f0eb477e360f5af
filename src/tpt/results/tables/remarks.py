"""What stands under a table, or a figure, of runs whatever it shows: what is missing, and what made them differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpt.results.tables.comparability import PART, UNFINISHED, Mark, coverage, merged
from tpt.results.tables.rows import Row
from tpt.results.tables.runs import Run

DECIDING = ("pillow", "torch")  # packages of which another version gives other pixels, or other sums


def versions_remark(rows: Sequence[Row]) -> Iterator[str]:
    """A warning for each package that decides digits and of which the rows were made with several versions."""
    for package in DECIDING:
        found: dict[str, dict[str, None]] = {}
        for row in rows:
            for start in (start for run in row.runs for start in run.results["sessions"]):
                if (version := start["versions"].get(package)) is not None:
                    found.setdefault(version, {})[row.label] = None
        if len(found) > 1:
            said = "; ".join(f"{version}: {', '.join(labels)}" for version, labels in found.items())
            yield f"warning: rows made with several versions of {package} differ in more than their methods ({said})"


def coverage_remark(runs: Sequence[Run], labels: bool = False) -> Iterator[str]:
    """What runs leave out: a subset of the images, or what is not done yet.

    Args:
        runs: of a table or figure.
        labels: also names the method that is not done.
    """
    marks = [
        Mark(mark.why, f"{run.method} {mark.detail}" if labels and mark.why == UNFINISHED else mark.detail)
        for run in runs
        for name in run.to_test
        for mark in coverage(run, name)
    ]
    for why, details in merged(marks).items():
        if why in (PART, UNFINISHED):
            yield f"{why}: {'; '.join(details)}"
