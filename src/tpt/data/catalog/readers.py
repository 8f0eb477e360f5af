"""Four ways in which the paper's datasets lie on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpt.data.catalog.entries import CATALOG, Entry
from tpt.data.catalog.names import imagenet_classes
from tpt.data.catalog.official import official_lists
from tpt.data.catalog.order import refuse_another_order
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import EXTENSIONS
from tpt.data.store import FileStore, is_file, refuse_escapes, refuse_missing
from tpt.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Listing:
    base: Path  # where paths start
    names: list[str]
    samples: list[Sample]
    split: str = ""  # the list they come from
    notes: tuple[str, ...] = ()


def catalog_datasets(
    keys: Sequence[str] | str, root: str | Path | None, limit: int | None = None, seed: int = 0
) -> list[ImageDataset]:
    """Some of the paper's datasets, see `CATALOG`.

    Args:
        keys: which, in this order; one key or several.
        root: the folder that holds all datasets.
        limit: takes so many images of each, drawn with `seed`; None takes all.
        seed: of that draw.

    Raises:
        DataError: an unknown key, a dataset that is not there, or one whose files do not fit its lists.
    """
    return [read_entry(key, root).subset(limit, seed) for key in ([keys] if isinstance(keys, str) else keys)]


def read_entry(key: str, root: str | Path | None, split: str = "test") -> ImageDataset:
    """One dataset; see `catalog_datasets`.

    Args:
        key: of the dataset.
        root: the folder that holds all datasets.
        split: "test", or "train" or "val" to learn a context on; the variants of ImageNet have a test set alone, and
            ImageNet no "val".
    """
    if root is None:
        raise DataError("Expected the folder of all datasets, got none; set data.root or the variable TPT_DATA.")
    if key not in CATALOG:
        raise DataError(f"Expected a dataset out of {', '.join(CATALOG)}, got {key!r}; see docs/datasets.md.")
    if split not in ("train", "val", "test"):
        raise DataError(f"Expected `split` to be train, val or test, got {split!r}.")
    entry, root = CATALOG[key], Path(root).expanduser()
    readers = {"synsets": _synset_folders, "numbers": _numbered_folders, "split": _split_file, "own": _own_lists}
    try:
        found = readers[entry.layout](entry, root, split)
    except OSError as error:
        raise DataError(f"Expected to read {entry.title} below {root}, but {error}; check data.root.") from error
    names, samples, notes = found.names, found.samples, list(found.notes)
    for note in notes:
        log.warning("%s: %s.", key, note)
    if split == "test" and (len(samples) != entry.images or len(names) != entry.classes):
        notes.append(
            f"{len(samples)} images of {len(names)} classes, where the paper's test set has {entry.images} of "
            f"{entry.classes}"
        )
        log.warning("%s: %s.", key, notes[-1])
    repeated = len(names) - len(set(names))
    if repeated:  # ImageNet has two such pairs, in the paper as here
        notes.append(f"{repeated} class names stand twice, so their answers tie")
    about = {"split": found.split, "template": entry.template, "augmix": entry.augmix}
    return ImageDataset(key, names, samples, FileStore(found.base), notes, **about)  # type: ignore[arg-type]


def find_all(entry: Entry, root: Path) -> list[Path]:
    """The dataset's folders below `root`, in either layout; an empty one, left over from elsewhere, is none."""
    return [root / f for f in entry.folders if _holds_something(root / f)]


