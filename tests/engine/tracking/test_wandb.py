"""Real offline runs of W&B, read with W&B's own record type."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import yaml
from PIL import Image
from wandb.proto import wandb_internal_pb2

from tests.conftest import ROOT, Done, compose_config
from tpt.engine.tracking import panels
from tpt.engine.tracking.guard import Guard, name_of, tags_of
from tpt.engine.tracking.logger import WandbLogger
from tpt.engine.tracking.panels import RANKED, RANKED_MEANS, WandbPanels
from tpt.results.runs.sweep import Sweep
from tpt.results.tables.classes import flips_of
from tpt.results.tables.runs import load_run

Run = Callable[..., Done]
DOCS = (ROOT / "docs" / "wandb.md").read_text()
FILE = ROOT / "sweeps" / "wandb.yaml"


@pytest.fixture(autouse=True)
def nothing_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def logged(small: list[str]) -> list[str]:
    """Settings of a small run that logs to W&B and tunes enough to change predictions."""
    return [*(a for a in small if a != "logger=none"), "logger=wandb", "method.lr=0.1"]


class Offline:
    """The content of an offline run."""

    def __init__(self, run_dir: Path) -> None:
        (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
        self.files = file.parent / "files"
        found = list(_records(file))
        deadline = time.monotonic() + 10
        while "exit" not in [kind for kind, _ in found] and time.monotonic() < deadline:
            time.sleep(0.1)  # a process of W&B writes it
            found = list(_records(file))
        self.run = next(record.run for kind, record in found if kind == "run")
        self.rows = [dict(map(_item, record.history.item)) for kind, record in found if kind == "history"]
        updates = (item for kind, record in found if kind == "summary" for item in record.summary.update)
        self.summary = dict(map(_item, updates))  # the last value of every key; W&B ranks runs by it
        self.config = dict(map(_item, self.run.config.update))

    def keys(self, *datasets: str) -> set[str]:
        """The logged keys, with `<dataset>` for dataset names, and without parts of media and W&B's own keys."""
        media = {key.removesuffix("/_type") for row in self.rows for key in row if key.endswith("/_type")}
        names = "|".join(datasets)
        plain = {key for row in self.rows for key in row if not key.startswith((*(f"{m}/" for m in media), "_"))}
        return {re.sub(rf"^test/({names})/", "test/<dataset>/", key) for key in plain | media}

    def table(self, key: str) -> list[dict[str, Any]]:
        (file,) = self.files.glob(f"media/table/{key}_[0-9]*.table.json")
        content = json.loads(file.read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]

    def last(self, key: str) -> Any:
        return [row[key] for row in self.rows if key in row][-1]


def offline_records(content: bytes) -> Iterator[bytes]:
    """The records of a W&B transaction log: a 7-byte file header, then LevelDB's log format in blocks of 32 KiB."""
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:  # a header never crosses a block's end
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def _records(file: Path) -> Iterator[tuple[str | None, Any]]:
    for data in offline_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record.WhichOneof("record_type"), record


def _item(item: Any) -> tuple[str, Any]:
    return item.key or "/".join(item.nested_key), json.loads(item.value_json)


