"""Reads ImageNet's validation images as in their archive: all in one folder, with the classes in a separate list."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tpt.data.catalog.matlab import read_table
from tpt.data.catalog.places import Listing, images_of
from tpt.data.dataset import Sample
from tpt.data.store import FileStore, lines_of
from tpt.files import is_file, readable

log = logging.getLogger(__name__)

_NUMBERED = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG", re.IGNORECASE)
KAGGLE = "LOC_val_solution.csv"  # of Kaggle's copy: name and WordNet id of each image
TRUTH = "ILSVRC2012_validation_ground_truth.txt"  # of the devkit: one number per line, explained by `meta.mat`
SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # of TensorFlow's tools: one WordNet id per line
_DEVKITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", "ILSVRC2012_devkit_t12", "")


def flat_validation(places: Sequence[Path], root: Path, classes: Mapping[str, str]) -> Listing | None:
    """The images in one of the places, with their classes from a list; None if there are no images or no list.

    Lists are searched for from the images up to `root`; a damaged or incomplete one is a DataError.
    """
    label = {synset: k for k, synset in enumerate(classes)}
    for base in (place for place in places if place.is_dir()):
        numbers = {name: int(found[1]) for name in images_of(base) if (found := _NUMBERED.fullmatch(name))}
        if not numbers or (listed := _list(base, root)) is None:
            continue
        with readable(f"the WordNet id of every image of {base} in {listed}"):
            synsets = _synsets(listed)
            rows = sorted((label[synsets[number]], name) for name, number in numbers.items())
        if absent := len(classes) - len({k for k, _ in rows}):
            log.warning("imagenet: %d of %d classes have no image in %s.", absent, len(classes), base)
        return Listing(FileStore(base), list(classes.values()), [Sample(name, k) for k, name in rows])
    return None


def _list(base: Path, root: Path) -> Path | None:
    """The nearest list of classes: next to the images, or in a folder above."""
    for folder in [base, *(parent for parent in base.parents if parent.is_relative_to(root))]:
        devkits = [folder / devkit / TRUTH for devkit in _DEVKITS]
        if found := next(filter(is_file, (folder / KAGGLE, *devkits, folder / SYNSETS)), None):
            return found
    return None


def _synsets(file: Path) -> dict[int, str]:
    """The WordNet id of each image by its number, from 1."""
    lines = lines_of(file)
    if file.name == KAGGLE:
        return {
            int(row["ImageId"].removesuffix(".JPEG").rsplit("_", 1)[1]): row["PredictionString"].split()[0]
            for row in csv.DictReader(lines)
        }
    if file.name == SYNSETS:
        return dict(enumerate(lines, 1))
    known = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in read_table(file.parent / "meta.mat", "synsets")}
    return {n: known[int(line)] for n, line in enumerate(lines, 1)}
