"""Accuracy, calibration, entropy and selected views of each dataset, before and after adaptation."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from tpt.tasks.adaptation import Outcome

PERCENT = 100.0


class ExpectedCalibrationError(MulticlassCalibrationError):
    """torchmetrics' expected calibration error over 15 bins, with a confidence of 1 counted in the last bin.

    torchmetrics gives a confidence of exactly 1 a bin of its own.  It also takes any scores in [0, 1] for
    probabilities, so it must be given probabilities, never logits.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds probabilities (B, K) and labels (B,)."""
        below_one = torch.nextafter(torch.ones((), dtype=preds.dtype), torch.zeros((), dtype=preds.dtype))
        super().update(preds.clamp(max=float(below_one)), target)


def _classification(num_classes: int) -> dict[str, Metric]:
    top_5 = min(5, num_classes)
    return {
        "acc": MulticlassAccuracy(num_classes, average="micro"),
        "acc5": MulticlassAccuracy(num_classes, top_k=top_5, average="micro"),
        "ece": ExpectedCalibrationError(num_classes, n_bins=15),
    }


class DatasetMetrics(Callback):
    """Keeps torchmetrics for each dataset and logs them to every logger as `test/<dataset>/<metric>`.

    Accuracies and calibration errors are percentages; entropies are in nats; those of the untouched prompt end in
    `_zero_shot`.

    Args:
        every_n_images: how often the running values are logged; the last ones always are.
    """

    def __init__(self, every_n_images: int = 50) -> None:
        self.every_n_images = every_n_images
        self.summary: dict[str, dict[str, Any]] = {}
        self._metrics: dict[str, MetricCollection] = {}
        self._clock = 0.0
        self._done = 0
        self._logged = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._clock = time.perf_counter()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch."""
        outcome: Outcome = outputs
        name = outcome.dataset.name
        seen = self.summary.setdefault(name, {"images": 0, "seconds": 0.0, "skipped": []})
        now = time.perf_counter()
        seen["seconds"] += now - self._clock
        self._clock = now
        seen["images"] += len(outcome.batch)
        seen["skipped"] += [{"path": path, "problem": problem} for path, problem in outcome.batch.bad]
        if outcome.adaptation is not None:
            self._update(name, outcome)
        self._done += len(outcome.batch)
        last = batch_idx + 1 == trainer.num_test_batches[dataloader_idx]
        if seen["images"] and (last or self._done - self._logged >= self.every_n_images):
            self._log(trainer, name)
            self._logged = self._done

    def _update(self, name: str, outcome: Outcome) -> None:
        out = outcome.adaptation
        assert out is not None
        if name not in self._metrics:
            num_classes = out.logits.shape[-1]
            plain = _classification(num_classes)
            before = {f"{k}_zero_shot": m for k, m in _classification(num_classes).items()}
            means = {k: MeanMetric() for k in ("entropy", "entropy_zero_shot", "selected_views", "view0_selected")}
            # Groups would share states between metrics that are fed different predictions.
            self._metrics[name] = MetricCollection({**plain, **before, **means}, compute_groups=False)
        metrics = self._metrics[name]
        for key in ("acc", "acc5", "ece"):
            metrics[key].update(outcome.probs, outcome.batch.labels)
            metrics[f"{key}_zero_shot"].update(outcome.probs_zero_shot, outcome.batch.labels)
        metrics["entropy"].update(out.entropy)
        metrics["entropy_zero_shot"].update(out.initial_entropy)
        metrics["selected_views"].update(torch.full((len(out.selected),), float(out.selected.shape[-1])))
        metrics["view0_selected"].update((out.selected == 0).any(-1).float())

    def values(self, name: str) -> dict[str, float]:
        """The metrics of one dataset so far."""
        values = {k: float(v) for k, v in self._metrics[name].compute().items()}
        scaled = {k: PERCENT * v if k.startswith(("acc", "ece")) else v for k, v in values.items()}
        seen = self.summary[name]
        return {**scaled, "images_per_second": seen["images"] / max(seen["seconds"], 1e-9)}

    def _log(self, trainer: Trainer, name: str) -> None:
        values = {f"test/{name}/{key}": value for key, value in self.values(name).items()}
        values[f"test/{name}/images"] = float(self.summary[name]["images"])
        for logger in trainer.loggers:
            logger.log_metrics(values, step=self._done)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes `summary` with the final values."""
        for name in self._metrics:
            self.summary[name].update(self.values(name))
