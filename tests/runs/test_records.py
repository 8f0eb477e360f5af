"""Records: complete shards, whatever happens while they are written."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tpt.callbacks import RecordWriter
from tpt.runs import RECORD_SCHEMA, read_notes, read_records
from tpt.runs.records import DamagedShardError, read_shard, shard_files, write_shard


def row(index: int, dataset: str = "a") -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(RECORD_SCHEMA.names, 1)
    about = {
        "dataset": dataset,
        "seconds": 0.5,
        "index": index,
        "path": f"{index}.png",
        "content": "ab",
        "problem": None,
    }
    return values | about | {"selected": [3, 1]}


def test_round_trip(tmp_path: Path) -> None:
    write_shard([row(0, "b")], tmp_path / "records", "01-b-0000000", ["meta-net"])
    write_shard([row(1), row(0)], tmp_path / "records", "00-a-0000000")
    table = read_records(tmp_path)
    assert table["index"].to_pylist() == [0, 1, 0]
    assert read_notes(tmp_path) == ["meta-net"]
    assert table.schema.equals(RECORD_SCHEMA)
    assert table["dataset"].to_pylist() == ["a", "a", "b"]
    assert table["selected"].to_pylist() == [[3, 1]] * 3


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected the records of a run in .*; pass a directory of test_time\.py"):
        read_records(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_loses_nothing_already_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own full device: every write to it fails with ENOSPC."""
    writer = RecordWriter(tmp_path / "records")
    writer._rows = [row(i) for i in range(4)]
    writer.flush()
    writer._rows = [row(i) for i in range(4, 8)]
    write = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return write(Path("/dev/full") if ".partial" in path.suffix else path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=r"Could not write records to .*No space left.*; the 4 records written before"):
        writer.flush()
    assert read_records(tmp_path)["index"].to_pylist() == [0, 1, 2, 3]
    monkeypatch.undo()
    writer.flush()  # once there is room again
    assert read_records(tmp_path)["index"].to_pylist() == list(range(8))


def test_a_shard_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_shard([row(0)], tmp_path, "00-a-0000000")
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_two_processes_computed_counts_once(tmp_path: Path) -> None:
    write_shard([row(0), row(1)], tmp_path, "00-a-0000000")
    write_shard([row(1), row(2)], tmp_path, "00-a-0000001")
    assert read_records(tmp_path)["index"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "extended"])
def test_a_damaged_shard_is_found(damage: str, tmp_path: Path) -> None:
    shard = write_shard([row(i) for i in range(9)], tmp_path, "00-a-0000000")
    content = shard.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    shard.write_bytes({"truncated": content[:-9], "flipped": flipped, "empty": b"", "extended": content + b"x"}[damage])
    assert shard_files(tmp_path) == [shard]
    with pytest.raises(DamagedShardError, match="are damaged .*resume the run to compute them again"):
        read_shard(shard)
    with pytest.raises(ValueError, match="are damaged"):
        read_records(tmp_path)
