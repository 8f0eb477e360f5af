"""Finds the file of a learned context."""

from __future__ import annotations

from pathlib import Path

from tpt.errors import ContextFileError
from tpt.files import bundled, read_bytes


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
