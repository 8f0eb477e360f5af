"""ImageNet's validation images as their archive holds them: in one folder, the classes in a list beside it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from tpt.data.catalog.matlab import read_table
from tpt.data.catalog.places import images_of
from tpt.data.store import decode_text, is_file, read_file
from tpt.errors import DataError, UserError

_NUMBERED = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG", re.IGNORECASE)
KAGGLE = "LOC_val_solution.csv"  # of Kaggle's copy: name and WordNet id of each image
TRUTH = "ILSVRC2012_validation_ground_truth.txt"  # of the devkit: a number a line, which `meta.mat` explains
SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # of TensorFlow's tools: a WordNet id a line
_DEVKITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", "ILSVRC2012_devkit_t12", "")


def flat_validation(places: Sequence[Path], root: Path) -> tuple[Path, list[tuple[str, str]], str] | None:
    """The folder of the images, (file name, WordNet id) of each, and the list that says so; None if none is there.

    Args:
        places: that may hold the images.
        root: of all datasets; lists are looked for from the images up to here.

    Raises:
        DataError: a list that is damaged, or does not name every image.
    """
    for base in (place for place in places if place.is_dir()):
        numbers = {name: int(found[1]) for name in images_of(base) if (found := _NUMBERED.fullmatch(name))}
        listed = _list(base, root) if numbers else None
        if listed is None:
            continue
        try:
            synsets = _synsets(listed)
            rows = [(name, synsets[number]) for name, number in numbers.items()]
        except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
            raise DataError(
                f"Expected the WordNet id of every image of {base} in {listed}, but it cannot be read so "
                f"({type(error).__name__}: {error}); get it again."
            ) from error
        return base, rows, listed.name
    return None


def _list(base: Path, root: Path) -> Path | None:
    """The nearest list of classes: beside the images, or in a folder above."""
    above = [base, *(parent for parent in base.parents if parent.is_relative_to(root))]
    for folder in above:
        devkits = [folder / devkit / TRUTH for devkit in _DEVKITS]
        for file in (folder / KAGGLE, *devkits, folder / SYNSETS):
            if is_file(file):
                return file
    return None


def _synsets(file: Path) -> dict[int, str]:
    """WordNet id of each image by its number, from 1."""
    text = decode_text(read_file(file))
    if file.name == KAGGLE:
        rows = csv.DictReader(io.StringIO(text))
        return {_number(row["ImageId"]): row["PredictionString"].split()[0] for row in rows}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if file.name == SYNSETS:
        return dict(enumerate(lines, 1))
    meta = file.parent / "meta.mat"
    if not is_file(meta):
        raise UserError(f"meta.mat is not beside {TRUTH}")
    known = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in read_table(meta, "synsets")}
    return {n: known[int(line)] for n, line in enumerate(lines, 1)}


def _number(image: str) -> int:
    return int(image.removesuffix(".JPEG").rsplit("_", 1)[1])
