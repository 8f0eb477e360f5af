"""emoji-shift, the bundled data: the same objects drawn by different vendors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from tpt.data.dataset import ImageDataset
from tpt.data.folder import image_folder
from tpt.errors import Filled, UserError, checked

SOURCE = ("source_train", "source_val")  # vendors of the bundled model's training: trained on, and held out
SHIFTED = ("twemoji", "emojione", "emojione_monotone", "fxemoji")  # vendors it never saw
DOMAINS = (*SOURCE, *SHIFTED)
FOLDER = Path(str(resources.files("tpt.data"))) / "emoji_shift"


@checked
def emoji_shift(domain: str, root: Filled | Path | None = None) -> ImageDataset:
    """One domain; its class names are all names in emoji-shift, including those without a drawing in the domain.

    Args:
        domain: one of `DOMAINS`.
        root: a folder with other copies of the drawings, one folder per domain; None uses those of the package.
    """
    if domain not in DOMAINS:
        raise UserError(f"Expected `domain` to be one of {', '.join(DOMAINS)}, got {domain!r}.")
    place = FOLDER / f"{domain}.zip" if root is None else Path(root) / domain
    found = image_folder(place, name=domain, class_names=class_names(), orientation="ignore")
    return replace(found, notes=[])  # these notes are for unknown data


@checked
def emoji_shift_domains(domains: Sequence[str], root: Filled | Path | None = None) -> list[ImageDataset]:
    """Several domains, in the order given."""
    return [emoji_shift(domain, root) for domain in domains]


def class_names() -> list[str]:
    """The names of all classes, sorted."""
    return (FOLDER / "class_names.txt").read_text("utf-8").splitlines()
