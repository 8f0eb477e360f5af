"""Checkpoints of training, written whole and looked at before anything is taken from them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from tpt.clip.weights.archive import read_checkpoint
from tpt.clip.weights.layouts import WeightsFileError
from tpt.engine.tasks.coop import CoCoOpTask, CoOpTask
from tpt.errors import UserError
from tpt.files import write_bytes

RUN = "run"  # where a checkpoint says which run it is of
_LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
_PROGRESS = ("ready", "started", "processed")


class CheckpointError(UserError):
    """A checkpoint that cannot be continued; the message says why, and what to use instead."""


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are whole or absent, whatever happens while they are written; read without running anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes one."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # on a full disk torch fails with an error of its own
        torch.save(checkpoint, content)
        write_bytes(content.getvalue(), Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads one, on the CPU; each of its parts has a checksum, which is compared."""
        return read_checkpoint(Path(path))


def run_of(path: Path) -> str:
    """A checkpoint's words about its run.

    Raises:
        CheckpointError: it is none of train_coop.py, or cannot be read.
    """
    said = _read(path)[RUN]
    if not isinstance(said, str):
        raise _unfit(path, "the run's settings are missing")
    return said


def check_checkpoint(path: Path, task: CoOpTask | CoCoOpTask, trainer: Trainer) -> None:
    """Checks that this run can continue a checkpoint.

    It must have been written behind an epoch that was run to its end: from within one, other images would follow.

    Args:
        path: of the checkpoint, `last.ckpt` or `best.ckpt`.
        task: made with the settings of the run.
        trainer: made with them as well.

    Raises:
        CheckpointError: it is none of train_coop.py, of another learner, damaged, or from within an epoch.
    """
    content = _read(path)
    try:
        _same_tensors(content["state_dict"], task.learned())
        _same_loops(content["loops"], trainer)
        epochs = _epochs_done(content, task)
        _same_optimizer(content, task, epochs)
        _same_callbacks(content["callbacks"], trainer)
    except _UnfitError as unfit:
        raise _unfit(path, _brief(unfit)) from unfit
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError, OverflowError) as error:
        _refuse(path, error)


