"""One record per image, as Parquet: its class, and the answers with their confidence before and after adaptation.

A record directory holds shards, `<dataset number>-<dataset>-<first image>-<digest>.parquet`.  A shard is complete or
absent, and its name contains the digest of its bytes, so that later damage is detected.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tpt.errors import UserError
from tpt.files import content_digest, read_bytes, readable, write_bytes

log = logging.getLogger(__name__)

RECORD_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("index", pa.int64()),  # of the image in its dataset
        ("position", pa.int64()),  # in the order of processing, from 0; null in earlier versions
        ("path", pa.string()),
        ("content", pa.string()),  # digest of the image file's bytes
        ("label", pa.int64()),  # null for images without labels
        ("class_name", pa.string()),  # of the label
        ("pred", pa.int64()),
        ("pred_name", pa.string()),
        ("pred_zero_shot", pa.int64()),
        ("pred_name_zero_shot", pa.string()),
        ("rank", pa.int32()),  # of the label among all classes by logit, 0 for the predicted class; null without label
        ("rank_zero_shot", pa.int32()),
        ("confidence", pa.float32()),  # the predicted class's probability
        ("confidence_zero_shot", pa.float32()),
        ("entropy", pa.float32()),  # marginal entropy of the selected views after tuning, in nats
        ("entropy_zero_shot", pa.float32()),  # the same before tuning
        ("top", pa.list_(pa.int32())),  # the most probable classes, the predicted one first
        ("top_name", pa.list_(pa.string())),
        ("top_confidence", pa.list_(pa.float32())),  # their probabilities
        ("selected", pa.list_(pa.int32())),  # indices of the views, most confident first
        ("seconds", pa.float64()),
        ("problem", pa.string()),  # why there is no answer; null if there is one
    ]
)
ENDS = ("", "_zero_shot")
# Columns of every answer, and of every answer with a label.
ANSWER = (*(f"{name}{end}" for end in ENDS for name in ("pred", "confidence", "entropy")), "selected")
RANK = tuple(f"rank{end}" for end in ENDS)
RANKING = ("top", "top_confidence")
NAMED = {"class_name": "label", "pred_name": "pred", "pred_name_zero_shot": "pred_zero_shot"}
ALWAYS = ("dataset", "index", "path", "seconds")
# Optional columns: the logits of all classes (K,), after and before adaptation.
LOGITS = tuple(f"logits{end}" for end in ENDS)
# Columns that some shards lack, read as null: shards of earlier versions have no names, for example.
ADDED = ("position", *NAMED, *RANKING, "top_name", *LOGITS, "method_seconds")
# Wall-clock time of the method per image, without decoding, views and encoding, averaged over the batch.
METHOD_SECONDS = pa.field("method_seconds", pa.float64())
LOGITS_SCHEMA = pa.schema([(name, pa.list_(pa.float16())) for name in LOGITS])
WITH_LOGITS = pa.schema([*RECORD_SCHEMA, *LOGITS_SCHEMA])
MOST_SHARD_BYTES = 2**31
_ADDRESS = re.compile(r" (at|object at) 0x[0-9a-fA-F]+")  # memory address of an object, which differs between runs
_NAME = re.compile(r"\d{1,9}-.+-[0-9a-f]{16}\.parquet")
_NOTES = b"tpt.notes"


class DamagedShardError(UserError):
    """A shard whose content is not what was written."""


def write_shard(
    rows: Sequence[Mapping[str, Any]], folder: Path, stem: str, notes: Sequence[str] = (), logits: bool = False
) -> Path:
    """Writes records to a shard, which is complete or absent even if the process is killed, and returns its path.

    `stem` is the file's name before the digest, and `notes` is what the results must say about these records.  Missing
    values become null; `logits` keeps the columns of `LOGITS`, in half precision.
    """
    columns = [*RECORD_SCHEMA, METHOD_SECONDS, *(LOGITS_SCHEMA if logits else ())]
    given = pa.schema([f.with_type(pa.list_(pa.float32())) if f.name in LOGITS else f for f in columns])
    rows = [{k: valid_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    rows = [{**row, "problem": _ADDRESS.sub("", row["problem"])} if row.get("problem") else row for row in rows]
    table = pa.Table.from_pylist(rows, schema=given).cast(pa.schema(columns))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_NOTES: json.dumps(list(notes))}), buffer)
    content = buffer.getvalue()
    path = folder / f"{stem}-{content_digest(content)}.parquet"
    write_bytes(content, path)
    return path


def valid_text(text: str) -> str:
    """The text with backslash codes for lone surrogates, which represent bytes of names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_shard(path: Path, schema: pa.Schema = RECORD_SCHEMA) -> pa.Table:
    """The columns of `schema` from one shard; those of `ADDED` that it lacks are null.

    Raises a DamagedShardError if its bytes differ from those that were written, or are not records.
    """
    with readable(f"the records in {path}", "Resume the run to compute them again", DamagedShardError):
        content = read_bytes(path, MOST_SHARD_BYTES)
        if not _NAME.fullmatch(path.name) or path.stem.rsplit("-", 1)[-1] != content_digest(content):
            raise ValueError("its checksum differs")
        file = pq.ParquetFile(io.BytesIO(content))
        present = [name for name in schema.names if name in file.schema_arrow.names or name not in ADDED]
        absent = pa.schema([field for field in schema if field.name not in present]).empty_table()
        table = pa.concat_tables([file.read(present), absent], promote_options="default")
        notes = (table.schema.metadata or {}).get(_NOTES, b"[]")
        if not all(isinstance(note, str) for note in json.loads(notes)):
            raise ValueError("its notes are no texts")
        table = table.select(schema.names).cast(schema)
        _refuse_gaps(table)
        return table.replace_schema_metadata({_NOTES: notes})


