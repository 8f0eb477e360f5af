"""Records and manifests from strangers: any bytes end in a value or in one of our errors, and none of them are run."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.results.runs.test_records import row
from tests.untrusted import FUZZ, JSON, damaged
from tpt.data.store import content_digest
from tpt.errors import UserError
from tpt.results.runs import RunDirectory, read_manifest, read_records
from tpt.results.runs.manifest import differences
from tpt.results.runs.records import DamagedShardError, read_shard, write_shard


@FUZZ
@given(data=st.data())
def test_shards(tmp_path: Path, data: st.DataObject) -> None:
    """Also where the name holds the right digest, as anybody can compute it."""
    whole = write_shard([row(i) for i in range(5)], tmp_path / "whole", "00-a-0000000").read_bytes()
    content = data.draw(damaged(whole))
    shard = tmp_path / f"00-a-0000000-{content_digest(content)}.parquet"
    shard.write_bytes(content)
    try:
        assert read_shard(shard).num_rows >= 0
    except DamagedShardError as error:
        assert "are damaged" in str(error) and "\n" not in str(error)
    finally:
        shard.unlink()


@FUZZ
@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_manifests(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match="Expected "):
        read_manifest(tmp_path)


@FUZZ
@given(old=JSON, new=JSON)
@example(old=math.nan, new=math.nan)
@example(old={"\ud800": "\udce9"}, new=math.nan)
@example(old=[1, {"a": math.nan}], new=[1, {"a": 0.0}])
def test_differences_of_any_configurations(old: Any, new: Any) -> None:
    first, second = {"config": {"a": old}}, {"config": {"a": new}}
    assert differences(first, first) == []
    found = differences(first, second)
    assert all(" was " in phrase and phrase.encode("utf-8") for phrase in found)
    assert differences(json.loads(json.dumps(first)), first) == []  # as it comes back from a file


def whole_manifest() -> dict[str, Any]:
    """One of a test run, with every entry that is read."""
    return {
        "method": "tpt",
        "choices": {"method": "tpt"},
        "backbone": {"name": "noise", "precision": "fp32"},
        "context": "words",
        "context_fingerprint": "ab",
        "device": "cpu",
        "division": {"threads": 2},
        "encoding": {"num_views": 3},
        "files": {"names.txt": "ab"},
        "config": {"seed": 0, "data": {"limit": None}},
        "datasets": {"a": {"to_test": 2, "classes": 2, "size": 2, "split": "", "notes": [], "fingerprint": "x"}},
        "sessions": [{"started": "now", "processes": 1, "versions": {"torch": "2"}}],
    }


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of nested dictionaries and lists are."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


@FUZZ
@given(data=st.data(), value=JSON)
def test_a_value_of_another_kind_anywhere(tmp_path: Path, data: st.DataObject, value: Any) -> None:
    """What is read of it is right, or it is refused in one sentence that says where."""
    manifest: Any = whole_manifest()
    *path, last = data.draw(st.sampled_from(places(manifest)[1:]))
    node = manifest
    for step in path:
        node = node[step]
    node[last] = value
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    try:
        found = read_manifest(tmp_path)
    except ValueError as error:
        assert str(error).startswith("Expected what test_time.py wrote in") and "\n" not in str(error)
        return
    use(found, tmp_path)


def use(manifest: dict[str, Any], tmp_path: Path) -> None:
    """What a run that is continued does with a manifest."""
    directory = RunDirectory(tmp_path, resume=True)
    for stored, kind in ((directory.stored("division"), int), (directory.stored("encoding"), int)):
        assert stored is None or all(isinstance(v, kind) for v in stored.values())
    with contextlib.suppress(UserError):
        directory.same_run(manifest, whole_manifest(), whole_manifest()["sessions"][0])


@pytest.mark.parametrize(
    "change",
    [
        {"division": [1]},
        {"division": {"threads": "2"}},
        {"division": {"threads": 0}},
        {"encoding": {}},
        {"encoding": {"num_views": None}},
        {"sessions": []},
        {"sessions": [{}]},
        {"sessions": [{"versions": []}]},
        {"sessions": [{"versions": {"torch": 2}}]},
        {"datasets": {"a": 1}},
        {"config": []},
        {"backbone": "noise"},
        {"choices": {"method": 1}},
    ],
)
def test_kinds_that_were_met(tmp_path: Path, change: dict[str, Any]) -> None:
    (key,) = change
    (tmp_path / "run.json").write_text(json.dumps(whole_manifest() | change))
    with pytest.raises(UserError, match=rf"run.json, but it is damaged \({key}[.:].*\); start the run anew"):
        read_manifest(tmp_path)


def test_nothing_pickled_is_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "went off",))

    content = pickle.dumps(Bomb())
    (tmp_path / f"00-a-0000000-{content_digest(content)}.parquet").write_bytes(content)
    (tmp_path / "run.json").write_bytes(content)
    for read in (read_records, read_manifest):
        with pytest.raises(ValueError, match="damaged"):
            read(tmp_path)
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize("name", ["x.parquet", "a-b-c-{digest}.parquet", "00-a-{digest}.parquet"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    whole = write_shard([row(0)], tmp_path / "whole", "00-a-0000000").read_bytes()
    (tmp_path / name.format(digest=content_digest(whole))).write_bytes(whole)
    try:
        assert read_records(tmp_path).num_rows == 1
    except ValueError as error:
        assert str(error).startswith("Expected ")


@pytest.mark.parametrize(
    "gap", [{"index": None}, {"index": -1}, {"dataset": None}, {"entropy": None}, {"selected": None}]
)
def test_gaps(tmp_path: Path, gap: dict[str, Any]) -> None:
    write_shard([row(0) | gap], tmp_path, "00-a-0000000")
    with pytest.raises(ValueError, match="missing|negative"):
        read_records(tmp_path)
