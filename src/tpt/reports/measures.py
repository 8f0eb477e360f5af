"""Measures of records: accuracy, calibration, entropy, confidence and selected views, before and after adaptation.

Pictures without labels have all but accuracy and calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryCalibrationError

PERCENT = 100.0
BINS = 15
ROWS = 4096  # records that are dictionaries at the same time
LABELLED = ("acc", "acc5", "ece")  # measures that need labels
MEANS = ("acc", "acc5", "entropy", "confidence")
SHARES = (*LABELLED, "confidence", "changed")  # measures that are percentages
# What is measured: names of values.
MEASURES = (
    *(f"{name}{end}" for end in ("", "_zero_shot") for name in (*MEANS, "ece")),
    *("changed", "selected_views", "view0_selected", "images", "images_per_second"),
)


class ExpectedCalibrationError(BinaryCalibrationError):
    """torchmetrics' expected calibration error over 15 bins, with a confidence of 1 counted in the last bin.

    It takes the predicted class's probability as the score of the event that the prediction is right, which gives the
    multi-class error.  torchmetrics gives a confidence of exactly 1 a bin of its own.
    """

    def __init__(self) -> None:
        super().__init__(n_bins=BINS, sync_on_compute=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds confidences (B,) and whether each prediction was right (B,)."""
        below_one = torch.nextafter(torch.ones((), dtype=preds.dtype), torch.zeros((), dtype=preds.dtype))
        super().update(preds.clamp(max=float(below_one)), target)


class Measures:
    """Measures of one dataset's records, as they come, in this process.

    `acc`, `acc5` and `ece` are percentages, and so are `confidence`, the mean probability of the answers, and
    `changed`, the share of answers that adaptation changed; `entropy` is in nats; those of the untouched prompt end in
    `_zero_shot`.  Without labels there is no `acc`, `acc5` and `ece`.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self.images = 0
        self.labelled = 0  # of these
        self.unanswered: list[dict[str, Any]] = []
        names = [*MEANS, *(f"{name}_zero_shot" for name in MEANS), "changed", "selected_views", "view0_selected"]
        # Groups would share states between metrics that are fed different values.
        self._metrics = MetricCollection(
            {
                **{name: MeanMetric(sync_on_compute=False).set_dtype(torch.float64) for name in names},
                "ece": ExpectedCalibrationError(),
                "ece_zero_shot": ExpectedCalibrationError(),
            },
            compute_groups=False,
        )

    def update(self, rows: Sequence[dict[str, Any]]) -> Measures:
        """Adds records, as dictionaries."""
        self._seconds += sum(row["seconds"] for row in rows)
        self.unanswered += [
            {"path": row["path"], "problem": row["problem"], "unreadable": row["content"] is None}
            for row in rows
            if row["problem"] is not None
        ]
        good = [row for row in rows if row["problem"] is None]
        self.images += len(good)
        if not good:
            return self
        for end in ("", "_zero_shot"):
            for name in ("entropy", "confidence"):
                self._metrics[f"{name}{end}"].update(torch.tensor([row[f"{name}{end}"] for row in good]))
        self._metrics["changed"].update(torch.tensor([float(row["pred"] != row["pred_zero_shot"]) for row in good]))
        self._metrics["selected_views"].update(torch.tensor([float(len(row["selected"])) for row in good]))
        self._metrics["view0_selected"].update(torch.tensor([float(0 in row["selected"]) for row in good]))
        return self._update_labelled([row for row in good if row["label"] is not None])

    def _update_labelled(self, rows: Sequence[dict[str, Any]]) -> Measures:
        self.labelled += len(rows)
        for end in ("", "_zero_shot") if rows else ():
            right = torch.tensor([row[f"rank{end}"] == 0 for row in rows])
            self._metrics[f"acc{end}"].update(right.double())
            self._metrics[f"acc5{end}"].update(torch.tensor([float(row[f"rank{end}"] < 5) for row in rows]))
            self._metrics[f"ece{end}"].update(torch.tensor([row[f"confidence{end}"] for row in rows]), right.long())
        return self

    def values(self) -> dict[str, float]:
        """All measures so far; rates are those of one process."""
        absent = () if self.labelled else tuple(f"{name}{end}" for name in LABELLED for end in ("", "_zero_shot"))
        metrics = {name: metric for name, metric in self._metrics.items() if self.images and name not in absent}
        found = {name: float(metric.compute()) for name, metric in metrics.items()}
        scaled = {name: PERCENT * v if name.startswith(SHARES) else v for name, v in found.items()}
        rate = (self.images + len(self.unanswered)) / max(self._seconds, 1e-9)
        return {**scaled, "images": float(self.images), "images_per_second": rate}


def measures_of(records: pa.Table) -> Measures:
    """The measures of one dataset's records."""
    measures = Measures()
    for some in records.to_batches(max_chunksize=ROWS):  # as dictionaries, many records need much memory
        measures.update(some.to_pylist())
    return measures