def _unfit(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"Expected a checkpoint that this run can go on from, but in {path} {why}; continue from last.ckpt of the run, "
        "with its settings, or start it anew."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_checkpoint(path)
    except OSError as error:
        raise CheckpointError(
            f"Expected a checkpoint at {path}, but it cannot be read ({error.strerror or error}); check the path, or "
            "start the run anew."
        ) from error
    except WeightsFileError as error:
        raise CheckpointError(str(error)) from error
    parts = {"state_dict": Mapping, "loops": Mapping, "callbacks": Mapping, "optimizer_states": list}
    if not all(isinstance(content.get(name), kind) for name, kind in parts.items()) or RUN not in content:
        raise CheckpointError(
            f"Expected a checkpoint of train_coop.py in `resume`, but {path} is none: it does not say where training "
            "was; give last.ckpt of a run. (test_time.py takes what other programs learned, as context.path.)"
        )
    return content


def _refuse(path: Path, error: Exception) -> NoReturn:
    raise CheckpointError(
        f"Expected what train_coop.py wrote in {path}, but it is damaged ({type(error).__name__}: {_brief(error)}); "
        "start the run anew."
    ) from error


def _brief(error: Exception) -> str:
    """In one line, however large the values it shows."""
    return " ".join(str(error)[:2000].split())[:300]


class _UnfitError(Exception):
    """What is wrong with a checkpoint, as a phrase."""


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise _UnfitError(otherwise)


def _same_tensors(found: Any, learned: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    expected = {name: tuple(value.shape) for name, value in learned.items()}
    _expect(shapes == expected, f"there is {shapes} where this run learns {expected}")
    for name, value in found.items():
        good = isinstance(value, Tensor) and value.dtype == learned[name].dtype and bool(value.isfinite().all())
        _expect(good, f"{name} is not of finite single-precision numbers")


def _same_loops(found: Any, trainer: Trainer) -> None:
    for name in _LOOPS:
        _alike(found[name], getattr(trainer, name).state_dict(), name)


def _alike(found: Any, fresh: Any, where: str) -> None:
    """Raises if `found` is not built like `fresh`: keys, lengths and kinds."""
    _expect(type(found) is type(fresh), f"{where} is a {type(found).__name__}, not a {type(fresh).__name__}")
    if isinstance(fresh, Mapping):
        _expect(found.keys() == fresh.keys(), f"{where} has other entries than it should")
        for key in fresh:
            _alike(found[key], fresh[key], f"{where}.{key}")
    elif isinstance(fresh, list):
        _expect(len(found) == len(fresh), f"{where} has {len(found)} entries, not {len(fresh)}")
        for i, (one, other) in enumerate(zip(found, fresh, strict=True)):
            _alike(one, other, f"{where}.{i}")
    elif isinstance(fresh, int):
        _expect(0 <= found < 2**62, f"{where} is {found}")


def _epochs_done(content: Mapping[str, Any], task: CoOpTask | CoCoOpTask) -> int:
    """How many epochs were run to their end; all counters must agree on it."""
    epoch, step, loop = content["epoch"], content["global_step"], content["loops"]["fit_loop"]
    _expect(type(epoch) is int and 0 <= epoch < task.epochs, f"epoch {epoch!r} is none of {task.epochs}")
    of_epochs = [loop["epoch_progress"][part][name] for part in ("total", "current") for name in _PROGRESS]
    whole = loop["epoch_loop.batch_progress"]["is_last_batch"] and of_epochs == [epoch + 1] * len(of_epochs)
    _expect(bool(whole), f"training is within epoch {epoch}, not behind it")
    taken = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    _expect(type(step) is int and step == taken > epoch, f"{step!r} steps are counted where {taken} were taken")
    return int(epoch) + 1


def _same_optimizer(content: Mapping[str, Any], task: CoOpTask | CoCoOpTask, epochs: int) -> None:
    """Raises if optimizer or schedule are not those of the run after `epochs` epochs."""
    fresh = task.configure_optimizers()
    optimizer, schedule = fresh["optimizer"], fresh["lr_scheduler"]["scheduler"].state_dict()
    _expect(len(content["optimizer_states"]) == len(content["lr_schedulers"]) == 1, "there is no single optimizer")
    (state,), (found,) = content["optimizer_states"], content["lr_schedulers"]
    groups = optimizer.state_dict()["param_groups"]
    _alike(state["param_groups"], groups, "param_groups")
    rate = task.schedule(epochs, base=groups[0]["initial_lr"])
    for group, expected in zip(state["param_groups"], groups, strict=True):
        changed = [key for key in expected if key != "lr" and group[key] != expected[key]]
        _expect(not changed, f"the optimizer's {' and '.join(changed)} are not those of this run")
        _expect(math.isclose(group["lr"], rate, rel_tol=1e-9), f"the learning rate is {group['lr']}, not {rate}")
    _alike(found, schedule, "lr_schedulers")
    at = (found["last_epoch"], found["_step_count"], found["base_lrs"])
    _expect(at == (epochs, epochs + 1, schedule["base_lrs"]), "the schedule is at another epoch")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    _expect(set(state["state"]) in (set(), {*range(len(parameters))}), "the optimizer knows other parameters")
    for index, values in state["state"].items():
        for name, value in values.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            good = value is None or (isinstance(value, Tensor) and bool(value.isfinite().all()))
            _expect(good and shape in ((), tuple(parameters[index].shape)), f"the optimizer's {name} is no such tensor")


def _same_callbacks(found: Any, trainer: Trainer) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if (fresh := callback.state_dict()) and callback.state_key in found:
            state = found[callback.state_key]
            _expect(
                isinstance(state, dict) and state.keys() >= fresh.keys() - {"best_k_models"}, "callbacks are others"
            )
            for name, value in state.items():
                of_kind = isinstance(value, str) if name.endswith(("path", "dirpath")) else _is_score(name, value)
                _expect(of_kind, f"the callbacks' {name} is of another kind")


def _is_score(name: str, value: Any) -> bool:
    """Whether a value is what Lightning keeps of the best epochs."""
    if name == "best_k_models":
        return isinstance(value, dict) and all(isinstance(k, str) and _is_score("", v) for k, v in value.items())
    if name == "monitor":
        return value is None or isinstance(value, str)
    return value is None or (isinstance(value, Tensor) and value.numel() == 1)


def use_threads(stored: Mapping[str, int] | None, device: torch.device, processes: int) -> dict[str, int]:
    """Fixes the number of threads that a process computes with on a CPU, if it moves last digits.

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
    """Knows whether a checkpoint was restored completely."""

    done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = True


@contextlib.contextmanager
def taking_up(path: Path | None, trainer: Trainer) -> Iterator[None]:
    """Around `trainer.fit`: blames the checkpoint for an error while it is restored.

    Args:
        path: of the checkpoint; None if there is none.
        trainer: that restores it.

    Raises:
        CheckpointError: in place of an error from inside.
    """
    if path is None:
        yield
        return
    restored = _Restored()
    callbacks: Sequence[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    trainer.callbacks = [*callbacks, restored]  # type: ignore[attr-defined]
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # raised by a library at values that it does not expect
        if restored.done:
            raise
        _refuse(path, error)
