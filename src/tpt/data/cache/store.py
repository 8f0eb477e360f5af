"""Features on disk: every process writes its own complete files and reads those of all processes.

If the cache or the disk is full, the least recently used files are deleted first.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tpt.data.cache.shard import SUFFIX, CachedImage, entries, to_bytes
from tpt.files import PARTIAL, write_bytes, write_json

log = logging.getLogger(__name__)

SHARD_IMAGES = 64  # images per file: few files, each small compared with the limit
SHARD_S = 10.0  # maximum seconds between writes: about what a killed process loses
HEADER_BYTES = 200  # approximate size of an image's entry in a header
REFRESH_S = 5.0  # seconds between checks for files of other processes
ABOUT = "about.json"  # properties that all entries of a folder share
BEFORE = (".idx", ".f32")  # files of release 0.1, which are no longer read
FREE_BYTES = 2**30  # left free on the disk, for example for the run's records
_SPACE = re.compile("[0-9a-f]{32}")  # folders with other names are neither read nor deleted


class FeatureStore:
    """The entries of one space, a folder in that of the cache: images that are encoded in the same way.

    Damaged files never raise an error.  `about` has the properties that all entries share, for other programs;
    `max_bytes` limits the whole cache, None only by the disk.
    """

    def __init__(
        self, folder: Path, space: str, about: Mapping[str, Any] | None = None, max_bytes: int | None = None
    ) -> None:
        self.folder, self.path, self.about, self.max_bytes = folder, folder / space, dict(about or {}), max_bytes
        self._entries: dict[str, list[CachedImage]] = {}
        self._listed, self._touched, self._damaged = set[Path](), set[Path](), set[Path]()
        self._pending: dict[str, tuple[np.ndarray, float]] = {}
        self._began, self._looked, self._pending_since = time.time(), -math.inf, 0.0
        self._stopped = False

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pending": {}, "_stopped": True}  # another process reads only

    def get(self, key: str, views: int, width: int) -> tuple[np.ndarray, float] | None:
        """The (V, E) features of an image's first views and the norm of view 0's feature; None if not stored."""
        found = self._find(key, views, width)
        return self._find(key, views, width) if found is None and self._refresh() else found

    def _find(self, key: str, views: int, width: int) -> tuple[np.ndarray, float] | None:
        for entry in list(self._entries.get(key, ())):
            if entry.views < views or entry.width != width:
                continue
            features = entry.features()
            if features is not None:
                self._touch(entry.path)
                return features[:views].copy(), entry.norm
            self._entries[key].remove(entry)
            self._say_damaged(entry.path)
        return None

    def put(self, key: str, features: np.ndarray, norm: float) -> None:
        """Stores (V, E) float32 features; if writing fails, warns once and stores no more."""
        if self._stopped or self.get(key, *features.shape) is not None:
            return
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending[key] = features.copy(), norm
        part = len(self._pending) * (features.nbytes + HEADER_BYTES)
        most = math.inf if self.max_bytes is None else self.max_bytes // 8
        late = time.monotonic() - self._pending_since >= SHARD_S
        if len(self._pending) >= SHARD_IMAGES or part >= most or late:
            self.flush()

    def flush(self) -> None:
        """Writes pending features."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        content = to_bytes(pending)
        try:
            if not make_room(self.folder, len(content), self.max_bytes, self._began):
                self._stop("is full: raise cache.max_gb, or empty it with tpt-cache clear")
                return
            if not (self.path / ABOUT).exists():
                write_json(self.about, self.path / ABOUT)
            name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"  # unique per process and write
            write_bytes(content, self.path / (name + SUFFIX))
            self._looked = -math.inf
        except OSError as error:
            self._stop(f"cannot be written ({error.strerror or error})")

    def _stop(self, why: str) -> None:
        log.warning("The feature cache %s %s; continuing without storing more features.", self.folder, why)
        self._stopped = True

    def _refresh(self) -> bool:
        """Reads the headers of new files from any process; returns False if it did so a moment ago."""
        if time.monotonic() - self._looked < REFRESH_S:
            return False
        try:
            present = {path for path in self.path.iterdir() if path.suffix == SUFFIX}
        except OSError:
            present = set()
        for path in present - self._listed:
            found = entries(path)
            for entry in found:
                places = self._entries.setdefault(entry.key, [])
                places.append(entry)
                # Most views first, since these suit every run; then the newest, which may replace a damaged entry.
                places.sort(key=lambda entry: (entry.views, entry.path.name), reverse=True)
            if not found:
                self._say_damaged(path)
        self._listed |= present
        self._looked = time.monotonic()
        return True

    def _touch(self, path: Path) -> None:
        """Marks a file as used."""
        if path not in self._touched:
            self._touched.add(path)
            with suppress(OSError):  # a read-only cache does not record use
                os.utime(path)

    def _say_damaged(self, path: Path) -> None:
        if path not in self._damaged and path.exists():  # another process may have deleted it
            self._damaged.add(path)
            log.warning("Damaged entries in the feature cache (%s): their images are encoded again.", path)


def shards(folder: Path, endings: tuple[str, ...] = (SUFFIX, PARTIAL)) -> dict[Path, os.stat_result]:
    """The files of a cache, including incomplete ones; their `st_mtime` is the time of the last use."""
    found: dict[Path, os.stat_result] = {}
    for path in folder.glob("*/*"):
        if path.name.endswith(endings) and _SPACE.fullmatch(path.parent.name) and not path.parent.is_symlink():
            with suppress(OSError):  # deleted by another process
                found[path] = path.lstat()
    return found


def size(folder: Path) -> int:
    """The size of a cache in bytes."""
    return sum(about.st_size for about in shards(folder).values())


def make_room(folder: Path, wanted: int, bound: int | None, since: float) -> bool:
    """Deletes the least recently used files until `wanted` more bytes fit; returns whether they do.

    The cache may take `bound` bytes; None limits it only by the disk, minus `FREE_BYTES`.  Files used after `since` are
    kept, so a run never deletes its own entries, which the next run needs.  Raises an OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = shards(folder)
    room = shutil.disk_usage(folder).free - FREE_BYTES
    if bound is not None:
        room = min(room, bound - sum(about.st_size for about in present.values()))
    for path, about in sorted(present.items(), key=lambda shard: shard[1].st_mtime):
        if room >= wanted or about.st_mtime >= since:
            break
        path.unlink(missing_ok=True)
        room += about.st_size
    return room >= wanted


def clear(folder: Path) -> int:
    """Deletes the entries of a cache and nothing else; returns the number of bytes freed, or raises an OSError."""
    present = shards(folder, (SUFFIX, PARTIAL, ABOUT, *BEFORE))
    for path in present:
        path.unlink(missing_ok=True)
    for space in {path.parent for path in present}:
        with suppress(OSError):  # it has files of the user
            space.rmdir()
    return sum(about.st_size for about in present.values())
