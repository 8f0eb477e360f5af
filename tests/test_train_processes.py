"""Training in real processes that are killed; resumed, it learns the same context as an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tpt
from tests.processes import children, start, wait_until
from tpt.clip.prompts import ConditionalContext
from tpt.clip.prompts.checkpoint import LearnedContext, learned_tensors

SETTINGS = ("shots=folder", "shots.k=2", "batch_size=2", "logger=none")


@pytest.fixture
def small(image_tree: Path, noise_file: Callable[..., Path]) -> list[str]:
    """Settings of a small run: twelve pictures and a CLIP with random weights."""
    model = ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true"]
    return [*SETTINGS, *model, f"shots.root={image_tree}"]


def train(folder: Path, *arguments: str, code: int = 0) -> str:
    process = start(folder, *arguments, script="train_coop.py")
    _, errors = process.communicate(timeout=280)
    assert process.returncode == code and "Traceback" not in errors, errors
    return errors


def equal(one: LearnedContext, other: LearnedContext) -> bool:
    ours, theirs = learned_tensors(one), learned_tensors(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("learner", ["coop", "cocoop"])
def test_killed_at_random_moments(small: list[str], tmp_path: Path, learner: str, workers: int) -> None:
    """SIGKILL and SIGTERM in turn, also within the first epoch, do not change the learned contexts."""
    settings = [*small, f"learner={learner}", "learner.epochs=40"]
    train(tmp_path, *settings, "hydra.run.dir=whole", f"shots.num_workers={2 - workers}")
    generator, kills = random.Random(workers), 0
    more = ["hydra.run.dir=part", f"shots.num_workers={workers}"]
    process = start(tmp_path, *settings, *more, script="train_coop.py")
    while process.poll() is None and kills < 6:
        begun = (tmp_path / "part" / "training_run.json").exists
        wait_until(begun, process)
        time.sleep(generator.uniform(0, 2.5))
        process.send_signal(signal.SIGTERM if kills % 2 else signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        kills += process.returncode != 0
        process = start(tmp_path, "resume=part", script="train_coop.py")
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert kills >= 2
    whole, part = (tpt.load_context(tmp_path / run) for run in ("whole", "part"))
    assert isinstance(whole, ConditionalContext) == (learner == "cocoop") and equal(whole, part)
    best = [tpt.load_context(tmp_path / run / "context-best.safetensors") for run in ("whole", "part")]
    assert equal(*best)
    assert not list((tmp_path / "part").rglob(".*partial"))


@pytest.mark.slow
def test_a_killed_data_loading_worker_is_reported(small: list[str], tmp_path: Path) -> None:
    """The run ends with one sentence, whether this happens within an epoch or between two."""
    settings = [*small, "learner.epochs=400", "shots.num_workers=1", "hydra.run.dir=part"]
    process = start(tmp_path, *settings, script="train_coop.py")
    wait_until((tmp_path / "part" / "last.ckpt").exists, process)
    while process.poll() is None:
        for pid in children(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors and "Exception ignored" not in errors, errors
    assert process.returncode == 1 and errors.count("was killed, probably by the out-of-memory killer") == 1, errors


@pytest.mark.slow
def test_two_runs_at_once_in_one_directory(small: list[str], tmp_path: Path) -> None:
    """One run is refused, and the other learns its complete context."""
    both = [start(tmp_path, *small, "learner.epochs=60", "hydra.run.dir=a", script="train_coop.py") for _ in "ab"]
    errors = [process.communicate(timeout=280)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], errors
    (refusal,) = [line for line in "".join(errors).splitlines() if line.startswith("Error: ")]
    assert str(tmp_path / "a") in refusal and "choose another hydra.run.dir" in refusal
    assert "Traceback" not in "".join(errors)
    train(tmp_path, *small, "learner.epochs=60", "hydra.run.dir=b")
    assert equal(tpt.load_context(tmp_path / "a"), tpt.load_context(tmp_path / "b"))
