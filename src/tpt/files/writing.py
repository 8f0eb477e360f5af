"""Writes files whole or not at all.

An incomplete file has a name that begins with a dot, so that programs that read a folder as one table, such as pandas
and Arrow, ignore it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTIAL = ".partial"  # suffix of an incomplete file


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path, whose file replaces `path` if the block succeeds and is deleted if it fails.

    Missing folders are created.  The content is flushed to the disk before the replacement, so that a power cut leaves
    either the old or the new file.  The file gets the default permissions, regardless of the library that writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{PARTIAL}")
    try:
        partial.touch(exist_ok=False)
        rights = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        with partial.open("rb") as file:
            os.fchmod(file.fileno(), rights)
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(content: bytes, path: Path) -> None:
    """Writes a file completely or not at all."""
    with writing(path) as partial:
        partial.write_bytes(content)


def write_text(text: str, path: Path) -> None:
    """Writes a file completely or not at all, in UTF-8; a lone surrogate becomes a backslash code."""
    write_bytes(text.encode("utf-8", "backslashreplace"), path)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes a file completely or not at all."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", path)


def remove_partial(folder: Path) -> None:
    """Removes incomplete files of a killed process from a folder; no other process may be writing there."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def why_no_lock(path: Path) -> str | None:
    """Why a file, created if needed, cannot be locked, as on some network disks; None if it can be, or is locked."""
    import fcntl  # noqa: PLC0415 -- not on every system

    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return None if error.errno in (errno.EAGAIN, errno.EACCES) else error.strerror
    return None
