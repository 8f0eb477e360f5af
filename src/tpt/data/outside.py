"""Pictures of unknown classes, which show whether a model is less certain about what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tpt.data.bundled import DOMAINS, emoji_shift
from tpt.data.catalog import read_entry
from tpt.data.catalog.entries import CATALOG
from tpt.data.dataset import OUTSIDE, ImageDataset, Sample
from tpt.data.pictures import find_pictures
from tpt.errors import DataError, text_key

OTHER = "other"  # the half of the classes that the run does not test


def with_outside(
    datasets: Sequence[ImageDataset], outside: str | None, root: str | Path | None, limit: int | None, seed: int
) -> list[ImageDataset]:
    """The datasets, each followed by `<name>_outside`: pictures of unknown classes, tested with the same class names.

    Args:
        outside: a folder, archive or pattern of pictures; a dataset's key, whose pictures of tested classes are left
            out; "other" for the half of the classes that `data.classes` leaves out; None for no such pictures.
        root: the folder of all datasets, for a key of the catalog.
        limit, seed: number of pictures, drawn with this seed; None uses all.
    """
    if outside is None:
        return list(datasets)
    return [found for d in datasets for found in (d, _strangers(d, outside, root).subset(limit, seed))]


def _strangers(dataset: ImageDataset, outside: str, root: str | Path | None) -> ImageDataset:
    store, known = dataset.store, {text_key(name) for name in dataset.class_names}
    if outside == OTHER:
        samples = list(dataset.others)
    elif outside in DOMAINS or outside in CATALOG:
        source = emoji_shift(outside) if outside in DOMAINS else read_entry(outside, root, "test")
        store, names = source.store, source.class_names
        labelled = zip(source.samples, source.labels(), strict=True)
        samples = [Sample(sample.path) for sample, label in labelled if text_key(names[label]) not in known]
    else:
        found = find_pictures([outside])
        store, samples = found.store, [Sample(path) for path in dict.fromkeys(found.paths)]
    if not samples:
        way_out = "Set data.classes=base or new" if outside == OTHER else "Choose pictures of other classes"
        raise DataError(f"data.outside={outside} has no pictures outside the classes of {dataset.name!r}. {way_out}.")
    outside_ones = replace(dataset, name=f"{dataset.name}{OUTSIDE}", samples=samples, store=store, size=0, others=())
    return replace(outside_ones, notes=[f"pictures of none of the classes, from data.outside={outside}"])
