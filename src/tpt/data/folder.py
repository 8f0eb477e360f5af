"""A folder per class: the reader of the bundled data and of a user's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tpt.data.dataset import Classes, ImageDataset, Sample
from tpt.data.images import EXTENSIONS, Orientation, is_upright
from tpt.data.names import composed, counted_suffixes, plain
from tpt.data.store import FileStore, decode_text, read_file
from tpt.errors import Count, DataError, Filled, Seed, checked, refuse_one_prompt, text_key

SPLITS = {  # what folders of splits are called
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
    class_names: Filled | Path | Sequence[str] | None = None,
    limit: Count | None = None,
    seed: Seed = 0,
    split: str | None = None,
    classes: Classes = "all",
    orientation: Orientation = "apply",
) -> ImageDataset:
    """Images in one folder per class, `root/<class>/**/<image>`.

    Args:
        root: that folder, or a zip archive of it or of what is in it, which is read without unpacking.
        name: key in logs and results; the last part of `root` if None.
        class_names: None takes the folders' names (for WordNet ids of ImageNet, its names).  A text file (or list)
            gives one name a line, either for each folder in sorted order, or as `folder<TAB>name` in any order.
        limit: number of images, drawn with `seed`; None takes all.
        seed: of that draw.
        split: "test", "val" or "train": the folder of that name (or testing, validation, ...) in `root`.
        classes: "all", or "base" or "new", a half of the classes.
        orientation: "apply" turns photographs upright as their tags say, "ignore" does not.

    Raises:
        DataError: no such folder, no classes, names that do not fit, or whose reading is not certain.
    """
    store = _inner(FileStore(root))
    shown = store.root if split is None else f"{store.root}/{split}"
    if split is not None:
        store = _split(store, split)
    folders, paths = store.folders(), list(store.paths())
    images = [p for p in paths if "/" in p and p.lower().endswith(EXTENSIONS)]
    _refuse_other_layouts(store, folders, images, paths)
    by_folder: dict[str, list[str]] = {folder: [] for folder in folders}
    for path in images:
        by_folder[path.split("/")[0]].append(path)
    notes = _notes(by_folder, paths, shown)
    names = _names(store, folders, class_names, shown)
    if class_names is None and names and _WORDNET.fullmatch(folders[0]):
        notes.append("the folders are WordNet ids, their classes' names those of ImageNet")
    samples = [Sample(path, label) for label, folder in enumerate(folders) for path in by_folder[folder]]
    own = name or plain(store.root.absolute().stem)
    found = ImageDataset(own, names, samples, store, notes, split=split or "", upright=is_upright(orientation))
    return found.chosen(limit, seed, classes)


def _inner(store: FileStore) -> FileStore:
    """Where the classes are: an archive of the folder itself has one folder around them."""
    if not store.is_archive:
        return store
    folders = store.folders()
    if len(folders) != 1:
        return store
    inner = store.within(folders[0])
    loose = any("/" not in path and path.lower().endswith(EXTENSIONS) for path in inner.paths())
    return store if loose or not inner.folders() else inner


def _split(store: FileStore, split: str) -> FileStore:
    if split not in SPLITS:
        raise DataError(f"Expected `data.split` to be test, val, train or null, got {split!r}.")
    found = [folder for folder in store.folders() if folder.lower() in SPLITS[split]]
    if len(found) != 1:
        raise DataError(
            f"Expected one folder {' or '.join(SPLITS[split])} in {store.root}, found "
            f"{' and '.join(found or store.folders()[:5]) or 'none'}; set data.split or data.root."
        )
    return store.within(found[0])


def _refuse_other_layouts(store: FileStore, folders: list[str], images: list[str], paths: list[str]) -> None:
    root = store.root
    if not folders:
        loose = sum(p.lower().endswith(EXTENSIONS) for p in paths)
        instead = f"{loose} images without a folder" if loose else "no folders"
        raise DataError(f"Expected one folder per class in {root}, found {instead}; see docs/own_data.md.")
    if {folder.lower() for folder in folders} <= _NOT_CLASSES:
        splits = [split for split, names in SPLITS.items() if {f.lower() for f in folders} & set(names)]
        way_out = f"pass data.split={splits[-1]}" if splits else f"point data.root at {root / folders[-1]}"
        raise DataError(
            f"Expected one folder per class in {root}, found {', '.join(folders)}, which hold splits rather than "
            f"classes; {way_out}."
        )
    inner = sorted({path.split("/")[1] for path in images if path.count("/") > 1})
    if len(folders) == 1 and len(inner) > 1:
        raise DataError(
            f"Expected one folder per class in {root}, found one folder {folders[0]!r} that holds {len(inner)} "
            f"folders, such as {inner[0]!r}; point data.root at {root / folders[0]}."
        )


def _notes(by_folder: dict[str, list[str]], paths: list[str], shown: str | Path) -> list[str]:
    """What was passed over, and classes without images; folders that hold other files alone are no classes."""
    others = [p for p in paths if "/" in p and not p.lower().endswith(EXTENSIONS)]
    empty = [folder for folder, found in by_folder.items() if not found]
    strange = sorted({p.split("/")[0] for p in others} & set(empty))
    if strange:
        inside = [p for p in others if p.split("/")[0] == strange[0]]
        raise DataError(
            f"Expected pictures in every class folder of {shown}, but {', '.join(map(repr, strange[:5]))} "
            f"{'has' if len(strange) == 1 else 'have'} none that can be read ({counted_suffixes(inside)}); convert "
            "them, or move the folder away if it is no class, which makes one class fewer."
        )
    notes = []
    if empty and len(empty) < len(by_folder):
        notes.append(
            f"{len(empty)} of {len(by_folder)} classes have no image, such as {empty[0]!r}; they stay among the answers"
        )
    if loose := sum("/" not in path and path.lower().endswith(EXTENSIONS) for path in paths):
        notes.append(f"{loose} pictures that lie in no class folder were passed over")
    if others:
        notes.append(f"{len(others)} files that are no pictures were passed over ({counted_suffixes(others)})")
    return notes


def _names(
    store: FileStore, folders: list[str], class_names: str | Path | Sequence[str] | None, root: str | Path
) -> list[str]:
    if class_names is None:
        return _own_names(store, folders, root)
    where = f"in {class_names}" if isinstance(class_names, str | Path) else "in data.class_names"
    lines = [composed(line) for line in read_names(class_names)]
    if any("\t" in line for line in lines):
        given = dict(line.split("\t", 1) for line in lines if "\t" in line)
        missing = [folder for folder in folders if composed(folder) not in given]
        if missing:
            raise DataError(
                f"Expected a name for every folder of {root} {where}, but {', '.join(map(repr, missing[:5]))} "
                f"{'has' if len(missing) == 1 else 'have'} none; add `folder<TAB>name` lines."
            )
        return [given[composed(folder)].strip() for folder in folders]
    if len(lines) != len(folders):
        raise DataError(
            f"Expected {len(folders)} class names {where}, one for each folder of {root} in sorted order, got "
            f"{len(lines)}; add what is missing, or write `folder<TAB>name` lines."
        )
    _refuse_other_order(folders, lines, root, where)
    return lines


def _own_names(store: FileStore, folders: list[str], root: str | Path) -> list[str]:
    odd = [folder for folder in folders if store.is_odd(folder)]
    if odd:
        raise DataError(
            f"Expected names of folders in UTF-8 in {root}, got {odd[0]}; rename it (for a zip archive, "
            "zip the renamed folder again), or name the classes in data.class_names."
        )
    if all(folder.isdecimal() for folder in folders):
        raise DataError(
            f"Expected class names for the numbered folders of {root}, such as {folders[0]!r}, got none: they may "
            "count classes or be their names; set data.class_names to a text file with a name a line."
        )
    if ids := [folder for folder in folders if _WORDNET.fullmatch(folder)]:
        if other := next((folder for folder in folders if not _WORDNET.fullmatch(folder)), None):
            raise DataError(
                f"Expected WordNet ids or names as folders of {root}, found both, such as {ids[0]!r} and {other!r}; "
                "name all classes in data.class_names, `folder<TAB>name` a line."
            )
        return _wordnet_names(folders, root)
    refuse_one_prompt(folders, [text_key(folder) for folder in folders], f"among the folders of {root}", DataError)
    return [composed(folder).replace("_", " ") for folder in folders]


def _wordnet_names(folders: list[str], root: str | Path) -> list[str]:
    from tpt.data.catalog.names import imagenet_classes  # noqa: PLC0415 - imports open_clip

    known = imagenet_classes()
    strange = [folder for folder in folders if folder not in known]
    if strange:
        raise DataError(
            f"Expected WordNet ids of ImageNet's classes in {root}, got {strange[0]}; name the classes in "
            "data.class_names, `folder<TAB>name` a line."
        )
    return [known[folder] for folder in folders]


def _refuse_other_order(folders: list[str], lines: list[str], root: str | Path, where: str) -> None:
    """Raises a DataError if folders are numbers whose order as text (1, 10, 2) is not that of the numbers."""
    if not all(re.fullmatch(r"[0-9]{1,18}", folder) for folder in folders):
        return
    by_number = sorted(folders, key=int)
    differing = [(k, folder) for k, folder in enumerate(folders) if by_number[k] != folder]
    if differing:
        line, folder = differing[0]
        raise DataError(
            f"Expected names {where} in one certain order, but folder {folder!r} of {root} may be {lines[line]!r} (in "
            f"the order of texts) or {lines[by_number.index(folder)]!r} (of numbers); write `folder<TAB>name` lines."
        )


def read_names(class_names: Filled | Path | Sequence[str]) -> list[str]:
    """A list of names, or the lines of a text file that are not empty."""
    if not isinstance(class_names, str | Path):
        return [str(name) for name in class_names]
    path = Path(class_names).expanduser()
    try:
        text = decode_text(read_file(path))
    except OSError as error:
        raise DataError(
            f"Expected a text file of class names at {path}, but {error.strerror or error}; check data.class_names."
        ) from error
    except ValueError as error:
        at = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "its name"
        raise DataError(f"Expected UTF-8 text in {path}, but {at} is not; save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