def documented(heading: str) -> set[str]:
    """The keys in the first column of the table below a heading of docs/wandb.md."""
    lines = DOCS.split(heading)[1].strip().splitlines()
    rows: Iterator[str] = (line for line in lines if line.startswith("| `"))
    first = next(i for i, line in enumerate(lines) if line.startswith("| `"))
    end = next((i for i, line in enumerate(lines[first:], first) if not line.startswith("|")), len(lines))
    rows = iter(lines[first:end])
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_logged_keys_are_the_documented_ones(run_script: Run, logged: list[str], tmp_path: Path) -> None:
    """The run tests the bundled model's source domain and another one, so it has a shifted average."""
    settings = [a for a in logged if not a.startswith("data")]
    drawings = [
        "data.module.datasets.domains=[source_val,twemoji]",
        "data.limit=4",
        "method.steps=4",
        "callbacks.panels.sheets=1",
    ]
    run_script("test_time.py", *settings, *drawings, "callbacks.metrics.every_n_images=1")
    run = Offline(tmp_path / "run")
    assert run.keys("source_val", "twemoji") == documented("## Keys") | {"trainer/global_step"}
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert run.last("test/average/acc") == pytest.approx(found["averages"]["acc"])
    assert run.last("test/shifted/entropy") == pytest.approx(found["averages"]["shifted"]["entropy"])
    assert {row["trainer/global_step"] for row in run.rows} <= {4, 8}
    gain = found["datasets"]["twemoji"]["gain"]
    assert [run.last(f"test/twemoji/gain{end}") for end in ("", "_low", "_p")] == pytest.approx(
        [gain["points"], gain["low"], gain["p_value"]]
    )
    assert not any(key.endswith(("_target_", "_partial_")) for key in run.config)
    summary = run.summary
    assert summary["test/average/gain"] == pytest.approx(found["averages"]["gain"]["points"])
    assert {"test/twemoji/acc", "test/twemoji/gain"} <= summary.keys() and "test/twemoji/ece" not in summary
    plain = {key for key in summary if not isinstance(summary[key], str | list) and "/" in key and key.count("/") == 2}
    assert plain == {
        *(f"test/{name}/{key}" for name in ("average", "shifted") for key in RANKED_MEANS),
        *(f"test/{name}/{key}" for name in ("source_val", "twemoji") for key in RANKED),
    } | {key for key in plain if key.startswith(("test/flips", "test/re", "test/trust", "test/risk"))}  # parts of media


def test_keys_of_training_are_documented(run_script: Run, small: list[str], tmp_path: Path, image_tree: Path) -> None:
    model = [a for a in small if a.startswith("backbone")]
    shots = ["shots=folder", f"shots.root={image_tree}", "shots.k=2", "batch_size=3", "learner.epochs=1"]
    run_script("train_coop.py", *model, *shots, "logger=wandb", "hydra.run.dir=run")
    run = Offline(tmp_path / "run")
    assert run.keys("-") - {"trainer/global_step"} == documented("## Training")
    assert (run.run.job_type, run.run.display_name) == ("train_coop", "run")
    assert {"coop", "folder"} <= set(run.run.tags) and run.config["learner.epochs"] == 1


@pytest.mark.slow  # the keys of one run are tested above
def test_jobs_of_a_sweep_and_their_panels(run_script: Run, logged: list[str], tmp_path: Path) -> None:
    sweep = [a for a in logged if not a.startswith("hydra.run")]
    more = [
        "hydra.sweep.dir=mine",
        "method.steps=0,3",
        "logger.wandb.tags=[own]",
        "callbacks.panels.flips=2",
        "callbacks.panels.sheets=1",
    ]
    run_script("test_time.py", "-m", *sweep, *more)
    still, tuned = (Offline(tmp_path / "mine" / job) for job in "01")
    assert [run.run.display_name for run in (still, tuned)] == ["tpt steps=0", "tpt steps=3"]
    for run, steps in ((still, 0), (tuned, 3)):
        assert (run.run.run_group, run.run.job_type, run.run.project) == ("mine", "test_time", "tpt")
        assert {"tpt", "folder", "own"} < set(run.run.tags) and len(run.run.tags) == 4
        assert (run.config["method.steps"], run.config["choices.data"], run.config["label"]) == (steps, "folder", "tpt")
    assert still.table("test/flips") == []
    records = {r["path"]: r for r in load_run(tmp_path / "mine" / "1").records.to_pylist()}
    flips = tuned.table("test/flips")
    kinds = {record["path"]: kind for kind, record in flips_of(records.values(), len(records))}
    assert len(flips) == min(2, len(kinds)) > 0
    for flip in flips:
        record = records[flip["path"]]
        assert flip["kind"] == kinds[flip["path"]] and flip["prediction_before"] != flip["prediction_after"]
        assert flip["label"] == flip["path"].split("/")[0] and flip["dataset"] == "pictures"
        assert flip["confidence_after"] == pytest.approx(record["confidence"])
        assert flip["entropy_before"] == pytest.approx(record["entropy_zero_shot"])
    (line,) = tuned.table("test/report")
    found = json.loads((tmp_path / "mine" / "1" / "results.json").read_text())["datasets"]["pictures"]
    assert (line["method"], line["dataset"]) == ("tpt", "pictures")
    assert [line[key] for key in ("accuracy", "gain", "gain low")] == pytest.approx(
        [found["acc"], found["gain"]["points"], found["gain"]["low"]]
    )
    assert any("interval" in row["meaning"] for row in tuned.table("test/report_notes"))
    sheets = sorted(tuned.files.glob("media/images/test/pictures/contact_sheets_*.png"))
    assert not list(still.files.glob("media/images/**/contact_sheets_*.png"))  # nothing changed
    assert len(sheets) == 1 and all(Image.open(sheet).width > 600 for sheet in sheets)
    captions = tuned.last("test/pictures/contact_sheets/captions")
    assert all(flip["path"] in caption for flip, caption in zip(flips, captions, strict=False))


