"""Reads untrusted files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tpt.errors import BadImageError, DataError, UserError

MOST_JSON_BYTES = 2**30
READERS, PART = 8, 64  # number of threads, and of files that one takes at a time
SLOW_S = 1e-3  # time per file from which threads help
T = TypeVar("T")
R = TypeVar("R")
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe"}
_BUGS = (NameError, AssertionError, ImportError)  # a damaged file may make a reader raise anything else


def open_plain(path: str | Path, most: int) -> BinaryIO:
    """Opens an untrusted file for reading, only if it is a regular file: a pipe blocks, and a device never ends.

    Raises an OSError, which names the file, for others and for those of more than `most` bytes.
    """
    about = os.stat(path)  # noqa: PTH116 -- called for every image
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "a device or socket")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    if about.st_size > most:
        raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, more than {most:,}", str(path))
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")


def read_bytes(path: str | Path, most: int = MOST_JSON_BYTES, first: int | None = None) -> bytes:
    """The content of an untrusted file, or its first `first` bytes; raises the same errors as `open_plain`."""
    with open_plain(path, most) as file:
        size = os.fstat(file.fileno()).st_size or most  # Python allocates what is asked for; some systems say 0
        return file.read(size + 1 if first is None else first)


def map_files(read: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`read(item)` for each item, in order, with threads once files take long, as on a network disk.

    On a quick disk, threads would wait for each other at every call of the system.
    """
    for first in range(0, len(items), PART):
        began = time.perf_counter()
        part = [read(item) for item in items[first : first + PART]]
        slow = time.perf_counter() - began > SLOW_S * PART
        yield from part
        if slow:
            rest = items[first + PART :]
            with ThreadPool(READERS) as pool:
                yield from pool.imap(read, rest, chunksize=PART)
            return


def reason(error: BaseException) -> str:
    """The message of an error in one line of at most 200 characters, with the type if it is needed to understand it."""
    said = getattr(error, "strerror", None) or str(error)
    if isinstance(error, KeyError) or not said:  # the text of a KeyError is only the key
        said = ": ".join(filter(None, (type(error).__name__, said)))
    return " ".join(said.split())[:200]


@contextlib.contextmanager
def readable(what: str, way_out: str = "Get it again", error: type[UserError] = DataError) -> Iterator[None]:
    """Turns an exception of the block, which reads a file, into an `error`: `Cannot read {what} (reason). {way_out}.`

    Passes on bugs, DataErrors, and errors of the same type.
    """
    try:
        yield
    except (DataError, error, *_BUGS):
        raise
    except Exception as damage:
        said = reason(damage)
        failure = error(f"Cannot read {what} ({said}). {way_out}.")
        if isinstance(failure, BadImageError):
            failure.problem = f"cannot be read: {said[:1].lower()}{said[1:]}"
        raise failure from damage


def content_digest(content: bytes) -> str:
    """A digest of every byte, as 16 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def dotted_values(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf value of nested dictionaries and lists, with its dotted key."""
    if not isinstance(node, Mapping | list | tuple):
        yield prefix.removesuffix("."), node
        return
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield from dotted_values(value, f"{prefix}{key}.")
