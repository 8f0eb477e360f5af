"""Checks the class order: an image's label, the class name of that label and the image's folder must agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tpt.data.catalog.entries import Entry
from tpt.errors import DataError


def refuse_another_order(entry: Entry, names: Sequence[str], rows: Sequence[tuple[str, int]], listed_in: Path) -> None:
    """Raises a DataError if lists and folders contradict each other; a shifted order would give 0.5 % accuracy.

    Each label must belong to one class folder, each class folder to one label, and a folder with the name of a class
    must hold that class.  Datasets whose paths do not identify the class are not checked.
    """
    if not entry.class_in:
        return
    by_name = {letters(name): label for label, name in enumerate(names)}
    folder_of: dict[int, str] = {}
    label_of: dict[str, int] = {}
    for path, label in rows:
        if not (folder := _class_of(path, entry.class_in)):
            continue
        own = by_name.get(letters(entry.renamed.get(folder, folder)), label)
        first, known = folder_of.setdefault(label, folder), label_of.setdefault(folder, label)
        if letters(names[own]) != letters(names[label]):
            is_named = f"its folder says {names[own]!r}"
        elif first != folder:
            is_named = f"other images of class {label} say {first!r}"
        elif known != label:
            is_named = f"other images of {folder!r} are of class {known}, {names[known]!r}"
        else:
            continue
        raise DataError(
            f"{path} is of class {label}, {names[label]!r}, in {listed_in}, but {is_named}. Labels and class names "
            "are in different orders. Get the file again."
        )


def _class_of(path: str, class_in: str) -> str:
    """The part of an image's path that identifies its class."""
    parts = PurePosixPath(path)
    if class_in == "folders":  # without the leading letter, and reversed as in CoOp's names
        return " ".join(reversed(parts.parts[1:-1]))
    return parts.parent.name if class_in == "folder" else parts.stem.rpartition("_")[0]


def letters(name: str) -> str:
    """A name in the form used for comparison: "Annual Crop Land" equals AnnualCropLand and annual_crop_land."""
    return re.sub(r"[\W_]", "", name.lower())
