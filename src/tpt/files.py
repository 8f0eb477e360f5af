"""Files that are whole or absent.

What is not whole yet has a name that begins with a dot, so that programs that read a folder as one table, as pandas
and Arrow do, pass it over.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a formula begins in a spreadsheet
PARTIAL = ".partial"  # how the name of a file that is not whole yet ends


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives a path to write to, whose file takes the place of `path` if the block ends well and goes if it does not.

    What was written is on the disk before it takes the place, so that a power cut leaves the old file or the new one.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{PARTIAL}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(content: bytes, path: Path) -> None:
    """Writes the file whole or not at all."""
    with writing(path) as partial:
        partial.write_bytes(content)


def write_text(text: str, path: Path) -> None:
    """Writes the file whole or not at all, in UTF-8; half a surrogate pair becomes a backslash code."""
    write_bytes(text.encode("utf-8", "backslashreplace"), path)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes the file whole or not at all."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", path)


def harmless(text: str) -> str:
    """A text that a spreadsheet does not take for a formula, as a cell of a CSV file."""
    return f"'{text}" if text.startswith(FORMULA) else text


def remove_partial(folder: Path) -> None:
    """Removes what a process that was killed left unfinished in a folder, which nothing else may be writing to."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)