def intact(path: Path, schema: pa.Schema = RECORD_SCHEMA) -> pa.Table | None:
    """The columns of `schema` from one shard; None if it is damaged, so that its images are tested again."""
    try:
        return read_shard(path, schema)
    except DamagedShardError as error:
        log.debug("%s", error)
        return None


def _refuse_gaps(table: pa.Table) -> None:
    """Raises a ValueError if an index is negative, or if a value is missing that every record or answer has."""
    answers = answered(table)
    labelled = answers.filter(pc.is_valid(answers["label"]))
    for rows, names in ((table, ALWAYS), (answers, (*ANSWER, "content")), (labelled, RANK)):
        for name in names:
            if rows[name].null_count:
                raise ValueError(f"{name} is missing")
    if len(table) and pc.min(table["index"]).as_py() < 0:
        raise ValueError("an index is negative")


def read_records(run_dir: str | Path, schema: pa.Schema = RECORD_SCHEMA) -> pa.Table:
    """All records of a run, finished or not, in the order of datasets and images, each image once.

    Raises:
        UserError: there are no records, or a shard is damaged.
    """
    return read_records_and_notes(run_dir, schema)[0]


def read_records_and_notes(run_dir: str | Path, schema: pa.Schema = RECORD_SCHEMA) -> tuple[pa.Table, list[str]]:
    """The records as from `read_records`, and the notes of the shards, each once."""
    shards = [(shard, read_shard(shard, schema)) for shard in shard_files(run_dir)]
    if not shards:
        raise UserError(f"There are no records of a run in {run_dir}. Pass a directory of test_time.py.")
    notes = dict.fromkeys(note for _, table in shards for note in json.loads(table.schema.metadata[_NOTES]))
    return in_order(shards, schema), list(notes)


def read_logits(run_dir: str | Path) -> pa.Table:
    """All records of a run with the columns `logits` and `logits_zero_shot`, half-precision lists of length K.

    Raises a UserError if there are no records, a shard is damaged, or an answer has no logits.
    """
    records = read_records(run_dir, WITH_LOGITS)
    if without := answered(records)["logits"].null_count:
        raise UserError(
            f"{without} of {len(records)} records in {run_dir} have no logits. Make the run with "
            "callbacks.records.logits=true."
        )
    return records


def read_method_seconds(run_dir: str | Path, datasets: Sequence[str]) -> float | None:
    """Mean seconds per image that the method took on some datasets; None if not recorded, as in version 0.1."""
    schema = pa.schema([*RECORD_SCHEMA, METHOD_SECONDS])
    rows = answered(in_order([(shard, read_shard(shard, schema)) for shard in shard_files(run_dir)], schema))
    found = rows.filter(pc.field("dataset").isin(list(datasets)))["method_seconds"]
    return None if found.null_count or not len(found) else float(pc.mean(found).as_py())


def shard_files(run_dir: str | Path) -> list[Path]:
    """The shards of a run, intact or damaged."""
    folder = Path(run_dir) / "records"
    return sorted((folder if folder.is_dir() else Path(run_dir)).glob("*.parquet"))


def in_order(shards: Sequence[tuple[Path, pa.Table]], schema: pa.Schema = RECORD_SCHEMA) -> pa.Table:
    """The records of shards in one table, by dataset and image; an image that two processes computed appears once."""
    if not shards:
        return schema.empty_table()
    records = pa.concat_tables([table.replace_schema_metadata() for _, table in shards])
    place = np.concatenate([np.full(len(table), int(path.name.split("-")[0])) for path, table in shards])
    rows = pa.table({"place": place, "index": records["index"], "row": np.arange(len(records))})
    rows = rows.group_by(["place", "index"]).aggregate([("row", "min")])
    rows = rows.sort_by([("place", "ascending"), ("index", "ascending")])
    return records.take(rows["row_min"]).combine_chunks()


def answered(records: pa.Table) -> pa.Table:
    """The records of images that have an answer."""
    return records.filter(pc.is_null(records["problem"]))
