"""Runs of every episodic method have equal records after a resume, and close ones on two processes.

Records of stream methods depend neither on the batch size nor on the datasets before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plain_streams import STREAMS
from tests.conftest import ROOT, Done
from tests.processes import QUICK
from tpt.results.runs import read_records

Run = Callable[..., Done]
OPTIONS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
METHODS = [name for name in OPTIONS if name not in STREAMS]
ALL = [name if name == "rtpt" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


def settings(small: list[str], method: str, noise_file: Callable[..., Path]) -> list[str]:
    """Settings of a small run; R-TPT needs 21 views, and another noise CLIP is RLCF's reward model."""
    kept = [a for a in small if not a.startswith(("hydra.run", "views.num_views"))]
    reward = ["backbone@method.reward=file", f"method.reward.pretrained={noise_file('vit', 2)}"]
    more = [*reward, "method.reward.quick_gelu=true", "method.sample_k=2"] if method == "rlcf" else []
    return [*kept, f"method={method}", "views.num_views=24", *more]


def records(folder: Path) -> Any:
    return read_records(folder).drop_columns("seconds")


def assert_close(one: Path, other: Path, tolerance: float) -> None:
    """Asserts that the records of two runs are equal, floats up to a tolerance."""
    for found, expected in zip(records(one).to_pylist(), records(other).to_pylist(), strict=True):
        for key, value in expected.items():
            measured = isinstance(value, float) or key == "top_confidence"
            assert found[key] == (pytest.approx(value, abs=tolerance, rel=0) if measured else value), key


@pytest.mark.parametrize("method", ALL)
def test_resumed_runs_have_equal_records(
    run_script: Run, small: list[str], noise_file: Callable[..., Path], tmp_path: Path, stop_after: Any, method: str
) -> None:
    given = settings(small, method, noise_file)
    run_script("test_time.py", *given, "hydra.run.dir=whole")
    stop_after(3)
    run_script("test_time.py", *given, "hydra.run.dir=part", ok=False)
    stop_after(-1)
    assert 0 < records(tmp_path / "part").num_rows < 12
    run_script("test_time.py", "resume=part")
    assert records(tmp_path / "part").equals(records(tmp_path / "whole"))
    assert records(tmp_path / "whole").num_rows == 12


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_the_same_records(
    run_script: Run, small: list[str], noise_file: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    given = settings(small, method, noise_file)
    run_script("test_time.py", *given, "hydra.run.dir=one")
    two = ["trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2", "hydra.run.dir=two"]
    command = [sys.executable, str(ROOT / "test_time.py"), *given, *two]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "two", tmp_path / "one", 1e-5)


@pytest.mark.parametrize(
    "method", [name if name == "tda" else pytest.param(name, marks=pytest.mark.slow) for name in STREAMS]
)
def test_batch_size_does_not_change_records_of_a_stream(
    run_script: Run, small: list[str], noise_file: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    given = settings(small, method, noise_file)
    run_script("test_time.py", *given, "hydra.run.dir=two")
    run_script("test_time.py", *given, "hydra.run.dir=five", "data.batch_size=5")
    assert_close(
        tmp_path / "five", tmp_path / "two", 5e-5 if method == "dota" else 0
    )  # DOTA's images of a batch share sums


def test_each_dataset_is_a_separate_stream(run_script: Run, tmp_path: Path) -> None:
    given = ["method=tda", "method.feature=confident", "method.positive_alpha=1", "data.limit=4", *QUICK]
    for name, domains in {"both": "[emojione,twemoji]", "alone": "[twemoji]"}.items():
        run_script("test_time.py", *given, f"data.module.datasets.domains={domains}", f"hydra.run.dir={name}")
    both, alone = (records(tmp_path / name).to_pylist() for name in ("both", "alone"))
    assert [row for row in both if row["dataset"] == "twemoji"] == alone and len(both) == 8
    notes = json.loads((tmp_path / "both" / "results.json").read_text())
    assert "positive_alpha=1, in the method's paper 2" in json.dumps(notes)
    assert "feature=confident, in the method's paper view0" in json.dumps(notes)
