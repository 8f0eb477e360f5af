"""Progress of training, by a clock that the tests set."""

from __future__ import annotations

import io
import logging
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tpt.engine.callbacks.progress import TrainingProgress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def epochs(bar: TrainingProgress, clock: Clock, first: int, count: int, seconds: float, steps: int = 2) -> None:
    """Passes `count` of ten epochs to the bar."""
    metrics = {"train/loss": 1.5, "train/accuracy": 50.0}
    trainer: Any = SimpleNamespace(
        current_epoch=first, max_epochs=10, global_step=first * steps, estimated_stepping_batches=10 * steps,
        callback_metrics={},
    )  # fmt: skip
    bar.on_train_start(trainer, None)  # type: ignore[arg-type]
    for epoch in range(first, first + count):
        trainer.current_epoch = epoch
        for step in range(steps):
            trainer.global_step += 1
            bar.on_train_batch_end(trainer, None, None, None, step)  # type: ignore[arg-type]
        clock.now += seconds
        trainer.callback_metrics = metrics
        bar.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    bar.on_train_end(trainer, None)  # type: ignore[arg-type]


def test_one_log_line_per_minute_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tpt.engine.callbacks.progress")
    clock = Clock()
    epochs(TrainingProgress(clock=clock), clock, 0, 10, 25.0)
    assert caplog.messages[0] == "epoch 3 of 10 (30 %), 02:55 left, loss 1.5, acc 50.0"
    assert caplog.messages[-1] == "epoch 10 of 10 (100 %), 00:00 left, loss 1.5, acc 50.0"
    assert len(caplog.messages) == 4


def test_only_the_first_process_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tpt.engine.callbacks.progress")
    clock, bar = Clock(), TrainingProgress(clock=Clock())
    bar.disable()
    epochs(bar, clock, 0, 10, 100.0)
    assert caplog.messages == []


def test_resumed_training_estimates_from_its_own_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tpt.engine.callbacks.progress")
    clock = Clock()
    epochs(TrainingProgress(clock=clock), clock, 8, 1, 60.0)
    assert caplog.messages == ["epoch 9 of 10 (90 %), 01:00 left, loss 1.5, acc 50.0"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_bar_fits(columns: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    clock = Clock()
    epochs(TrainingProgress(clock=clock), clock, 0, 5, 10.0)
    last = terminal.getvalue().split("\r")[-1].rstrip("\n")
    assert len(last) <= columns and "50%|" in last and "00:50 left" in last and caplog.messages == []
