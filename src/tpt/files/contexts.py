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
            f"Expected a context at {path}, but there is no such file or directory; check the path, or learn a context "
            "with train_coop.py."
        )
    for folder in (path, path / "prompt_learner"):
        if (folder / "context.safetensors").is_file():
            return folder / "context.safetensors"
        if (folder / "checkpoint").is_file():
            named = read_bytes(folder / "checkpoint").decode("utf-8", "replace").strip()
            file = folder / Path(named).name  # never outside the folder
            if file.is_file():
                return file
            raise ContextFileError(f"Expected {file}, which the file `checkpoint` next to it names, but it is missing.")
    raise ContextFileError(
        f"Expected a context in the directory {path}, found neither `context.safetensors` nor CoOp's text file "
        "`checkpoint`, there or in `prompt_learner`; pass the file itself."
    )
