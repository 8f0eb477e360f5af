"""`results.json`: what a run found and how it was made."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.data.dataset import ImageDataset
from tpt.errors import DataError
from tpt.reports.statistics import paired_gain

PACKAGES = ("tpt", "torch", "torchvision", "lightning", "hydra-core", "open_clip_torch", "torchmetrics", "pillow")

SOURCES = ("imagenet", "source_val", "source_train")  # what prompts are learned on; all else is shifted
# Averaged over datasets, each dataset counting once.
AVERAGED = ("acc", "acc_zero_shot", "entropy", "entropy_zero_shot", "ece", "ece_zero_shot", "selected_views")


def summarise(
    metrics: dict[str, dict[str, Any]], records: pa.Table, datasets: Sequence[ImageDataset]
) -> dict[str, Any]:
    """`datasets` and `averages` of a results file.

    Args:
        metrics: by dataset, from `tpt.callbacks.DatasetMetrics.summary`.
        records: of the run.
        datasets: that were tested.
    """
    found = {}
    for dataset in datasets:
        if not metrics[dataset.name]["images"]:
            raise DataError(
                f"Expected readable images in dataset {dataset.name!r}, but none could be read; see the log."
            )
        about = {"size": dataset.size, "split": dataset.split, "notes": dataset.notes, "root": dataset.store.root}
        found[dataset.name] = {**metrics[dataset.name], "gain": gain_of(records, dataset.name), **about}
    return {"datasets": found, "averages": averages(found)}


def gain_of(records: pa.Table, dataset: str) -> dict[str, Any]:
    """The paired gain of one dataset's records."""
    rows = records.filter(pc.equal(records["dataset"], dataset))
    label, pred, before = (rows[c].to_numpy() for c in ("label", "pred", "pred_zero_shot"))
    return dataclasses.asdict(paired_gain(before == label, pred == label))


def averages(datasets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over datasets; under `shifted` those without the datasets that prompts are learned on, where there are both
    (the out-of-distribution average of the paper's Table 1).
    """
    shifted = {name: d for name, d in datasets.items() if name not in SOURCES}
    mean: dict[str, Any] = {key: float(np.mean([d[key] for d in datasets.values()])) for key in AVERAGED}
    return {**mean, "shifted": averages(shifted)} if shifted and len(shifted) < len(datasets) else mean


def environment() -> dict[str, Any]:
    """Versions and commit a run was made with."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"versions": versions, "commit": commit(), "platform": platform.platform()}


def commit() -> str | None:
    """The checkout's commit, `-dirty` behind it where files differ; None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes the file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")
    partial.replace(path)
