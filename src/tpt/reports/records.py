"""The record of every image, as Parquet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

RECORD_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("index", pa.int64()),  # of the image in its dataset
        ("path", pa.string()),
        ("label", pa.int64()),
        ("pred", pa.int64()),
        ("pred_zero_shot", pa.int64()),
        ("confidence", pa.float32()),  # the predicted class's probability
        ("confidence_zero_shot", pa.float32()),
        ("entropy", pa.float32()),  # marginal entropy of the selected views, in nats, after tuning
        ("entropy_zero_shot", pa.float32()),  # and before
        ("selected", pa.list_(pa.int32())),  # indices of the views, most confident first
        ("seconds", pa.float64()),
    ]
)


def write_shard(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes records to `path` so that the file is either complete or absent, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            pq.write_table(pa.Table.from_pylist(list(rows), schema=RECORD_SCHEMA), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_records(run_dir: str | Path) -> pa.Table:
    """All records of a run, in the order of datasets and images.

    Args:
        run_dir: the run's directory, or its `records` folder.

    Raises:
        ValueError: there are no records.
    """
    folder = Path(run_dir)
    if (folder / "records").is_dir():
        folder = folder / "records"
    shards = sorted(folder.glob("*.parquet"))
    if not shards:
        raise ValueError(
            f"Expected the records of a run in {folder}, found none; pass a directory that test_time.py made."
        )
    return pa.concat_tables([pq.read_table(shard, schema=RECORD_SCHEMA) for shard in shards])
