"""Resumes a run after images were added or removed, for methods whose answers depend only on one image's pixels.

It may be interrupted at any point and called again.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tpt.data.dataset import ImageDataset
from tpt.files import write_json
from tpt.results.runs.manifest import NAME, about_dataset, digests_of
from tpt.results.runs.records import WITH_LOGITS, answered, intact, shard_files, write_shard

EARLIER = "earlier"  # folder of the old records while new ones are written
log = logging.getLogger(__name__)


def follow(folder: Path, manifest: Mapping[str, Any], datasets: Sequence[ImageDataset]) -> None:
    """Keeps the records of answered, unchanged images, with their current indices in these datasets.

    All other images are tested again.
    """
    earlier, records = folder / EARLIER, folder / "records"
    tables = [table for shard in shard_files(folder) if (table := intact(shard, WITH_LOGITS)) is not None]
    if not earlier.is_dir():
        before = {name: about.get("fingerprint") for name, about in manifest["datasets"].items()}
        same = before == {dataset.name: dataset.fingerprint() for dataset in datasets}
        if same and all(len(_kept(table, datasets)) == len(table) for table in tables):
            return
        records.replace(earlier)
    write_json({**manifest, "datasets": {d.name: about_dataset(d) for d in datasets}}, folder / NAME)
    kept = 0
    for shard in sorted(earlier.glob("*.parquet")):
        if (table := intact(shard, WITH_LOGITS)) is not None and (rows := _kept(table, datasets)):
            notes = json.loads(table.schema.metadata[b"tpt.notes"])
            write_shard(rows, records, shard.stem.rsplit("-", 1)[0], notes, table["logits"].null_count < len(table))
            kept += len(rows)
    log.info("The images have changed since the last start: %d of %d are already done.", kept, sum(map(len, datasets)))
    shutil.rmtree(earlier)


def _kept(table: pa.Table, datasets: Sequence[ImageDataset]) -> list[dict[str, Any]]:
    """The records of answered, unchanged images, with their current indices."""
    places = {(d.name, s.path): (d, index) for d in datasets for index, s in enumerate(d.samples)}
    rows = [row for row in answered(table).to_pylist() if (row["dataset"], row["path"]) in places]
    now = [places[row["dataset"], row["path"]] for row in rows]
    found = zip(rows, now, digests_of(now), strict=True)
    return [{**row, "index": index} for row, (_, index), digest in found if digest == row["content"]]