def _holds_something(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(folder.iterdir())
    except OSError:  # said by whoever reads it
        return True


def _find(entry: Entry, root: Path) -> Path:
    found = find_all(entry, root)
    if not found:
        raise DataError(
            f"Expected {entry.title} in {' or '.join(str(root / f) for f in entry.folders)}, found no such folder; "
            f"get it from {entry.source}, or set data.root."
        )
    return found[0]


def _images(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.lower().endswith(EXTENSIONS))


def _class_folders(entry: Entry, root: Path, expected: Sequence[str], split: str) -> tuple[Path, dict[str, list[str]]]:
    """The folder that holds the class folders, and each one's images; the folders must be exactly those expected."""
    own, subfolders = _find(entry, root), entry.subfolders
    if split != "test":
        if split != "train" or entry.key != "imagenet":
            raise DataError(f"Expected a split that {entry.title} has, got {split!r}; it is a test set alone.")
        subfolders = ("train", "images/train")
    for base in (own / sub for sub in subfolders):
        folders = {p.name for p in base.iterdir() if p.is_dir() and p.name[0] != "."} if base.is_dir() else set()
        if folders & set(expected):
            break
    else:
        places = [own / sub for sub in subfolders]
        loose = any(_images(place) for place in places if place.is_dir())
        raise DataError(
            f"Expected class folders such as {expected[0]} of {entry.title} in {' or '.join(map(str, places))}, found "
            f"{'images without folders' if loose else 'none'}; unpack the images there, in class folders."
        )
    absent, strange = sorted(set(expected) - folders), sorted(folders - set(expected))
    if absent or strange:
        what = f"{len(absent)} are missing, such as {absent[0]}" if absent else f"{strange[0]} is not one of them"
        raise DataError(
            f"Expected the {len(expected)} class folders of {entry.title} in {base}, but {what}; a wrong set of "
            "classes would shift every label, so complete the folder or remove what does not belong there."
        )
    found = {name: _images(base / name) for name in expected}
    empty = [name for name, images in found.items() if not images]
    if empty:
        raise DataError(
            f"Expected images in every class folder of {base}, but {len(empty)} are empty, such as {empty[0]}; "
            "unpack the images again."
        )
    return base, found


def _synset_folders(entry: Entry, root: Path, split: str) -> _Listing:
    classes = imagenet_classes(entry.synsets)
    base, found = _class_folders(entry, root, list(classes), split)
    samples = [Sample(f"{s}/{i}", label) for label, s in enumerate(classes) for i in found[s]]
    return _Listing(base, list(classes.values()), samples)


def _numbered_folders(entry: Entry, root: Path, split: str) -> _Listing:
    """Folders "0" to "999", whose order as text ("0", "1", "10", ...) is not that of the classes."""
    names = list(imagenet_classes().values())
    base, found = _class_folders(entry, root, [str(label) for label in range(len(names))], split)
    samples = [Sample(f"{label}/{i}", label) for label in range(len(names)) for i in found[str(label)]]
    return _Listing(base, names, samples)


def _split_file(entry: Entry, root: Path, split: str) -> _Listing:
    """`{"test": [[path, label, class name], ...]}`, the splits that CoOp published and TPT uses."""
    own = _find(entry, root)
    places = [own / entry.split, root / "splits" / entry.split, root / "data_splits" / entry.split, root / entry.split]
    file = next((p for p in places if p.is_file()), None)
    if file is None:
        return _own_lists(entry, root, split)
    rows = _rows(file, split)
    names: dict[int, str] = {}
    for _, label, name in rows:
        if names.setdefault(label, name) != name:
            raise DataError(
                f"Expected one name for class {label} in {file}, got {names[label]!r} and {name!r}; get the file again."
            )
    if sorted(names) != list(range(len(names))):
        raise DataError(
            f"Expected classes numbered 0 to {len(names) - 1} in {file}, got other numbers; get the file again."
        )
    ordered = [entry.renamed.get(names[k], names[k]) for k in range(len(names))]
    return _listing(entry, own, ordered, [(path, label) for path, label, _ in rows], file)


def _rows(file: Path, split: str) -> list[tuple[str, int, str]]:
    try:
        rows = [(path, label, name) for path, label, name in json.loads(file.read_text("utf-8-sig"))[split]]
        for row in rows:
            if [type(field) for field in row] != [str, int, str]:
                raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise DataError(
            f"Expected rows [path, label, class name] under {split!r} in {file}, but it cannot be read so "
            f"({type(error).__name__}); get the file again."
        ) from error
    return rows


def _own_lists(entry: Entry, root: Path, split: str) -> _Listing:
    """The lists that a dataset brings itself: those of the paper, or what there is where its split is not there."""
    own = _find(entry, root)
    official = official_lists(entry.key, own, split)
    if official is None and entry.layout == "own":
        raise DataError(
            f"Expected variants.txt and {entry.split.replace('test', split)} of {entry.title} in {own}, found not "
            "both; unpack the dataset there."
        )
    if official is None:
        raise DataError(
            f"Expected {entry.split}, the paper's split of {entry.title}, in {own} or {root / 'splits'}, found neither "
            f"it nor the dataset's own list for {split!r}; CoOp's DATASETS.md links to it."
        )
    found = _listing(entry, own, official.names, official.rows, official.file)
    if entry.layout == "own":
        return found
    name = official.file.relative_to(own).as_posix()
    return replace(found, split=name, notes=(f"the dataset's own split {name}, not the paper's {entry.split}",))


def _listing(entry: Entry, own: Path, names: list[str], rows: list[tuple[str, int]], file: Path) -> _Listing:
    """The images of a list, if they are there; paths start from the first folder where some of them exist."""
    paths = [path for path, _ in rows]
    refuse_escapes(paths, file)
    refuse_another_order(entry, names, rows, file)
    bases = [own / s for s in entry.subfolders if (own / s).is_dir()] or [own]
    base = next((b for b in bases if any(is_file(b / path) for path in paths)), bases[0])
    refuse_missing(base, paths, file)
    return _Listing(base, names, [Sample(path, label) for path, label in rows], file.name)
