"""The table a run prints."""

import pytest

from tpt.reports import results

CELLS = {
    "imagenet": 66.73,
    "imagenet_a": 47.87,
    "imagenet_v2": 60.86,
    "imagenet_r": 73.98,
    "imagenet_sketch": 46.09,
}  # Table 1, ViT-B/16, CLIP


def test_averages_of_a_results_file() -> None:
    """The paper's own cells, as one run on all five writes them."""
    datasets = {name: {**dict.fromkeys(results.AVERAGED, 1.0), "acc": acc} for name, acc in CELLS.items()}
    found = results.averages(datasets)
    assert found["acc"] == pytest.approx(59.11, abs=0.005)
    assert found["shifted"]["acc"] == pytest.approx(57.20, abs=0.005)
    assert "shifted" not in results.averages({"dtd": datasets["imagenet"]})  # nothing it was learned on
    assert "shifted" not in results.averages({"imagenet": datasets["imagenet"]})
