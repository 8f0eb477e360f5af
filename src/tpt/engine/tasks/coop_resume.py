"""Checkpoints of training, written whole with a digest, which is compared before anything is taken from them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tpt.engine import stop
from tpt.engine.tasks.coop import CoCoOpTask, CoOpTask
from tpt.errors import UserError
from tpt.files import read_bytes, write_bytes

log = logging.getLogger(__name__)

RUN = "run"  # where a checkpoint says which run it is of
SEAL = b"tpt blake2b "
SEAL_BYTES = len(SEAL) + 64
MOST_BYTES = 2**34


class CheckpointError(UserError):
    """A checkpoint that cannot be continued; the message says why, and what to use instead."""


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are whole or absent, whatever happens while they are written; read without running anything.

    The digest of a file is its zip archive's comment: one file, which every reader of checkpoints still reads.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes one."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        archive = io.BytesIO()  # on a full disk torch fails with an error of its own
        torch.save(checkpoint, archive)
        body = archive.getvalue()[:-2] + SEAL_BYTES.to_bytes(2, "little")  # an archive ends in its comment's length
        with stop.holding():  # the epoch is done, and a moment later it is kept
            write_bytes(body + _seal(body), Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads one, on the CPU; raises a CheckpointError if it is damaged."""
        return _read(Path(path))


def run_of(path: Path) -> str:
    """A checkpoint's words about its run.

    Raises:
        CheckpointError: it is none of train_coop.py, or cannot be read.
    """
    return str(_read(path)[RUN])


def check_checkpoint(path: Path, task: CoOpTask | CoCoOpTask) -> None:
    """Checks that this run can continue a checkpoint.

    It must have been written behind an epoch that was run to its end: from within one, other images would follow.

    Args:
        path: of the checkpoint, `last.ckpt` or `best.ckpt`.
        task: made with the settings of the run.

    Raises:
        CheckpointError: it is none of train_coop.py, of another learner, damaged, or from within an epoch.
    """
    content = _read(path, say=True)
    try:
        found = {name: tuple(value.shape) for name, value in content["state_dict"].items()}
        whole = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    except (KeyError, TypeError, AttributeError) as error:
        raise _unfit(path, f"there is no state of training ({type(error).__name__})") from error
    learned = {name: tuple(value.shape) for name, value in task.learned().items()}
    if found != learned:
        raise _unfit(path, f"there is {found} where this run learns {learned}")
    if not whole:
        raise _unfit(path, f"training is within epoch {content.get('epoch')}, not behind it")


def _seal(body: bytes) -> bytes:
    return SEAL + hashlib.blake2b(body, digest_size=32).hexdigest().encode()


def _read(path: Path, say: bool = False) -> dict[str, Any]:
    """The content of a checkpoint; `say` notes in the log that one has no digest."""
    try:
        file = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"Expected a checkpoint at {path}, but it cannot be read ({error.strerror or error}); check the path, or "
            "start the run anew."
        ) from error
    body, seal = file[:-SEAL_BYTES], file[-SEAL_BYTES:]
    sealed = seal.startswith(SEAL)
    if sealed and seal != _seal(body):
        raise CheckpointError(f"{path} is damaged: its digest is another; continue from a copy, or start the run anew.")
    try:
        if not sealed and zipfile.ZipFile(io.BytesIO(file)).testzip() is not None:
            raise zipfile.BadZipFile
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        if not isinstance(content[RUN], str):
            raise TypeError
    except Exception as error:  # anything may be in it, and a damaged archive raises nearly anything
        raise CheckpointError(
            f"Expected a checkpoint of train_coop.py in `resume`, but {path} is damaged or another program's "
            f"({type(error).__name__}); give last.ckpt of a run. (test_time.py takes what other programs learned, as "
            "context.path.)"
        ) from error
    if say and not sealed:
        log.warning("%s has no digest, as of release 0.1; its parts' checksums are right.", path)
    return dict(content)


def _unfit(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"Expected a checkpoint that this run can continue, but in {path} {why}; continue from last.ckpt of the run, "
        "with its settings, or start it anew."
    )


def use_threads(stored: Mapping[str, int] | None, device: torch.device, processes: int) -> dict[str, int]:
    """Sets a process's number of threads on a CPU, where it affects rounding.

    Args:
        stored: of the run that is continued, or of its first process; None divides the cores anew.
        device: that will do the work.
        processes: of this machine.

    Returns:
        The division, for the manifest.
    """
    if device.type != "cpu":
        return {}
    threads = (stored or {}).get("threads") or max(1, torch.get_num_threads() // processes)
    torch.set_num_threads(threads)
    return {"threads": threads}


class _Restored(Callback):
    """Knows whether a checkpoint was restored completely; continues with the epoch behind it."""

    done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = True
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:  # given max_steps, Lightning would count the restored epoch twice
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
            loop.reset()


@contextlib.contextmanager
def taking_up(path: Path | None, trainer: Trainer) -> Iterator[None]:
    """Around `trainer.fit`: an error while a checkpoint is restored is reported as the checkpoint's.

    Args:
        path: of the checkpoint; None if there is none.
        trainer: that restores it.

    Raises:
        CheckpointError: in place of an error from inside.
    """
    restored = _Restored()
    trainer.callbacks.append(restored)  # type: ignore[attr-defined]
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # raised by a library at values that it does not expect
        if path is None or restored.done:
            raise
        what = " ".join(str(error)[:300].split())
        raise _unfit(path, f"there is what cannot be restored ({type(error).__name__}: {what})") from error
