"""Records: a shard is complete or absent, and damage is detected."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tpt.data import image_folder
from tpt.engine.callbacks.records import RecordWriter
from tpt.engine.tasks.outcome import Outcome
from tpt.errors import RunError
from tpt.files import content_digest
from tpt.results.runs import RECORD_SCHEMA, read_logits, read_records, read_records_and_notes
from tpt.results.runs.records import (
    ADDED,
    ANSWER,
    LOGITS,
    DamagedShardError,
    read_method_seconds,
    read_shard,
    shard_files,
    write_shard,
)


def row(index: int, dataset: str = "a") -> dict[str, Any]:
    kinds = {pa.string(): "a", pa.list_(pa.string()): ["a", "b"]}
    values: dict[str, Any] = {
        field.name: kinds.get(field.type, [3, 1] if pa.types.is_list(field.type) else 1) for field in RECORD_SCHEMA
    }
    about = {"dataset": dataset, "index": index, "path": f"{index}.png"}
    return values | about | {"content": "ab", "seconds": 0.5, "problem": None}


def test_round_trip(tmp_path: Path) -> None:
    write_shard([row(0, "b")], tmp_path / "records", "01-b-0000000", ["meta-net"])
    write_shard([row(1), row(0)], tmp_path / "records", "00-a-0000000")
    table = read_records(tmp_path)
    assert table["index"].to_pylist() == [0, 1, 0]
    assert read_records_and_notes(tmp_path)[1] == ["meta-net"]
    assert table.schema.equals(RECORD_SCHEMA)
    assert table["dataset"].to_pylist() == ["a", "a", "b"]
    assert table["selected"].to_pylist() == [[3, 1]] * 3


def as_before(shard: Path, without: Sequence[str]) -> Path:
    """Rewrites a shard without some columns, as an earlier version wrote it, and returns its path."""
    table = pq.read_table(shard)
    pq.write_table(table.drop_columns(list(without)), shard)
    stem = shard.stem.rsplit("-", 1)[0]
    return shard.rename(shard.with_name(f"{stem}-{content_digest(shard.read_bytes())}.parquet"))


def test_shards_of_earlier_versions_stay_readable(tmp_path: Path) -> None:
    """An old shard is read together with a current one, as after a resume."""
    added = [name for name in ADDED if name not in LOGITS]
    as_before(write_shard([row(0)], tmp_path, "00-a-0000000"), added)
    write_shard([row(1)], tmp_path, "00-a-0000001")
    table = read_records(tmp_path)
    assert table.schema.equals(RECORD_SCHEMA)
    assert table["pred_name"].to_pylist() == [None, "a"] and table["top"].to_pylist() == [None, [3, 1]]
    assert table["pred"].to_pylist() == [1, 1]


@pytest.mark.parametrize("name", [*ANSWER, "rank", "rank_zero_shot", "path"])
def test_a_shard_without_a_required_column_is_damaged(name: str, tmp_path: Path) -> None:
    shard = as_before(write_shard([row(0)], tmp_path, "00-a-0000000"), [name])
    with pytest.raises(DamagedShardError, match="Cannot read the records"):
        read_shard(shard)


def test_rank_is_missing_only_without_a_label(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("label", "class_name", "rank", "rank_zero_shot"))
    write_shard([row(0) | nothing], tmp_path, "00-a-0000000")
    assert read_records(tmp_path)["label"].to_pylist() == [None]
    shard = write_shard([row(0) | {"rank": None}], tmp_path / "other", "00-a-0000000")
    with pytest.raises(DamagedShardError, match="rank is missing"):
        read_shard(shard)


def test_logits_are_kept_in_half_precision(tmp_path: Path) -> None:
    logits = np.linspace(-30, 30, 7, dtype=np.float32)
    rows = [row(i) | {"logits": logits + i, "logits_zero_shot": logits - i} for i in (1, 0)]
    failed = row(2) | dict.fromkeys((*ANSWER, "rank", "rank_zero_shot", *LOGITS)) | {"problem": "no image"}
    write_shard([*rows, failed], tmp_path, "00-a-0000000", logits=True)
    assert read_records(tmp_path).schema.equals(RECORD_SCHEMA)  # logits are read only on request
    table = read_logits(tmp_path)
    assert table["index"].to_pylist() == [0, 1, 2] and table["logits"].type == pa.list_(pa.float16())
    found = np.asarray(table["logits"].to_pylist()[1], dtype=np.float16)
    assert np.array_equal(found, (logits + 1).astype(np.float16))
    assert table["logits_zero_shot"].to_pylist()[2] is None


@pytest.mark.parametrize("kept", [[False], [True, False]])
def test_missing_logits_are_an_error(kept: list[bool], tmp_path: Path) -> None:
    logits = dict.fromkeys(LOGITS, np.zeros(2, dtype=np.float32))
    for index, keep in enumerate(kept):
        write_shard([row(index) | logits], tmp_path, f"00-a-000000{index}", logits=keep)
    with pytest.raises(ValueError, match=r"have no logits.*callbacks\.records\.logits=true"):
        read_logits(tmp_path)


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no records of a run in .*\. Pass a directory of test_time\.py"):
        read_records(tmp_path)
    assert read_method_seconds(tmp_path, ["a"]) is None  # a run that has only begun


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_loses_nothing_already_written(
    tmp_path: Path, image_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write to /dev/full fails with ENOSPC."""
    writer = RecordWriter(tmp_path / "records")
    last = 0, Outcome(image_folder(image_tree), [])
    writer._rows, writer._last = [row(i) for i in range(4)], last
    writer.flush()
    writer._rows, writer._last = [row(i) for i in range(4, 8)], last
    write = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return write(Path("/dev/full") if ".partial" in path.suffix else path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(RunError, match=r"write records to .*No space left.*\W+Records written before are complete"):
        writer.flush()
    assert read_records(tmp_path)["index"].to_pylist() == [0, 1, 2, 3]
    monkeypatch.undo()
    writer.flush()  # now there is space
    assert read_records(tmp_path)["index"].to_pylist() == list(range(8))


def test_a_shard_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_shard([row(0)], tmp_path, "00-a-0000000")
    assert list(tmp_path.iterdir()) == []


def test_an_image_computed_by_two_processes_counts_once(tmp_path: Path) -> None:
    write_shard([row(0), row(1)], tmp_path, "00-a-0000000")
    write_shard([row(1), row(2)], tmp_path, "00-a-0000001")
    assert read_records(tmp_path)["index"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "extended"])
