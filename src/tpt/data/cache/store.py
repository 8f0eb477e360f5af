"""Features on disk: one process writes a segment of its own, every process reads all of them."""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpt.data.cache.eviction import ABOUT, make_room
from tpt.data.cache.segment import INDEX, LINE_BYTES, MAGIC, IndexEntry, SegmentReader, SegmentWriter
from tpt.files import write_json

log = logging.getLogger(__name__)

SEGMENT_BYTES = 2**28  # entries come and go in segments: few files, and small against the bound
REFRESH_S = 5.0  # between looks for what other processes have added


class FeatureStore:
    """Entries of one space: of images encoded in the same way.  Never raises on what lies on the disk.

    Args:
        folder: of the cache.
        space: name of the space's folder.
        about: what its entries have in common, written beside them.
        max_bytes: of the whole cache; None bounds it by the disk alone.
    """

    def __init__(
        self, folder: Path, space: str, about: Mapping[str, Any] | None = None, max_bytes: int | None = None
    ) -> None:
        self.folder, self.path, self.about, self.max_bytes = folder, folder / space, dict(about or {}), max_bytes
        self._began = time.time()
        self._entries: dict[bytes, list[tuple[IndexEntry, SegmentReader]]] = {}
        self._readers: dict[Path, SegmentReader] = {}
        self._touched: set[Path] = set()
        self._damaged: set[Path] = set()
        self._looked = -math.inf
        self._writer: SegmentWriter | None = None
        self._room = 0
        self._stopped = False

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_writer": None, "_stopped": True}  # another process reads only

    def get(self, key: bytes, views: int, width: int) -> tuple[np.ndarray, float] | None:
        """The features of the first views of an image and the norm of view 0's; None if they are not here.

        Args:
            key: 16 bytes, of the image.
            views: V wanted; an entry may have more.
            width: E.
        """
        found = self._find(key, views, width)
        return self._find(key, views, width) if found is None and self._refresh() else found

    def _find(self, key: bytes, views: int, width: int) -> tuple[np.ndarray, float] | None:
        for place in list(self._entries.get(key, ())):
            entry, reader = place
            if entry.views < views or entry.width != width:
                continue
            features = reader.features(entry)
            if features is not None:
                self._use(reader)
                return features[:views].copy(), entry.norm
            self._entries[key].remove(place)
            self._say_damaged(reader)
        return None

    def put(self, key: bytes, features: np.ndarray, norm: float) -> None:
        """Keeps the features of an image; if they cannot be written, says so once and keeps no more.

        Args:
            key: 16 bytes, of the image.
            features: (V, E) float32.
            norm: of view 0.
        """
        if self._stopped:
            return
        try:
            needed = features.nbytes + LINE_BYTES
            if self._room < needed or self._writer is None:
                self._next_segment(needed + len(MAGIC))
            if self._writer is not None:
                self._writer.append(key, features, norm)
                self._room -= needed
        except OSError as error:
            self._stop(f"cannot be written ({error.strerror or error})")

    def close(self) -> None:
        """Puts what was written on the disk for good."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            self._stop(f"cannot be written ({error.strerror or error})")
        self._writer = None

    def _next_segment(self, needed: int) -> None:
        self.close()
        wanted = SEGMENT_BYTES if self.max_bytes is None else max(needed, min(SEGMENT_BYTES, self.max_bytes // 8))
        self._room = make_room(self.folder, wanted, self.max_bytes, self._began)
        if self._room < needed:
            self._stop("is full: raise cache.max_gb, or empty it with tpt-cache clear")
            return
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"  # no two processes share a segment
        self._writer = SegmentWriter(self.path / name)
        self._room -= len(MAGIC)
        if not (self.path / ABOUT).exists():
            write_json(self.about, self.path / ABOUT)

    def _stop(self, why: str) -> None:
        if not self._stopped:
            log.warning("The feature cache %s %s; the run goes on and keeps no more features.", self.folder, why)
        self._stopped, self._writer = True, None

    def _refresh(self) -> bool:
        """Reads the entries added since, by this process or another; False if it looked a moment ago."""
        if time.monotonic() - self._looked < REFRESH_S:
            return False
        try:
            indices = sorted(path for path in self.path.iterdir() if path.suffix == INDEX)
        except OSError:
            indices = []
        for path in indices:
            reader = self._readers.setdefault(path, SegmentReader(path.with_suffix("")))
            for entry in reader.new_entries():
                places = self._entries.setdefault(entry.key, [])
                places.append((entry, reader))
                # Most views first, since they serve every run; then the newest, which may replace a damaged one.
                places.sort(key=lambda place: (place[0].views, place[1].stem.name), reverse=True)
        self._looked = time.monotonic()
        return True

    def _use(self, reader: SegmentReader) -> None:
        if reader.stem not in self._touched:
            self._touched.add(reader.stem)
            reader.touch()

    def _say_damaged(self, reader: SegmentReader) -> None:
        if reader.stem not in self._damaged and reader.is_there():
            self._damaged.add(reader.stem)
            log.warning("Damaged entries in the feature cache (%s): their images are encoded again.", reader.stem)
