"""Datasets of images, with or without labels: the result of every reader."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL import Image

from tpt.data.images import HEAD_BYTES, decode_image, is_turned
from tpt.data.labels import notes_on_classes
from tpt.data.names import nfc
from tpt.data.store import Store
from tpt.errors import BadImageError, Count, DataError, Seed, checked, refuse_one_prompt, text_key
from tpt.files import content_digest, map_files

Classes = Literal["all", "base", "new"]
AVERAGES = ("average", "shifted", "ood_average")  # names of averages over datasets in logs and tables
OUTSIDE = "_outside"  # suffix of the names of datasets with pictures of unknown classes


@dataclass(frozen=True)
class Sample:
    """One image file: its path in the dataset and the index of its class, or None if unknown."""

    path: str
    label: int | None = None


@dataclass(frozen=True)
class ImageDataset:
    """Images of K classes.

    Args:
        name: name of the dataset in logs, records and results.
        class_names: K different names, as used in prompts.
        samples: the images.
        store: reads the image files.
        notes: differences from the paper's protocol (a split, a subset), for log and results.
        size: number of images before a subset was taken; 0 means all of `samples`.
        split: the list that selected the images; empty if they are all in the folder.
        template: CoOp's prompt for this dataset, with `{}` for the class name.
        augmix: whether the paper uses AugMix for this dataset.
        by_content: whether the views of an image depend only on its pixels, so that its answer does not depend on its
            name or on other files; otherwise, as for the paper's datasets, they depend on its path.
        upright: whether photographs are rotated by their orientation tag; the official code does not do this.
        others: the images of the classes that `half` left out, without labels.

    Raises:
        DataError: there are no images, only some have labels, or two classes have the same name.  (`tpt.clip.prompts`
            compares the names as the model reads them.)
    """

    name: str
    class_names: list[str]
    samples: list[Sample]
    store: Store
    notes: list[str] = field(default_factory=list)
    size: int = 0
    split: str = ""
    template: str = "a photo of a {}."
    augmix: bool = False
    by_content: bool = False
    upright: bool = False
    others: tuple[Sample, ...] = ()

    def __post_init__(self) -> None:
        if not self.samples:
            raise DataError(f"Dataset {self.name!r} at {self.store.root} has no images. Check data.root.")
        without = [sample.path for sample in self.samples if sample.label is None]
        if 0 < len(without) < len(self.samples):
            raise DataError(
                f"{len(without)} of the {len(self.samples)} images of dataset {self.name!r} have no label, such as "
                f"{without[0]}. Label or remove them."
            )
        keys = [text_key(name) for name in self.class_names]
        ties = refuse_one_prompt(self.class_names, keys, f"in dataset {self.name!r} at {self.store.root}", DataError)
        note = f"two classes are called {' and two '.join(map(repr, ties))}, so their answers tie"
        if ties and note not in self.notes:
            object.__setattr__(self, "notes", [*self.notes, note])
        if self.size == 0:
            object.__setattr__(self, "size", len(self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.samples[0].label is not None

    def labels(self) -> list[int]:
        """The class of every image; raises a DataError if the images have no labels."""
        if not self.labelled:
            raise DataError(
                f"Expected labelled images in dataset {self.name!r}, got pictures without labels; choose another data "
                "option, such as data=folder."
            )
        return [sample.label for sample in self.samples if sample.label is not None]

    def content(self, index: int) -> bytes:
        """The bytes of an image's file; raises a BadImageError if it is gone or cannot be read."""
        return self.store.read(self.samples[index].path)

    def digest(self, index: int) -> str:
        """Digest of an image file, which a store may know without the file; raises a BadImageError."""
        known = getattr(self.store, "digest", None)
        return content_digest(self.content(index)) if known is None else str(known(self.samples[index].path))

    def image(self, index: int, content: bytes | None = None) -> Image.Image:
        """The image as RGB, from the bytes of its file if already read; raises a BadImageError."""
        name = f"{self.store.root}/{self.samples[index].path}"
        return decode_image(self.content(index) if content is None else content, name, self.upright)

    def file_identity(self, index: int) -> str:
        """The part of an image's identity that, together with the bytes of its file, determines its views."""
        name = "pixels" if self.by_content else self._identity(index)
        return f"{name}, upright" if self.upright else name

    def view_identity(self, index: int, image: Image.Image) -> str:
        """The seed text for the views of `image(index)`: its names, or a digest of its pixels, see `by_content`."""
        return pixel_identity(image) if self.by_content else self._identity(index)

    def _identity(self, index: int) -> str:
        """The names of dataset and image, in one normal form for accents, which macOS writes differently."""
        return nfc(f"{self.name}/{self.samples[index].path}")

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on class names, paths and labels, but not on the files' contents."""
        samples = [[sample.path, sample.label] for sample in self.samples]
        return content_digest(json.dumps([self.name, self.class_names, samples]).encode())

    def noted(self) -> ImageDataset:
        """A copy with notes on unusual classes, for a user's own data."""
        return replace(self, notes=[*self.notes, *notes_on_classes(self.class_names, self.labels())])

    def all_notes(self) -> list[str]:
        """The notes, and one on the number of photographs that are rotated by their tags."""
        if not self.upright or not (turned := self.count_turned()):
            return self.notes
        note = f"{turned} of {len(self)} pictures were turned upright as their orientation tags say"
        return [*self.notes, f"{note} (data.orientation=ignore leaves them)"]

    @checked
    def half(self, classes: Classes) -> ImageDataset:
        """The images and names of the base classes (first half, rounded up) or the new ones (CoCoOp, section 4.1)."""
        if classes == "all":
            return self
        names = self.class_names
        if len(names) < 2:
            raise DataError(
                f"Expected at least two classes to halve in {self.name!r}, got {len(names)}; use classes=all."
            )
        first_new = (len(names) + 1) // 2
        first, last = (0, first_new) if classes == "base" else (first_new, len(names))
        labelled = list(zip(self.samples, self.labels(), strict=True))
        samples = [Sample(sample.path, label - first) for sample, label in labelled if first <= label < last]
        others = tuple(Sample(sample.path) for sample, label in labelled if not first <= label < last)
        notes = [*self.notes, f"{classes} classes: {last - first} of {len(names)}"]
        return replace(self, class_names=names[first:last], samples=samples, others=others, size=0, notes=notes)

    def count_turned(self) -> int:
        """Number of images that their tag rotates or mirrors; the first bytes of a file are usually enough."""

        def turned(path: str) -> bool:
            try:
                found = is_turned(self.store.read(path, first=HEAD_BYTES))
                return bool(is_turned(self.store.read(path)) if found is None else found)
            except BadImageError:  # reported when the image is used
                return False

        paths = [sample.path for sample in self.samples]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd tags
            return sum(map_files(turned, paths))

    @checked
    def subset(self, limit: Count | None, seed: Seed = 0) -> ImageDataset:
        """`limit` random images in their original order; all if there are no more, or if `limit` is None."""
        if limit is None or limit >= len(self.samples):
            return self
        chosen = sorted(random.Random(f"{seed}/{self.name}").sample(range(len(self.samples)), limit))
        note = f"{limit} of {len(self.samples)} images, drawn with seed {seed}"
        return replace(self, samples=[self.samples[i] for i in chosen], notes=[*self.notes, note])


def without_outside(names: Iterable[str]) -> list[str]:
    """The names without each `NAME_outside` (pictures of unknown classes) whose NAME is among them."""
    known = list(names)
    return [name for name in known if not (name.endswith(OUTSIDE) and name.removesuffix(OUTSIDE) in known)]


def pixel_identity(image: Image.Image) -> str:
    """A text that changes with any pixel of an RGB image."""
    return f"{image.width}x{image.height}/{content_digest(image.tobytes())}"
