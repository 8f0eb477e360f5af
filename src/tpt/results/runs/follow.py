"""A run goes on although images came or went: the records of those that are still the same get their places of now.

This is for images whose answers depend on their pixels alone.  It may be interrupted at any point and begun again.
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
from tpt.errors import BadImageError
from tpt.files import content_digest, write_json
from tpt.results.runs.manifest import NAME, about_datasets
from tpt.results.runs.records import DamagedShardError, read_whole_shard, shard_files, write_shard

EARLIER = "earlier"  # the records while they are given other places
log = logging.getLogger(__name__)


def follow(folder: Path, manifest: Mapping[str, Any], datasets: Sequence[ImageDataset]) -> None:
    """Leaves the records of images that are still there, at the places of these, so that the others are tested.

    Images without an answer, and images whose files have changed, are tested again.

    Args:
        folder: of the run, which nothing else writes to.
        manifest: of the run.
        datasets: to be tested now.
    """
    earlier, records = folder / EARLIER, folder / "records"
    tables = [(shard, table) for shard in shard_files(folder) if (table := _whole(shard)) is not None]
    if not earlier.is_dir():
        if all(len(_kept(table, datasets)) == len(table) for _, table in tables) and _same(manifest, datasets):
            return
        records.replace(earlier)
    write_json({**manifest, "datasets": about_datasets(datasets)}, folder / NAME)
    kept = 0
    for shard in sorted(earlier.glob("*.parquet")):
        if (table := _whole(shard)) is not None and (rows := _kept(table, datasets)):
            notes = json.loads(table.schema.metadata[b"tpt.notes"])
            write_shard(rows, records, shard.stem.rsplit("-", 1)[0], notes, table["logits"].null_count < len(table))
            kept += len(rows)
    log.info("The pictures are not those of before: %d of %d are done.", kept, sum(map(len, datasets)))
    shutil.rmtree(earlier)


def _whole(shard: Path) -> pa.Table | None:
    """The records of a shard; None if it is damaged, which makes its images be tested again."""
    try:
        return read_whole_shard(shard)
    except DamagedShardError as error:
        log.debug("%s", error)
        return None


def _same(manifest: Mapping[str, Any], datasets: Sequence[ImageDataset]) -> bool:
    """Whether the run was to test these images."""
    return {name: about.get("fingerprint") for name, about in manifest["datasets"].items()} == {
        dataset.name: dataset.fingerprint() for dataset in datasets
    }


def _kept(table: pa.Table, datasets: Sequence[ImageDataset]) -> list[dict[str, Any]]:
    """The records of images that are as they were, at their places now."""
    places = {(d.name, s.path): (d, index) for d in datasets for index, s in enumerate(d.samples)}
    found = []
    for row in table.to_pylist():
        dataset, index = places.get((row["dataset"], row["path"]), (None, 0))
        if dataset is not None and row["problem"] is None and _digest(dataset, index) == row["content"]:
            found.append({**row, "index": index})
    return found


def _digest(dataset: ImageDataset, index: int) -> str | None:
    try:
        return content_digest(dataset.content(index))
    except BadImageError:
        return None
