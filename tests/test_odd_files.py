"""Pipes and devices in place of files: readers neither block on a pipe nor read a device for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tpt
from tpt.cli.resume import read_start
from tpt.clip.texts import load_templates
from tpt.clip.weights.archive import read_checkpoint, read_safetensors, read_weights
from tpt.data.cache.shard import entries
from tpt.engine.tasks.coop_files import run_of
from tpt.errors import UserError
from tpt.results.runs import read_manifest, read_records
from tpt.results.runs.sweep import seconds_of
from tpt.results.runs.training import metrics_before, training_of

RAISE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "checkpoint": ("last.ckpt", read_checkpoint),
    "continued training": ("last.ckpt", run_of),
    "weights": ("model.pt", read_weights),
    "safetensors": ("a.safetensors", read_safetensors),
    "a context": ("context.safetensors", tpt.load_context),
    "a context's folder": ("context.safetensors", lambda path: tpt.load_context(path.parent)),
    "CoOp's folder": ("checkpoint", lambda path: tpt.load_context(path.parent)),
    "templates": ("a.txt", lambda path: load_templates(str(path))),
    "manifest": ("run.json", lambda path: read_manifest(path.parent)),
    "start": ("start.json", lambda path: read_start(path.parent)),
    "records": ("records/00-a-0000000.parquet", lambda path: read_records(path.parents[1])),
}
NOTHING: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "cached features": ("a.safetensors", lambda path: entries(path) or None),
    "time of a job": ("results.json", lambda path: seconds_of(path.parent)),
    "how a context came about": ("training.json", lambda path: training_of(str(path.parent))),
    "metrics of a training": ("training.json", lambda path: metrics_before(path.parent) or None),
}


@pytest.fixture(params=["pipe", "device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path) if request.param == "pipe" else path.symlink_to("/dev/zero")
        return path

    def late(*_: Any) -> None:
        raise AssertionError("it was waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield make
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("reader", RAISE)
def test_readers_of_required_files_raise(reader: str, odd: Callable[[str], Path]) -> None:
    name, read = RAISE[reader]
    with pytest.raises((UserError, OSError)):
        read(odd(name))


@pytest.mark.parametrize("reader", NOTHING)
def test_readers_of_optional_files_return_nothing(reader: str, odd: Callable[[str], Path]) -> None:
    name, read = NOTHING[reader]
    assert read(odd(name)) is None
