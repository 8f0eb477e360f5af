"""Measures of records: accuracy, calibration, entropy, confidence and selected views, before and after adaptation.

Images without labels have no accuracy and no calibration error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.results.runs.records import ENDS, RECORD_SCHEMA, answered
from tpt.results.tables.statistics import PERCENT, bin_of, gain_of_counts

BINS = 15  # of `ece`, as in Guo et al., ICML 2017
BINS_OF_CALIBRATION = 20  # of `ece20`, as in the code of C-TPT and of the methods compared with it
ERRORS = {"ece": BINS, "ece20": BINS_OF_CALIBRATION}
LABELLED = ("acc", "acc5", "class_acc", *ERRORS)  # measures that need labels
SHARES = (*LABELLED, "confidence", "changed")  # measures that are percentages
# Names of all measures.
MEASURES = (
    *(f"{name}{end}" for end in ENDS for name in ("acc", "acc5", "class_acc", "entropy", "confidence", *ERRORS)),
    *("changed", "selected_views", "view0_selected", "images", "images_per_second"),
)
_SCHEMA = pa.schema(
    RECORD_SCHEMA.field(name)
    for name in (
        *(f"{name}{end}" for end in ENDS for name in ("pred", "rank", "confidence", "entropy")),
        *("path", "content", "label", "selected", "seconds", "problem"),
    )
)


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of records given as dictionaries, with the columns that the measures need."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=_SCHEMA)


class CalibrationBins:
    """Answers counted in bins of confidence, for the expected calibration error (Guo et al., ICML 2017, eq. 3)."""

    def __init__(self, bins: int = BINS) -> None:
        self.images, self.confidence, self.right = (np.zeros(bins) for _ in range(3))

    def update(self, confidence: np.ndarray, right: np.ndarray) -> CalibrationBins:
        """Adds N answers: the probability of the predicted class, and whether it is right."""
        bins = len(self.images)
        place = bin_of(confidence, bins)
        self.images += np.bincount(place, minlength=bins)
        self.confidence += np.bincount(place, confidence, minlength=bins)
        self.right += np.bincount(place, right, minlength=bins)
        return self

    def error(self) -> float:
        """Mean gap between accuracy and confidence, weighted by images per bin, in [0, 1]; 0 without images."""
        return float(np.abs(self.right - self.confidence).sum() / max(1.0, self.images.sum()))


class Measures:
    """Running measures of one dataset's records in this process; docs/results.md defines them."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.images = 0
        self.labelled = 0  # images with an answer and a label
        self._won = self._lost = 0
        self.unanswered: list[dict[str, Any]] = []
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._classes: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))  # images, right after, before
        self._bins = {f"{name}{end}": CalibrationBins(bins) for name, bins in ERRORS.items() for end in ENDS}

    def add(self, records: pa.Table) -> Measures:
        """Adds records, with the columns of `tpt.results.runs.RECORD_SCHEMA`."""
        self._seconds += pc.sum(records["seconds"]).as_py() or 0.0
        failed = records.filter(pc.is_valid(records["problem"])).select(["path", "problem", "content"])
        self.unanswered += [
            {"path": row["path"], "problem": row["problem"], "unreadable": row["content"] is None}
            for row in failed.to_pylist()
        ]
        good = answered(records)
        self.images += len(good)
        if len(good):
            self._add_answers(good)
        if len(labelled := good.filter(pc.is_valid(good["label"]))):
            self._add_labelled(labelled)
        return self

    def _add_answers(self, rows: pa.Table) -> None:
        for end in ENDS:
            for name in ("entropy", "confidence"):
                self._sums[f"{name}{end}"] += float(_numbers(rows, f"{name}{end}").sum())
        self._sums["changed"] += int((rows["pred"].to_numpy() != rows["pred_zero_shot"].to_numpy()).sum())
        selected = rows["selected"].combine_chunks()
        self._sums["selected_views"] += pc.sum(pc.list_value_length(selected)).as_py()
        owners = pc.list_parent_indices(selected).to_numpy()[pc.list_flatten(selected).to_numpy() == 0]
        self._sums["view0_selected"] += len(np.unique(owners))

    def _add_labelled(self, rows: pa.Table) -> None:
        self.labelled += len(rows)
        after, before = right = [rows[f"rank{end}"].to_numpy() == 0 for end in ENDS]
        for end, hits in zip(ENDS, right, strict=True):
            self._sums[f"acc{end}"] += int(hits.sum())
            self._sums[f"acc5{end}"] += int((rows[f"rank{end}"].to_numpy() < 5).sum())
            for name in ERRORS:
                self._bins[f"{name}{end}"].update(_numbers(rows, f"confidence{end}"), hits)
        for label in np.unique(own := rows["label"].to_numpy()).tolist():
            inside = own == label
            self._classes[label] += inside.sum(), (after & inside).sum(), (before & inside).sum()
        self._won, self._lost = self._won + int((after & ~before).sum()), self._lost + int((before & ~after).sum())

    def gain(self) -> dict[str, float] | None:
        """The paired gain of accuracy, as a dictionary of the fields of `Gain`; None without labels."""
        return asdict(gain_of_counts(self._won, self._lost, self.labelled)) if self.labelled else None

    def values(self) -> dict[str, float]:
        """All measures so far; the rate covers this process only."""
        found = {n: total / (self.labelled if n.startswith("acc") else self.images) for n, total in self._sums.items()}
        if self.labelled:
            images, *right = np.stack(list(self._classes.values())).T
            found |= {f"class_acc{end}": float((hits / images).mean()) for end, hits in zip(ENDS, right, strict=True)}
            found |= {name: bins.error() for name, bins in self._bins.items()}
        scaled = {n: PERCENT * found[n] if n.startswith(SHARES) else found[n] for n in MEASURES if n in found}
        rate = (self.images + len(self.unanswered)) / max(self._seconds, 1e-9)
        return {**scaled, "images": float(self.images), "images_per_second": rate}


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    """A column as float64."""
    return np.asarray(rows[name].to_numpy(), dtype=np.float64)
