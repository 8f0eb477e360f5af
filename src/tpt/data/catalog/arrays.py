"""Reads CIFAR as distributed: pickled batches, and NumPy files of its corrupted forms."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpt.data.catalog.entries import Entry
from tpt.data.catalog.places import Listing, NoSplitError, bases
from tpt.data.dataset import Sample
from tpt.errors import BadImageError, DataError, UserError
from tpt.files import is_file, read_bytes, readable

_SIZE = 32
_SEVERITIES = 5  # one after the other in each file of the corrupted forms
# In label order, as in the pickled `batches.meta` and `meta`; the corrupted forms come without names.
_NAMES = {
    10: "airplane automobile bird cat deer dog frog horse ship truck",
    100: (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
        "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
        "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
        "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
        "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
        "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ),
}
_BATCHES: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {"test": ("test_batch",), "train": tuple(f"data_batch_{n}" for n in range(1, 6))},
    "cifar100": {"test": ("test",), "train": ("train",)},
}


class ArrayStore:
    """Pictures in arrays of (N, 32, 32, 3) bytes, numbered over all files from `first`, and returned as PPM files.

    Worker processes, which get a copy of the store, open the files again.
    """

    def __init__(self, root: Path, names: Sequence[str], first: int = 0) -> None:
        self.root = root
        self._names, self._first = tuple(names), first
        self._pictures: np.ndarray | None = None

    def read(self, path: str, first: int | None = None) -> bytes:
        """See `Store.read`."""
        if self._pictures is None:
            parts = [_pictures(self.root / name) for name in self._names]
            self._pictures = np.concatenate(parts) if len(parts) > 1 else parts[0]  # a single one may stay on disk
        with readable(f"picture {path} in {self.root}", "Get the files again", BadImageError):
            picture = np.asarray(self._pictures[self._first + int(path)])
        return (b"P6 %d %d 255\n" % (_SIZE, _SIZE) + picture.tobytes())[:first]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pictures": None}


def read_arrays(entry: Entry, root: Path, split: str) -> Listing:
    """The pictures of CIFAR, or of one corruption of it; a DataError if a file is missing or damaged."""
    if split == "val":
        raise NoSplitError(f"Expected a split that {entry.title} has, got 'val'; it has train and test.")
    places = bases(entry, root, split)
    corruption, _, severity = entry.part.partition("/")
    wanted = (f"{corruption}.npy",) if corruption else _BATCHES[entry.key][split]
    labelled = ("labels.npy",) if corruption else wanted
    needed = tuple(dict.fromkeys((*wanted, *labelled)))
    base = max(places, key=lambda place: sum(is_file(place / name) for name in needed))
    if missing := [name for name in needed if not is_file(base / name)]:
        raise DataError(f"{missing[0]} of {entry.title} is missing in {base}. Get it from {entry.source}.")
    names = _NAMES[entry.classes].split()
    labels = [label for name in labelled for label in _labels(base / name)]
    count = sum(len(_pictures(base / name)) for name in wanted)
    if count != len(labels) or not set(labels) <= set(range(len(names))) or (corruption and count % _SEVERITIES):
        raise DataError(
            f"The {len(labels)} labels of {entry.title} in {base}, from {min(labels, default=0)} to "
            f"{max(labels, default=0)}, do not fit its {count} pictures of {len(names)} classes. Get the files again."
        )
    each = count // _SEVERITIES if corruption else count
    first = (int(severity) - 1) * each if corruption else 0
    samples = [Sample(f"{number:05d}", label) for number, label in enumerate(labels[first : first + each])]
    return Listing(ArrayStore(base, wanted, first), names, samples)


def _pictures(file: Path) -> np.ndarray:
    """(N, 32, 32, 3) bytes; those of a `.npy` file are memory-mapped."""
    with readable(str(file)):
        found: np.ndarray = np.asanyarray(_content(file)["data"])
        if file.suffix.lower() != ".npy":
            found = found.reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1)
    if found.dtype != np.uint8 or found.shape[1:] != (_SIZE, _SIZE, 3):
        raise DataError(f"Expected pictures of 32 x 32 x 3 bytes in {file}, got {found.shape} of {found.dtype}.")
    return found


def _labels(file: Path) -> list[int]:
    with readable(str(file)):
        content = _content(file)
        return [int(label) for label in content["fine_labels" if "fine_labels" in content else "labels"]]


def _content(file: Path) -> dict[str, Any]:
    """The `data` and `labels` of a pickled batch; a `.npy` file, which is memory-mapped, has one of them."""
    if file.suffix.lower() == ".npy":
        return dict.fromkeys(("data", "labels"), np.load(file, mmap_mode="r", allow_pickle=False))
    found = SafeUnpickler(io.BytesIO(read_bytes(file)), encoding="bytes").load()
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in dict(found).items()}


class SafeUnpickler(pickle.Unpickler):
    """Reads arrays, containers, numbers and texts; a pickle that names anything else is refused before any call."""

    _known = {  # noqa: RUF012 - by the names that NumPy 1 and 2 and Python 2 and 3 write
        ("multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """The object for a name in the pickle; raises a UserError for all but NumPy's arrays."""
        short = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (short, name) not in self._known:
            raise UserError(f"it names {module}.{name}, but only arrays, numbers and texts are allowed")
        return self._known[short, name]
