"""Printed numbers, carried in the package as `published.json`: of Shu et al., NeurIPS 2022, and of other methods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

ALL_VIEWS = "tpt, all views"  # Table 3's row without confidence selection
AVERAGE, OOD_AVERAGE = "average", "ood_average"
PAPER = "Shu et al., NeurIPS 2022"
OPENAI_FILES = ("RN50.pt", "ViT-B-16.pt")  # the weights as OpenAI publishes them
SUFFIX = "-quickgelu"


@dataclass(frozen=True)
class Printed:
    """A printed table.

    Args:
        caption: its number and what it shows.
        datasets: its columns, by key.
        shifted: those of its out-of-distribution average; none if it has no such column.
        rows: (backbone, method) -> accuracy in % by column, averages included; a column may be missing.
        errors: (backbone, method) -> calibration error over 20 bins in %, likewise.
        sources: (backbone, method) -> where a row was read.
    """

    caption: str
    datasets: tuple[str, ...]
    shifted: tuple[str, ...]
    rows: Mapping[tuple[str, str], Mapping[str, float]]
    errors: Mapping[tuple[str, str], Mapping[str, float]]
    sources: Mapping[tuple[str, str], str]


@cache
def content() -> dict[str, Any]:
    """The file as it is."""
    found: dict[str, Any] = json.loads((resources.files("tpt.results.tables") / "published.json").read_text("utf-8"))
    return found


@cache
def printed_tables() -> tuple[Printed, Printed]:
    """Table 1 with the row that Table 3 adds to it, and Table 2; with the rows of other methods."""
    natural = _table("natural_shift", "confidence_selection")
    shifted = tuple(name for name in natural.datasets if name != "imagenet")
    return replace(natural, shifted=shifted), _table("cross_dataset")


def _table(name: str, *more: str) -> Printed:
    tables, others = content(), [row for row in content()["methods"]["rows"] if row["table"] == name]
    datasets = tuple(tables[name]["datasets"])
    own = [{**row, "source": PAPER} for part in (name, *more) for row in tables[part]["rows"]]
    rows: dict[tuple[str, str], Mapping[str, float]] = {}
    errors, sources = dict(rows), {}
    for row in [*own, *others]:
        key = row["backbone"], row["method"]
        if key not in rows:
            averages = {column: row[column] for column in (AVERAGE, OOD_AVERAGE) if column in row}
            rows[key] = _known(datasets, row["cells"]) | averages
            means = {OOD_AVERAGE: row["ece_ood_average"]} if "ece_ood_average" in row else {}
            errors[key] = _known(datasets, row.get("ece", ())) | means
            sources[key] = f"quoted by {row['source']}" if row.get("kind") == "quoted" else row["source"]
    return Printed(tables[name]["caption"], datasets, (), rows, errors, sources)


def _known(datasets: Sequence[str], cells: Sequence[float | None]) -> dict[str, float]:
    return {name: value for name, value in zip(datasets, cells, strict=bool(cells)) if value is not None}


def source_of(backbone: str, method: str, dataset: str) -> str | None:
    """Where the printed row that a cell belongs to was read; None if there is none."""
    found = _place(backbone, method, dataset)
    return None if found is None else found[0].sources[found[1]]


def published_error(backbone: str, method: str, column: str, dataset: str) -> float | None:
    """A printed calibration error over 20 bins in %; None if there is none.

    Args:
        backbone, method: as for `published`.
        column: a dataset's key, or an average's.
        dataset: of the table that is meant.
    """
    found = _place(backbone, method, dataset)
    return None if found is None else found[0].errors[found[1]].get(column)


def paper_backbone(name: str) -> str | None:
    """The paper's name of a backbone: `ViT-B-16-quickgelu/openai` is its ViT-B-16; None for one it did not use."""
    model, _, weights = name.partition("/")
    if weights in OPENAI_FILES or (not weights and model in OPENAI_FILES):
        model, weights = (weights or model).removesuffix(".pt"), "openai"
    known = {backbone for table in printed_tables() for backbone, _ in table.rows}
    model = model.removesuffix(SUFFIX)
    return model if model in known and weights in ("openai", "") else None


def published(backbone: str, method: str, column: str) -> float | None:
    """A printed accuracy in %; None if there is none.

    Args:
        backbone: as a run names it.
        method: clip, ensemble, coop, cocoop, tpt, tpt+coop, tpt+cocoop, `ALL_VIEWS`, or another method's row.
        column: a dataset's key.
    """
    row = published_row(backbone, method, column)
    return None if row is None else row.get(column)


def published_row(backbone: str, method: str, dataset: str) -> Mapping[str, float] | None:
    """The printed row that a cell belongs to."""
    found = _place(backbone, method, dataset)
    return None if found is None else found[0].rows[found[1]]


def _place(backbone: str, method: str, dataset: str) -> tuple[Printed, tuple[str, str]] | None:
    """The table and the row that a cell belongs to."""
    name = paper_backbone(backbone)
    for table in printed_tables():
        if dataset in table.datasets and name is not None and (name, method) in table.rows:
            return table, (name, method)
    return None
