"""Files of a training run: checkpoints during the run, contexts at its end."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from tpt.clip.prompts.checkpoint import load_context, save_context
from tpt.clip.prompts.export import export_public
from tpt.engine.tasks.coop import ContextTask

BEST = "best.ckpt"


class WholeEpochs(ModelCheckpoint):
    """Lightning's callback, but saves only after complete epochs: not after one that `max_steps` ended early.

    Resuming within an epoch would change the results.
    """

    def __init__(self, folder: str | Path, **settings: Any) -> None:
        super().__init__(folder, save_top_k=1, enable_version_counter=False, **settings)

    def _should_skip_saving_checkpoint(self, trainer: Trainer) -> bool:
        whole = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        return not whole or super()._should_skip_saving_checkpoint(trainer)


class LastEpoch(WholeEpochs):
    """Keeps `last.ckpt`: the state after the last finished epoch."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True)

    def state_dict(self) -> dict[str, Any]:
        """Empty: with only one file, no state is needed, and a run may be resumed in another directory."""
        return {}


class BestEpoch(WholeEpochs):
    """Keeps `best.ckpt`: the state after the epoch with the highest validation accuracy, the first if tied.

    A run that is resumed in another directory, or was moved, still compares with its best so far.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, filename="best", monitor="val/accuracy", mode="max")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score, for the file in this directory."""
        score, path = state_dict["best_model_score"], str(Path(str(self.dirpath)) / BEST)
        if score is not None and Path(path).is_file():
            here = {"best_model_path": path, "kth_best_model_path": path, "best_k_models": {path: score}}
            super().load_state_dict({**state_dict, **here, "kth_value": score, "dirpath": self.dirpath})


def checkpoints(folder: str | Path, validates: bool) -> list[ModelCheckpoint]:
    """Callbacks that keep `last.ckpt` and, with validation images, `best.ckpt`."""
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # it already has logs
    best = [BestEpoch(folder)] if validates else []
    return [*best, LastEpoch(folder)]  # in this order, so that last.ckpt includes the updated best score


def save_learned(folder: str | Path, task: ContextTask, public_layout: bool = False) -> dict[str, str]:
    """Writes the learned context for this project and, with `public_layout`, for the official programs.

    Files: `context.safetensors` (of the last epoch, which the papers use) and, if there is a `best.ckpt`,
    `context-best.safetensors`; in CoOp's layout `prompt_learner/model.pth.tar-<epochs>` and `model-best.pth.tar`, which
    also hold the embedded class names (megabytes).  Returns role -> path relative to `folder`.
    """
    folder, clip, names = Path(folder), task.clip, task.learner.class_names
    learned = {"best": load_context(folder / BEST)} if (folder / BEST).is_file() else {}
    learned["last"] = task.context()  # at the end, since the public layout's `checkpoint` names the file written last
    written: dict[str, Path] = {}
    for role, context in learned.items():
        file = folder / ("context.safetensors" if role == "last" else f"context-{role}.safetensors")
        written[role] = save_context(file, context, clip)
        if public_layout:
            path = export_public(folder, context, clip, names, task.epochs, best=role == "best")
            written[f"{role}, public layout"] = path
    return {role: str(path.relative_to(folder)) for role, path in written.items()}
