"""Limits the size of a feature cache: the least recently used files are deleted first."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from tpt.data.cache.shard import SUFFIX
from tpt.files import PARTIAL

ABOUT = "about.json"  # properties that all entries of a folder share
BEFORE = (".idx", ".f32")  # files of release 0.1, which are no longer read
FREE_BYTES = 2**30  # left free on the disk, for example for the run's records
_SPACE = re.compile("[0-9a-f]{32}")  # folders with other names are neither read nor deleted


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
