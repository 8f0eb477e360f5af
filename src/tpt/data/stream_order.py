"""The order in which a run takes the images of a dataset."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from tpt.errors import UserError, checked

Order = Literal["listed", "shuffled", "sorted", "dirichlet"]


@checked
def stream_order(
    labels: Sequence[int | None], order: Order = "listed", seed: int | str = 0, concentration: float = 0.1
) -> list[int]:
    """The (N,) indices of images with these labels in the order of a stream.

    Args:
        labels: (N,) classes of the images; None if unknown, which is an error for "sorted" and "dirichlet".
        order: "listed" keeps the order; "shuffled"; "sorted" has one class after another, with classes and images
            shuffled; "dirichlet" has images of a class close together, as in Yuan et al., "Robust Test-Time Adaptation
            in Dynamic Scenarios" (RoTTA), CVPR 2023: the stream has as many slots as classes, each class divides its
            images among the slots by shares from a symmetric Dirichlet distribution, and a slot holds its classes one
            after another.
        seed: seed of all orders except "listed".
        concentration: parameter of the Dirichlet distribution, above 0; 0.1 in the paper.  With a small value, a class
            is mostly in one slot.
    """
    found, generator = list(range(len(labels))), random.Random(seed)
    if order == "listed":
        return found
    generator.shuffle(found)
    if order == "shuffled":
        return found
    classes: dict[int, list[int]] = {}
    for image in found:
        if (label := labels[image]) is None:
            raise UserError(
                f"Expected labels for data.order={order}, which arranges images by class, got images without; use "
                "data.order=listed or shuffled."
            )
        classes.setdefault(label, []).append(image)
    if order == "sorted":
        groups = [classes[label] for label in sorted(classes)]
        generator.shuffle(groups)
        return [image for group in groups for image in group]
    slots: list[list[list[int]]] = [[] for _ in classes]
    for label in sorted(classes):
        for slot, part in zip(slots, _divided(classes[label], len(slots), concentration, generator), strict=True):
            slot.append(part)
    for slot in slots:
        generator.shuffle(slot)
    return [image for slot in slots for part in slot for image in part]


def _divided(images: Sequence[int], parts: int, concentration: float, generator: random.Random) -> list[list[int]]:
    """Splits images into consecutive parts, with sizes from a Dirichlet distribution."""
    shares = [generator.gammavariate(concentration, 1.0) for _ in range(parts)]
    if not any(shares):  # all too small for a float: the distribution's limit is a single part
        shares[generator.randrange(parts)] = 1.0
    total = sum(shares)
    ends = [round(len(images) * up_to / total) for up_to in accumulate(shares)]
    return [list(images[first:last]) for first, last in zip([0, *ends], ends, strict=False)]
