"""Reads datasets with one folder per class: the bundled data and a user's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import EXTENSIONS, Orientation, skipped
from tpt.data.labels import ClassNames, read_names
from tpt.data.names import nfc, plain
from tpt.data.store import FileStore
from tpt.errors import DataError, Filled, checked, refuse_one_prompt, text_key
from tpt.files.lists import Names

SPLITS = {  # names of the folders of splits
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_NOT_CLASSES = {*(name for names in SPLITS.values() for name in names), "images", "annotations", "labels"}
_WORDNET = re.compile(r"n[0-9]{8}")


@checked
def image_folder(
    root: Filled | Path,
    name: str | None = None,
    class_names: ClassNames | None = None,
    split: str | None = None,
    orientation: Orientation = "apply",
) -> ImageDataset:
    """Images in one folder per class, `root/<class>/**/<image>`.

    Args:
        root: the folder, or a zip archive of it or of its content, which is read without unpacking.
        name: name in logs and results; the last part of `root` if None.
        class_names: None uses the folders' names (for WordNet ids of ImageNet, its class names).  Otherwise a list, or
            a file in any form of `tpt.files.lists.parse_list`: one name per folder in sorted order, or in any order
            `folder<TAB>name` lines or the folders' own names.
        split: "test", "val" or "train": the folder of that name (or testing, validation, ...) in `root`.
        orientation: "apply" rotates photographs by their orientation tags; "ignore" does not.

    Raises:
        DataError: there is no such folder, it has no classes, or the names do not fit or are ambiguous.
    """
    store = _inner(FileStore(root))
    shown = store.root if split is None else f"{store.root}/{split}"
    if split is not None:
        store = _split(store, split)
    folders, paths = store.folders(), list(store.paths())
    by_folder: dict[str, list[str]] = {folder: [] for folder in folders}
    for path in _pictures(paths):
        if "/" in path:
            by_folder[path.split("/")[0]].append(path)
    given = None if class_names is None else read_names(class_names)
    matched = None if given is None else _match(folders, given)
    _refuse_other_level(store, by_folder, matched is not None)
    notes = _notes(by_folder, paths, shown)
    if matched is not None:
        names, order = matched
    else:
        order = list(range(len(folders)))
        names = _own_names(store, folders, shown) if given is None else _in_order(folders, given, shown)
    if given is None and _WORDNET.fullmatch(folders[0]):
        notes.append("the folders are WordNet ids; the class names are ImageNet's")
    samples = [Sample(path, k) for k, folder in zip(order, folders, strict=True) for path in by_folder[folder]]
    own = name or plain(store.root.absolute().stem)
    upright = orientation == "apply"
    return ImageDataset(own, names, samples, store, notes, split=split or "", upright=upright).noted()


def _inner(store: FileStore) -> FileStore:
    """The folder with the classes; an archive may have one more folder around it."""
    folders = store.folders() if store.is_archive else []
    if len(folders) != 1:
        return store
    inner = store.within(folders[0])
    return inner if inner.folders() and not any("/" not in path for path in _pictures(inner.paths())) else store


def _pictures(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.lower().endswith(EXTENSIONS)]


def _split(store: FileStore, split: str) -> FileStore:
    if split not in SPLITS:
        raise DataError(f"Expected `data.split` to be test, val, train or null, got {split!r}.")
    found = [folder for folder in store.folders() if folder.lower() in SPLITS[split]]
    if len(found) != 1:
        raise DataError(
            f"{store.root} holds {' and '.join(found or store.folders()[:5]) or 'no folders'}, not one folder "
            f"{' or '.join(SPLITS[split])}. Set data.split or data.root."
        )
    return store.within(found[0])


def _refuse_other_level(store: FileStore, by_folder: dict[str, list[str]], named: bool) -> None:
    """Raises a DataError if the classes are one level deeper: below splits, domains or doubled folders of an archive.

    Then one folder holds all others, or two or more folders hold no pictures, only folders with names in common.
    `named`: class names were given for the folders, which therefore are classes.
    """
    folders, levels = list(by_folder), {folder: _below(found) for folder, found in by_folder.items()}
    counts = Counter(name for _, inner in levels.values() for name in inner)
    upper = [folder for folder, (_, inner) in levels.items() if any(counts[name] > 1 for name in inner)]
    if {folder.lower() for folder in folders} <= _NOT_CLASSES or (len(folders) == 1 and len(counts) > 1):
        upper = folders
    elif named or all(len(levels[folder][1]) == 1 for folder in upper):  # as in cat/images and dog/images
        return
    if not upper:
        raise DataError(f"{store.root} has no folder per class. See docs/own_data.md.")
    shown = next((folder for folder in upper if "test" in folder.lower()), upper[0])
    splits = [split for split, names in SPLITS.items() if any(folder.lower() in names for folder in upper)]
    place = f"{store.root / (levels[shown][0] or shown)}{', unpacked' if store.is_archive else ''}"
    way_out = f"pass data.split={splits[-1]}" if splits else f"point data.root at {place}"
    raise DataError(
        f"The folders {' and '.join(map(repr, upper[:3]))} in {store.root} seem to hold the folders of classes. If so, "
        f"{way_out}; if they are classes, name all in data.class_names, one `folder<TAB>name` per line."
    )


def _below(paths: list[str]) -> tuple[str, set[str]]:
    """The first level with several folders below the paths' top folder, else the last level; and its folders' names.

    Empty if the top folder holds pictures.
    """
    folders = {path.rpartition("/")[0] for path in paths}
    if not all("/" in folder for folder in folders) or not folders:
        return "", set()
    level = os.path.commonpath(folders)
    if level in folders:
        above, _, last = level.rpartition("/")
        return above, {last}
    return level, {folder.split("/")[level.count("/") + 1] for folder in folders}


def _notes(by_folder: dict[str, list[str]], paths: list[str], shown: str | Path) -> list[str]:
    """Notes on ignored files; raises a DataError for a class folder with other files but no picture."""
    others = [path for path in paths if "/" in path and not path.lower().endswith(EXTENSIONS)]
    if strange := sorted({folder for path in others if not by_folder[folder := path.split("/")[0]]}):
        raise DataError(
            f"Class folders of {shown} hold no picture that can be read: {', '.join(map(repr, strange[:5]))}. Convert "
            "the files, or move the folder away if it is no class, which makes one class fewer."
        )
    loose = sum("/" not in path for path in _pictures(paths))
    return [*([f"{loose} pictures outside the class folders were skipped"] if loose else []), *skipped(others)]


def _match(folders: list[str], names: Names) -> tuple[list[str], list[int]] | None:
    """The class names and the class of each folder, if the list has the folders as keys or as names; else None."""
    keys = names.places()
    if all(nfc(folder) in keys for folder in folders):
        return [names[keys[nfc(folder)]] for folder in folders], list(range(len(folders)))
    places = {text_key(name): place for place, name in enumerate(names)}
    found = [place for folder in folders if (place := places.get(text_key(folder))) is not None]
    return (list(names), found) if len({*found}) == len(folders) else None


def _in_order(folders: list[str], names: Names, root: str | Path) -> list[str]:
    """The class names from a list that has one for each folder, in sorted order; refuses any other order."""
    keys = names.places()
    missing = [folder for folder in folders if nfc(folder) not in keys]
    if keys and (len(missing) < len(folders) or not all(key.isdecimal() for key in keys)):
        raise DataError(
            f"Folders of {root} have no name in data.class_names: {', '.join(map(repr, missing[:5]))}. Add "
            "`folder<TAB>name` lines."
        )
    if len(names) != len(folders):
        raise DataError(
            f"Expected {len(folders)} class names in data.class_names, one for each folder of {root} in sorted order, "
            f"got {len(names)}; add what is missing, or write `folder<TAB>name` lines."
        )
    own = {text_key(folder): folder for folder in folders}
    numbers = all(re.fullmatch(r"[0-9]{1,18}", folder) for folder in folders)  # sorted as text: 1, 10, 2
    by_number = sorted(folders, key=int) if numbers else folders
    for folder, name, numbered in zip(folders, names, by_number, strict=True):
        if (other := own.get(text_key(name), numbered)) != folder:
            raise DataError(
                f"The names in data.class_names are in another order than the folders of {root}: {folder!r} gets "
                f"the name {name!r}, which may belong to {other!r}. Write `folder<TAB>name` lines."
            )
    return list(names)


def _own_names(store: FileStore, folders: list[str], root: str | Path) -> list[str]:
    """The folders' names as class names, or ImageNet's names of WordNet ids."""
    known: dict[str, str] = {}
    if any(map(_WORDNET.fullmatch, folders)):
        from tpt.data.catalog.names import imagenet_classes  # noqa: PLC0415 - imports open_clip

        known = imagenet_classes()
    unclear = [folder for folder in folders if folder in store.real or (known and folder not in known)]
    if unclear or all(folder.isdecimal() for folder in folders):
        raise DataError(
            f"Expected folders in {root} that are named like classes, or all by WordNet ids of ImageNet, got "
            f"{(unclear or folders)[0]}, which is a number, another id, a name among ids, or not in UTF-8; name all "
            "classes in data.class_names, one `folder<TAB>name` per line."
        )
    if known:
        return [known[folder] for folder in folders]
    refuse_one_prompt(folders, [text_key(folder) for folder in folders], f"among the folders of {root}", DataError)
    return [nfc(folder).replace("_", " ") for folder in folders]
