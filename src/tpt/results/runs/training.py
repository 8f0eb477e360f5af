"""The directory of a training run: its manifest, and the checkpoint from which it is resumed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpt.data.few_shot import Shots
from tpt.errors import UserError
from tpt.files import bundled, dotted_values, read_bytes, readable, write_bytes
from tpt.results.runs.claim import ClaimedDirectory
from tpt.results.runs.manifest import about_dataset, digests_of, manifest_of, with_public_names
from tpt.results.runs.settings import REGISTER
from tpt.results.runs.settings import TRAINING as PREFIX

log = logging.getLogger(__name__)

TRAINING = "training_run.json"
RESULTS = "training.json"
LAST, BEST = "last.ckpt", "best.ckpt"
CONTEXT = "context.safetensors"
FREE = tuple(
    key.removeprefix(PREFIX) for key, setting in REGISTER.items() if not setting.record and key.startswith(PREFIX)
)
MOST_READ = 20_000  # files whose contents are compared; evenly spaced ones if there are more
# Raised if a file is missing or damaged; a context that was copied without its run can still be tested.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class TrainingDirectory(ClaimedDirectory):
    """The state of a training run's directory: its manifest and its last checkpoint.

    `resume` is "auto" (from the directory's own checkpoint, if there is one), another checkpoint, or None (a new run).
    """

    manifest_name = TRAINING
    free = FREE
    marks = (TRAINING, LAST, CONTEXT)
    strangers = ("run.json",)
    files = (LAST, BEST, CONTEXT, "context-best.safetensors", RESULTS)

    def __init__(self, folder: Path, resume: str | None = None, first: bool = True) -> None:
        super().__init__(folder, resume is not None, first)
        own = folder / LAST
        self._given = own if resume in (None, "auto") else Path(str(resume))
        self._elsewhere = self._given.resolve() != own.resolve()
        self._of_checkpoint: dict[str, Any] | None = None  # manifest in the resumed checkpoint
        if self._elsewhere:
            self.is_new = True
            self.way_out = f"continue with the same, as resume={self._given.parent} does by itself, or start anew"

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint from which training resumes; None if it starts anew."""
        return self._given if self._elsewhere or (self.resume and self._given.exists()) else None

    def goes_on_from(self, said: str, config: Mapping[str, Any]) -> None:
        """Reads the manifest that `as_text` wrote into the resumed checkpoint, and compares its settings.

        Raises a UserError if it is damaged or they differ; images are compared later, when they are read.
        """
        with readable(f"the description of its run in {self._given}", "Start the run anew", UserError):
            self._of_checkpoint = manifest_of(said)
        self.refuse_different({"config": self._of_checkpoint["config"]}, {"config": config})

    def stored(self, key: str) -> Any:
        """The value of `key` in the manifest of the resumed run, or of this run's first process; None if missing."""
        return super().stored(key) if self._of_checkpoint is None else self._of_checkpoint.get(key)

    def begin(self, manifest: Mapping[str, Any], session: Mapping[str, Any]) -> None:
        """Takes the directory for this run, and writes the manifest with this session added.

        Raises a UserError if the directory is in use or holds another run, or if settings or images differ.
        """
        if not self.first:
            return
        self.take()
        alone = self._of_checkpoint is not None and not os.path.lexists(self.folder / self.manifest_name)
        sessions = [] if alone else self.earlier_sessions(manifest, session)
        if self._of_checkpoint is not None:
            before = self.same_run(self._of_checkpoint, manifest, session)
            sessions = sessions or before
        if self._elsewhere and (best := self._given.with_name(BEST)).is_file():
            write_bytes(read_bytes(best), self.folder / BEST)
        self.write(manifest, sessions, session)


def as_text(manifest: Mapping[str, Any], session: Mapping[str, Any]) -> str:
    """The manifest with this session, as text for a checkpoint."""
    return json.dumps({**manifest, "sessions": [dict(session)]}, default=str)


def metrics_before(folder: Path) -> dict[str, float]:
    """The metrics of a run that had finished before this start; empty otherwise."""
    with suppress(*UNREADABLE):
        found = json.loads(read_bytes(folder / RESULTS))["metrics"]
        return {str(name): float(value) for name, value in found.items()}
    return {}


def beside(context: str, read: Callable[[Path], Any]) -> Any:
    """The result of `read` for the directory of a learned context's training run; None if there is none.

    This directory is the context's path or one of the two folders above it, as in `prompt_learner/model.pth.tar-50`.
    """
    path = bundled(context)
    for folder in (path, path.parent, path.parent.parent):
        with suppress(*UNREADABLE):
            return read(folder)
    return None


def trained_on(path: str | None) -> list[str]:
    """Digests of the images that a learned context was trained on; empty if its training run is not found."""
    found = path and beside(path, lambda folder: manifest_of(read_bytes(folder / TRAINING))["contents"])
    return sorted({digest for place, digest in (found or {}).items() if place.startswith("train/")})


def about_shots(shots: Shots) -> dict[str, Any]:
    """The entries `datasets` and `contents` of a manifest, for training and validation images.

    If there are more than `MOST_READ` images, the contents of that many, evenly spaced, are recorded.
    """
    splits = {name: each for name, each in (("train", shots.train), ("val", shots.val)) if each is not None}
    places = [(split, dataset, index) for split, dataset in splits.items() for index in range(len(dataset))]
    if len(places) > MOST_READ:
        log.info("Of %d training images, the contents of %d are recorded.", len(places), MOST_READ)
        places = [places[i * len(places) // MOST_READ] for i in range(MOST_READ)]
    digests = digests_of([(dataset, index) for _, dataset, index in places])
    found = {
        f"{split}/{dataset.samples[index].path}": digest or "unreadable"  # training reports it
        for (split, dataset, index), digest in zip(places, digests, strict=True)
    }
    return {"datasets": {split: about_dataset(d) for split, d in splits.items()}, "contents": found}


@dataclass(frozen=True)
class Training:
    """One training run."""

    source: str | None  # dataset that the context was learned on; None if unknown
    shots: int | None  # images per class; None for all
    settings: dict[str, Any]  # every value of its configuration, by dotted key


def training_of(context_path: str) -> Training | None:
    """The training run of a context's file or folder; None if it is missing or cannot be read."""
    found: Training | None = beside(context_path, _read)
    return found


def _read(folder: Path) -> Training:
    settings = dict(dotted_values(with_public_names(dict(json.loads(read_bytes(folder / RESULTS))["config"]))))
    shots, root = settings.get("shots.k"), settings.get("shots.draw.train.root")
    # The catalogue's key, the bundled domain, or the name of a user's folder.
    keys = ("shots.key", "shots.draw.train.key", "shots.draw.train.domain", "shots.draw.train.name")
    names = [settings[key] for key in keys if isinstance(settings.get(key), str)]
    source = names[0] if names else Path(root).stem if isinstance(root, str) else None
    return Training(source, shots if isinstance(shots, int) else None, settings)