def test_the_command_of_an_agent(
    run_script: Run,
    logged: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Runs the sweep file's command as W&B's agent completes it, with a parameter file in the agent's format."""
    file = yaml.safe_load(FILE.read_text())
    assert file["method"] == "grid" and file["metric"] == {"name": "test/average/acc", "goal": "maximize"}
    assert file["metric"]["name"] in documented("## Keys")
    chosen = {key: {"value": about["values"][0]} for key, about in file["parameters"].items()}
    agent = importlib.import_module("wandb.sdk.launch.sweeps.utils")  # takes seconds to load
    filled = agent.create_sweep_command_args({"args": chosen})
    filled |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [file["program"]]}
    command = [part for c in file["command"] for part in (filled[c[2:-1]] if c in _macros(filled) else [c])]
    assert command[:3] == ["/usr/bin/env", "python", "test_time.py"] and "method.steps=1" in command
    request.addfinalizer(wandb.teardown)  # wandb caches the environment
    wandb.teardown()
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_RUN_ID", "first")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "parameters.yaml"))
    (tmp_path / "parameters.yaml").write_text(yaml.safe_dump({"wandb_version": 1, **chosen}))
    values = {key: about["values"] for key, about in file["parameters"].items()}
    for number in range(max(map(len, values.values()))):  # all values, in as few compositions as possible
        settings = [f"{key}={its[number % len(its)]}" for key, its in values.items()]
        assert compose_config("test_time", *settings, tmp_path=tmp_path)
    tiny = [a for a in logged if not a.startswith(("views", "hydra", "logger"))]
    run_script(
        "test_time.py", *command[3:], *tiny, "logger.wandb.offline=true", "method.selection_p=0.5", "data.limit=2"
    )
    run = Offline(tmp_path / "runs" / "wandb_abc" / "first")
    assert (run.run.run_id, run.run.sweep_id, run.config["method.steps"]) == ("first", "abc", 1)
    assert run.run.display_name == "" and run.run.run_group == ""
    assert not list(run.files.glob("media/images/test/*/contact_sheets*"))
    assert any("test/average/acc" in row for row in run.rows)


def _macros(filled: dict[str, Any]) -> set[str]:
    return {f"${{{name}}}" for name in filled}


def record(label: int, before: int, after: int, problem: str | None = None) -> dict[str, Any]:
    return {"label": label, "pred_zero_shot": before, "pred": after, "problem": problem}


