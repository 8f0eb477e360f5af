"""Measures of records: accuracy, calibration, entropy and selected views, before and after adaptation."""

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
MEANS = ("acc", "acc5", "entropy")
# What is measured: names of values.
MEASURES = (
    *(f"{name}{end}" for end in ("", "_zero_shot") for name in (*MEANS, "ece")),
    *("selected_views", "view0_selected", "images", "images_per_second"),
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

    `acc`, `acc5` and `ece` are percentages, `entropy` is in nats, those of the untouched prompt end in `_zero_shot`.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self.images = 0
        self.unanswered: list[dict[str, Any]] = []
        names = [*MEANS, *(f"{name}_zero_shot" for name in MEANS), "selected_views", "view0_selected"]
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
            right = torch.tensor([row[f"rank{end}"] == 0 for row in good])
            self._metrics[f"acc{end}"].update(right.double())
            self._metrics[f"acc5{end}"].update(torch.tensor([float(row[f"rank{end}"] < 5) for row in good]))
            self._metrics[f"entropy{end}"].update(torch.tensor([row[f"entropy{end}"] for row in good]))
            self._metrics[f"ece{end}"].update(torch.tensor([row[f"confidence{end}"] for row in good]), right.long())
        self._metrics["selected_views"].update(torch.tensor([float(len(row["selected"])) for row in good]))
        self._metrics["view0_selected"].update(torch.tensor([float(0 in row["selected"]) for row in good]))
        return self

    def values(self) -> dict[str, float]:
        """All measures so far; rates are those of one process."""
        found = {name: float(value) for name, value in self._metrics.compute().items()} if self.images else {}
        scaled = {name: PERCENT * v if name.startswith(("acc", "ece")) else v for name, v in found.items()}
        rate = (self.images + len(self.unanswered)) / max(self._seconds, 1e-9)
        return {**scaled, "images": float(self.images), "images_per_second": rate}


def measures_of(records: pa.Table) -> Measures:
    """The measures of one dataset's records."""
    return Measures().update(records.to_pylist())
