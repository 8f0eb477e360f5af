"""Records and manifests from strangers: any bytes end in a value or in one of our errors, and none of them are run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs.test_records import row
from tests.untrusted import FUZZ, JSON, damaged
from tpt.data.store import content_digest
from tpt.runs import read_manifest, read_records
from tpt.runs.manifest import differences
from tpt.runs.records import DamagedShardError, read_shard, write_shard


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
def test_differences_of_any_configurations(old: Any, new: Any) -> None:
    first, second = {"config": {"a": old}}, {"config": {"a": new}}
    assert differences(first, first) == []
    assert all(" was " in phrase for phrase in differences(first, second))


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
