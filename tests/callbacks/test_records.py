"""Records: complete shards, whatever happens while they are written."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tpt.callbacks import RecordWriter
from tpt.reports.records import RECORD_SCHEMA, read_records, write_shard


def row(index: int, dataset: str = "a") -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(RECORD_SCHEMA.names, 1)
    return values | {"dataset": dataset, "index": index, "path": f"{index}.png", "selected": [3, 1]}


def test_round_trip(tmp_path: Path) -> None:
    write_shard([row(0), row(1)], tmp_path / "records" / "00-a-0000000.parquet")
    write_shard([row(0, "b")], tmp_path / "records" / "01-b-0000000.parquet")
    table = read_records(tmp_path)
    assert table.schema.equals(RECORD_SCHEMA)
    assert table["dataset"].to_pylist() == ["a", "a", "b"]
    assert table["selected"].to_pylist() == [[3, 1]] * 3


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Expected the records of a run in .*; pass a directory that test_time\.py made"
    ):
        read_records(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_loses_nothing_already_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own full device: every write to it fails with ENOSPC."""
    writer = RecordWriter(tmp_path / "records")
    writer._rows = [row(i) for i in range(4)]
    writer.flush()
    writer._rows = [row(i) for i in range(4, 8)]
    partial = tmp_path / "records" / "00-a-0000004.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"Could not write records to .*No space left.*; the 4 records written before"):
        writer.flush()
    assert read_records(tmp_path)["index"].to_pylist() == [0, 1, 2, 3]
    assert not partial.exists()
    writer.flush()  # once there is room again
    assert read_records(tmp_path)["index"].to_pylist() == list(range(8))


def test_a_shard_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_shard([row(0)], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
