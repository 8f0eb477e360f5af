"""The printed numbers that the package carries."""

import numpy as np
import pytest

from tpt.data.catalog.entries import CATALOG, CROSS_DATASET, NATURAL_SHIFT
from tpt.reports.published import content, paper_backbone, printed_tables, published

TABLES = ("natural_shift", "cross_dataset", "confidence_selection")


@pytest.mark.parametrize("table", TABLES)
def test_printed_averages_follow_from_the_cells(table: str) -> None:
    """Shu et al., Tables 1, 2 and 3: to the two digits that are printed."""
    for row in content()[table]["rows"]:
        assert np.mean(row["cells"]) == pytest.approx(row["average"], abs=0.01)
        if "ood_average" in row:
            assert np.mean(row["cells"][1:]) == pytest.approx(row["ood_average"], abs=0.01)


def test_columns_are_the_catalogue() -> None:
    assert [table.datasets for table in printed_tables()] == [NATURAL_SHIFT, CROSS_DATASET]
    assert set(content()["confidence_selection"]["datasets"]) <= set(CATALOG)


def test_cells_by_name() -> None:
    """Some cells as they stand in the paper's tables."""
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
