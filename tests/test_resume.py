"""Stopped, resumed and damaged runs, in this process; `test_processes.py` kills real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from filelock import FileLock

import tpt
from tests.conftest import Done, noise_image, save_tree
from tpt.data import EpisodeDataModule
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.files import PARTIAL
from tpt.results.runs import read_logits, read_manifest, read_records, read_records_and_notes
from tpt.results.runs.records import shard_files, write_shard

Run = Callable[..., Done]
NOTES = 'notes="\\${x} of ${oc.env:PATH}"'  # a text that looks like a reference, and a reference


def without_time(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_records(run).drop_columns(["seconds"]).to_pylist()
    return rows


@pytest.fixture(scope="module")
def image_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of two images, for three batches and three shards; a test that changes it makes a copy."""
    return save_tree(tmp_path_factory.mktemp("shared") / "pictures", per_class=2)


@pytest.fixture
def small(small: list[str]) -> list[str]:
    """Settings of a small run that also records logits and second classes."""
    return [*small, "callbacks.records.logits=true", "callbacks.records.top=2"]


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Path, Done]]:
    """Runs that tests share, and what they printed; each test changes its own copy."""
    return {}


@pytest.fixture
def finished(run_script: Run, small: list[str], tmp_path: Path, tmp_path_factory: Any, made: Any) -> Done:
    """A copy of a finished run in `run`, and what it printed."""
    if "finished" not in made:
        folder = tmp_path_factory.mktemp("finished") / "run"
        made["finished"] = folder, run_script("test_time.py", *small, NOTES, f"hydra.run.dir={folder}")
    folder, done = made["finished"]
    shutil.copytree(folder, tmp_path / "run")
    return done


@pytest.fixture
def whole(finished: Done, made: Any) -> list[dict[str, Any]]:
    """The records of an uninterrupted run."""
    return without_time(made["finished"][0])


def test_stopped_and_resumed(
    run_script: Run, small: list[str], tmp_path: Path, whole: list[dict[str, Any]], stop_after: Any
) -> None:
    """Resuming a twice stopped run ends with equal records and logits, and keeps the logs of earlier sessions."""
    run, logged = tmp_path / "part", [*(a for a in small if a != "logger=none"), "callbacks.metrics.every_n_images=2"]
    signals = {signal.SIGINT: (130, "Interrupted"), signal.SIGUSR1: (138, "Stopped by SIGUSR1")}
    logs = []
    for count, (number, (code, word)) in enumerate(signals.items(), 1):
        stop_after(1, number)
        done = run_script("test_time.py", *logged, "hydra.run.dir=part", "resume=auto", ok=False)
        assert done.returncode == code and word in done.stderr and done.stderr.endswith("part.\n")
        assert read_records(run).num_rows == 2 * count and not (run / "results.json").exists()
        logs.append((run / "csv" / "metrics.csv").read_text())
    stop_after(-1)
    run_script("test_time.py", f"resume={run}", "data.num_workers=1")
    assert without_time(run) == whole
    assert read_logits(run).drop_columns("seconds").equals(read_logits(tmp_path / "run").drop_columns("seconds"))
    results = json.loads((run / "results.json").read_text())
    assert results["complete"] and len(results["sessions"]) == 3
    assert [(run / f"csv_{number}" / "metrics.csv").read_text() for number in (1, 2)] == logs
    assert "test/pictures/acc" in (run / "csv" / "metrics.csv").read_text()


