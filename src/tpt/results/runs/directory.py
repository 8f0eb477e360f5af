"""The directory of a test run, and which of its images are done."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.data.dataset import ImageDataset
from tpt.errors import DataError, UserError
from tpt.results.runs.claim import ANOTHER, ClaimedDirectory
from tpt.results.runs.follow import EARLIER, follow
from tpt.results.runs.manifest import FREE, NAME, digests_of, read_manifest
from tpt.results.runs.records import RECORD_SCHEMA, in_order, intact, shard_files
from tpt.results.runs.states import STATES, latest_state
from tpt.results.runs.training import TRAINING

log = logging.getLogger(__name__)

DAMAGED = "damaged"  # a folder next to `records`, because other programs may read all files in `records`


class RunDirectory(ClaimedDirectory):
    """The state of a test run's directory: its manifest and its records."""

    manifest_name = NAME
    free = FREE
    marks = ("records/*.parquet",)
    strangers = (TRAINING,)
    files = ("results.json",)
    folders = ("records", DAMAGED, STATES, EARLIER)

    def __init__(
        self, folder: Path, resume: bool = False, first: bool = True, another: str = ANOTHER, follows: bool = False
    ) -> None:
        super().__init__(folder, resume, first, another)
        self.follows = follows  # resumes with the current images, even if some were added or removed
        self.records = RECORD_SCHEMA.empty_table()  # of earlier sessions
        self.states: dict[str, Path] = {}  # by dataset, the file of a stream method's state after these records

    def begin(
        self,
        manifest: Mapping[str, Any],
        session: Mapping[str, Any],
        datasets: Sequence[ImageDataset],
        streams: bool = False,
    ) -> dict[str, set[int]]:
        """Takes the directory for this run, writes the manifest, and returns the indices of finished images by dataset.

        With `streams`, the method learns along the stream, so that only records covered by a saved state count.

        Raises:
            UserError: the directory is in use or holds another run, or settings, data or records differ.
        """
        if self.first:
            self.take()
            if self.follows and os.path.lexists(self.folder / NAME):
                old = read_manifest(self.folder)
                self.refuse_different({**old, "datasets": manifest["datasets"]}, manifest)
                follow(self.folder, old, datasets)
            sessions = self.earlier_sessions(manifest, session)
        self.records = self._read() if self.resume else self.records
        if streams:
            self._cut_streams(datasets)
        done = self._done(datasets)
        if self.first:
            if not self.follows:
                self._refuse_changed_images(datasets)
            self.write(manifest, sessions, session)
        return done

    def _done(self, datasets: Sequence[ImageDataset]) -> dict[str, set[int]]:
        """Indices of recorded images by dataset; raises a UserError if a recorded image is not in the run."""
        images = {dataset.name: len(dataset) for dataset in datasets}
        done: dict[str, set[int]] = {name: set() for name in images}
        for name, indices in self._by_dataset("index"):
            if (most := int(indices.max())) >= images.get(name, 0):
                raise UserError(
                    f"{self.folder} holds a record of image {most} of {name!r}, which this run does not have. Start "
                    "the run anew."
                )
            done[name] = set(indices.tolist())
        return done

    def _cut_streams(self, datasets: Sequence[ImageDataset]) -> None:
        """Keeps the records of each stream up to its latest valid state; the others are computed again."""
        positions, kept = dict(self._by_dataset("position")), []
        for number, dataset in enumerate(datasets):
            recorded = set(positions.get(dataset.name, np.zeros(0)).tolist())
            done, state = latest_state(self.folder, number, len(dataset), recorded)
            here = (pc.field("dataset") == dataset.name) & (pc.field("position") < done)
            kept.append(self.records.filter(here))
            self.states |= {} if state is None else {dataset.name: state}
        self.records = pa.concat_tables(kept)

    def _by_dataset(self, column: str) -> list[tuple[str, np.ndarray]]:
        """The values of a column by dataset, as arrays because there may be many."""
        names = pc.unique(self.records["dataset"]).to_pylist()
        return [(name, self.records.filter(pc.field("dataset") == name)[column].to_numpy()) for name in names]

    def _read(self) -> pa.Table:
        """The records of intact shards; damaged shards are moved to another folder, and their images tested again."""
        whole = []
        for shard in shard_files(self.folder):
            if (table := intact(shard)) is not None:
                whole.append((shard, table))
            elif self.first and shard.exists():
                log.warning("%s is damaged: moving it to %s/ and testing its images again.", shard, DAMAGED)
                (self.folder / DAMAGED).mkdir(exist_ok=True)
                shard.replace(self.folder / DAMAGED / shard.name)
        return in_order(whole)

    def _refuse_changed_images(self, datasets: Sequence[ImageDataset]) -> None:
        by_name = {dataset.name: dataset for dataset in datasets}
        rows = self.records.filter(pc.is_valid(self.records["content"]))
        if len(rows):
            log.info("Resuming after %d images; checking that they have not changed.", len(rows))
        names, indices, recorded = (rows[column].to_pylist() for column in ("dataset", "index", "content"))
        places = [(by_name[name], index) for name, index in zip(names, indices, strict=True)]
        now = zip(places, digests_of(places), recorded, strict=True)
        if changed := [place for place, digest, before in now if digest != before]:
            dataset, index = changed[0]
            raise DataError(
                f"{dataset.store.root}/{dataset.samples[index].path} has changed since the run in {self.folder} tested "
                f"it (images that changed: {len(changed)}). Put them back, or start the run anew."
            )
