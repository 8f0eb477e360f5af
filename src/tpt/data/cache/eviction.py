"""Limits the size of a feature cache: the least recently used files are deleted first."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from tpt.data.cache.shard import SUFFIX
from tpt.files import PARTIAL

ABOUT = "about.json"  # what the entries of a folder have in common
BEFORE = (".idx", ".f32")  # files of release 0.1, which are not read any more
FREE_BYTES = 2**30  # of the disk are left to others, records of the run among them
_SPACE = re.compile("[0-9a-f]{32}")  # nothing in folders of other names is looked at, nor deleted


def shards(folder: Path, endings: tuple[str, ...] = (SUFFIX, PARTIAL)) -> dict[Path, os.stat_result]:
    """The files of a cache, including incomplete ones; their `st_mtime` is the time of the last use."""
    found: dict[Path, os.stat_result] = {}
    for path in folder.glob("*/*"):
        if path.name.endswith(endings) and _SPACE.fullmatch(path.parent.name) and not path.parent.is_symlink():
            with suppress(OSError):  # deleted meanwhile
                found[path] = path.lstat()
    return found


def size(folder: Path) -> int:
    """Bytes of a cache."""
    return sum(about.st_size for about in shards(folder).values())


def make_room(folder: Path, wanted: int, bound: int | None, since: float) -> bool:
    """Deletes the least recently used files until `wanted` bytes fit; returns False if they do not fit.

    Args:
        folder: folder of the cache.
        wanted: number of bytes to write.
        bound: most bytes of the cache; None limits it by the disk, less `FREE_BYTES`.
        since: files used after this time are kept.  A run thus never deletes its own entries, which the next run needs.

    Raises:
        OSError: the folder cannot be read or written.
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
    """Deletes the entries of a cache and nothing else; returns the number of bytes freed.

    Raises:
        OSError: a file cannot be deleted.
    """
    present = shards(folder, (SUFFIX, PARTIAL, ABOUT, *BEFORE))
    for path in present:
        path.unlink(missing_ok=True)
    for space in {path.parent for path in present}:
        with suppress(OSError):  # a user's own files are in it
            space.rmdir()
    return sum(about.st_size for about in present.values())
