"""One command per table: rows, sweeps, and what they print side by side."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT, compose_config

ROWS = {
    "clip": ("zero_shot", "words"),
    "ensemble": ("zero_shot", "words"),
    "coop": ("zero_shot", "coop"),
    "cocoop": ("zero_shot", "cocoop"),
    "tpt": ("tpt", "words"),
    "tpt_coop": ("tpt", "coop"),
    "tpt_cocoop": ("tpt", "cocoop"),
}
EXPERIMENTS = sorted(p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml"))


def test_every_row_has_a_file() -> None:
    assert {p.stem for p in (ROOT / "conf" / "row").glob("*.yaml")} == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_rows_choose_method_and_context(row: str, tmp_path: Path) -> None:
    cfg = compose_config("test_time", f"row={row}", "learned.coop=A", "learned.cocoop=B", tmp_path=tmp_path)
    method, context = ROWS[row]
    assert cfg.method._target_ == {"zero_shot": "tpt.ZeroShot", "tpt": "tpt.TPT"}[method]
    assert cfg.context.get("path") == {"words": None, "coop": "A", "cocoop": "B"}[context]
    assert bool(cfg.method.get("templates")) == (row == "ensemble")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_say_their_command_and_compose(experiment: str, tmp_path: Path) -> None:
    first, second, *_ = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert first == "# @package _global_" and f"experiment={experiment}" in second
    cfg = compose_config("test_time", f"experiment={experiment}", tmp_path=tmp_path)
    OmegaConf.resolve(cfg)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(folder.rglob("results.json"))]


def test_a_sweep_is_one_command(run_script: Callable[..., Any], tmp_path: Path) -> None:
    run_script("test_time.py", "-m", "experiment=ablation_steps", "data.limit=2", "views.num_views=10", "logger=none",
               f"hydra.sweep.dir={tmp_path / 'sweep'}")  # fmt: skip
    assert [run["config"]["method"]["steps"] for run in rows_of(tmp_path / "sweep")] == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_table1_fills_every_row(run_script: Callable[..., Any], tmp_path: Path) -> None:
    for learner in ("coop", "cocoop"):
        run_script("train_coop.py", f"learner={learner}", "learner.epochs=1", "learner.n_ctx=2", "batch_size=16",
                   "shots.classes=base", "logger=none", f"hydra.run.dir={tmp_path / learner}")  # fmt: skip
    run_script("test_time.py", "-m", "experiment=table1_smoke", "data.limit=2", "logger=none",
               f"learned.coop={tmp_path / 'coop'}", f"learned.cocoop={tmp_path / 'cocoop'}",
               f"hydra.sweep.dir={tmp_path / 'sweep'}")  # fmt: skip
    found = rows_of(tmp_path / "sweep")
    assert [run["method"] for run in found] == ["clip", "ensemble", "coop", "cocoop", "tpt", "tpt+coop", "tpt+cocoop"]
    assert all(len(run["datasets"]) == 5 and "shifted" in run["averages"] for run in found)


def test_a_row_without_its_context_says_what_to_set(run_script: Callable[..., Any]) -> None:
    done = run_script("test_time.py", "row=tpt_coop", "data.limit=2", "logger=none", ok=False)
    assert "set context.path, or learned.coop and learned.cocoop" in done.stderr
