"""Printed numbers of Shu et al., NeurIPS 2022, and of other methods, from the package's `published.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

ALL_VIEWS = "tpt, all views"  # Table 3's row without confidence selection
AVERAGE, OOD_AVERAGE = "average", "ood_average"
PAPER = "Shu et al., NeurIPS 2022"
OPENAI_FILES = ("RN50.pt", "ViT-B-16.pt")  # names of OpenAI's weights files
SUFFIX = "-quickgelu"


@dataclass(frozen=True)
class PrintedRow:
    """A row of a printed table: its values, including averages, by column; columns may be missing."""

    accuracies: Mapping[str, float] = field(default_factory=dict)  # in %
    errors: Mapping[str, float] = field(default_factory=dict)  # calibration error over 20 bins, in %
    source: str = ""  # where it was read; empty if there is no such row


@dataclass(frozen=True)
class Printed:
    """A printed table."""

    caption: str
    datasets: tuple[str, ...]
    shifted: tuple[str, ...]  # datasets of its out-of-distribution average; empty if it has no such column
    rows: Mapping[tuple[str, str], PrintedRow]  # by backbone and method, as the paper names them


@cache
def content() -> dict[str, Any]:
    """The content of `published.json`."""
    return dict(json.loads((resources.files("tpt.results.tables") / "published.json").read_text("utf-8")))


@cache
def printed_tables() -> tuple[Printed, Printed]:
    """Table 1 with the row that Table 3 adds, and Table 2; both with the rows of other methods."""
    natural = _table("natural_shift", "confidence_selection")
    shifted = tuple(name for name in natural.datasets if name != "imagenet")
    return replace(natural, shifted=shifted), _table("cross_dataset")


def _table(name: str, *more: str) -> Printed:
    tables, others = content(), [row for row in content()["methods"]["rows"] if row["table"] == name]
    datasets = tuple(tables[name]["datasets"])
    own = [{**row, "source": PAPER} for part in (name, *more) for row in tables[part]["rows"]]
    rows: dict[tuple[str, str], PrintedRow] = {}
    for row in [*own, *others]:
        averages = {column: row[column] for column in (AVERAGE, OOD_AVERAGE) if column in row}
        means = {OOD_AVERAGE: row["ece_ood_average"]} if "ece_ood_average" in row else {}
        source = f"quoted by {row['source']}" if row.get("kind") == "quoted" else row["source"]
        cells, errors = (_known(datasets, row.get(name, ())) for name in ("cells", "ece"))
        rows.setdefault((row["backbone"], row["method"]), PrintedRow(cells | averages, errors | means, source))
    return Printed(tables[name]["caption"], datasets, (), rows)


def _known(datasets: Sequence[str], cells: Sequence[float | None]) -> dict[str, float]:
    return {name: value for name, value in zip(datasets, cells, strict=bool(cells)) if value is not None}


def paper_backbone(name: str) -> str | None:
    """The paper's name of a backbone, ViT-B-16 for `ViT-B-16-quickgelu/openai`; None if the paper did not use it."""
    model, _, weights = name.partition("/")
    if weights in OPENAI_FILES or (not weights and model in OPENAI_FILES):
        model, weights = (weights or model).removesuffix(".pt"), "openai"
    known = {backbone for table in printed_tables() for backbone, _ in table.rows}
    model = model.removesuffix(SUFFIX)
    return model if model in known and weights in ("openai", "") else None


def printed_row(backbone: str, method: str, dataset: str) -> PrintedRow:
    """The row of a method in the printed table that has a dataset; an empty row if there is none."""
    key = paper_backbone(backbone) or "", method
    return next((t.rows[key] for t in printed_tables() if dataset in t.datasets and key in t.rows), PrintedRow())
