"""Which images of a run are done, and that one process at a time is at it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from tpt.data.dataset import ImageDataset
from tpt.data.store import content_digest
from tpt.errors import BadImageError, DataError, UserError
from tpt.files import write_json
from tpt.runs.manifest import NAME, differences, read_manifest
from tpt.runs.records import RECORD_SCHEMA, DamagedShardError, in_order, read_shard, shard_files

log = logging.getLogger(__name__)

# Loading processes of a run that was killed hold its lock until they notice, which takes them five seconds.
PATIENCE_S = 15.0
LOGS = "csv"  # what conf/logger/csv.yaml calls it
DAMAGED = "damaged"  # a folder beside the records, which other programs may read as a whole
ANOTHER = "choose another hydra.run.dir"
SHOWN = 3  # differences in an error
READERS = 8  # threads that read images again


class RunDirectory:
    """The state of a run's directory.

    Args:
        folder: of the run.
        resume: continues what is there; otherwise a directory with records is refused.
        first: whether this is the first process of the run, which alone writes the manifest.
        another: how to have another directory, for errors.
    """

    def __init__(self, folder: Path, resume: bool = False, first: bool = True, another: str = ANOTHER) -> None:
        self.folder = folder
        self.resume = resume
        self.first = first
        self.another = another
        self.records = RECORD_SCHEMA.empty_table()  # of earlier sessions
        self._lock = FileLock(folder / ".lock", timeout=PATIENCE_S)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def stored(self, key: str) -> Any:
        """What the run that is continued, or the first process of this one, has written under `key` of its manifest."""
        if (self.resume or not self.first) and (self.folder / NAME).is_file():
            return read_manifest(self.folder).get(key)
        return None

    def begin(
        self, manifest: Mapping[str, Any], session: Mapping[str, Any], datasets: Sequence[ImageDataset]
    ) -> dict[str, set[int]]:
        """Takes the directory for this run, and writes what the run is.

        Args:
            manifest: of the run that wants to start.
            session: versions, commit and time of this start; each start adds one.
            datasets: to be tested.

        Returns:
            Indices of the images that are done, by dataset.

        Raises:
            UserError: another process is at it, there are records and `resume` is off, the settings differ, or the
                records are not those of this run.
            DataError: an image that was tested is another one by now.
        """
        if self.first:
            self._take()
            sessions = self._earlier_sessions(manifest, session)
        self.records = self._read() if self.resume else self.records
        done = self._done(datasets)
        if self.first:
            self._refuse_changed_images(datasets)
            if sessions and (self.folder / LOGS).is_dir():  # its logger would begin with deleting what is there
                (self.folder / LOGS).replace(self.folder / f"{LOGS}_{len(sessions)}")
            write_json({**manifest, "sessions": [*sessions, dict(session)]}, self.folder / NAME)
        return done

    def _done(self, datasets: Sequence[ImageDataset]) -> dict[str, set[int]]:
        """Indices of recorded images, by dataset; raises where a record is of an image that the run does not have."""
        images = {dataset.name: len(dataset) for dataset in datasets}
        done: dict[str, set[int]] = {name: set() for name in images}
        for name, index in zip(self.records["dataset"].to_pylist(), self.records["index"].to_pylist(), strict=True):
            if index >= images.get(name, 0):
                raise UserError(
                    f"Expected records of this run's images in {self.folder}, found one of image {index} of {name!r}, "
                    "which it does not have; start the run anew."
                )
            done[name].add(index)
        return done

    def _take(self) -> None:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f"Expected one run at a time in {self.folder}, but another process is at it; wait for it, or "
                f"{self.another}."
            ) from error
        if not self.resume and shard_files(self.folder):
            raise UserError(
                f"Expected no records in {self.folder}, found those of an earlier run; continue it with "
                f"resume={self.folder}, or {self.another}."
            )

    def _earlier_sessions(self, manifest: Mapping[str, Any], session: Mapping[str, Any]) -> list[dict[str, Any]]:
        if not self.resume or not ((self.folder / NAME).is_file() or shard_files(self.folder)):
            return []
        old = read_manifest(self.folder)
        if different := differences(old, manifest):
            more = f" (and {len(different) - SHOWN} more)" if len(different) > SHOWN else ""
            raise UserError(
                f"Expected the settings of the run in {self.folder}, but {'; '.join(different[:SHOWN])}{more}; "
                f"continue with the same, or {self.another}."
            )
        sessions: list[dict[str, Any]] = old["sessions"]
        before, now = sessions[-1]["versions"], session["versions"]
        changed = [f"{name} {before[name]}, now {now[name]}" for name in before if before[name] != now.get(name)]
        if changed:
            log.warning("The run was begun with other versions (%s): last digits may differ.", "; ".join(changed))
        return sessions

    def _read(self) -> pa.Table:
        """The records of whole shards; damaged ones are set aside, and their images computed again."""
        whole = []
        for shard in shard_files(self.folder):
            try:
                whole.append((shard, read_shard(shard)))
            except DamagedShardError as error:
                if self.first and shard.exists():
                    log.warning("%s is damaged: it is set aside, and its images are tested again.", shard)
                    log.debug("%s", error)
                    (self.folder / DAMAGED).mkdir(exist_ok=True)
                    shard.replace(self.folder / DAMAGED / shard.name)
        return in_order(whole)

    def _refuse_changed_images(self, datasets: Sequence[ImageDataset]) -> None:
        by_name = {dataset.name: dataset for dataset in datasets}
        columns = (self.records[c].to_pylist() for c in ("dataset", "index", "content"))
        rows = [row for row in zip(*columns, strict=True) if row[2] is not None]
        if rows:
            log.info("Going on after %d images; looking whether they are still the same.", len(rows))
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(lambda row: _changed_image(by_name[row[0]], row[1], row[2]), rows)
            changed = [where for where in found if where is not None]
        if changed:
            more = f" and {len(changed) - 1} others have" if len(changed) > 1 else " has"
            raise DataError(
                f"Expected the images that the run in {self.folder} has tested, but {changed[0]}{more} changed since; "
                "put them back, or start the run anew."
            )


def _changed_image(dataset: ImageDataset, index: int, digest: str) -> str | None:
    """Where the image lies, if it is another than it was."""
    try:
        same = content_digest(dataset.content(index)) == digest
    except BadImageError:
        same = False
    return None if same else f"{dataset.store.root}/{dataset.samples[index].path}"