def test_resuming_a_finished_run(run_script: Run, finished: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the table again and computes nothing."""
    monkeypatch.setattr(AdaptationTask, "test_step", lambda *_: pytest.fail("an image was tested again"))
    again = run_script("test_time.py", "resume=run")
    assert again.stderr == ""
    tables = [done.stdout[done.stdout.index("dataset ") :].split("\nresults.json")[0] for done in (finished, again)]
    assert tables[0] == tables[1] and "tpt" in tables[0]


def start_files(run: Path) -> dict[str, str]:
    """The files that say how a run was started, by name."""
    hydras = {path.name: path.read_text() for path in (run / ".hydra").iterdir()}
    return {"start.json": (run / "start.json").read_text(), **hydras}


@pytest.mark.usefixtures("finished")
def test_other_settings_are_refused(run_script: Run, small: list[str], tmp_path: Path) -> None:
    """Refused settings do not change the files that say how the run was started, on resume or on a new start."""
    run = tmp_path / "run"
    before = start_files(run)
    start = json.loads(before["start.json"])
    assert set(before) == {"start.json", "config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "seed: 0" in before["config.yaml"] and start["program"] == "test_time"
    assert set(start["settings"]) == {a for a in small if "run.dir" not in a} | {NOTES}  # the reference as given
    assert json.loads((run / "run.json").read_text())["config"]["notes"] == f"${{x}} of {os.environ['PATH']}"
    others = ("method.steps=3", "callbacks.records.top=3", "callbacks.records.logits=false")
    done = run_script("test_time.py", "resume=run", *others, ok=False)
    for change in ("method.steps was 1 and is 3", "top was 2 and is 3", "logits was True and is False"):
        assert change in done.stderr
    assert "; continue with the same" in done.stderr
    done = run_script("test_time.py", *small, "seed=5", ok=False)
    assert "of an earlier run. Continue it with resume=" in done.stderr
    assert start_files(run) == before
    (run / ".hydra" / "overrides.yaml").write_text("- method.ste")  # resuming does not read Hydra's files
    run_script("test_time.py", "resume=run", "data.num_workers=1")
    assert start_files(run) == before | {"overrides.yaml": "- method.ste"}


@pytest.mark.usefixtures("finished")
def test_an_image_that_changed_or_vanished_is_named(run_script: Run, tmp_path: Path, image_tree: Path) -> None:
    shutil.copytree(image_tree, tmp_path / "own" / "pictures")
    picture = tmp_path / "own" / "pictures" / "cat" / "1.png"
    before = picture.read_bytes()
    noise_image(77).save(picture)
    done = run_script("test_time.py", "resume=run", "data.root=own/pictures", ok=False)
    assert "cat/1.png has changed since the run" in done.stderr
    picture.unlink()
    done = run_script("test_time.py", "resume=run", "data.root=own/pictures", ok=False)
    assert "datasets.pictures.size was 6 and is 5" in done.stderr and "notes" not in done.stderr
    picture.write_bytes(before)
    run_script("test_time.py", "resume=run", "data.root=own/pictures")


def test_changed_weights_or_class_names_are_refused(
    run_script: Run, small: list[str], tmp_path: Path, noise_file: Callable[..., Path]
) -> None:
    weights, names = tmp_path / "weights.safetensors", tmp_path / "names.txt"
    weights.write_bytes(noise_file("vit", 1).read_bytes())
    names.write_text("a\nb\nc\n")
    files = (f"backbone.pretrained={weights}", f"data.class_names={names}")
    run_script("test_time.py", *small, *files, "data.limit=2")
    assert {*read_records(tmp_path / "run")["class_name"].to_pylist()} <= {"a", "b", "c"}
    names.write_text("a\nb\nd\n")
    assert "names.txt was" in run_script("test_time.py", "resume=run", ok=False).stderr
    names.write_text("a\nb\nc\n")
    weights.write_bytes(noise_file("vit", 2).read_bytes())
    assert "backbone.fingerprint was" in run_script("test_time.py", "resume=run", ok=False).stderr


@pytest.mark.parametrize("damage", ["truncated", pytest.param("flipped", marks=pytest.mark.slow)])
def test_a_damaged_shard_is_computed_again(run_script: Run, tmp_path: Path, whole: list[Any], damage: str) -> None:
    """The incomplete file of a killed process, which readers ignore, is removed as well."""
    shard = shard_files(tmp_path / "run")[2]
    half = shard.with_name(f".1-abc{PARTIAL}")
    half.write_bytes(shard.read_bytes()[:100])
    assert len(pyarrow.parquet.read_table(shard.parent)) == 6
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        del content[-5:]
    else:
        content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    done = run_script("test_time.py", "resume=run")
    assert "is damaged: moving it to damaged" in done.stdout + done.stderr
    assert without_time(tmp_path / "run") == whole and (tmp_path / "run" / "damaged" / shard.name).exists()
    assert not half.exists()


def test_a_bad_image_ends_the_run_which_resumed_may_skip_it(
    run_script: Run, small: list[str], tmp_path: Path, image_tree: Path
) -> None:
    """Records from before the error are kept; skipped images are counted and listed."""
    shutil.copytree(image_tree, tmp_path / "own" / "pictures")
    (tmp_path / "own" / "pictures" / "cat" / "1.png").write_bytes(b"broken")
    done = run_script("test_time.py", *small, "data.root=own/pictures", "data.batch_size=1", ok=False)
    assert "cat/1.png (no picture)" in done.stderr and "data.on_bad_image=skip" in done.stderr
    assert read_records(tmp_path / "run")["path"].to_pylist() == ["T-shirt/0.png", "T-shirt/1.png", "cat/0.png"]
    done = run_script("test_time.py", "resume=run", "data.on_bad_image=skip")
    records = read_records(tmp_path / "run")
    assert records.num_rows == 6 and records["problem"].null_count == 5
    found = json.loads((tmp_path / "run" / "results.json").read_text())["datasets"]["pictures"]
    assert found["images"] == 5 and [u["path"] for u in found["unanswered"]] == ["cat/1.png"]
    assert "1 images without an answer" in done.stdout


def test_a_directory_in_use_is_refused(
    run_script: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpt.results.runs.claim.PATIENCE_S", 0.1)
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        done = run_script("test_time.py", *small, ok=False)
    assert "Another process is already writing to" in done.stderr


def test_an_image_without_finite_features_is_marked(
    run_script: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[dict[str, Any]]
) -> None:
    """The run continues and ends with exit code 3; the other images have the same answers."""
    encode = tpt.CLIP._encode
    calls = []

    def broken(self: tpt.CLIP, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        features = encode(self, images)
        if len(calls) == 3:
            features[12] = float("nan")  # a view of the third batch's second image
        return features

    monkeypatch.setattr(tpt.CLIP, "_encode", broken)
    done = run_script("test_time.py", *small, "hydra.run.dir=nan", ok=False)
    assert done.returncode == 3 and "without an answer: 1, such as hot air balloon/1.png" in done.stderr
    results = json.loads((tmp_path / "nan" / "results.json").read_text())
    (unanswered,) = results["datasets"]["pictures"]["unanswered"]
    assert unanswered["path"] == "hot air balloon/1.png" and "not finite" in unanswered["problem"]
    assert results["datasets"]["pictures"]["images"] == 5 and results["complete"]
    for row, expected in zip(without_time(tmp_path / "nan"), whole, strict=True):
        assert row["path"] == expected["path"]
        if row["problem"] is None:
            assert row["pred"] == expected["pred"] and row["entropy"] == pytest.approx(expected["entropy"], abs=1e-5)


def test_out_of_memory_is_handled_and_recorded(
    run_script: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[dict[str, Any]]
) -> None:
    """A huge allocation fails in passes of more than 8 views, and in tuning while `max_tokens` is above 5,000."""
    encode, adapt = tpt.CLIP._encode, tpt.TPT.adapt

    def hungry(self: tpt.CLIP, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 8:
            torch.empty(2**56)
        return encode(self, images)

    def hungry_too(self: tpt.TPT, *args: Any, **kwargs: Any) -> Any:
        if self.tuner.max_tokens > 5000:
            torch.empty(2**56)
        return adapt(self, *args, **kwargs)

    monkeypatch.setattr(tpt.CLIP, "_encode", hungry)
    monkeypatch.setattr(tpt.TPT, "adapt", hungry_too)
    run_script("test_time.py", *small, "hydra.run.dir=hungry")
    notes = read_records_and_notes(tmp_path / "hungry")[1]
    assert "out of memory: continued with at most 5 views per pass" in notes
    assert any("max_tokens=4096" in note for note in notes)
    for row, expected in zip(without_time(tmp_path / "hungry"), whole, strict=True):
        assert row["pred"] == expected["pred"] and row["entropy"] == pytest.approx(expected["entropy"], abs=1e-5)
    monkeypatch.setattr(tpt.CLIP, "_encode", lambda self, images: torch.empty(2**56))
    done = run_script("test_time.py", *small, "hydra.run.dir=none", ok=False)
    assert "Out of memory, even for the smallest batch" in done.stderr


def test_a_clock_that_runs_backwards_does_no_harm(
    run_script: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [2e9]

    def jumping() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr("time.time", jumping)
    run_script("test_time.py", *small, "data.limit=2")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["seconds"] > 0 and results["datasets"]["pictures"]["images_per_second"] > 0
    assert min(read_records(tmp_path / "run")["seconds"].to_pylist()) >= 0


MATRIX = [(batch, workers, shuffle) for batch in (1, 3, 8) for workers in (0, 2) for shuffle in ("listed", "shuffled")]


@pytest.mark.parametrize(
    "matrix", [[(3, 2, "shuffled")], pytest.param(MATRIX, marks=pytest.mark.slow)], ids=["part", "whole"]
)
def test_batches_workers_and_order_change_no_answer(
    run_script: Run, small: list[str], tmp_path: Path, matrix: list[Any], whole: list[dict[str, Any]]
) -> None:
    """Predictions and selections are equal, floats agree to 1e-5; workers have no effect at all.

    The quick part has the effect of workers in `test_stopped_and_resumed`.
    """
    found = {}
    for batch, workers, shuffle in matrix:
        name = f"{batch}-{workers}-{shuffle}"
        data = [f"data.batch_size={batch}", f"data.num_workers={workers}", f"data.order={shuffle}"]
        run_script("test_time.py", *small, *data, f"hydra.run.dir={name}")
        found[batch, workers, shuffle] = without_time(tmp_path / name)
    assert all(rows == found.get((batch, 0, shuffle), rows) for (batch, _, shuffle), rows in found.items())
    for rows in found.values():
        for row, expected in zip(rows, whole, strict=True):
            for key, value in (expected | {"position": row["position"]}).items():
                floats = isinstance(value, float) or key == "top_confidence"
                assert row[key] == (pytest.approx(value, abs=1e-5) if floats else value), key


@pytest.mark.parametrize(
    ("jobs", "batches", "finished"), [(2, 1, 0), pytest.param(3, 4, 1, marks=pytest.mark.slow)], ids=["first", "second"]
)
def test_a_sweep_is_resumed(
    run_script: Run, small: list[str], tmp_path: Path, stop_after: Any, jobs: int, batches: int, finished: int
) -> None:
    """A sweep that was stopped in its first or second job: stopped jobs and those not begun are run."""
    sweep = [a for a in small if not a.startswith("hydra.run")]
    steps = [*range(jobs)]
    swept = f"method.steps={','.join(map(str, steps))}"
    stop_after(batches)
    run_script("test_time.py", "-m", *sweep, swept, "hydra.sweep.dir=sweep", ok=False)
    done = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/records") if path.parent.name < f"{finished}"
    }
    assert len(list(tmp_path.glob("sweep/*/results.json"))) == finished == len(done)
    assert read_records(tmp_path / "sweep" / f"{finished}").num_rows == 2
    stop_after(-1)
    run_script("test_time.py", "resume=sweep")
    found = [read_manifest(p.parent)["config"]["method"] for p in sorted(tmp_path.glob("sweep/*/results.json"))]
    assert [method["steps"] for method in found] == steps
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())  # a finished job is left as it is


def test_batches_do_not_depend_on_completed_images(image_tree: Path) -> None:
    dataset = tpt.data.image_folder(image_tree)
    module = EpisodeDataModule([dataset], batch_size=5)
    every = module.batches(dataset)
    module.leave_out({"pictures": {0, 1, 2, 3, 4, 7}})
    assert module.batches(dataset) == every[1:]


@pytest.mark.usefixtures("finished")
def test_records_of_other_images_are_refused(run_script: Run, tmp_path: Path) -> None:
    rows = read_records(tmp_path / "run").to_pylist()[:1]
    write_shard([rows[0] | {"index": 99}], tmp_path / "run" / "records", "00-pictures-0000099")
    assert "holds a record of image 99 of 'pictures'" in run_script("test_time.py", "resume=run", ok=False).stderr


@pytest.mark.usefixtures("finished")
def test_recorded_logits_and_names(tmp_path: Path) -> None:
    rows = read_logits(tmp_path / "run").to_pylist()
    assert len(rows) == 6
    for row in rows:
        names = ["T-shirt", "cat", "hot air balloon"]  # the folders, sorted
        for end in ("", "_zero_shot"):
            logits = np.asarray(row[f"logits{end}"], dtype=np.float64)
            assert logits[row[f"pred{end}"]] == logits.max() and row[f"pred_name{end}"] == names[row[f"pred{end}"]]
            probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            assert probability.max() == pytest.approx(row[f"confidence{end}"], abs=0.01)  # logits have half precision
        assert row["class_name"] == names[row["label"]] and row["path"].startswith(row["class_name"])
        assert (
            row["top"][0] == row["pred"] and row["top_name"] == [names[k] for k in row["top"]] and len(row["top"]) == 2
        )
        assert row["top_confidence"][0] == row["confidence"] >= row["top_confidence"][1]