def test_a_damaged_shard_is_detected(damage: str, tmp_path: Path) -> None:
    shard = write_shard([row(i) for i in range(9)], tmp_path, "00-a-0000000")
    content = shard.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    shard.write_bytes({"truncated": content[:-9], "flipped": flipped, "empty": b"", "extended": content + b"x"}[damage])
    assert shard_files(tmp_path) == [shard]
    with pytest.raises(DamagedShardError, match="Cannot read the records .*Resume the run to compute them again"):
        read_shard(shard)
    with pytest.raises(ValueError, match="Cannot read the records"):
        read_records(tmp_path)


def test_unusual_texts(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are escaped, and memory addresses are removed from messages of libraries."""
    rows = [row(0) | {"path": "caf\udce9.png", "problem": "cannot identify <file at 0x7f09b328040>: 0x12 at \ud800"}]
    write_shard(rows, tmp_path, "00-a-0000000")
    (found,) = read_records(tmp_path).to_pylist()
    assert found["path"] == "caf\\udce9.png"
    assert found["problem"] == "cannot identify <file>: 0x12 at \\ud800"


def test_a_pipe_among_the_shards_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "00-a-0000000-0123456789abcdef.parquet")
    with pytest.raises(DamagedShardError, match="Cannot read the records"):
        read_records(tmp_path)
