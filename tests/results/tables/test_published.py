"""The published numbers in the package."""

from typing import Any

import numpy as np
import pytest

from tpt.data.catalog.entries import CATALOG, CROSS_DATASET, NATURAL_SHIFT
from tpt.results.tables.published import OOD_AVERAGE, PAPER, content, paper_backbone, printed_row, printed_tables


def published(backbone: str, method: str, dataset: str) -> float | None:
    return printed_row(backbone, method, dataset).accuracies.get(dataset)


TABLES = ("natural_shift", "cross_dataset", "confidence_selection")


@pytest.mark.parametrize("table", TABLES)
def test_printed_averages_follow_from_the_cells(table: str) -> None:
    """Tables 1, 2 and 3 of Shu et al., to the two printed decimals."""
    for row in content()[table]["rows"]:
        assert np.mean(row["cells"]) == pytest.approx(row["average"], abs=0.01)
        if "ood_average" in row:
            assert np.mean(row["cells"][1:]) == pytest.approx(row["ood_average"], abs=0.01)


@pytest.mark.parametrize("row", content()["methods"]["rows"], ids=lambda row: f"{row['method']} {row['table']}")
def test_averages_of_other_methods(row: dict[str, Any]) -> None:
    """Averages agree to the printed decimals; each row names its source."""
    assert row["kind"] in ("own", "quoted") and row["source"]
    one_digit = any(cell is not None and round(cell, 1) == cell for cell in row["cells"][1:])
    for cells, mean in ((row["cells"], "ood_average"), (row.get("ece", []), "ece_ood_average")):
        if cells and mean in row:
            assert np.mean(cells[1:]) == pytest.approx(row[mean], abs=0.06 if one_digit else 0.01)
    if "average" in row and None not in row["cells"]:
        assert np.mean(row["cells"]) == pytest.approx(row["average"], abs=0.01)


def test_rows_of_other_methods() -> None:
    vit = "ViT-B-16-quickgelu/openai"
    assert published(vit, "zero", "imagenet_a") == 61.35 and published(vit, "mta+coop", "imagenet") == 73.99
    assert published(vit, "ctpt", "imagenet") is None and published(vit, "zero", "dtd") is None
    assert printed_row(vit, "ctpt", "imagenet_r").errors.get("imagenet_r") == 1.54
    assert printed_row(vit, "atpt", "imagenet").errors.get(OOD_AVERAGE) == 3.92
    assert printed_row(vit, "tpt", "imagenet_r").errors.get("imagenet_r") is None
    assert printed_row(vit, "tpt", "imagenet").source == PAPER
    assert printed_row(vit, "mta", "imagenet").source.startswith("quoted by FGA")
    assert printed_row(vit, "atpt", "imagenet_a").source.startswith("A-TPT's README")
    assert printed_row(vit, "rlcf", "imagenet").source == ""


def test_columns_are_the_datasets_of_the_catalog() -> None:
    assert [datasets for _, datasets in printed_tables()] == [NATURAL_SHIFT, CROSS_DATASET]
    assert set(content()["confidence_selection"]["datasets"]) <= set(CATALOG)


def test_cells_by_name() -> None:
    """Some cells of the paper's tables."""
    assert published("ViT-B-16-quickgelu/openai", "tpt", "imagenet_a") == 54.77
    assert published("RN50-quickgelu/openai", "tpt, all views", "imagenet") == 60.31
    assert published("RN50-quickgelu/openai", "cocoop", "eurosat") == 28.73
    assert published("RN50-quickgelu/openai", "tpt+coop", "eurosat") is None
    assert published("emoji-mini", "tpt", "imagenet") is None
    assert published("RN50-quickgelu/openai", "tpt", "twemoji") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-16-quickgelu/openai", "ViT-B-16"),
        ("RN50-quickgelu/openai", "RN50"),
        ("RN50/openai", "RN50"),
        ("RN50.pt/RN50.pt", "RN50"),
        ("ViT-B-16-quickgelu/ViT-B-16.pt", "ViT-B-16"),
        ("ViT-B-16-quickgelu/dfn2b", None),
        ("ViT-B-32-quickgelu/openai", None),
        ("emoji-mini", None),
    ],
)
def test_names_of_backbones(name: str, expected: str | None) -> None:
    assert paper_backbone(name) == expected
