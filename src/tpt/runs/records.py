"""The record of every image, as Parquet.

A record directory holds shards, `<dataset number>-<dataset>-<first image>-<digest>.parquet`.  A shard is complete or
absent, and its name holds the digest of its bytes, so that what is damaged afterwards is found.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tpt.data.store import content_digest
from tpt.errors import UserError
from tpt.files import write_bytes

RECORD_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("index", pa.int64()),  # of the image in its dataset
        ("path", pa.string()),
        ("content", pa.string()),  # digest of the image file's bytes
        ("label", pa.int64()),
        ("pred", pa.int64()),
        ("pred_zero_shot", pa.int64()),
        ("rank", pa.int32()),  # of the label among all classes by logit, 0 for the predicted class
        ("rank_zero_shot", pa.int32()),
        ("confidence", pa.float32()),  # the predicted class's probability
        ("confidence_zero_shot", pa.float32()),
        ("entropy", pa.float32()),  # marginal entropy of the selected views, in nats, after tuning
        ("entropy_zero_shot", pa.float32()),  # and before
        ("selected", pa.list_(pa.int32())),  # indices of the views, most confident first
        ("seconds", pa.float64()),
        ("problem", pa.string()),  # why there is no answer; null where there is one
    ]
)
# Columns that an image without an answer leaves empty.
ANSWER = (
    *(f"{name}{end}" for end in ("", "_zero_shot") for name in ("pred", "rank", "confidence", "entropy")),
    "selected",
)
ALWAYS = ("dataset", "index", "path", "label", "seconds")
_NAME = re.compile(r"\d+-.+-[0-9a-f]{16}\.parquet")
_NOTES = b"tpt.notes"


class DamagedShardError(UserError):
    """A shard that is not what was written."""


def write_shard(rows: Sequence[dict[str, Any]], folder: Path, stem: str, notes: Sequence[str] = ()) -> Path:
    """Writes records so that the file is either complete or absent, whatever happens meanwhile.

    Args:
        rows: with the columns of `RECORD_SCHEMA`; what a row lacks is null.
        folder: is made where it does not exist.
        stem: of the file's name.
        notes: what results must say about these records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schema = RECORD_SCHEMA.with_metadata({_NOTES: json.dumps(list(notes))})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
    content = buffer.getvalue()
    path = folder / f"{stem}-{content_digest(content)}.parquet"
    write_bytes(content, path)
    return path


def read_shard(path: Path) -> pa.Table:
    """The records of one shard.

    Raises:
        DamagedShardError: its bytes are not those that were written, or are no records.
    """
    try:
        content = path.read_bytes()
        if path.stem.rsplit("-", 1)[-1] != content_digest(content):
            raise UserError("its checksum differs")
        table = pq.read_table(io.BytesIO(content))
        notes = (table.schema.metadata or {}).get(_NOTES, b"[]")
        if not _NAME.fullmatch(path.name) or not all(isinstance(note, str) for note in json.loads(notes)):
            raise UserError("its name or its notes are not those of a shard")
        table = table.select(RECORD_SCHEMA.names).cast(RECORD_SCHEMA)
        _refuse_gaps(table)
        return table.replace_schema_metadata({_NOTES: notes})
    except Exception as error:  # a reader of untrusted bytes may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedShardError(
            f"Expected the records that were written to {path}, but they are damaged ({reason}); resume the run to "
            "compute them again."
        ) from error


def _refuse_gaps(table: pa.Table) -> None:
    """Raises a UserError where a value is missing that every record, or every answer, has."""
    for name in ALWAYS:
        if table[name].null_count:
            raise UserError(f"{name} is missing")
    if len(table) and pc.min(table["index"]).as_py() < 0:
        raise UserError("an index is negative")
    answers = answered(table)
    for name in (*ANSWER, "content"):
        if answers[name].null_count:
            raise UserError(f"{name} is missing")


def read_records(run_dir: str | Path) -> pa.Table:
    """All records of a run, finished or not, in the order of datasets and images, each image once.

    Args:
        run_dir: the run's directory, or its `records` folder.

    Raises:
        UserError: there are no records, or a shard is damaged.
    """
    return read_records_and_notes(run_dir)[0]


def read_notes(run_dir: str | Path) -> list[str]:
    """What the shards of a run say about it, each note once; raises as `read_records`."""
    return read_records_and_notes(run_dir)[1]


def read_records_and_notes(run_dir: str | Path) -> tuple[pa.Table, list[str]]:
    """`read_records` and `read_notes`, with each shard read once."""
    shards = [(shard, read_shard(shard)) for shard in shard_files(run_dir)]
    if not shards:
        raise UserError(f"Expected the records of a run in {run_dir}, found none; pass a directory of test_time.py.")
    notes = dict.fromkeys(note for _, table in shards for note in json.loads(table.schema.metadata[_NOTES]))
    return in_order(shards), list(notes)


def shard_files(run_dir: str | Path) -> list[Path]:
    """The shards of a run, whole or damaged."""
    folder = Path(run_dir)
    if (folder / "records").is_dir():
        folder = folder / "records"
    return sorted(folder.glob("*.parquet"))


def in_order(shards: Sequence[tuple[Path, pa.Table]]) -> pa.Table:
    """One table of many, by dataset and image; where two processes computed an image, one of its equal records."""
    if not shards:
        return RECORD_SCHEMA.empty_table()
    number = [np.full(len(table), int(path.name.split("-")[0])) for path, table in shards]
    records = pa.concat_tables([table.replace_schema_metadata() for _, table in shards])
    place = np.concatenate(number)
    order = np.lexsort((records["index"].to_numpy(), place))
    place, index = place[order], records["index"].to_numpy()[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(place) != 0) | (np.diff(index) != 0)
    return records.take(order[first]).combine_chunks()


def answered(records: pa.Table) -> pa.Table:
    """The records of images that have an answer."""
    return records.filter(pc.is_null(records["problem"]))
