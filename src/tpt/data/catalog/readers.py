"""Reads datasets in the layouts that they have on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from annotated_types import Ge, Le

from tpt.data.catalog.arrays import read_arrays
from tpt.data.catalog.entries import CATALOG, Entry, entry_of, keys_of
from tpt.data.catalog.names import imagenet_classes
from tpt.data.catalog.official import classes_of, flat_validation, official_lists
from tpt.data.catalog.places import (
    Listing,
    NoSplitError,
    base_of,
    bases,
    class_folders,
    find_all,
    folders_in,
    homes,
    image_files,
    letters,
    samples_of,
)
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import Orientation
from tpt.data.store import FileStore, lines_of, refuse_unusable
from tpt.errors import DataError, Filled, checked
from tpt.files import is_file, read_bytes, readable
from tpt.files.lists import decode_text

log = logging.getLogger(__name__)

Severity = Annotated[int, Ge(1), Le(5)]
Split = Literal["test", "val", "train"]

__all__ = ["catalog_datasets", "find_all", "read_entry", "validation_entry"]


@checked
def catalog_datasets(
    keys: Sequence[str] | str,
    root: Filled | Path | None,
    split: Split = "test",
    orientation: Orientation = "ignore",
    corruption: str | Sequence[str] = "all",
    severity: Severity = 5,
) -> list[ImageDataset]:
    """Datasets that are known by a key, see `CATALOG`.

    Args:
        keys: one key or several, in order.  The key of a dataset with several domains (pacs), or of a corrupted one
            (imagenet_c), gives one dataset per domain or corruption.
        root: the folder that holds all datasets.
        split: "test", "val" or "train".
        orientation: "ignore" uses photographs as stored, as in the papers' code; "apply" rotates them by their tags.
        corruption: for corrupted datasets: "all" (fifteen), or the names of some.
        severity: severity of the corruptions, 1 to 5; one or several.

    Raises:
        DataError: a key is unknown, a dataset is missing, or its files do not fit its lists.
    """
    asked = [keys] if isinstance(keys, str) else keys
    chosen = [key for one in asked for key in keys_of(one, corruption, severity)]
    return [replace(read_entry(key, root, split), upright=orientation == "apply") for key in chosen]


@checked
def validation_entry(key: str, root: Filled | Path | None) -> ImageDataset | None:
    """The validation split of a dataset, on which CoOp validates; None for datasets without one, such as ImageNet."""
    try:
        return read_entry(key, root, "val")
    except NoSplitError:
        return None


@checked
def read_entry(key: str, root: Filled | Path | None, split: Split = "test") -> ImageDataset:
    """One dataset; see `catalog_datasets`.  ImageNet has no "val", and its variants have only a test set."""
    if root is None:
        raise DataError("Expected the folder of all datasets, got none; set data.root or the variable TPT_DATA.")
    entry = entry_of(key)
    root = Path(root).expanduser()
    readers = {
        **{"synsets": _class_folders, "numbers": _class_folders, "split": _split_file, "own": _own_lists},
        **{"domains": _domain, "arrays": read_arrays},
    }
    try:
        found = readers[entry.layout](entry, root, split)
    except OSError as error:
        raise DataError(f"Cannot read {entry.title} below {root} ({error}). Check data.root.") from error
    names, samples, notes = found.names, found.samples, list(found.notes)
    if split == "test" and (len(samples), len(names)) != (entry.images, entry.classes):
        papers = f"{entry.images} of {entry.classes}"
        notes.append(f"{len(samples)} images of {len(names)} classes, where the paper's test set has {papers}")
    for note in notes:
        log.warning("%s: %s.", key, note)
    if split != "test":
        notes.append(f"the {split} split, not the test set")
    if len(homes(entry, root)) > 1:
        log.info("%s: images in %s, which is complete.", key, found.store.root)
    return ImageDataset(
        key, names, samples, found.store, notes, split=found.split, template=entry.template, augmix=entry.augmix
    )


def _class_folders(entry: Entry, root: Path, split: str) -> Listing:
    """Reads WordNet ids, or "0" to "999", whose order as text ("0", "1", "10", ...) is not the class order."""
    classes, places = imagenet_classes(entry.synsets), bases(entry, root, split)
    numbers = {str(label): name for label, name in enumerate(classes.values())}
    kinds = [numbers, classes] if entry.layout == "numbers" else [classes]
    wrong: DataError | None = None
    try:
        found = next(filter(None, (class_folders(entry, places, expected) for expected in kinds)), None)
    except DataError as error:
        found, wrong = None, error
    if found is None and entry.key == "imagenet" and split == "test":  # the images may be in one flat folder
        found = flat_validation(places, root, classes)
    if found is None:
        raise wrong or DataError(
            f"No class folders of {entry.title}, such as {next(iter(kinds[0]))}, in {' or '.join(map(str, places))}. "
            "Unpack the images there, as in docs/dataset_layouts.md."
        )
    return found


def _split_file(entry: Entry, root: Path, split: str) -> Listing:
    """Reads `{"test": [[path, label, class name], ...]}`, the splits that CoOp published and TPT uses."""
    if (file := next(filter(is_file, _split_places(entry, root, entry.split)), None)) is None:
        return _own_lists(entry, root, split)
    with readable(f"the rows [path, label, class name] under {split!r} in {file}", "Get the file again"):
        rows = [(path, label, name) for path, label, name in json.loads(decode_text(read_bytes(file)))[split]]
        if any([type(field) for field in row] != [str, int, str] for row in rows):
            raise TypeError("a row of other types")
        names = [entry.renamed.get(name, name) for name in classes_of(rows)]
    return _listing(entry, root, names, [(path, label) for path, label, _ in rows], file)


def _split_places(entry: Entry, root: Path, name: str) -> list[Path]:
    return [folder / name for folder in (*homes(entry, root), root / "splits", root / "data_splits", root)]


def _domain(entry: Entry, root: Path, split: str) -> Listing:
    """Reads a domain from its list, with lines `clipart/axe/clipart_012_000001.jpg 11`, or else from its folders."""
    name = entry.split.replace("test", split)
    if name and (file := next(filter(is_file, _split_places(entry, root, name)), None)) is not None:
        with readable(f"the lines `path label` in {file}", "Get the file again"):
            lines = [line.rsplit(maxsplit=1) for line in lines_of(file)]
            names = classes_of([(path, int(label), path.rsplit("/", 2)[-2]) for path, label in lines])
        return _listing(entry, root, names, [(path, int(label)) for path, label in lines], file)
    if split != "test":
        raise NoSplitError(f"The list {name} of {entry.title} is missing. Get it from {entry.source}.")
    notes = (f"all images of the folder, since {name} is not there",) if name else ()
    return _domain_folders(entry, root)._replace(notes=notes)


def _domain_folders(entry: Entry, root: Path) -> Listing:
    """Reads one folder per class.

    The classes are the union over the dataset's domains, so labels agree even if a domain has no images of a class.
    """
    places = [place for place in bases(entry, root) if place.is_dir() and folders_in(place)]
    if not places:
        raise DataError(f"No class folders of {entry.title} in {bases(entry, root)[0]}. Unpack the images there.")
    base = places[0]
    domains = {letters(other.part) for other in CATALOG.values() if other.folders == entry.folders}
    beside = [base.parent / name for name in folders_in(base.parent) if letters(name) in domains]
    names = sorted({name for domain in beside for name in folders_in(domain)})
    if len(names) != entry.classes:
        raise DataError(
            f"The domains of {base.parent} hold {len(names)} class folders, not {entry.classes}. A wrong set of "
            "classes would shift every label. Complete the folders, or remove what does not belong there."
        )
    images = {name: image_files(base / name) if (base / name).is_dir() else [] for name in names}
    return Listing(FileStore(base), names, samples_of(images))


def _own_lists(entry: Entry, root: Path, split: str) -> Listing:
    """The dataset's own lists: the paper's, or a substitute if the paper's split file is missing."""
    for own in homes(entry, root):
        if (official := official_lists(entry.key, own, split)) is None:
            continue
        file, names, rows = official
        listing, name = _listing(entry, root, names, rows, file), file.relative_to(own).as_posix()
        if entry.layout == "own":
            return listing
        papers = split == "test" and entry.is_papers(name)
        notes = () if papers else (f"the dataset's own split {name}, not the paper's {entry.split}",)
        return listing._replace(split=name, notes=notes)
    places = " or ".join(dict.fromkeys(map(str, _split_places(entry, root, ""))))
    raise NoSplitError(
        f"Not all lists of the {split} images of {entry.title} are in {places}. Put {entry.split} there, which CoOp's "
        "DATASETS.md links to, or unpack the dataset with its own lists."
    )


