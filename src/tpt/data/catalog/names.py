"""ImageNet's label spaces: class names from open_clip and WordNet ids from timm."""

from __future__ import annotations

from importlib import resources

import open_clip

from tpt.errors import DataError

# Two external packages define the order of classes; if one of them changed it, answers would go to the wrong classes.
# The first and the last class, and two in between, are checked.
_KNOWN = {"n01440764": "tench", "n01498041": "stingray", "n07753592": "banana", "n15075141": "toilet paper"}


def imagenet_classes(space: str = "imagenet") -> dict[str, str]:
    """Class name of every WordNet id of "imagenet" (1,000), "imagenet_a" or "imagenet_r" (200 each), in label order."""
    named = dict(zip(_synsets("imagenet"), open_clip.IMAGENET_CLASSNAMES, strict=False))
    found = {synset: named.get(synset) for synset in _KNOWN}
    if len(named) != len(open_clip.IMAGENET_CLASSNAMES) or found != _KNOWN:
        raise DataError(
            f"Expected open_clip's names of ImageNet's {len(named)} classes in the order of timm's WordNet ids, got "
            f"{found}; install the versions that pyproject.toml names."
        )
    return {synset: named[synset] for synset in sorted(_synsets(space))}


def _synsets(space: str) -> list[str]:
    return (resources.files("timm.data") / "_info" / f"{space}_synsets.txt").read_text().split()