def test_flips() -> None:
    """Kinds alternate, so that a hundred fixed images do not hide a broken one."""
    fixed, broken, changed = record(1, 0, 1), record(1, 1, 0), record(1, 0, 2)
    same, lost = record(1, 1, 1), record(1, 0, 1, "unreadable")
    records = [same, *[fixed] * 100, lost, broken, changed]
    assert [kind for kind, _ in flips_of(records, 5)] == ["fixed", "broken", "changed", "fixed", "fixed"]
    assert flips_of([same, lost], 5) == []


def test_labels(tmp_path: Path) -> None:
    chosen = {"data": "folder", "row": "null", "experiment": "table1", "method": "tpt"}
    manifest = {"method": "tpt", "backbone": {"name": "b" * 90}, "choices": chosen}
    assert tags_of(manifest) == ["tpt", "b" * 64, "folder", "table1"]
    sweep = Sweep(tmp_path, 3, 4, ("row=tpt_coop", "views.num_views=8"))
    assert name_of(manifest, "runs/x", sweep) == "tpt row=tpt_coop num_views=8"
    assert name_of(manifest, "runs/x", None) == "x"


def test_a_failing_panel_does_not_end_the_run(
    run_script: Run, logged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other panels are logged, and the run has its results."""

    def broken(*_: Any) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(panels, "contact_sheets", broken)
    monkeypatch.setattr(panels, "results_panel", broken)
    done = run_script("test_time.py", *logged)
    assert (
        "Cannot log the contact sheets to W&B (no ink)." in done.stdout
        and "Cannot log the results table" in done.stdout
    )
    assert "test/report" in Offline(tmp_path / "run").keys("pictures")
    assert (tmp_path / "run" / "results.json").exists()


def test_an_unreachable_server_means_an_offline_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any
) -> None:
    """If W&B raises its connection error, the run logs offline; if that fails too, it logs nothing."""
    init, asked = wandb.init, []

    def away(*args: Any, **settings: Any) -> Any:
        asked.append(settings.get("mode"))
        if settings.get("mode") != "offline" or broken:
            raise wandb.errors.CommError("Failed to get resume status")
        return init(*args, **settings)

    monkeypatch.setattr(wandb, "init", away)
    broken = False
    logger = Guard("wandb", WandbLogger(save_dir=tmp_path, project="x"), tmp_path)
    logger.log_metrics({"a": 1.0})
    logger.experiment.finish()
    assert asked == [None, "offline"] and list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert caplog.text.count("Cannot reach W&B (Failed to get resume status). Logging offline") == 1
    broken = True
    lost = Guard("wandb", WandbLogger(save_dir=tmp_path, project="x"), tmp_path)
    lost.log_metrics({"a": 1.0})
    lost.log_metrics({"a": 2.0})
    assert asked[2:] == [None, "offline"] and caplog.text.count("wandb failed (Failed to get resume status)") == 1


TWO_RUNS = """
import logging, sys, wandb
from tpt.engine.tracking.logger import WandbLogger
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
for _ in range(2):
    logger = WandbLogger(save_dir=sys.argv[1], project="x", offline=True)
    logger.log_metrics({"a": 1.0})
    logger.finish()
wandb.termwarn("a warning")
wandb.termerror("an error")
"""


@pytest.mark.slow  # real processes, in which W&B prints
def test_terminal_shows_one_line_of_ours_and_wandbs_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SILENT")
    (folder := tmp_path / "it's").mkdir()
    command = [sys.executable, "-c", TWO_RUNS, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    places = [shlex.split(line.split("`")[1])[2] for line in done.stdout.splitlines()]
    assert sorted(places) == sorted(map(str, folder.glob("wandb/offline-run-*")))
    assert [line.split(" ", 2)[2] for line in done.stderr.splitlines()] == ["a warning", "an error"]


def test_wrong_settings_and_missing_loggers() -> None:
    with pytest.raises(ValueError, match="Expected `flips` to be a whole number of at least 0, got -1"):
        WandbPanels("run", flips=-1)
    trainer: Any = SimpleNamespace(loggers=[])
    WandbPanels("nowhere").close(trainer, {})  # no logger to draw for
