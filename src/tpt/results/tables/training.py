"""How a learned context came about: the `training.json` of the run of `train_coop.py` it lies in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpt.files import bundled
from tpt.results.runs.manifest import leaves, with_public_names

NAME = "training.json"
LEVELS = 3  # the context's own path, its folder, and that folder's (prompt_learner/model.pth.tar-50)


@dataclass(frozen=True)
class Training:
    """One training run.

    Args:
        source: dataset the context was learned on; None where it is not said.
        shots: images of each class; None for all of them.
        settings: every value of its configuration by its dotted key.
    """

    source: str | None
    shots: int | None
    settings: dict[str, Any]


def training_of(context_path: str) -> Training | None:
    """The training run that a context's file or folder lies in; None where there is none, or none that can be read."""
    path = bundled(context_path)
    try:
        for folder in (path, *path.parents)[:LEVELS]:
            if (folder / NAME).is_file():
                return _read(folder / NAME)
    except (OSError, ValueError, RecursionError):  # a run that was copied elsewhere must not keep a table from being
        return None
    return None


def _read(file: Path) -> Training | None:
    content = json.loads(file.read_text("utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        return None
    settings = dict(leaves(with_public_names(content["config"])))
    shots = settings.get("shots.k")
    return Training(_source(settings), shots if isinstance(shots, int) else None, settings)


def _source(settings: dict[str, Any]) -> str | None:
    """The catalogue's key, the bundled domain, or the name of a user's folder."""
    for key in ("shots.key", "shots.draw.train.key", "shots.draw.train.domain", "shots.draw.train.name"):
        if isinstance(settings.get(key), str):
            return str(settings[key])
    root = settings.get("shots.draw.train.root")
    return Path(root).stem if isinstance(root, str) else None
