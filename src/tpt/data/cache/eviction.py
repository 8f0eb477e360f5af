"""The size of a feature cache, and its bound: what was used least recently goes first."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tpt.data.cache.segment import DATA, INDEX
from tpt.files import PARTIAL

ABOUT = "about.json"  # what the entries of a folder have in common
_SPACE = re.compile("[0-9a-f]{32}")  # nothing in folders of other names is looked at, nor deleted
FREE_BYTES = 2**30  # of the disk are left to others, records of the run among them


@dataclass
class Segment:
    """A pair of files, or what is left of it.

    Args:
        stem: their path without endings.
        bytes: of both.
        used: when they were last written or read, in seconds since the epoch.
    """

    stem: Path
    bytes: int = 0
    used: float = 0.0

    def remove(self) -> None:
        """Deletes the files; processes that have them mapped keep what they have."""
        for ending in (INDEX, DATA):  # features without an index are found by nobody
            self.stem.with_suffix(ending).unlink(missing_ok=True)


def segments(folder: Path) -> list[Segment]:
    """All segments of a cache."""
    found: dict[Path, Segment] = {}
    for space in spaces(folder):
        for file in _entries(space):
            path = Path(file.path)
            if path.suffix in (INDEX, DATA):
                try:
                    about = file.stat(follow_symlinks=False)
                except OSError:  # deleted meanwhile
                    continue
                segment = found.setdefault(path.with_suffix(""), Segment(path.with_suffix("")))
                segment.bytes += about.st_size
                segment.used = max(segment.used, about.st_mtime)
    return list(found.values())


def size(folder: Path) -> int:
    """Bytes of a cache."""
    return sum(segment.bytes for segment in segments(folder))


def make_room(folder: Path, wanted: int, bound: int | None, since: float) -> int:
    """Deletes what was used least recently, as long as `wanted` bytes would not fit.

    Args:
        folder: of the cache.
        wanted: bytes that are to be written.
        bound: most bytes of the cache; None for as many as the disk has, but for `FREE_BYTES`.
        since: what was used after this time stays: a run does not push out its own entries, of which the next run
            would then find the wrong ones.

    Returns:
        How many of those bytes may be written.

    Raises:
        OSError: the folder cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = sorted(segments(folder), key=lambda segment: segment.used)
    room = shutil.disk_usage(folder).free - FREE_BYTES
    if bound is not None:
        room = min(room, bound - sum(segment.bytes for segment in present))
    for segment in present:
        if room >= wanted or segment.used >= since:
            break
        segment.remove()
        room += segment.bytes
    return max(0, min(room, wanted))


def clear(folder: Path) -> int:
    """Deletes the entries of a cache and nothing else; gives the bytes freed.

    Raises:
        OSError: something cannot be deleted.
    """
    present = segments(folder)
    for segment in present:
        segment.remove()
    for space in spaces(folder):
        for file in (space / ABOUT, *space.glob("*" + PARTIAL)):
            file.unlink(missing_ok=True)
        if not any(space.iterdir()):
            space.rmdir()
    return sum(segment.bytes for segment in present)


def spaces(folder: Path) -> list[Path]:
    """The folders of a cache; each holds images that were encoded in the same way."""
    found = [entry for entry in _entries(folder) if _SPACE.fullmatch(entry.name)]
    return sorted(Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False))


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError:  # not there, no folder, no right to read it
        return
