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
    done = run_script("test_time.py", "data.limit=3", "views.num_views=16", "method.selection_p=0.25")
    results = result(tmp_path)
    (run_dir,) = run_dirs(tmp_path)
    assert list(results["datasets"]) == ["twemoji", "emojione", "emojione_monotone", "fxemoji"]
    records = read_records(run_dir)
    assert records.schema.equals(RECORD_SCHEMA) and records.num_rows == 12
    for name, found in results["datasets"].items():
        rows = records.filter(pc.equal(records["dataset"], name)).to_pylist()
        assert len(rows) == found["images"] == 3
        assert found["acc"] == pytest.approx(100 * sum(r["pred"] == r["label"] for r in rows) / 3, abs=1e-3)
        before = 100 * sum(r["pred_zero_shot"] == r["label"] for r in rows) / 3
        assert found["acc_zero_shot"] == pytest.approx(before, abs=1e-3)
        assert found["gain"]["points"] == pytest.approx(found["acc"] - before, abs=1e-3)
        assert found["gain"]["low"] <= found["gain"]["points"] <= found["gain"]["high"]
        assert found["entropy"] == pytest.approx(sum(r["entropy"] for r in rows) / 3, abs=1e-4)
        assert found["selected_views"] == 4 and all(len(set(r["selected"])) == 4 for r in rows)
        assert found["acc5"] >= found["acc"] and found["ece"] >= 0 and found["images_per_second"] > 0
        assert found["notes"] == [f"3 of {found['size']} images, drawn with seed 0"]
        assert name in done.stdout and f"{found['acc']:.2f}" in done.stdout
    mean = sum(d["acc"] for d in results["datasets"].values()) / 4
    assert results["averages"]["acc"] == pytest.approx(mean)
    assert results["method"] == "tpt" and results["seed"] == 0
    assert results["config"]["method"]["steps"] == 1 and results["sessions"][0]["versions"]["tpt"] == tpt.__version__
    assert results["backbone"]["fingerprint"] == tpt.load_clip("emoji-mini").fingerprint()  # unchanged by the run
    assert "acc" in (run_dir / "csv" / "metrics.csv").read_text().splitlines()[0]


def test_own_folder_and_names(run_script: Run, tmp_path: Path, image_tree: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("shirt\npussy cat\nballoon\n")
    run_script("test_time.py", "data=folder", f"data.root={image_tree}", f"data.class_names={names}", *SMALL)
    assert list(result(tmp_path)["datasets"]) == ["pictures"]


@pytest.mark.parametrize("name", ["../../x", "..", "é" * 300, "=1+1\t"])
def test_any_dataset_name(run_script: Run, tmp_path: Path, small: list[str], name: str) -> None:
    """A dataset may have a name that is not a valid file name."""
    named = f"data.name={for_hydra(name)}"
    run_script("test_time.py", *small, "method=zero_shot", named, "data.limit=3")
    assert set(read_records(tmp_path / "run")["dataset"].to_pylist()) == {name}
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())["datasets"]) == [name]
    run_script("test_time.py", "resume=run")
    assert not [path for path in tmp_path.rglob("*.parquet") if path.parent != tmp_path / "run" / "records"]


def test_zero_shot_has_no_gain(run_script: Run, tmp_path: Path, small: list[str]) -> None:
    run_script("test_time.py", *small, "method=zero_shot", "method.templates=imagenet_7")
    found = json.loads((tmp_path / "run" / "results.json").read_text())["datasets"]["pictures"]
    assert found["acc"] == found["acc_zero_shot"] and found["gain"]["points"] == 0 and found["selected_views"] == 1


def test_a_sweep_with_a_failing_job(run_script: Run, tmp_path: Path, small: list[str]) -> None:
    """The job that selects no view reports it; the other jobs have results and one table."""
    arguments = ("views.num_views=8,16", "method.selection_p=0.1,0.5", "data.limit=4", "hydra.sweep.dir=s")
    done = run_script("test_time.py", "-m", *small, *arguments, ok=False)
    found = [json.loads(path.read_text())["config"] for path in tmp_path.glob("s/*/results.json")]
    settings = {(c["views"]["num_views"], c["method"]["selection_p"]) for c in found}
    assert settings == {(v, p) for v in (8, 16) for p in (0.1, 0.5)} - {(8, 0.1)}
    assert done.stderr.count("selects no view. Use num_views=10 or more") == 1 and "views.num_views=8" in done.stderr
    assert done.stderr.endswith("1 of 4 jobs failed; see above. resume=s runs what is missing.\n")
    assert len(re.findall(r"\ntpt \(.*\) +\S+ +\d", done.stdout)) == 3
    assert "More, with figures: tpt-report s --figures DIR" in done.stdout


def test_skipped_images_are_counted_and_listed(run_script: Run, tmp_path: Path, image_tree: Path) -> None:
    (image_tree / "cat" / "1.png").write_bytes(b"broken")
    arguments = ("data=folder", f"data.root={image_tree}", *SMALL)
    done = run_script("test_time.py", *arguments, ok=False)
    assert "cat/1.png (no picture)" in done.stderr and "data.on_bad_image=skip" in done.stderr
    done = run_script("test_time.py", *arguments, "data.on_bad_image=skip")
    found = result(tmp_path)["datasets"]["pictures"]
    assert found["images"] == 11 and [u["path"] for u in found["unanswered"]] == ["cat/1.png"]
    assert "1 images without an answer" in done.stdout


def test_records_from_before_an_error_are_kept(run_script: Run, tmp_path: Path, image_tree: Path) -> None:
    (image_tree / "hot air balloon" / "3.png").write_bytes(b"broken")
    run_script("test_time.py", "data=folder", f"data.root={image_tree}", *SMALL, "data.batch_size=1", ok=False)
    (records,) = tmp_path.glob("runs/*/records")
    assert read_records(records)["path"].to_pylist()[-1] == "hot air balloon/2.png"
    assert read_records(records).num_rows == 11


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["method.stps=3"], "Expected a setting that exists, got 'method.stps'; did you mean method.steps"),
        (["steps=2"], "Expected a setting that exists, got 'steps'; did you mean method.steps"),
        (["--experiment", "x"], "got '--experiment'; write settings as KEY=VALUE, without dashes"),
        (["method.steps"], "Expected KEY=VALUE, got 'method.steps'"),
        (["context.ctx_init=a_photo_of_a_[CLS]"], """write 'context.ctx_init="a_photo_of_a_[CLS]"'"""),
        (["experiment=table1"], "add -m, or choose a job by backbone=VALUE row=VALUE"),
        (["experiment=[table1,smoke]"], "add -m, or choose a job by row=VALUE"),
        (["method._target_=tpt.Nothing"], "in `method._target_`, got tpt.Nothing, which does not exist"),
        (["views.num_views=8"], "selects no view. Use num_views=10 or more, or selection_p=0.125 or more"),
        (["trainer.inference_mode=true"], "set trainer.inference_mode=false"),
        (["trainer.accelerator=foo"], "Lightning cannot run these `trainer` settings on this machine: "),
        (["trainer.strategy=foo"], "Lightning cannot run these `trainer` settings on this machine: "),
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


def test_a_run_cleans_up_the_environment(run_script: Run, small: list[str]) -> None:
    """Otherwise programs started later would treat this process as the parent of their run."""
    before = {*os.environ}
    run_script("test_time.py", *small, "data.limit=2")
    assert not {name for name in {*os.environ} - before if name.startswith(("TPT_", "LOCAL_", "MASTER_", "WORLD_"))}
