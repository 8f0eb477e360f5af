"""Makes the directories of runs without a backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpt.data.catalog.entries import CATALOG
from tpt.files import write_json
from tpt.results.runs.records import write_shard

CONFIG: dict[str, Any] = {
    "seed": 0,
    "resume": None,
    "learned": {"coop": None, "cocoop": None},
    "name": "tpt",
    "context": {"_target_": "tpt.context_from_words", "ctx_init": "a photo of a", "class_token_position": "end"},
    "method": {
        "_target_": "tpt.TPT",
        "steps": 1,
        "selection_p": 0.1,
        "lr": 0.005,
        "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.01},
        "learned_class_token": False,
        "seed": 0,
    },
    "views": {"_target_": "tpt.paper_views", "num_views": 64, "augmix": {"severity": 1.0}, "seed": 0},
    "data": {"batch_size": 8, "limit": None},
    "trainer": {"precision": "32-true"},
}
ZERO_SHOT: dict[str, Any] = {"_target_": "tpt.ZeroShot", "templates": None}


def rows_of(
    dataset: str, before: np.ndarray, after: np.ndarray, seed: int = 0, paths: list[str] | None = None
) -> list[dict[str, Any]]:
    """Records whose answers are right where `before` and `after` are true."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, (one, two) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        entropy = float(rng.uniform(0.1, 2.0))
        rows.append(
            {
                "dataset": dataset, "index": i, "path": paths[i] if paths else f"{i}.png", "content": f"{i:016x}",
                "label": 0, "pred": int(not two), "pred_zero_shot": int(not one), "rank": int(not two),
                "rank_zero_shot": int(not one), "confidence": float(rng.uniform(0.3, 1)),
                "confidence_zero_shot": float(rng.uniform(0.2, 0.9)), "entropy": entropy * 0.8,
                "entropy_zero_shot": entropy, "selected": [0, 3], "seconds": 0.5, "problem": None,
            }
        )  # fmt: skip
    return rows


def share(accuracy: float, images: int) -> np.ndarray:
    """(images,) booleans, of which the first `accuracy` % are true."""
    return np.arange(images) < round(accuracy * images / 100)


def answers(dataset: str, before: float, after: float, images: int, **given: Any) -> list[dict[str, Any]]:
    """Records of `images` images, of which these shares (in %) are right."""
    return rows_of(dataset, share(before, images), share(after, images), **given)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values at dotted keys replaced."""
    made: dict[str, Any] = json.loads(json.dumps(base))
    for key, value in changes.items():
        *path, last = key.split(".")
        node = made
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return made


def make_run(
    folder: Path,
    rows: Mapping[str, list[dict[str, Any]]],
    method: str = "tpt",
    backbone: str = "emoji-mini",
    settings: Mapping[str, Any] | None = None,
    about: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    precision: str = "fp32",
    option: str | None = None,
    about_method: Mapping[str, bool] | None = None,
) -> Path:
    """Writes a run's directory and returns it.

    Args:
        folder: the directory; created if missing.
        rows: records by dataset; a dataset without records was not started.
        method: the method's label; its configuration follows from it.
        backbone: the backbone's name.
        settings: settings that differ from the paper's, by dotted key.
        about: by dataset, manifest entries that replace those made from its records.
        seed: of the run.
        precision: of the backbone.
        option: the option of `method`, if it does not follow from the label.
        about_method: the manifest's entry about the method; None leaves it out, as in old runs.
    """
    tunes = method.startswith("tpt") if option is None else option != "zero_shot"
    seeds = dict.fromkeys(("seed", "views.seed", *(("method.seed",) if tunes else ())), seed)
    config = merge(CONFIG if tunes else {**CONFIG, "method": ZERO_SHOT}, {**seeds, **(settings or {})})
    datasets = {}
    for name, records in rows.items():
        entry = CATALOG.get(name)
        split = entry.split if entry else ""
        size = {"to_test": len(records), "classes": entry.classes if entry else 2, "size": len(records)}
        made = {**size, "split": split, "notes": [], "root": "", "fingerprint": "0"}
        datasets[name] = {**made, **(about or {}).get(name, {})}
    context = method.removeprefix("tpt+") if "co" in method else "words"
    manifest = {
        "method": method,
        "choices": {"method": option or ("tpt" if tunes else "zero_shot"), "context": context},
        "seed": seed,
        "backbone": {"name": backbone, "fingerprint": "f", "precision": precision},
        "context": "words: a photo of a",
        "context_fingerprint": "0",
        "device": "cpu",
        "division": {},
        "files": {},
        "datasets": datasets,
        "config": config,
        "sessions": [{"started": "2026-01-01T00:00:00+00:00", "processes": 1, "versions": {}}],
    } | ({} if about_method is None else {"about_method": dict(about_method)})  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_json(manifest, folder / "run.json")
    for number, (name, records) in enumerate(rows.items()):
        if records:
            write_shard(records, folder / "records", f"{number:02d}-{name}-0000000")
    return folder
