"""Writes files atomically, and reads untrusted files.

An incomplete file has a name that begins with a dot, so that programs that read a folder as one table, such as pandas
and Arrow, ignore it.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import pickle
import re
import secrets
import stat
import struct
import tarfile
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from tpt.errors import DataError, UserError

BUNDLED = "emoji-mini"  # prefix of the names of contexts that come with the package
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a formula in a spreadsheet
PARTIAL = ".partial"  # suffix of an incomplete file
MODE = 0o666  # permissions of a new file, before the user's umask
MOST_JSON_BYTES = 2**30
MOST_NAME_BYTES = 100  # of a label in a file name; file systems allow 255
_KINDS = {
    **{stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"},
    **dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device"),
}
# Errors that readers of text, tables, pickles, archives and compressed files raise if the content is damaged.
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError),
    *(MemoryError, pickle.UnpicklingError, csv.Error, struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error),
    *(SyntaxError, tokenize.TokenError, SafetensorError),
)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path, whose file replaces `path` if the block succeeds and is deleted if it fails.

    The content is flushed to the disk before the replacement, so that a power cut leaves either the old or the new
    file.  The file gets the default permissions of a new file, regardless of the library that writes it.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{PARTIAL}")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
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


def open_plain(path: str | Path, most: int) -> BinaryIO:
    """Opens an untrusted file for reading, only if it is a regular file: a pipe blocks, and a device never ends.

    Raises:
        OSError: the file cannot be opened, is not a regular file, or has more than `most` bytes; the error names it.
    """
    about = os.stat(path)  # noqa: PTH116 -- called for every image
    if not stat.S_ISREG(about.st_mode):
        number = errno.EISDIR if stat.S_ISDIR(about.st_mode) else errno.EINVAL
        raise OSError(number, f"it is {_KINDS.get(stat.S_IFMT(about.st_mode), 'special')}, not a file", str(path))
    if about.st_size > most:
        raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, more than {most:,}", str(path))
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")


def read_bytes(path: str | Path, most: int = MOST_JSON_BYTES, first: int | None = None) -> bytes:
    """The content of an untrusted file, or its first `first` bytes; raises the same errors as `open_plain`."""
    with open_plain(path, most) as file:
        return file.read(most + 1 if first is None else first)


def reason(error: BaseException) -> str:
    """The message of an error in one line of at most 200 characters, with the type if it is needed to understand it."""
    said = getattr(error, "strerror", None) or str(error)
    if isinstance(error, KeyError) or not said:  # the text of a KeyError is only the key
        said = ": ".join(filter(None, (type(error).__name__, said)))
    return " ".join(said.split())[:200]


@contextlib.contextmanager
def readable(
    what: str,
    way_out: str = "Get it again",
    error: type[UserError] = DataError,
    also: type[Exception] = OSError,
) -> Iterator[None]:
    """Turns an error of the block, which reads a file, into a UserError.

    Args:
        what: what is read, with its file, such as "the list FILE" or "FILE as a table".
        way_out: what the user can do, such as "Get it again".
        error: type of the error; errors of this type, and DataErrors, that the block raises are passed on.
        also: another type of error that the library may raise.

    Raises:
        UserError: the content is damaged, or the block raised a UserError, whose message is the reason.
    """
    try:
        yield
    except (DataError, error):
        raise
    except (*_DAMAGE, also) as damage:
        raise error(f"Cannot read {what} ({reason(damage)}). {way_out}.") from damage


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


def harmless(text: str) -> str:
    """A text as a cell of a CSV file, escaped so that a spreadsheet does not run it as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def file_name(text: str) -> str:
    """Any text as a file name, or as a part of one: at most 100 bytes, without separators."""
    plain = re.sub(r"[^\w.=+-]+", "_", text).strip("_.")
    return plain.encode("utf-8", "ignore")[:MOST_NAME_BYTES].decode("utf-8", "ignore") or "unnamed"


def bundled(path: str | Path) -> Path:
    """The folder of a context that comes with the package, such as `emoji-mini/coop`; other paths are unchanged.

    An existing file or folder of that name takes precedence.
    """
    path = Path(path).expanduser()
    if len(path.parts) == 2 and path.parts[0] == BUNDLED and not path.exists():
        here = Path(__file__).parents[1] / "clip" / BUNDLED.replace("-", "_") / "contexts" / path.name
        return here if here.is_dir() else path
    return path


def at_home(path: str | Path) -> Path:
    """The path with `~` expanded; a temporary folder replaces the home of users without one, as in containers."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"tpt-{os.getuid()}", *Path(path).parts[1:])


def why_no_lock(path: Path) -> str | None:
    """Why a file cannot be locked, as on some network disks; None if it can be, or is already locked.

    The file is created if needed.
    """
    import fcntl  # noqa: PLC0415 -- not on every system

    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in (errno.EAGAIN, errno.EACCES) else error.strerror
    finally:
        os.close(descriptor)
    return None


def remove_partial(folder: Path) -> None:
    """Removes incomplete files of a killed process from a folder; no other process may be writing there."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def is_file(text: str | Path) -> bool:
    """Whether a text, which may also be words or a name that no file can have, is the path of a file."""
    return os.path.isfile(os.path.expanduser(text))  # noqa: PTH111, PTH113 -- pathlib's raise for odd texts
