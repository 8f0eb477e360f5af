"""Untrusted records and manifests: any content gives a value or one of our errors, and is never executed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from tests.results.runs.test_records import row
from tests.untrusted import FUZZ, JSON
from tpt.errors import UserError
from tpt.files import content_digest
from tpt.results.runs import read_manifest, read_records
from tpt.results.runs.manifest import differences
from tpt.results.runs.records import write_shard


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
    assert differences(json.loads(json.dumps(first)), first) == []  # as read from a file


def whole_manifest() -> dict[str, Any]:
    """The manifest of a test run, with every entry that is read."""
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
        {"method": None},
        {"backbone": {"name": "noise"}},
        {"datasets": {"a": {"to_test": 2}}},
        {"sessions": [{"versions": {}}]},
    ],
)
def test_damaged_manifests_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (key,) = change
    (tmp_path / "run.json").write_text(json.dumps(whole_manifest() | change))
    with pytest.raises(UserError, match=rf"Cannot read .*run.json \({key}[.:].*\)\. .*start the run anew"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["x.parquet", "a-b-c-{digest}.parquet", "00-a-{digest}.parquet"])
def test_odd_names_of_shards(tmp_path: Path, name: str) -> None:
    whole = write_shard([row(0)], tmp_path / "whole", "00-a-0000000").read_bytes()
    (tmp_path / name.format(digest=content_digest(whole))).write_bytes(whole)
    try:
        assert read_records(tmp_path).num_rows == 1
    except ValueError as error:
        assert "Cannot read the records in" in str(error)


@pytest.mark.parametrize(
    "gap", [{"index": None}, {"index": -1}, {"dataset": None}, {"entropy": None}, {"selected": None}]
)
def test_missing_and_negative_values_are_refused(tmp_path: Path, gap: dict[str, Any]) -> None:
    write_shard([row(0) | gap], tmp_path, "00-a-0000000")
    with pytest.raises(ValueError, match="missing|negative"):
        read_records(tmp_path)
