"""What papers print, from the package's `published.json`, and how to cite them, from `citations.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from tpt.data.dataset import AVERAGES

if TYPE_CHECKING:
    from tpt.results.tables.runs import Run

AVERAGE, _, OOD_AVERAGE = AVERAGES
ALL_VIEWS = "tpt, all views"  # Table 3's row without confidence selection
PAPER = "Shu et al., NeurIPS 2022"
OPENAI_FILES = ("RN50.pt", "ViT-B-16.pt")  # names of OpenAI's weights files
TABLES = {"natural_shift": ("natural_shift", "confidence_selection"), "cross_dataset": ("cross_dataset",)}  # with parts


@dataclass(frozen=True)
class PrintedRow:
    """A row of a printed table: its values, including averages, by column; columns may be missing or None."""

    accuracies: Mapping[str, float | None] = field(default_factory=dict)  # in %
    errors: Mapping[str, float | None] = field(default_factory=dict)  # calibration error over 20 bins, in %
    source: str = ""  # where it was read; empty if there is no such row


@cache
def _read(name: str) -> Any:
    return json.loads((resources.files("tpt.results.tables") / name).read_text("utf-8"))


def content() -> dict[str, Any]:
    """The content of `published.json`: numbers of Shu et al., NeurIPS 2022, and of other methods."""
    return dict(_read("published.json"))


def printed_tables() -> list[tuple[str, tuple[str, ...]]]:
    """Captions and datasets of Table 1 with the row that Table 3 adds, and of Table 2."""
    return [(content()[name]["caption"], tuple(content()[name]["datasets"])) for name in TABLES]


@cache
def _rows() -> dict[tuple[str, str, str], PrintedRow]:
    """The rows by dataset, and by backbone and method as the paper names them; also of other methods."""
    rows: dict[tuple[str, str, str], PrintedRow] = {}
    for name, parts in TABLES.items():
        datasets = content()[name]["datasets"]
        own = [{**row, "source": PAPER} for part in parts for row in content()[part]["rows"]]
        for row in [*own, *(row for row in content()["methods"]["rows"] if row["table"] == name)]:
            averages = {column: row.get(column) for column in (AVERAGE, OOD_AVERAGE)}
            accuracies = dict(zip(datasets, row["cells"], strict=True)) | averages
            errors = dict(zip(datasets, row["ece"], strict=True)) if "ece" in row else {}
            source = f"quoted by {row['source']}" if row.get("kind") == "quoted" else row["source"]
            made = PrintedRow(accuracies, errors | {OOD_AVERAGE: row.get("ece_ood_average")}, source)
            for dataset in datasets:
                rows.setdefault((dataset, row["backbone"], row["method"]), made)
    return rows


@cache
def paper_backbone(name: str) -> str | None:
    """The paper's name of a backbone, ViT-B-16 for `ViT-B-16-quickgelu/openai`; None if the paper did not use it."""
    model, _, weights = name.partition("/")
    if weights in OPENAI_FILES or (not weights and model in OPENAI_FILES):
        model, weights = (weights or model).removesuffix(".pt"), "openai"
    model = model.removesuffix("-quickgelu")
    return model if weights in ("openai", "") and any(model == backbone for _, backbone, _ in _rows()) else None


def printed_row(backbone: str, method: str, dataset: str) -> PrintedRow:
    """The row of a method in the printed table that has a dataset; an empty row if there is none."""
    return _rows().get((dataset, paper_backbone(backbone) or "", method), PrintedRow())


def citations() -> list[dict[str, Any]]:
    """All citations: key, kind, fields, and in `cites` patterns of what each is cited for, such as `method:tpt`."""
    return list(_read("citations.json"))


def to_bibtex(runs: Sequence[Run]) -> str:
    """The entries for the methods, backbones and datasets of some runs; comments name those without an entry."""
    wanted: dict[str, None] = {}
    for run in runs:  # the method, the parts of its row (such as tpt+coop), backbone and datasets
        wanted |= dict.fromkeys([f"method:{run.option}", *(f"row:{part}" for part in run.method.split("+"))])
        wanted |= dict.fromkeys([f"backbone:{run.backbone.lower()}", *(f"dataset:{name}" for name in run.to_test)])
    found = [each for each in citations() if any(fnmatchcase(s, p) for p in each["cites"] for s in wanted)]
    known = [pattern for entry in found for pattern in entry["cites"]]
    without = [s for s in wanted if not s.startswith("row:") and not any(fnmatchcase(s, p) for p in known)]
    lines = []
    for entry in found:
        fields = {k: v for k, v in entry.items() if k not in ("key", "kind", "cites")}
        fields["title"] = f"{{{entry['title']}}}"  # keeps capitals
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        lines.append(f"@{entry['kind']}{{{entry['key']},\n{body}}}\n")
    return "\n".join([*lines, *(f"% no entry for {' '.join(subject.split())}" for subject in without), ""])
