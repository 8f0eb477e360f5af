"""Runs of test_time.py from the command line."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import tpt
from tests.conftest import Done
from tests.processes import start
from tpt.cli.quoting import for_hydra
from tpt.results.runs import RECORD_SCHEMA, read_records

Run = Callable[..., Done]
SMALL = ("views.num_views=8", "method.selection_p=0.5")


def run_dirs(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob("runs/**/results.json"))


def result(folder: Path) -> dict[str, Any]:
    (run_dir,) = run_dirs(folder)
    content: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return content


def test_default_run(run_script: Run, tmp_path: Path) -> None:
    """In a default run on fewer images, the table, records, results and metrics agree."""
    done = run_script("test_time.py", "data.limit=2", *SMALL)
    results = result(tmp_path)
    (run_dir,) = run_dirs(tmp_path)
    assert list(results["datasets"]) == ["twemoji", "emojione", "emojione_monotone", "fxemoji"]
    records = read_records(run_dir)
    assert records.schema.equals(RECORD_SCHEMA) and records.num_rows == 8
    for name, found in results["datasets"].items():
        rows = records.filter(pc.equal(records["dataset"], name)).to_pylist()
        assert len(rows) == found["images"] == 2
        assert found["acc"] == pytest.approx(100 * sum(r["pred"] == r["label"] for r in rows) / 2, abs=1e-3)
        before = 100 * sum(r["pred_zero_shot"] == r["label"] for r in rows) / 2
        assert found["acc_zero_shot"] == pytest.approx(before, abs=1e-3)
        assert found["gain"]["points"] == pytest.approx(found["acc"] - before, abs=1e-3)
        assert found["gain"]["low"] <= found["gain"]["points"] <= found["gain"]["high"]
        assert found["entropy"] == pytest.approx(sum(r["entropy"] for r in rows) / 2, abs=1e-4)
        assert found["selected_views"] == 4 and all(len(set(r["selected"])) == 4 for r in rows)
        assert found["acc5"] >= found["acc"] and found["ece"] >= 0 and found["images_per_second"] > 0
        assert found["notes"] == [f"2 of {found['size']} images, drawn with seed 0"]
        assert name in done.stdout and f"{found['acc']:.2f}" in done.stdout
    mean = sum(d["acc"] for d in results["datasets"].values()) / 4
    assert results["averages"]["acc"] == pytest.approx(mean)
    assert results["method"] == "tpt" and results["seed"] == 0
    assert results["config"]["method"]["steps"] == 1 and results["sessions"][0]["versions"]["tpt"] == tpt.__version__
    assert results["backbone"]["fingerprint"] == tpt.load_clip("emoji-mini").fingerprint()  # unchanged by the run
    assert "acc" in (run_dir / "csv" / "metrics.csv").read_text().splitlines()[0]


NAMES = ("../../x", "..", "é" * 300, "=1+1\t")


def named_folders(domains: list[str], root: str) -> list[tpt.data.ImageDataset]:
    """The same folder under several names."""
    return [tpt.data.image_folder(root, name=name) for name in domains]


def test_any_dataset_name(run_script: Run, tmp_path: Path, small: list[str]) -> None:
    """A dataset may have a name that is not a valid file name."""
    names = ",".join(map(for_hydra, NAMES))
    datasets = [f"data.module.datasets._target_={__name__}.named_folders", f"data.module.datasets.domains=[{names}]"]
    settings = [a for a in small if a != "data=folder"]
    run_script("test_time.py", *settings, "method=zero_shot", *datasets, "data.limit=3")
    assert set(read_records(tmp_path / "run")["dataset"].to_pylist()) == {*NAMES}
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())["datasets"]) == [*NAMES]
    run_script("test_time.py", "resume=run")
    assert not [path for path in tmp_path.rglob("*.parquet") if path.parent != tmp_path / "run" / "records"]


def test_zero_shot_has_no_gain(run_script: Run, tmp_path: Path, small: list[str]) -> None:
    """The run also cleans up the environment, so that programs started later are not taken for a part of it."""
    before = {*os.environ}
    run_script("test_time.py", *small, "method=zero_shot", "method.templates=imagenet_7")
    found = json.loads((tmp_path / "run" / "results.json").read_text())["datasets"]["pictures"]
    assert found["acc"] == found["acc_zero_shot"] and found["gain"]["points"] == 0 and found["selected_views"] == 1
    assert not {name for name in {*os.environ} - before if name.startswith(("TPT_", "LOCAL_", "MASTER_", "WORLD_"))}


def test_a_sweep_with_a_failing_job(run_script: Run, tmp_path: Path, small: list[str]) -> None:
    """The job that selects no view reports it; the other jobs have results and one table."""
    arguments = ("views.num_views=8,12,16", "method.selection_p=0.1", "data.limit=2", "hydra.sweep.dir=s")
    done = run_script("test_time.py", "-m", *small, *arguments, ok=False)
    found = [json.loads(path.read_text())["config"] for path in tmp_path.glob("s/*/results.json")]
    assert {c["views"]["num_views"] for c in found} == {12, 16}
    assert done.stderr.count("selects no view. Use num_views=10 or more") == 1 and "views.num_views=8" in done.stderr
    assert done.stderr.endswith("1 of 3 jobs failed; see above. resume=s runs what is missing.\n")
    assert len(re.findall(r"\ntpt \(.*\) +\S+ +\d", done.stdout)) == 2
    assert "More, with figures: tpt-report s --figures DIR" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["method.stps=3"], "Expected a setting that exists, got 'method.stps'; did you mean method.steps"),
        (["steps=2"], "Expected a setting that exists, got 'steps'; did you mean method.steps"),
        (["--experiment", "x"], "got '--experiment'; write settings as KEY=VALUE, without dashes"),
        (["method.steps"], "Expected KEY=VALUE, got 'method.steps'"),
        (["context.ctx_init=a_photo_of_a_[CLS]"], """write 'context.ctx_init="a_photo_of_a_[CLS]"'"""),
        (["experiment=table1"], "add -m, or choose a job by backbone=VALUE row=VALUE"),
        pytest.param(["experiment=[table1,smoke]"], "add -m, or choose a job by row=VALUE", marks=pytest.mark.slow),
        (["method._target_=tpt.Nothing"], "in `method._target_`, got tpt.Nothing, which does not exist"),
        (["views.num_views=8"], "selects no view. Use num_views=10 or more, or selection_p=0.125 or more"),
        (["trainer.inference_mode=true"], "set trainer.inference_mode=false"),
        (["trainer.accelerator=foo"], "Lightning cannot run these `trainer` settings on this machine: "),
        pytest.param(
            ["trainer.strategy=foo"],
            "Lightning cannot run these `trainer` settings on this machine: ",
            marks=pytest.mark.slow,
        ),
        (["data=folder", "data.root=/data/${x}"], "got: Interpolation key 'x' not found"),
        (
            ["+trainer.precision=16"],
            "Expected a setting that test_time.py takes, got `trainer.precision`: other precisions",
        ),
        (["method=[1,2]"], "Expected one option of `method`, got [1,2]; choose from atpt"),
        (["logger=null"], "Expected one option of `logger`, got null; choose from csv"),
        (["data=[dtd,food101]"], "or add -m and write data=A,B to try several"),
        (["learned=[1,2]"], "Error merging override learned=[1,2]"),
        (["experiment=transfer_contexts"], "In 'experiment/transfer_contexts': Could not override 'shots'"),
    ],
)
def test_a_mistake_gives_one_sentence(run_script: Run, arguments: list[str], sentence: str) -> None:
    views = [] if any("views" in argument for argument in arguments) else ["views.num_views=16"]
    done = run_script("test_time.py", *views, *arguments, ok=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(("Error:", "Error ["))]
    assert sentence in line
    assert done.returncode == 1


@pytest.mark.slow  # test_resume.py has the same in this process
def test_ctrl_c_prints_one_sentence(tmp_path: Path) -> None:
    process = start(tmp_path, "data.limit=null", "callbacks.records.shard_size=8")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/records/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert "Interrupted: completed work is kept; continue with resume=" in errors
    (records,) = tmp_path.glob("runs/*/records")
    assert read_records(records).num_rows >= 8
