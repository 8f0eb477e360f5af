"""Labelled images: what every reader makes and everything behind it uses."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from tpt.data.images import decode_image
from tpt.data.store import Store, content_digest
from tpt.errors import DataError, UserError


@dataclass(frozen=True)
class Sample:
    """One image file: its path in the dataset and the index of its class."""

    path: str
    label: int


@dataclass(frozen=True)
class ImageDataset:
    """Images of K classes.

    Args:
        name: key of the dataset in logs, records and results.
        class_names: K names, as they go into prompts; different from each other.
        samples: the images.
        store: where their files lie.
        notes: what differs from the paper's protocol (a split, a subset), said in log and results.
        size: number of images before a subset was taken; 0 stands for all of `samples`.
        split: the list that chose the images; empty where it is the folder itself.
        template: the prompt that CoOp's authors wrote for this dataset, `{}` for the class name.
        augmix: whether the paper's views of it are mixed by AugMix.
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

    def __post_init__(self) -> None:
        if not self.samples:
            raise DataError(
                f"Expected images in dataset {self.name!r} at {self.store.root}, found none; check data.root."
            )
        if self.size == 0:
            object.__setattr__(self, "size", len(self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def content(self, index: int) -> bytes:
        """The bytes of an image's file.

        Raises:
            BadImageError: it is gone or cannot be read.
        """
        return self.store.read(self.samples[index].path)

    def image(self, index: int, content: bytes | None = None) -> Image.Image:
        """The image as RGB.

        Args:
            index: of the image.
            content: of its file, where that was read already.

        Raises:
            BadImageError: its file is gone or cannot be decoded.
        """
        name = f"{self.store.root}/{self.samples[index].path}"
        return decode_image(self.content(index) if content is None else content, name)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any class name, path or label, not with what is in the files."""
        samples = [[sample.path, sample.label] for sample in self.samples]
        return content_digest(json.dumps([self.name, self.class_names, samples]).encode())

    def relabel(self, class_names: list[str], new_label: Sequence[int]) -> ImageDataset:
        """The same images among other class names; the old label k becomes `new_label[k]`."""
        samples = [Sample(s.path, new_label[s.label]) for s in self.samples]
        return replace(self, class_names=class_names, samples=samples)

    def subset(self, limit: int | None, seed: int = 0) -> ImageDataset:
        """`limit` images drawn at random, in their old order; all of them where there are no more, or with None."""
        if limit is None or limit >= len(self.samples):
            return self
        if limit < 1:
            raise UserError(f"Expected `data.limit` of at least 1 or null for all images, got {limit}.")
        chosen = sorted(random.Random(f"{seed}/{self.name}").sample(range(len(self.samples)), limit))
        note = f"{limit} of {len(self.samples)} images, drawn with seed {seed}"
        return replace(self, samples=[self.samples[i] for i in chosen], notes=[*self.notes, note])


def refuse_duplicates(class_names: Sequence[str], where: str) -> None:
    """Raises a DataError that names class names standing more than once: their logits would tie."""
    repeated = [name for name, count in Counter(class_names).items() if count > 1]
    if repeated:
        raise DataError(
            f"Expected different class names {where}, but {', '.join(map(repr, repeated[:5]))} "
            f"stand{'s' if len(repeated) == 1 else ''} more than once; make them distinct."
        )
