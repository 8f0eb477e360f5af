"""Few-shot draws and halves of the classes, as in CoOp and CoCoOp."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

from tpt.data.dataset import Classes, ImageDataset, Sample
from tpt.errors import BadImageError, Count, DataError, Seed, checked
from tpt.files import content_digest

MOST_VAL_SHOTS = 4


@dataclass(frozen=True)
class Shots:
    """The images of a training run."""

    train: ImageDataset  # up to k images of every class
    val: ImageDataset | None  # up to min(k, 4) other images of every class
    notes: tuple[str, ...] = ()  # differences from k images of every class, for log and results

    def files(self) -> list[dict[str, str]]:
        """The split, class and path of every drawn image, for the results."""
        splits = {"train": self.train} | ({} if self.val is None else {"val": self.val})
        return [
            {"split": split, "class": dataset.class_names[label], "path": sample.path}
            for split, dataset in splits.items()
            for sample, label in zip(dataset.samples, dataset.labels(), strict=True)
        ]


@checked
def draw_shots(
    train: ImageDataset,
    val: ImageDataset | None,
    shots: Count | None,
    seed: Seed = 1,
    classes: Classes = "all",
    limit: Count | None = None,
) -> Shots:
    """Draws the training and validation images of a few-shot run.

    Draws in the same way as the official programs (Dassl).  After seeding, `random.sample` runs for one class after
    another, in the order in which the classes first appear: first k images of `train`, then min(k, 4) of `val`.  For
    "base" or "new", only the images of that half of the classes are kept.  The same list of images and the same seed
    give the same draw.

    Args:
        train: images to draw from.
        val: images to draw validation shots from, with the same class names; None draws them from the images of
            `train` that were not drawn (the official programs always have a validation split).
        shots: k, images per class; None uses all.
        seed: seed of the draw; the papers use 1, 2 and 3.
        classes: "all", "base" (the first half, rounded up) or "new" (the others).
        limit: number of images of `train` to draw from, the same random ones for every seed; None uses all.

    Raises:
        UserError: options out of range.
        DataError: the two datasets have different classes.
    """
    if val is not None and val.class_names != train.class_names:
        raise DataError(
            f"The classes of {train.name!r} and {val.name!r} differ. Validate on a split of the training data, or "
            "pass val=null."
        )
    train = train.subset(limit)
    generator = random.Random(seed)  # the same stream as the `random` module after `random.seed(seed)`
    chosen, notes = _draw(train, shots, generator, "training")
    val_shots = None if shots is None else min(shots, MOST_VAL_SHOTS)
    if val is None:
        drawn = {sample.path for sample in chosen}
        left = [sample for sample in train.samples if sample.path not in drawn]
        notes.append("validation images: the training images that were not drawn")
        val = replace(train, samples=left, size=0) if left else None
    validating: list[Sample] = []
    if val is not None:
        validating, val_notes = _draw(val, val_shots, generator, "validation")
        notes += val_notes
    if shots is not None:
        notes += _twice(train, chosen, val, validating)
    kept = replace(train, samples=chosen, size=0).half(classes)
    held_back = None
    if val is not None:
        with suppress(DataError):  # that half of the classes has no validation images
            held_back = replace(val, samples=validating, size=0).half(classes)
    return Shots(kept, held_back, tuple(notes))


def _twice(train: ImageDataset, chosen: list[Sample], val: ImageDataset | None, validating: list[Sample]) -> list[str]:
    """A note if a picture was drawn more than once, under several names."""
    drawn: dict[str, list[Sample]] = {}
    for store, samples in ((train.store, chosen), ((val or train).store, validating)):
        for sample in samples:
            with suppress(BadImageError):  # reported when the image is used
                drawn.setdefault(content_digest(store.read(sample.path)), []).append(sample)
    if not (twice := [samples for samples in drawn.values() if len(samples) > 1]):
        return []
    two = sum(len({sample.label for sample in samples}) > 1 for samples in twice)
    shown = " and ".join(sample.path for sample in twice[0][:2])
    return [f"pictures drawn more than once: {len(twice)}, such as {shown}; {two} of them with different labels"]


def _draw(
    dataset: ImageDataset, shots: int | None, generator: random.Random, what: str
) -> tuple[list[Sample], list[str]]:
    """Up to `shots` images of each class, and a note if some classes have fewer."""
    by_class: dict[int, list[Sample]] = {}
    for sample, label in zip(dataset.samples, dataset.labels(), strict=True):
        by_class.setdefault(label, []).append(sample)
    drawn: list[Sample] = []
    short: Counter[int] = Counter()
    for samples in by_class.values():
        if shots is not None and len(samples) >= shots:
            drawn += generator.sample(samples, shots)
        else:
            drawn += samples
            short[len(samples)] += 1
    notes = []
    if shots is not None and short:
        counts = ", ".join(f"{count} of them {have}" for have, count in sorted(short.items()))
        notes.append(f"{what}: {sum(short.values())} classes have fewer than {shots} images, all were taken ({counts})")
    if len(by_class) < len(dataset.class_names):
        notes.append(f"{what}: there are images of {len(by_class)} of the {len(dataset.class_names)} classes")
    return drawn, notes
