"""Runs with several loggers, debug options, tags and notes, printed settings, and Optuna."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.fabric.loggers.tensorboard as fabric_tensorboard
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import OmegaConf

from tests.conftest import Done
from tpt.engine.tracking.guard import guarded
from tpt.errors import UserError
from tpt.results.runs import read_records
from tpt.results.tables.results import objective

Run = Callable[..., Done]


@pytest.fixture
def logged(small: list[str]) -> list[str]:
    """Settings of a small run, without `logger=none`."""
    return [a for a in small if a != "logger=none"]


def results(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return found


def test_several_loggers(run_script: Run, logged: list[str], tmp_path: Path) -> None:
    """TensorBoard gets the same metrics as CSV, and the settings, tags and notes; `debug=profiler` changes nothing."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run_script(
        "test_time.py", *logged, "logger=[csv,tensorboard]", "tags=[mine,2]", "notes='for the paper'", "debug=profiler"
    )
    assert "test_step" in (tmp_path / "run" / "test-profile.txt").read_text() and results(tmp_path / "run")["complete"]
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    last = found.Scalars("test/average/acc")[-1]
    assert last.value == pytest.approx(results(tmp_path / "run")["averages"]["acc"], abs=1e-3)
    header = (tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {k for k in header if k.startswith("test/")} <= set(found.Tags()["scalars"])
    hyperparameters = OmegaConf.load(tmp_path / "run" / "tensorboard" / "hparams.yaml")
    assert hyperparameters["views.num_views"] == 10 and hyperparameters["choices.method"] == "tpt"
    texts = {name: found.Tensors(name)[0].tensor_proto.string_val[0].decode() for name in found.Tags()["tensors"]}
    assert texts["notes/text_summary"] == "for the paper" and texts["tags/text_summary"].endswith("folder, mine, 2")


@pytest.mark.slow
def test_mlflow(run_script: Run, logged: list[str], tmp_path: Path) -> None:
    """All runs in a working directory log to one database."""
    tracking = pytest.importorskip("mlflow.tracking")
    for name in ("a", "b"):
        run_script("test_time.py", *logged, "logger=mlflow", "tags=[mine]", "notes=careful", f"hydra.run.dir={name}")
    client = tracking.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tpt"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"a", "b"} and {run.info.status for run in runs.values()} == {"FINISHED"}
    found = runs["a"].data
    assert found.metrics["test/average/acc"] == pytest.approx(results(tmp_path / "a")["averages"]["acc"])
    assert found.params["views.num_views"] == "10" and found.params["label"] == "tpt"
    assert found.tags["mlflow.note.content"] == "careful" and found.tags["tags"].endswith("folder, mine")


def test_a_run_continues_without_its_logging_server(
    run_script: Run, logged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run_script("test_time.py", *logged, "logger=[csv,mlflow]")
    (line,) = [line for line in (tmp_path / "run" / "test_time.log").read_text().splitlines() if "mlflow" in line]
    assert "The logger mlflow failed (" in line and "continues without it" in line
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file() and results(tmp_path / "run")["complete"]
    wrong = ("logger=mlflow", "logger.mlflow.tracking_uri=carrier:pigeon", "hydra.run.dir=wrong")
    done = run_script("test_time.py", *logged, *wrong, ok=False)
    assert "Error: Cannot use logger=mlflow " in done.stderr and "carrier" in done.stderr


def test_a_missing_logger_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for flag in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(fabric_tensorboard, flag, False)
    with pytest.raises(UserError, match=r"pip install 'test-time-prompt-tuning\[tensorboard\]'"):
        guarded({"tensorboard": {"save_dir": tmp_path}}, lambda option: TensorBoardLogger(**option), tmp_path)


def test_training_with_several_loggers(run_script: Run, tmp_path: Path, image_tree: Path, noise_file: Any) -> None:
    pytest.importorskip("tensorboard")
    model = ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true"]
    shots = ["shots=folder", f"shots.root={image_tree}", "shots.k=1", "learner.epochs=1", "hydra.run.dir=run"]
    logged = ("logger=[csv,tensorboard]", "optimized_metric=train/loss", "notes=x", "debug=profiler")
    run_script("train_coop.py", *model, *shots, *logged)
    assert list((tmp_path / "run" / "tensorboard").glob("events*")) and (tmp_path / "run" / "csv").is_dir()
    assert "run_training_epoch" in (tmp_path / "run" / "fit-profile.txt").read_text()
    run_script("train_coop.py", *model, *shots[:-1], "debug=limit", "hydra.run.dir=limit")
    about = json.loads((tmp_path / "limit" / "training.json").read_text())
    assert about["notes"][0].endswith("each epoch used at most 2 batches, not the whole training set")
    assert not [n for n in json.loads((tmp_path / "run" / "training.json").read_text())["notes"] if "an epoch" in n]


def test_one_batch_of_each_dataset(run_script: Run, logged: list[str], tmp_path: Path) -> None:
    """A run with `debug=fdr` is marked incomplete."""
    run_script("test_time.py", *logged, "debug=fdr")
    assert read_records(tmp_path / "run").num_rows == 2 and not results(tmp_path / "run")["complete"]


def test_a_run_with_few_batches_is_completed(run_script: Run, logged: list[str], tmp_path: Path) -> None:
    """Resuming without `debug=limit` completes it, with other tags and notes; printed settings are the stored ones."""
    done = run_script("test_time.py", *logged, "debug=limit", "tags=[first]", "notes=one", "print_config=true")
    assert read_records(tmp_path / "run").num_rows == 4 and not results(tmp_path / "run")["complete"]
    text = done.stdout[: done.stdout.index("\ndataset ")]
    shown = OmegaConf.to_container(OmegaConf.create(text[: text.rindex("\n\n")]))
    assert shown == results(tmp_path / "run")["config"]
    changed = ("debug=none", "tags=[second]", "notes=two", "optimized_metric=acc_zero_shot")
    run_script("test_time.py", "resume=run", *changed)
    found = results(tmp_path / "run")
    assert found["complete"] and found["averages"]
    assert found["config"]["tags"] == ["second"] and found["config"]["notes"] == "two"


def test_the_objective_of_a_sweeper() -> None:
    found = {"acc": 50, "shifted": {"acc": 25.0}}
    assert objective("shifted.acc", found) == 25.0 and objective("acc", found) == 50.0
    assert objective(None, found) is None
    with pytest.raises(UserError, match="Expected `optimized_metric` to be one of acc, shifted.acc, null, got 'gian'"):
        objective("gian", found)


@pytest.mark.slow
def test_an_optuna_study_continues_in_another_sweep(run_script: Run, small: list[str], tmp_path: Path) -> None:
    """Two trials in one sweep, and a third of the same study in another."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    settings = [a for a in small if not a.startswith("hydra.run")]
    told = logging.getLogger("optuna").handlers
    search = [
        "-m",
        "search=optuna",
        "method.selection_p=0.5",
        "method.steps=choice(1,2)",
        "method.lr=interval(0.01,0.1)",
    ]
    done = run_script("test_time.py", *search, *settings, "hydra.sweeper.n_trials=2", "hydra.sweep.dir=first")
    assert not done.stderr
    logging.getLogger("optuna").handlers[:] = told
    with sqlite3.connect(tmp_path / "first" / "study.db") as study:
        values = [value for (value,) in study.execute("select value from trial_values order by trial_id")]
    assert values == [results(tmp_path / "first" / job)["averages"]["acc"] for job in "01"]
    best = OmegaConf.load(tmp_path / "first" / "optimization_results.yaml")
    assert best.best_value == max(values) and best.best_params.keys() == {"method.steps", "method.lr"}

    more = [f"hydra.sweeper.storage=sqlite:///{tmp_path}/first/study.db", "hydra.sweeper.n_trials=1"]
    run_script("test_time.py", *search, *settings, *more, "hydra.sweep.dir=second")
    with sqlite3.connect(tmp_path / "first" / "study.db") as study:
        assert study.execute("select count(*) from trials where state='COMPLETE'").fetchone() == (3,)
    whole = run_script("test_time.py", *search[:-2], *settings, "method.steps=interval(1,4)", ok=False)
    assert "Expected `method.steps` to be a whole number of at least 0 or paper, got 1.0" in whole.stderr
    alone = run_script("test_time.py", "search=optuna", *settings, ok=False)
    assert "Expected -m for a sweep, got a single run; add -m, or choose a job by method.steps=VALUE" in alone.stderr
    run_script("test_time.py", "resume=first/1")  # a single job can be resumed
    done = run_script("test_time.py", "resume=first", ok=False)
    assert "Expected a sweep with fixed jobs in `resume`" in done.stderr


@pytest.mark.slow
def test_a_sweep_over_a_glob_pattern(run_script: Run, small: list[str], tmp_path: Path) -> None:
    """It can be resumed, and settings are checked before its jobs start."""
    settings = [a for a in small if not a.startswith("hydra.run")]
    pattern = ["-m", "method=glob(zero*)", "data.limit=1", "hydra.sweep.dir=all"]
    run_script("test_time.py", *pattern, *settings)
    run_script("test_time.py", "resume=all")
    found = [results(tmp_path / "all" / job)["choices"]["method"] for job in "01"]
    assert found == ["zero", "zero_shot"] and not (tmp_path / "all" / "2").exists()
    done = run_script("test_time.py", *pattern, *settings, "method.gamma=2,3", ok=False)
    assert "Expected `method.gamma`" in done.stderr and done.stderr.count("\n") == 1
