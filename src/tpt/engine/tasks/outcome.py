"""The output of a test step, for the callbacks: one record per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tpt.data.datamodule import EpisodeBatch
from tpt.data.dataset import ImageDataset
from tpt.methods.base import Adaptation
from tpt.results.runs.records import ANSWER, LOGITS, NAMED, RANK, RANKING

EMPTY = (*ANSWER, *RANK, *RANKING, *LOGITS)  # fields of an image without a prediction


@dataclass(frozen=True)
class Outcome:
    """The records of a batch."""

    dataset: ImageDataset
    # One per image, with the columns of `RECORD_SCHEMA`; those that do not apply are None.  Those of `RANKING` and
    # `LOGITS` cover all K classes.
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)  # for the results, in addition to the settings
    # Returns a stream method's state after these records, or None once it has changed; None for an episodic method.
    state: Callable[[], Mapping[str, Tensor] | None] | None = None


def answered_rows(batch: EpisodeBatch, out: Adaptation) -> list[dict[str, Any]]:
    """Records of B images, from the method's outputs on the CPU; NaN gives a `problem` instead of a prediction."""
    labels = None if batch.labels is None else batch.labels.cpu()
    columns: dict[str, list[Any]] = {"index": batch.indices.tolist(), "path": batch.paths, "content": batch.contents}
    columns["label"] = [None] * len(batch) if labels is None else labels.tolist()
    for end, logits, entropy in (
        ("", out.logits, out.entropy),
        ("_zero_shot", out.initial_logits, out.initial_entropy),
    ):
        probabilities = logits.softmax(-1)
        confidence, pred = probabilities.max(-1)
        columns[f"pred{end}"] = pred.tolist()
        columns[f"rank{end}"] = columns["label"] if labels is None else ranks(logits, labels, pred).tolist()
        columns[f"confidence{end}"] = confidence.tolist()
        columns[f"entropy{end}"] = entropy.tolist()
        columns[f"logits{end}"] = list(logits.float().numpy())
        if not end:
            order = likeliest(logits, pred)
            columns["top"] = list(order.numpy())
            columns["top_confidence"] = list(probabilities.gather(1, order).float().numpy())
    columns["selected"] = out.selected.tolist()
    finite = (out.logits.isfinite().all(-1) & out.entropy.isfinite()).tolist()
    columns["problem"] = [None if good else "the adapted prediction is not finite" for good in finite]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [row if row["problem"] is None else {**row, **dict.fromkeys(EMPTY)} for row in rows]


def unanswered_row(index: int, path: str, content: str | None, label: int | None, problem: str) -> dict[str, Any]:
    """The record of an image without a prediction."""
    about = {"index": index, "path": path, "content": content, "label": label, "problem": problem}
    return about | dict.fromkeys(EMPTY)


def cut(row: dict[str, Any], class_names: Sequence[str], top: int) -> dict[str, Any]:
    """A record that ranks only the `top` most probable classes, with their names."""
    if row["top"] is None:
        return {**row, "top_name": None}
    ranking = {name: row[name][:top].tolist() for name in RANKING}
    return {**row, **ranking, "top_name": [class_names[k] for k in ranking["top"]]}


def named(row: dict[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """A record with the names of its classes added."""
    numbers = {name: row[number] for name, number in NAMED.items()}
    names = {name: None if number is None else class_names[number] for name, number in numbers.items()}
    return row | names


def likeliest(logits_BK: Tensor, pred_B: Tensor) -> Tensor:
    """(B, K) classes by descending logit, the prediction first; ties: lower class first."""
    order = logits_BK.argsort(stable=True, dim=-1, descending=True)
    rest = order[order != pred_B[:, None]].reshape(len(order), -1)
    return torch.cat([pred_B[:, None], rest], dim=-1)


def ranks(logits_BK: Tensor, labels_B: Tensor, pred_B: Tensor) -> Tensor:
    """(B,) ranks of the labels among all classes, 0 for the predicted one; ties: lower class first."""
    own = logits_BK.gather(1, labels_B[:, None])
    lower = torch.arange(logits_BK.shape[1]) < labels_B[:, None]
    place = ((logits_BK > own) | ((logits_BK == own) & lower)).sum(-1)
    # If classes tie for the first rank, the prediction decides.
    return torch.where(pred_B == labels_B, 0, place.clamp(min=1))
