"""ImageNet's label spaces: class names from open_clip, WordNet ids from timm, which keep both as data."""

from __future__ import annotations

from importlib import resources

import open_clip


def imagenet_classes(space: str = "imagenet") -> dict[str, str]:
    """Class name of every WordNet id of a label space, in label order.

    Args:
        space: "imagenet" (1,000 classes), or its subsets "imagenet_a" and "imagenet_r" (200 each).
    """
    names: list[str] = list(open_clip.IMAGENET_CLASSNAMES)
    named = dict(zip(_synsets("imagenet"), names, strict=True))
    return {synset: named[synset] for synset in sorted(_synsets(space))}


def _synsets(space: str) -> list[str]:
    file = resources.files("timm.data") / "_info" / f"{space}_synsets.txt"
    return file.read_text().split()
