"""Finds the file of a learned context."""

from __future__ import annotations

from pathlib import Path

from tpt.errors import ContextFileError
from tpt.files import bundled, read_bytes


def context_file(path: str | Path) -> Path:
    """The file of a learned context.

    Args:
        path: the file, a directory, or the name of a bundled context, such as `emoji-mini/coop`.

    Raises:
        ContextFileError: there is no such file, or no context in the directory.
    """
    path = bundled(path)
    if path.is_file():
        return path
    if not path.exists():
        raise ContextFileError(
            f"There is no file or directory {path}. Check the path, or learn a context with train_coop.py."
        )
    for folder in (path, path / "prompt_learner"):
        if (file := folder / "context.safetensors").is_file():
            return file
        if (pointer := folder / "checkpoint").is_file():
            named = read_bytes(pointer).decode("utf-8", "replace").strip()
            file = folder / Path(named).name  # never outside the folder
            if file.is_file():
                return file
            raise ContextFileError(f"{file}, which the file `checkpoint` next to it names, is missing. Restore it.")
    raise ContextFileError(
        f"The directory {path} holds no context: neither `context.safetensors` nor CoOp's text file `checkpoint`, "
        "there or in `prompt_learner`. Pass the file itself."
    )
