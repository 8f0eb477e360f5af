"""The numbers printed in Shu et al., NeurIPS 2022, carried in the package as `published.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

ALL_VIEWS = "tpt, all views"  # Table 3's row without confidence selection
AVERAGE, OOD_AVERAGE = "average", "ood_average"
OPENAI_FILES = ("RN50.pt", "ViT-B-16.pt")  # the weights as OpenAI publishes them
SUFFIX = "-quickgelu"


@dataclass(frozen=True)
class Printed:
    """A printed table.

    Args:
        caption: its number and what it shows.
        datasets: its columns, by key.
        shifted: those of its out-of-distribution average; none where it has no such column.
        rows: (backbone, method) -> accuracy in % by column, averages included.
    """

    caption: str
    datasets: tuple[str, ...]
    shifted: tuple[str, ...]
    rows: Mapping[tuple[str, str], Mapping[str, float]]


@cache
def content() -> dict[str, Any]:
    """The file as it is."""
    found: dict[str, Any] = json.loads((resources.files("tpt.reports") / "published.json").read_text("utf-8"))
    return found


@cache
def printed_tables() -> tuple[Printed, Printed]:
    """Table 1 with the row that Table 3 adds to it, and Table 2."""
    natural = _table("natural_shift")
    third = {key: row for key, row in _table("confidence_selection").rows.items() if key not in natural.rows}
    shifted = tuple(name for name in natural.datasets if name != "imagenet")
    return Printed(natural.caption, natural.datasets, shifted, {**natural.rows, **third}), _table("cross_dataset")


def _table(name: str) -> Printed:
    table = content()[name]
    rows = {}
    for row in table["rows"]:
        cells = dict(zip(table["datasets"], row["cells"], strict=True))
        averages = {key: row[key] for key in (AVERAGE, OOD_AVERAGE) if key in row}
        rows[row["backbone"], row["method"]] = {**cells, **averages}
    return Printed(table["caption"], tuple(table["datasets"]), (), rows)


def paper_backbone(name: str) -> str | None:
    """The paper's name of a backbone: `ViT-B-16-quickgelu/openai` is its ViT-B-16; None for one it did not use."""
    model, _, weights = name.partition("/")
    if weights in OPENAI_FILES or (not weights and model in OPENAI_FILES):
        model, weights = (weights or model).removesuffix(".pt"), "openai"
    known = {backbone for table in printed_tables() for backbone, _ in table.rows}
    model = model.removesuffix(SUFFIX)
    return model if model in known and weights in ("openai", "") else None


def published(backbone: str, method: str, column: str) -> float | None:
    """A printed accuracy in %; None where the paper has none.

    Args:
        backbone: as a run names it.
        method: clip, ensemble, coop, cocoop, tpt, tpt+coop, tpt+cocoop or `ALL_VIEWS`.
        column: a dataset's key.
    """
    row = published_row(backbone, method, column)
    return None if row is None else row.get(column)


def published_row(backbone: str, method: str, dataset: str) -> Mapping[str, float] | None:
    """The printed row that a cell belongs to."""
    name = paper_backbone(backbone)
    for table in printed_tables():
        if dataset in table.datasets and name is not None and (name, method) in table.rows:
            return table.rows[name, method]
    return None