def _listing(entry: Entry, root: Path, names: list[str], rows: list[tuple[str, int]], file: Path) -> Listing:
    """The images of a list, after a check that they exist."""
    paths = [path for path, _ in rows]
    store = FileStore(base_of([*bases(entry, root), *homes(entry, root)], paths))
    refuse_unusable(store, paths, file)
    _refuse_another_order(entry, names, rows, file)
    return Listing(store, names, [Sample(path, label) for path, label in rows], file.name)


def _refuse_another_order(entry: Entry, names: list[str], rows: list[tuple[str, int]], file: Path) -> None:
    """Raises a DataError if lists and folders contradict each other; a shifted order would give 0.5 % accuracy.

    Each label must belong to one class folder, each class folder to one label, and a folder with the name of a class
    must hold that class.  Datasets whose paths do not identify the class are not checked.
    """
    by_name = {letters(name): label for label, name in enumerate(names)}
    folder_of: dict[int, str] = {}
    label_of: dict[str, int] = {}
    for path, label in rows:
        if not (folder := _class_of(path, entry.class_in)):
            continue
        named = by_name.get(letters(entry.renamed.get(folder, folder)), label)
        alone = folder_of.setdefault(label, folder) == folder and label_of.setdefault(folder, label) == label
        if not alone or letters(names[named]) != letters(names[label]):
            raise DataError(
                f"{path} is of class {label}, {names[label]!r}, in {file}, but its folder or other images of the class "
                "say otherwise. Labels and class names are in different orders. Get the file again."
            )


def _class_of(path: str, class_in: str) -> str:
    """The part of an image's path that identifies its class; empty if there is none."""
    parts = PurePosixPath(path)
    match class_in:
        case "folder":
            return parts.parent.name
        case "folders":  # without the leading letter, and reversed as in CoOp's names
            return " ".join(reversed(parts.parts[1:-1]))
        case "file":
            return parts.stem.rpartition("_")[0]
    return ""
