"""Files of a training run: checkpoints, written atomically with a digest that is verified on reading, and contexts."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tpt.clip.prompts.checkpoint import load_context, save_context
from tpt.clip.prompts.export import export_public
from tpt.data.shots import ShotsDataModule
from tpt.engine import stop
from tpt.engine.tasks.coop import ContextTask
from tpt.errors import UserError
from tpt.files import read_bytes, write_bytes

log = logging.getLogger(__name__)

BEST = "best.ckpt"
RUN = "run"  # key under which a checkpoint describes its run
SEAL = b"tpt blake2b "
SEAL_BYTES = len(SEAL) + 64
MOST_BYTES = 2**34


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
    best = [BestEpoch(folder)] if validates else []
    return [*best, LastEpoch(folder)]  # in this order, so that last.ckpt includes the updated best score


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints atomically, so that each is complete or absent; reads them without running code.

    The digest is the comment of the file's zip archive, so that every other program can still read it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint."""
        archive = io.BytesIO()  # in memory, because torch raises its own error if the disk is full
        torch.save(checkpoint, archive)
        # A zip archive without comment ends with the comment's length.
        body = archive.getvalue()[:-2] + SEAL_BYTES.to_bytes(2, "little")
        with stop.holding():  # the epoch is done; keep it before reacting to a signal
            write_bytes(body + _seal(body), Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint to the CPU; raises a UserError if it is damaged."""
        return _read(Path(path))


def run_of(path: Path) -> str:
    """A checkpoint's description of its run; raises a UserError if it is no checkpoint, or cannot be read."""
    return str(_read(path)[RUN])


def check_checkpoint(path: Path, task: ContextTask) -> None:
    """Checks that this run can resume from a checkpoint, with a task built from the run's settings.

    Raises:
        UserError: it is not from train_coop.py, from another learner, damaged, or from within an epoch, where the order
            of the remaining images is lost.
    """
    content = _read(path, say=True)
    try:
        found = {name: tuple(value.shape) for name, value in content["state_dict"].items()}
        whole = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    except (KeyError, TypeError, AttributeError) as error:
        raise _unfit(path, f"the training state is missing ({type(error).__name__})") from error
    learned = {name: tuple(value.shape) for name, value in task.learned().items()}
    if found != learned:
        raise _unfit(path, f"it holds {found}, and this run learns {learned}")
    if not whole:
        raise _unfit(path, f"training is within epoch {content.get('epoch')}, not after it")


def _seal(body: bytes) -> bytes:
    return SEAL + hashlib.blake2b(body, digest_size=32).hexdigest().encode()


def _read(path: Path, say: bool = False) -> dict[str, Any]:
    """The content of a checkpoint; `say` logs a warning if it has no digest."""
    try:
        file = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise UserError(f"Cannot read the checkpoint {path} ({error.strerror or error}). Check the path.") from error
    body, seal = file[:-SEAL_BYTES], file[-SEAL_BYTES:]
    sealed = seal.startswith(SEAL)
    if sealed and seal != _seal(body):
        raise _unfit(path, "its digest does not match, so it is damaged")
    try:
        if not sealed and zipfile.ZipFile(io.BytesIO(file)).testzip() is not None:
            raise zipfile.BadZipFile
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        if not isinstance(content[RUN], str):
            raise TypeError
    except Exception as error:  # the file may contain anything, and a damaged archive can raise almost any error
        raise _unfit(path, f"it is no checkpoint of train_coop.py, or damaged ({type(error).__name__})") from error
    if say and not sealed:
        log.warning("%s has no digest, as of release 0.1; its parts' checksums are right.", path)
    return dict(content)


def _unfit(path: Path, why: str) -> UserError:
    return UserError(
        f"This run cannot resume from {path}: {why}. Continue from last.ckpt of the run, with its settings, or start a "
        "new run."
    )


class _Restored(Callback):
    """Records whether a checkpoint was restored completely; resumes with the epoch after it."""

    done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = True
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:  # with max_steps, Lightning would count the restored epoch twice
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
            loop.reset()


def fit(trainer: Trainer, task: ContextTask, data: ShotsDataModule, checkpoint: Path | None = None) -> None:
    """Trains, from a checkpoint if given; raises a UserError if its state cannot be restored."""
    restored = _Restored()
    trainer.callbacks.append(restored)  # type: ignore[attr-defined]
    try:
        trainer.fit(task, data, ckpt_path=checkpoint)
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # raised by libraries on unexpected values
        if checkpoint is None or restored.done:
            raise
        what = " ".join(str(error)[:300].split())
        raise _unfit(checkpoint, f"its state cannot be restored ({type(error).__name__}: {what})") from error


def unused_batches(trainer: Trainer) -> list[str]:
    """A note if an epoch of training did not use all its batches, as with `debug=limit`."""
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and limit == 1:
        return []
    much = f"{limit} batches" if isinstance(limit, int) else f"{limit:.0%} of its batches"
    return [f"trainer.limit_train_batches or fast_dev_run: each epoch used at most {much}, not the whole training set"]


def use_threads(stored: Mapping[str, int] | None, device: torch.device, processes: int) -> dict[str, int]:
    """Sets the number of threads on a CPU, where it affects rounding; returns it for the manifest.

    It is that of the resumed run or the first process, or else this process's share of the cores.
    """
    if device.type != "cpu":
        return {}
    threads = (stored or {}).get("threads") or max(1, torch.get_num_threads() // processes)
    torch.set_num_threads(threads)
    return {"threads": threads}


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
