"""Runs written by version 0.1 can be resumed and reported (golden/stored_runs/README.md: how they were made)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Done
from tpt.cli.programs import report
from tpt.results.runs import read_records

Run = Callable[..., Done]
STORED = Path(__file__).parent / "golden" / "stored_runs"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    shutil.copytree(STORED, tmp_path / "stored")
    return tmp_path / "stored"


def rows(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_records(run).drop_columns(["seconds"]).to_pylist()
    return found


def test_a_test_run_is_resumed(run_script: Run, stored: Path) -> None:
    before = rows(stored / "test")
    (stored / "test" / "results.json").unlink()
    next((stored / "test" / "records").glob("02-*")).unlink()
    run_script("test_time.py", f"resume={stored / 'test'}")
    after = rows(stored / "test")
    assert [row["path"] for row in after] == [row["path"] for row in before]
    for one, other in zip(before, after, strict=True):
        for name, value in one.items():
            if name == "position":  # version 0.1 did not record it
                continue
            near = isinstance(value, float) or name == "top_confidence"  # rounding depends on the processor
            assert other[name] == (pytest.approx(value, abs=1e-4) if near else value), name
    assert json.loads((stored / "test" / "results.json").read_text())["complete"]


def test_a_test_run_is_reported(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(stored / "test")])
    said = capsys.readouterr().out
    assert "twemoji" in said and "87.5" in said


def test_a_training_run_is_resumed(run_script: Run, stored: Path) -> None:
    run_script("train_coop.py", f"resume={stored / 'train'}", "++trainer.max_steps=3")
    assert json.loads((stored / "train" / "training.json").read_text())["metrics"]
    assert torch.load(stored / "train" / "last.ckpt", weights_only=True)["global_step"] == 3
