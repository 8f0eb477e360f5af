"""Paths, and texts as names of files and cells of tables."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path

from tpt.errors import ContextFileError, UserError
from tpt.files.reading import read_bytes

BUNDLED = "emoji-mini"  # prefix of the names of contexts that come with the package
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a formula in a spreadsheet
MOST_NAME_BYTES = 100  # of a label in a file name; file systems allow 255


def harmless(text: str) -> str:
    """A text as a cell of a CSV file, escaped so that a spreadsheet does not run it as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def file_name(text: str) -> str:
    """Any text as a file name, or as a part of one: at most 100 bytes, without separators."""
    plain = re.sub(r"[^\w.=+-]+", "_", text).strip("_.")
    return plain.encode("utf-8", "ignore")[:MOST_NAME_BYTES].decode("utf-8", "ignore") or "unnamed"


def with_suffix(path: str | Path, suffixes: Collection[str]) -> Path:
    """The path of a file to write; raises a UserError if it ends in none of the suffixes, in lower or upper case."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"Expected a file that ends in {', '.join(suffixes)}, got {str(path)!r}; choose one of them.")
    return path


def bundled(path: str | Path) -> Path:
    """The folder of a context that comes with the package, such as `emoji-mini/coop`; other paths are unchanged.

    An existing file or folder of that name takes precedence.
    """
    path = Path(path).expanduser()
    if len(path.parts) == 2 and path.parts[0] == BUNDLED and not path.exists():
        here = Path(__file__).parents[1] / "clip" / BUNDLED.replace("-", "_") / "contexts" / path.name
        return here if here.is_dir() else path
    return path


def context_file(path: str | Path) -> Path:
    """The file of a learned context: a path, or a file in a directory or bundled context such as `emoji-mini/coop`.

    Raises:
        ContextFileError: there is no such file, or no context in the directory.
    """
    path = bundled(path)
    if path.is_file():
        return path
    for folder in (path, path / "prompt_learner"):
        if (file := folder / "context.safetensors").is_file():
            return file
        if (pointer := folder / "checkpoint").is_file():
            named = read_bytes(pointer).decode("utf-8", "replace").strip()
            if (file := folder / Path(named).name).is_file():  # never outside the folder
                return file
    raise ContextFileError(
        f"There is no learned context at {path}: no file, and no directory with `context.safetensors` or with the file "
        "that CoOp's text file `checkpoint` names. Check the path, or learn a context with train_coop.py."
    )


def at_home(path: str | Path) -> Path:
    """The path with `~` expanded; a temporary folder replaces the home of users without one, as in containers."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"tpt-{os.getuid()}", *Path(path).parts[1:])


def is_file(text: str | Path) -> bool:
    """Whether a text, which may also be words or a name that no file can have, is the path of a file."""
    return os.path.isfile(os.path.expanduser(text))  # noqa: PTH111, PTH113 -- pathlib's raise for odd texts
