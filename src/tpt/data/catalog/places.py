"""Finds a dataset's files: every possible folder is tried, and the complete one is used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tpt.data.catalog.entries import Entry
from tpt.data.dataset import Sample
from tpt.data.images import EXTENSIONS
from tpt.data.names import is_left_behind
from tpt.data.store import FileStore, Store
from tpt.errors import DataError
from tpt.files import is_file

_PROBED = 50  # images of a list to look for; a folder with none of them belongs to another dataset


class NoSplitError(DataError):
    """The dataset has no list of this split."""


class Listing(NamedTuple):
    """The images of a dataset, the list that they come from (empty for a whole folder), and notes as of a dataset."""

    store: Store
    names: list[str]
    samples: list[Sample]
    split: str = ""
    notes: tuple[str, ...] = ()


def find_all(entry: Entry, root: Path) -> list[Path]:
    """The dataset's folders below `root`, in any layout, without empty ones."""
    named = [root / folder for folder in entry.folders]
    doubled = [folder / folder.name for folder in named]
    return [folder for folder in dict.fromkeys([*named, *doubled]) if _holds_something(folder)]


def _holds_something(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(not is_left_behind(path.name) for path in folder.iterdir())
    except OSError:  # reported by the code that reads it
        return True


def homes(entry: Entry, root: Path) -> list[Path]:
    """As `find_all`, but raises a DataError if there is none."""
    if not (found := find_all(entry, root)):
        raise DataError(
            f"Cannot find {entry.title}: there is no folder {' or '.join(str(root / f) for f in entry.folders)}. Get "
            f"it from {entry.source}, or set data.root."
        )
    return found


def bases(entry: Entry, root: Path, split: str = "test") -> list[Path]:
    """The existing folders that may hold the images."""
    subfolders: Sequence[str] = entry.subfolders
    if (entry.layout in ("synsets", "numbers") or (entry.part and not entry.split)) and split != "test":
        if split != "train" or entry.key != "imagenet":
            raise NoSplitError(f"Expected a split that {entry.title} has, got {split!r}; it is a test set alone.")
        subfolders = [sub.replace("validation", "val").replace("val", "train") for sub in entry.subfolders if sub]
    places = [home / sub for home in homes(entry, root) for sub in subfolders]
    if entry.part and entry.layout != "arrays":
        places = [_inside(place, entry.part) for place in places]
    return [place for place in dict.fromkeys(places) if place.is_dir()] or places[: len(subfolders)]


def _inside(place: Path, part: str) -> Path:
    """A folder in `place` under any spelling: "Real World" is found as RealWorld and real_world too."""
    for name in part.split("/"):
        near = [own for own in sorted(folders_in(place)) if letters(own) == letters(name)] if place.is_dir() else []
        place /= near[0] if near else name
    return place


def image_files(folder: Path) -> list[str]:
    """Names of the pictures in a folder, sorted."""
    return sorted(
        p.name for p in folder.iterdir() if p.name.lower().endswith(EXTENSIONS) and not is_left_behind(p.name)
    )


def folders_in(place: Path) -> set[str]:
    """Names of the folders in a folder."""
    return {p.name for p in place.iterdir() if p.is_dir() and not is_left_behind(p.name)}


def letters(name: str) -> str:
    """A name in the form used for comparison: "Annual Crop Land" equals AnnualCropLand and annual_crop_land."""
    return re.sub(r"[\W_]", "", name.lower())


def class_folders(entry: Entry, places: Sequence[Path], expected: Mapping[str, str]) -> Listing | None:
    """The images of the first place with exactly the expected class folders; None if no place has any of them.

    `expected` has the class name of each folder, in label order.  If no place is complete, a DataError is about the one
    with most of them.
    """
    odd: dict[Path, list[str]] = {}  # what is wrong in a place with some of the folders
    for place in (place for place in places if place.is_dir()):
        folders = folders_in(place)
        if not (odd_ones := sorted(folders ^ expected.keys())):
            images = {folder: image_files(place / folder) for folder in expected}
            if all(images.values()):
                return Listing(FileStore(place), list(expected.values()), samples_of(images))
            odd_ones = [folder for folder, found in images.items() if not found]
        if folders & expected.keys():
            odd[place] = odd_ones
    if not odd:
        return None
    place = max(odd, key=lambda place: len(folders_in(place) & expected.keys()))
    raise DataError(
        f"Expected in {place} the {len(expected)} class folders of {entry.title}, all with images, and no others, got "
        f"{len(odd[place])} that are missing, empty or of other classes, such as {odd[place][0]}; complete the folder, "
        "or remove what does not belong there, since a wrong set of classes would shift every label."
    )


def samples_of(images: Mapping[str, Sequence[str]]) -> list[Sample]:
    """The images of class folders, which are in label order."""
    return [Sample(f"{folder}/{name}", k) for k, (folder, names) in enumerate(images.items()) for name in names]


def base_of(places: Sequence[Path], paths: Sequence[str]) -> Path:
    """The folder that holds all files of a list, or else most of them."""

    def missing(place: Path) -> int:
        probed = paths[:: max(1, len(paths) // _PROBED)]
        found = any(is_file(place / path) for path in probed)
        return sum(not is_file(place / path) for path in paths) if found else len(paths) + 1

    return min(places, key=missing)
