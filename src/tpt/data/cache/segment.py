"""The files of a feature cache: pairs that one process appends to and any number of processes read.

`<name>.f32` holds features, float32 without a header, one entry behind the other.  `<name>.idx` holds a line of
`MAGIC` and then 64 bytes for each entry, written once its features are: an entry is whole or not there, whenever
the writer ends.  Both are taken for untrusted: places are checked against the file's size before they are looked at,
and an entry counts only if its digest is right.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from tpt.files import open_plain

MAGIC = b"tpt view features 1\n".ljust(64, b"\0")
INDEX, DATA = ".idx", ".f32"
_FIELDS = struct.Struct("<16s16sQIIf4x")  # key, digest of the features, offset, views, width, norm
_CHECK = 8  # bytes: digest of the fields
LINE_BYTES = _FIELDS.size + _CHECK
MOST_INDEX_BYTES = 2**26  # a million images; no segment has more
MOST_ENTRY_BYTES = 2**28  # features of one image; a larger claim is not believed


def digest(content: bytes | memoryview, size: int = 16) -> bytes:
    """`size` bytes that change with any byte of `content`."""
    return hashlib.blake2b(content, digest_size=size).digest()


@dataclass(frozen=True)
class IndexEntry:
    """Where the features of an image lie in a segment.

    Args:
        key: 16 bytes, of the image.
        digest: of its features.
        offset: of their first byte.
        views, width: V and E.
        norm: the length of view 0's feature before it was scaled to 1.
    """

    key: bytes
    digest: bytes
    offset: int
    views: int
    width: int
    norm: float

    @property
    def end(self) -> int:
        """The byte behind the features."""
        return self.offset + self.views * self.width * 4

    def pack(self) -> bytes:
        """Its line in the index."""
        fields = _FIELDS.pack(self.key, self.digest, self.offset, self.views, self.width, self.norm)
        return fields + digest(fields, _CHECK)


def parse(lines: bytes) -> Iterator[IndexEntry]:
    """The entries of whole and undamaged lines of an index."""
    for start in range(0, len(lines) - LINE_BYTES + 1, LINE_BYTES):
        fields, check = lines[start : start + _FIELDS.size], lines[start + _FIELDS.size : start + LINE_BYTES]
        if digest(fields, _CHECK) == check:
            yield IndexEntry(*_FIELDS.unpack(fields))


class SegmentWriter:
    """A new segment that one process fills.

    Args:
        stem: path of its two files, without their endings; they must not exist.

    Raises:
        OSError: as every method, if the files cannot be written.
    """

    def __init__(self, stem: Path) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.bytes = 0  # of features
        self._data = stem.with_suffix(DATA).open("xb", buffering=0)
        self._index = stem.with_suffix(INDEX).open("xb", buffering=0)
        _write(self._index, MAGIC)

    def append(self, key: bytes, features: np.ndarray, norm: float) -> None:
        """Adds an entry.

        Args:
            key: 16 bytes, of the image.
            features: (V, E) float32.
            norm: of view 0.
        """
        views, width = features.shape
        content = features.astype("<f4").tobytes()
        entry = IndexEntry(key, digest(content), self.bytes, views, width, norm)
        _write(self._data, content)
        self.bytes = entry.end
        _write(self._index, entry.pack())

    def close(self) -> None:
        """Puts the segment on the disk for good."""
        for file in (self._data, self._index):
            with file:
                os.fsync(file.fileno())


def _write(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


class SegmentReader:
    """A segment as far as it is written.

    Args:
        stem: path of its two files, without their endings.
    """

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self._index, self._data = stem.with_suffix(INDEX), stem.with_suffix(DATA)
        self._read = 0  # bytes of the index
        self._map: mmap.mmap | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_map": None}

    def new_entries(self) -> list[IndexEntry]:
        """What was added since the last call; none if the files cannot be read or are no segment's."""
        try:
            with open_plain(self._index, MOST_INDEX_BYTES) as file:
                if file.read(len(MAGIC)) != MAGIC:
                    return []
                file.seek(max(self._read, len(MAGIC)))
                lines = file.read()
        except OSError:
            return []
        lines = lines[: len(lines) // LINE_BYTES * LINE_BYTES]
        self._read = max(self._read, len(MAGIC)) + len(lines)
        return list(parse(lines))

    def features(self, entry: IndexEntry) -> np.ndarray | None:
        """(V, E) features of one of its entries, a view of the mapped file; None if they are damaged or gone."""
        if entry.views < 1 or entry.width < 1 or entry.end - entry.offset > MOST_ENTRY_BYTES:
            return None
        try:
            mapped = self._mapped(entry.end)
        except (OSError, ValueError):  # of an empty file
            return None
        if mapped is None:
            return None
        content = memoryview(mapped)[entry.offset : entry.end]
        if digest(content) != entry.digest:
            return None
        return np.frombuffer(content, dtype="<f4").reshape(entry.views, entry.width)

    def is_there(self) -> bool:
        """Whether its files are still there; another process may have made room."""
        return self._index.is_file() and self._data.is_file()

    def touch(self) -> None:
        """Notes that it is used."""
        with suppress(OSError):  # a read-only cache has no order of use
            os.utime(self._index)

    def _mapped(self, end: int) -> mmap.mmap | None:
        """The mapped file, if it has `end` bytes: to look behind the end of a file would kill the process."""
        if self._data.stat().st_size < end:
            return None
        if self._map is None or len(self._map) < end:
            with self._data.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map if len(self._map) >= end else None
