"""Four ways in which datasets lie on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tpt.data.catalog.entries import CATALOG, Entry
from tpt.data.catalog.names import imagenet_classes
from tpt.data.catalog.official import official_lists
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import EXTENSIONS
from tpt.data.store import FileStore, refuse_escapes, refuse_missing
from tpt.errors import DataError

log = logging.getLogger(__name__)

# CoOp's names of EuroSAT's folders; some copies of its split file hold the folders' own.
_LONG_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


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
    readers = {"synsets": _synset_folders, "numbers": _numbered_folders, "split": _split_file, "variants": _variants}
    found = readers[entry.layout](entry, root, split)
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


def find(entry: Entry, root: Path) -> Path:
    """The dataset's own folder below `root`, in either layout.

    Raises:
        DataError: there is none; the sentence says what was looked for and where the data is to be had.
    """
    # An empty folder, left over from elsewhere, does not hide the data in the other layout.
    found = [root / f for f in entry.folders if (root / f).is_dir() and any((root / f).iterdir())]
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
    own, subfolders = find(entry, root), entry.subfolders
    if split != "test":
        if split != "train" or entry.key != "imagenet":
            raise DataError(f"Expected a split that {entry.title} has, got {split!r}; it is a test set alone.")
        subfolders = ("train", "images/train")
    for base in (own / sub for sub in subfolders):
        folders = {p.name for p in base.iterdir() if p.is_dir() and p.name[0] != "."} if base.is_dir() else set()
        if folders & set(expected):
            break
    else:
        raise DataError(
            f"Expected class folders such as {expected[0]} of {entry.title} in "
            f"{' or '.join(str(own / s) for s in subfolders)}, found none; unpack the images there."
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
    own = find(entry, root)
    places = [own / entry.split, root / "splits" / entry.split, root / "data_splits" / entry.split, root / entry.split]
    file = next((p for p in places if p.is_file()), None)
    if file is None:
        return _official_split(entry, root, split)
    try:
        rows = json.loads(file.read_text("utf-8-sig"))[split]
        entries = [(str(path), int(label), str(name)) for path, label, name in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"Expected rows [path, label, class name] under {split!r} in {file}, but it cannot be read so "
            f"({type(error).__name__}); get the file again."
        ) from error
    names: dict[int, str] = {}
    for _, label, name in entries:
        if names.setdefault(label, name) != name:
            raise DataError(
                f"Expected one name for class {label} in {file}, got {names[label]!r} and {name!r}; fix it."
            )
    if sorted(names) != list(range(len(names))):
        raise DataError(f"Expected classes numbered 0 to {len(names) - 1} in {file}, got other numbers; fix the file.")
    samples = [Sample(path, label) for path, label, _ in entries]
    ordered = [_LONG_NAMES.get(names[k], names[k]) for k in range(len(names))]
    return _Listing(_base_of(entry, own, samples, file), ordered, samples, file.name)


def _official_split(entry: Entry, root: Path, split: str) -> _Listing:
    """The dataset's own lists, where the paper's split is not there."""
    own = find(entry, root)
    official = official_lists(entry.key, own, split)
    if official is None:
        raise DataError(
            f"Expected {entry.split}, the paper's split of {entry.title}, in {own} or {root / 'splits'}, found neither "
            "it nor the dataset's own lists; CoOp's DATASETS.md links to it."
        )
    samples = [Sample(path, label) for path, label in official.rows]
    name = official.file.relative_to(own).as_posix()
    note = f"the dataset's own split {name}, not the paper's {entry.split}"
    return _Listing(_base_of(entry, own, samples, official.file), official.names, samples, name, (note,))


def _variants(entry: Entry, root: Path, split: str) -> _Listing:
    """FGVC-Aircraft: `variants.txt` orders the classes, `images_variant_test.txt` has lines `id name`."""
    own, listing = find(entry, root), entry.split.replace("test", split)
    base = next((own / s for s in entry.subfolders if (own / s / listing).is_file()), None)
    if base is None or not (base / "variants.txt").is_file():
        raise DataError(
            f"Expected variants.txt and {listing} of {entry.title} in {own}, found not both; unpack the dataset there."
        )
    names = [line.strip() for line in (base / "variants.txt").read_text("utf-8").splitlines() if line.strip()]
    number = {name: label for label, name in enumerate(names)}
    samples = []
    for line in filter(str.strip, (base / listing).read_text("utf-8").splitlines()):
        image, _, name = line.strip().partition(" ")
        if name not in number:
            raise DataError(f"Expected a name of variants.txt in {base / listing}, got {name!r}; fix the file.")
        samples.append(Sample(f"images/{image}.jpg", number[name]))
    refuse_escapes([s.path for s in samples], base / listing)
    refuse_missing(base, [s.path for s in samples], base / listing)
    return _Listing(base, names, samples, listing)


def _base_of(entry: Entry, own: Path, samples: Sequence[Sample], file: Path) -> Path:
    """The folder that the paths of a split start from: the first where some of them exist."""
    refuse_escapes([s.path for s in samples], file)
    bases = [own / s for s in entry.subfolders if (own / s).is_dir()] or [own]
    base = next((b for b in bases if any((b / s.path).is_file() for s in samples)), bases[0])
    refuse_missing(base, [s.path for s in samples], file)
    return base
