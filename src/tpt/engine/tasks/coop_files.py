"""Files of a training run: checkpoints while it runs, contexts when it is done."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from tpt.clip.model import CLIP
from tpt.clip.prompts.checkpoint import load_context, save_context
from tpt.clip.prompts.export import export_public
from tpt.engine.tasks.coop import CoCoOpTask, CoOpTask

BEST = "best.ckpt"


class LastEpoch(ModelCheckpoint):
    """Keeps `last.ckpt`: the state behind the last epoch that was finished.

    A checkpoint from within an epoch could not be continued to the same numbers, so none is written if
    `max_steps` or the like cuts an epoch short.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(
            folder,
            filename="last",
            save_top_k=1,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing: there is one file, and it is the last."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing, in whatever directory it is continued."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if the epoch was run to its end."""
        if _is_whole(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def _is_whole(trainer: Trainer) -> bool:
    """Whether the current epoch was run to its end."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


class BestEpoch(ModelCheckpoint):
    """Keeps `best.ckpt`: the state behind the epoch of the highest validation accuracy, the first of equal ones.

    A run that is continued in another directory, or whose directory was moved, goes on comparing with the best so far.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(
            folder, filename="best", monitor="val/accuracy", mode="max", save_top_k=1, enable_version_counter=False
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if the epoch was run to its end, and is the best."""
        if _is_whole(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if the epoch was run to its end, and is the best."""
        if _is_whole(trainer):
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score, for the file of this directory."""
        score, path = state_dict["best_model_score"], str(Path(str(self.dirpath)) / BEST)
        if score is not None and Path(path).is_file():
            here = {"best_model_path": path, "kth_best_model_path": path, "best_k_models": {path: score}}
            super().load_state_dict({**state_dict, **here, "kth_value": score, "dirpath": self.dirpath})


def checkpoints(folder: str | Path, validates: bool) -> list[ModelCheckpoint]:
    """Callbacks that keep `last.ckpt`, written after every epoch, and `best.ckpt`, of the highest validation accuracy.

    Args:
        folder: where they are written.
        validates: whether there are validation images; without, there is no best.
    """
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # logs are in it
    last = LastEpoch(folder)
    if not validates:
        return [last]
    return [BestEpoch(folder), last]  # in this order: the last one knows which epoch is the best so far


def save_learned(
    folder: str | Path, task: CoOpTask | CoCoOpTask, clip: CLIP, public_layout: bool = False
) -> dict[str, str]:
    """Writes the learned context for this project and, if asked, for the official programs.

    Files: `context.safetensors` (the last epoch's, as the papers use) and, if there is a `best.ckpt`,
    `context-best.safetensors`; the same two as `prompt_learner/model.pth.tar-<epochs>` and `model-best.pth.tar`.

    Args:
        folder: of the run.
        task: after training.
        clip: the backbone.
        public_layout: also writes CoOp's layout, whose files hold the embedded class names (megabytes).

    Returns:
        What was written: its role -> path relative to `folder`.
    """
    folder, names = Path(folder), task.learner.class_names
    written: dict[str, Path] = {}
    if (folder / BEST).is_file():
        best = load_context(folder / BEST)
        written["best"] = save_context(folder / "context-best.safetensors", best, clip)
        if public_layout:
            written["best, public layout"] = export_public(folder, best, clip, names, task.epochs, best=True)
    last = task.context()
    written["last"] = save_context(folder / "context.safetensors", last, clip)
    if public_layout:  # the last file written is the one that the text file `checkpoint` names
        written["last, public layout"] = export_public(folder, last, clip, names, task.epochs)
    return {role: str(path.relative_to(folder)) for role, path in written.items()}
