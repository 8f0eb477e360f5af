"""Directories that others wrote: a value or one sentence, whatever is in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.results.tables.made_runs import make_run, rows_of, share
from tests.untrusted import FUZZ, JSON
from tpt.results.runs.records import write_shard
from tpt.results.tables.formats import FORMATS, render
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import load_runs
from tpt.results.tables.training import training_of

FAST = settings(FUZZ, max_examples=25)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = {name: rows_of(name, share(50, 4), share(75, 4)) for name in ("a", "dtd")}
    return make_run(tmp_path_factory.mktemp("runs") / "run", rows, backbone="RN50-quickgelu/openai")


def read(folder: Path) -> None:
    """A report in every format, or a ValueError that is one sentence."""
    try:
        report = make_report(load_runs([folder]))
    except ValueError as error:
        assert str(error).startswith("Expected ")
        return
    for format in FORMATS:
        assert render(report, format)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value may be replaced."""
    found = [path] if path else []
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        found += places(value, (*path, key))
    return found


@FAST
@given(data=st.data())
def test_values_of_the_manifest(run: Path, data: st.DataObject) -> None:
    folder = run.parent / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    manifest = json.loads((run / "run.json").read_text())
    for path in data.draw(st.lists(st.sampled_from(places(manifest)), min_size=1, max_size=3)):
        node = manifest
        try:
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = data.draw(JSON)
        except (KeyError, TypeError, IndexError):  # an earlier change took the place away
            pass
    (folder / "run.json").write_text(json.dumps(manifest))
    read(folder)


@FAST
@given(content=st.binary(max_size=60), place=st.floats(0, 1))
def test_bytes_of_the_manifest(run: Path, content: bytes, place: float) -> None:
    folder = run.parent / "bytes"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    whole = (run / "run.json").read_bytes()
    at = int(place * len(whole))
    (folder / "run.json").write_bytes(whole[:at] + content + whole[at + len(content) // 2 :])
    read(folder)


@FAST
@given(content=st.binary(max_size=60), place=st.floats(0, 1))
def test_bytes_of_a_shard(run: Path, content: bytes, place: float) -> None:
    folder = run.parent / "shard"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    shard = sorted((folder / "records").iterdir())[0]
    whole = shard.read_bytes()
    at = int(place * len(whole))
    shard.write_bytes(whole[:at] + content + whole[at + len(content) :])
    read(folder)


VALUES: dict[str, Any] = {
    "dataset": st.sampled_from(["a", "dtd", "other", None, ""]),
    "index": st.integers(-(2**63), 2**63 - 1),
    "path": st.none() | st.text(max_size=5),
    "content": st.none() | st.text(max_size=5),
    "label": st.none() | st.integers(-(2**63), 2**63 - 1),
    "pred": st.none() | st.integers(-(2**63), 2**63 - 1),
    "rank": st.none() | st.integers(-(2**31), 2**31 - 1),
    "confidence": st.none() | st.floats(width=32),
    "entropy": st.none() | st.floats(width=32),
    "selected": st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=3),
    "seconds": st.none() | st.floats(),
    "problem": st.none() | st.text(max_size=5),
}


@FAST
@given(changes=st.fixed_dictionaries({}, optional=VALUES), seed=st.integers(0, 3))
def test_values_of_records(run: Path, changes: dict[str, Any], seed: int) -> None:
    """Whole shards, with checksums that are right."""
    folder = run.parent / "records"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    rows = rows_of("a", share(50, 4), share(75, 4))
    rows[seed] |= changes
    try:
        write_shard(rows, folder / "records", "00-a-0000001")
    except (UnicodeEncodeError, ValueError):
        return
    read(folder)


def test_damage_is_named(run: Path, tmp_path: Path) -> None:
    for name in ("no_manifest", "no_json", "damaged"):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "no_manifest" / "run.json").unlink()
    (tmp_path / "no_json" / "run.json").write_text("{")
    shard = sorted((tmp_path / "damaged" / "records").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    sentences = {
        "no_manifest": "Expected the directory of a run or sweep of test_time.py at .*, found no run.json below it",
        "no_json": "Expected what test_time.py wrote in .*run.json, but it is damaged",
        "damaged": "Expected the records that were written to .*, but they are damaged .*resume the run",
        "nowhere": "found no run.json below it; check the path",
    }
    for name, sentence in sentences.items():
        with pytest.raises(ValueError, match=sentence):
            load_runs([tmp_path / name])


@FAST
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps({"config": value}).encode()))
def test_training_of_a_context(run: Path, content: bytes) -> None:
    (run.parent / "training.json").write_bytes(content)
    training_of(str(run.parent / "context.safetensors"))
    training_of("\0")
