"""Stopped, resumed and damaged runs, in this process; `test_processes.py` kills real processes."""

from __future__ import annotations

import json
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
from tests.conftest import Done, noise_image
from tpt.data import EpisodeDataModule
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.files import PARTIAL, write_json
from tpt.results.runs import read_logits, read_manifest, read_records, read_records_and_notes
from tpt.results.runs.records import shard_files, write_shard

Run = Callable[..., Done]


def without_time(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_records(run).drop_columns(["seconds"]).to_pylist()
    return rows


WHOLE: list[dict[str, Any]] = []  # kept between tests, which all use the same pictures and model


@pytest.fixture
def whole(run_script: Run, small: list[str], tmp_path: Path) -> list[dict[str, Any]]:
    """The records of an uninterrupted run."""
    if not WHOLE:
        run_script("test_time.py", *small, "hydra.run.dir=whole")
        WHOLE.extend(without_time(tmp_path / "whole"))
    return WHOLE


def test_stopped_and_resumed(run_script: Run, small: list[str], tmp_path: Path, whole: Any, stop_after: Any) -> None:
    """Resuming after each signal continues the run with equal records."""
    signals = {
        signal.SIGTERM: (143, "Terminated"),
        signal.SIGINT: (130, "Interrupted"),
        signal.SIGHUP: (129, "Stopped by SIGHUP"),
        signal.SIGUSR1: (138, "Stopped by SIGUSR1"),
    }
    for count, (number, (code, word)) in enumerate(signals.items(), 1):
        stop_after(1, number)
        done = run_script("test_time.py", *small, "resume=auto", ok=False)
        assert done.returncode == code and word in done.stderr and done.stderr.endswith("run.\n")
        assert read_records(tmp_path / "run").num_rows == 2 * count and not (tmp_path / "run" / "results.json").exists()
    stop_after(-1)
    run_script("test_time.py", f"resume={tmp_path / 'run'}", "data.num_workers=1")
    assert without_time(tmp_path / "run") == whole
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["complete"] and len(results["sessions"]) == 5


def test_resuming_a_finished_run(
    run_script: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints the table again and computes nothing."""
    first = run_script("test_time.py", *small)
    monkeypatch.setattr(AdaptationTask, "test_step", lambda *_: pytest.fail("an image was tested again"))
    again = run_script("test_time.py", "resume=run")
    assert again.stderr == ""
    first_table, second_table = (done.stdout[done.stdout.index("dataset ") :] for done in (first, again))
    assert second_table == first_table


def test_other_settings_are_refused(run_script: Run, small: list[str], tmp_path: Path, image_tree: Path) -> None:
    run_script("test_time.py", *small)
    done = run_script("test_time.py", "resume=run", "method.steps=3", ok=False)
    assert ": method.steps was 1 and is 3; continue with the same" in done.stderr
    done = run_script("test_time.py", *small, ok=False)
    assert "of an earlier run. Continue it with resume=" in done.stderr
    noise_image(99).save(image_tree / "cat" / "9.png")
    done = run_script("test_time.py", "resume=run", ok=False)
    assert "datasets.pictures.size was 12 and is 13" in done.stderr and "notes" not in done.stderr
    done = run_script("test_time.py", "resume=nowhere", ok=False)
    assert "There is no run or sweep of test_time.py in nowhere" in done.stderr
    (image_tree / "cat" / "9.png").unlink()
    (tmp_path / "run" / "run.json").write_text("{")
    done = run_script("test_time.py", "resume=run", ok=False)
    assert "start the run anew" in done.stderr


def test_changed_weights_or_class_names_are_refused(
    run_script: Run, small: list[str], tmp_path: Path, noise_file: Callable[..., Path]
) -> None:
    weights, names = tmp_path / "weights.safetensors", tmp_path / "names.txt"
    weights.write_bytes(noise_file("vit", 1).read_bytes())
    names.write_text("a\nb\nc\n")
    run_script("test_time.py", *small, f"backbone.pretrained={weights}", f"data.class_names={names}")
    names.write_text("a\nb\nd\n")
    assert "names.txt was" in run_script("test_time.py", "resume=run", ok=False).stderr
    names.write_text("a\nb\nc\n")
    weights.write_bytes(noise_file("vit", 2).read_bytes())
    assert "backbone.fingerprint was" in run_script("test_time.py", "resume=run", ok=False).stderr


@pytest.mark.parametrize("damage", ["truncated", pytest.param("flipped", marks=pytest.mark.slow)])
def test_a_damaged_shard_is_computed_again(
    run_script: Run, small: list[str], tmp_path: Path, whole: list[Any], damage: str
) -> None:
    run_script("test_time.py", *small)
    shard = shard_files(tmp_path / "run")[2]
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        del content[-5:]
    else:
        content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    done = run_script("test_time.py", "resume=run")
    assert "is damaged: moving it to damaged" in done.stdout + done.stderr
    assert without_time(tmp_path / "run") == whole and (tmp_path / "run" / "damaged" / shard.name).exists()


def test_an_image_that_changed_or_vanished_is_named(
    run_script: Run, small: list[str], tmp_path: Path, image_tree: Path
) -> None:
    run_script("test_time.py", *small)
    picture = image_tree / "cat" / "2.png"
    before = picture.read_bytes()
    noise_image(77).save(picture)
    done = run_script("test_time.py", "resume=run", ok=False)
    assert "cat/2.png has changed since the run" in done.stderr
    picture.unlink()
    assert "datasets.pictures.size was 12 and is 11" in run_script("test_time.py", "resume=run", ok=False).stderr
    picture.write_bytes(before)
    run_script("test_time.py", "resume=run")


def test_a_resumed_run_may_skip_bad_images(run_script: Run, small: list[str], tmp_path: Path, image_tree: Path) -> None:
    (image_tree / "hot air balloon" / "1.png").write_bytes(b"broken")
    run_script("test_time.py", *small, ok=False)
    run_script("test_time.py", "resume=run", "data.on_bad_image=skip")
    records = read_records(tmp_path / "run")
    assert records.num_rows == 12 and records["problem"].null_count == 11


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
    done = run_script("test_time.py", *small, ok=False)
    assert done.returncode == 3 and "without an answer: 1, such as cat/1.png" in done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (unanswered,) = results["datasets"]["pictures"]["unanswered"]
    assert unanswered["path"] == "cat/1.png" and "not finite" in unanswered["problem"]
    assert results["datasets"]["pictures"]["images"] == 11 and results["complete"]
    for row, expected in zip(without_time(tmp_path / "run"), whole, strict=True):
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
    run_script("test_time.py", *small)
    notes = read_records_and_notes(tmp_path / "run")[1]
    assert "out of memory: continued with at most 5 views per pass" in notes
    assert any("max_tokens=4096" in note for note in notes)
    for row, expected in zip(without_time(tmp_path / "run"), whole, strict=True):
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
    run_script("test_time.py", *small)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["seconds"] > 0 and results["datasets"]["pictures"]["images_per_second"] > 0
    assert min(read_records(tmp_path / "run")["seconds"].to_pylist()) >= 0


MATRIX = [(batch, workers, shuffle) for batch in (1, 3, 8) for workers in (0, 2) for shuffle in ("listed", "shuffled")]
PART = [(1, 0, "listed"), (3, 0, "shuffled"), (3, 2, "shuffled")]


@pytest.mark.parametrize("matrix", [PART, pytest.param(MATRIX, marks=pytest.mark.slow)], ids=["part", "whole"])
def test_batches_workers_and_order_change_no_answer(
    run_script: Run, small: list[str], tmp_path: Path, matrix: list[Any]
) -> None:
    """Predictions and selections are equal, floats agree to 1e-5; workers have no effect at all."""
    found = {}
    for batch, workers, shuffle in matrix:
        name = f"{batch}-{workers}-{shuffle}"
        data = [f"data.batch_size={batch}", f"data.num_workers={workers}", f"data.order={shuffle}"]
        run_script("test_time.py", *small, *data, f"hydra.run.dir={name}")
        found[batch, workers, shuffle] = without_time(tmp_path / name)
    reference = found[1, 0, "listed"]
    for (batch, _, shuffle), rows in found.items():
        assert rows == found[batch, 0, shuffle]
        for row, expected in zip(rows, reference, strict=True):
            for key, value in (expected | {"position": row["position"]}).items():
                floats = isinstance(value, float) or key == "top_confidence"
                assert row[key] == (pytest.approx(value, abs=1e-5) if floats else value), key


def test_a_sweep_is_resumed(run_script: Run, small: list[str], tmp_path: Path, stop_after: Any) -> None:
    sweep = [a for a in small if not a.startswith("hydra.run")]
    stop_after(8)
    run_script("test_time.py", "-m", *sweep, "method.steps=0,1,2", "hydra.sweep.dir=sweep", ok=False)
    assert len(list(tmp_path.glob("sweep/*/results.json"))) == 1
    stop_after(-1)
    untouched = (tmp_path / "sweep" / "0" / "records").stat().st_mtime_ns
    run_script("test_time.py", "resume=sweep")
    steps = [
        read_manifest(p.parent)["config"]["method"]["steps"] for p in sorted(tmp_path.glob("sweep/*/results.json"))
    ]
    assert steps == [0, 1, 2]
    assert (tmp_path / "sweep" / "0" / "records").stat().st_mtime_ns == untouched


def test_batches_do_not_depend_on_completed_images(image_tree: Path) -> None:
    dataset = tpt.data.image_folder(image_tree)
    module = EpisodeDataModule([dataset], batch_size=5)
    every = module.batches(dataset)
    module.leave_out({"pictures": {0, 1, 2, 3, 4, 7}})
    assert module.batches(dataset) == every[1:]


def test_records_of_other_images_are_refused(run_script: Run, small: list[str], tmp_path: Path) -> None:
    run_script("test_time.py", *small)
    rows = read_records(tmp_path / "run").to_pylist()[:1]
    write_shard([rows[0] | {"index": 99}], tmp_path / "run" / "records", "00-pictures-0000099")
    assert "holds a record of image 99 of 'pictures'" in run_script("test_time.py", "resume=run", ok=False).stderr


def test_logs_of_earlier_sessions_are_kept(run_script: Run, small: list[str], tmp_path: Path, stop_after: Any) -> None:
    settings = [a for a in small if a != "logger=none"]
    stop_after(3)
    run_script("test_time.py", *settings, "callbacks.metrics.every_n_images=2", ok=False)
    before = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    stop_after(-1)
    run_script("test_time.py", "resume=run")
    assert (tmp_path / "run" / "csv_1" / "metrics.csv").read_text() == before
    assert "test/pictures/acc" in (tmp_path / "run" / "csv" / "metrics.csv").read_text()


def test_partial_files_of_a_killed_process_are_removed(run_script: Run, small: list[str], tmp_path: Path) -> None:
    """Readers ignore a partial shard, and resuming deletes it."""
    run_script("test_time.py", *small)
    half = tmp_path / "run" / "records" / f".1-abc{PARTIAL}"
    half.write_bytes(shard_files(tmp_path / "run")[0].read_bytes()[:100])
    assert len(pyarrow.parquet.read_table(tmp_path / "run" / "records")) == 12
    run_script("test_time.py", "resume=run")
    assert not half.exists()


def test_logits_and_names_of_a_resumed_run(run_script: Run, small: list[str], tmp_path: Path, stop_after: Any) -> None:
    """They equal an uninterrupted run's, and resuming cannot change which columns are recorded."""
    keep = ["callbacks.records.logits=true", "callbacks.records.top=2"]
    run_script("test_time.py", *small, *keep, "hydra.run.dir=undisturbed")
    expected = read_logits(tmp_path / "undisturbed").drop_columns("seconds")
    stop_after(2)
    run_script("test_time.py", *small, *keep, ok=False)
    stop_after(-1)
    for other in ("callbacks.records.top=3", "callbacks.records.logits=false"):
        done = run_script("test_time.py", "resume=run", other, ok=False)
        assert f"{other.split('=')[0]} was" in done.stderr
    run_script("test_time.py", "resume=run", *keep)
    assert read_logits(tmp_path / "run").drop_columns("seconds").equals(expected)
    for row in expected.to_pylist():
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


def test_a_run_from_before_records_had_names_is_resumed(
    run_script: Run, small: list[str], tmp_path: Path, stop_after: Any
) -> None:
    stop_after(2)
    run_script("test_time.py", *small, ok=False)
    stop_after(-1)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    for key in ("top", "logits"):
        del manifest["config"]["callbacks"]["records"][key]
    write_json(manifest, tmp_path / "run" / "run.json")
    run_script("test_time.py", "resume=run")
    assert read_records(tmp_path / "run").num_rows == 12
