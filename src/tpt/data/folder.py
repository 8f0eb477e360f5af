"""Reads datasets with one folder per class: the bundled data and a user's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import EXTENSIONS, Orientation
from tpt.data.labels import ClassNames, read_names
from tpt.data.names import counted_suffixes, nfc, plain
from tpt.data.store import FileStore
from tpt.data.unread import skipped
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
    _refuse_other_layouts(store, by_folder, paths)
    given = None if class_names is None else read_names(class_names)
    matched = None if given is None else _match(folders, given)
    if matched is None:
        _refuse_upper_level(store, by_folder)
    notes = _notes(by_folder, paths, shown)
    order = list(range(len(folders)))
    if matched is not None:
        names, order = matched
    elif given is not None:
        names = _in_order(folders, given, class_names, shown)
    else:
        names = _own_names(store, folders, shown)
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


def _refuse_other_layouts(store: FileStore, by_folder: dict[str, list[str]], paths: list[str]) -> None:
    root, folders = store.root, list(by_folder)
    if not folders:
        loose = _pictures(paths)
        instead = f", only {len(loose)} images" if loose else ""
        raise DataError(f"{root} has no folder per class{instead}. See docs/own_data.md.")
    lower = {folder.lower() for folder in folders}
    if lower <= _NOT_CLASSES:
        splits = [split for split, names in SPLITS.items() if lower & {*names}]
        way_out = f"Pass data.split={splits[-1]}" if splits else f"Point data.root at {root / folders[-1]}"
        raise DataError(f"{', '.join(folders)} in {root} hold splits rather than classes. {way_out}.")
    level, inner = _below(by_folder[folders[0]])
    if len(folders) == 1 and len(inner) > 1:
        raise DataError(
            f"{root} holds one folder, {level!r}, with {len(inner)} folders in it, such as {min(inner)!r}. If those "
            f"are the classes, {_at(store, level)}."
        )


def _refuse_upper_level(store: FileStore, by_folder: dict[str, list[str]]) -> None:
    """Raises a DataError if the classes are one level deeper.

    Then two or more folders (domains, splits or the doubled folders of an archive) hold no pictures, only folders with
    names in common.
    """
    levels = {folder: _below(found) for folder, found in by_folder.items()}
    common = [name for name, count in Counter(n for _, inner in levels.values() for n in inner).items() if count > 1]
    upper = [folder for folder, (_, inner) in levels.items() if inner & {*common}]
    if all(len(levels[folder][1]) == 1 for folder in upper):  # as in cat/images and dog/images
        return
    splits = [s for s, names in SPLITS.items() for f in upper if f.lower() in names and levels[f][0] == f]
    shown = next((folder for folder in upper if "test" in folder.lower()), upper[0])
    way_out = f"pass data.split={splits[-1]}" if splits else _at(store, levels[shown][0])
    raise DataError(
        f"{upper[0]!r} and {upper[1]!r} in {store.root} hold no pictures, only folders of the same names, such as "
        f"{min(common)!r}. If those are the classes, {way_out}; if {upper[0]!r} is a class, name all in "
        "data.class_names, one `folder<TAB>name` per line."
    )


def _at(store: FileStore, level: str) -> str:
    unpacked = f"unpack it and point data.root at {level}"
    return unpacked if store.is_archive else f"point data.root at {store.root / level}"


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
    """Notes on ignored files; raises a DataError for a class folder without any picture."""
    others = [p for p in paths if "/" in p and not p.lower().endswith(EXTENSIONS)]
    empty = {folder for folder, found in by_folder.items() if not found}
    if strange := sorted({p.split("/")[0] for p in others} & empty):
        inside = [p for p in others if p.split("/")[0] == strange[0]]
        raise DataError(
            f"Class folders of {shown} hold no picture that can be read: {', '.join(map(repr, strange[:5]))} "
            f"({counted_suffixes(inside)}). Convert the files, or move the folder away if it is no class, which makes "
            "one class fewer."
        )
    notes = []
    if loose := sum("/" not in path for path in _pictures(paths)):
        notes.append(f"{loose} pictures outside the class folders were skipped")
    return [*notes, *skipped(others)]


def _match(folders: list[str], names: Names) -> tuple[list[str], list[int]] | None:
    """The class names and the class of each folder, if the list has the folders as keys or as names; else None."""
    keys = names.places()
    if all(nfc(folder) in keys for folder in folders):
        return [names[keys[nfc(folder)]] for folder in folders], list(range(len(folders)))
    places = {text_key(name): place for place, name in enumerate(names)}
    found = [place for folder in folders if (place := places.get(text_key(folder))) is not None]
    return (list(names), found) if len({*found}) == len(folders) else None


def _in_order(folders: list[str], names: Names, source: ClassNames | None, root: str | Path) -> list[str]:
    """The class names from a list that has one for each folder, in sorted order."""
    where = f"in {source}" if isinstance(source, str | Path) else "in data.class_names"
    keys = names.places()
    missing = [folder for folder in folders if nfc(folder) not in keys]
    if keys and (len(missing) < len(folders) or not all(key.isdecimal() for key in keys)):
        raise DataError(
            f"Folders of {root} have no name {where}: {', '.join(map(repr, missing[:5]))}. Add `folder<TAB>name` lines."
        )
    if len(names) != len(folders):
        raise DataError(
            f"Expected {len(folders)} class names {where}, one for each folder of {root} in sorted order, got "
            f"{len(names)}; add what is missing, or write `folder<TAB>name` lines."
        )
    _refuse_other_order(folders, names, root, where)
    return list(names)


def _own_names(store: FileStore, folders: list[str], root: str | Path) -> list[str]:
    if odd := [folder for folder in folders if store.is_odd(folder)]:
        raise DataError(
            f"Expected names of folders in UTF-8 in {root}, got {odd[0]}; rename it (for a zip archive, "
            "zip the renamed folder again), or name the classes in data.class_names."
        )
    if all(folder.isdecimal() for folder in folders):
        raise DataError(
            f"The folders of {root} are numbers, such as {folders[0]!r}, which may count classes or be their names. "
            "Set data.class_names to a text file with one name per line."
        )
    if any(map(_WORDNET.fullmatch, folders)):
        return _wordnet_names(folders, root)
    refuse_one_prompt(folders, [text_key(folder) for folder in folders], f"among the folders of {root}", DataError)
    return [nfc(folder).replace("_", " ") for folder in folders]


def _wordnet_names(folders: list[str], root: str | Path) -> list[str]:
    from tpt.data.catalog.names import imagenet_classes  # noqa: PLC0415 - imports open_clip

    known = imagenet_classes()
    if strange := [folder for folder in folders if folder not in known]:
        mixed = not _WORDNET.fullmatch(strange[0])
        raise DataError(
            f"Expected WordNet ids of ImageNet's classes in {root}, got {strange[0]!r}"
            f"{' among them' if mixed else ''}; name all classes in data.class_names, one `folder<TAB>name` per line."
        )
    return [known[folder] for folder in folders]


def _refuse_other_order(folders: list[str], lines: list[str], root: str | Path, where: str) -> None:
    """Raises a DataError if the names are in another order than the folders, or if the order is ambiguous.

    The order differs if a name belongs to another folder than the one at its place.  It is ambiguous if folders are
    numbers whose order as text (1, 10, 2) is not the numerical order.
    """
    places = {text_key(folder): place for place, folder in enumerate(folders)}
    for line, name in enumerate(lines):
        if (place := places.get(text_key(name), line)) != line:
            raise DataError(
                f"The names {where} are not in the sorted order of the folders of {root}: the name of "
                f"{folders[line]!r} is {name!r}, as folder {folders[place]!r} is called. Write `folder<TAB>name` "
                "lines."
            )
    if not all(re.fullmatch(r"[0-9]{1,18}", folder) for folder in folders):
        return
    by_number = sorted(folders, key=int)
    for line, folder in enumerate(folders):
        if by_number[line] != folder:
            raise DataError(
                f"The order of the names {where} is ambiguous: folder {folder!r} of {root} may be {lines[line]!r} (in "
                f"the order of texts) or {lines[by_number.index(folder)]!r} (of numbers). Write `folder<TAB>name` "
                "lines."
            )
