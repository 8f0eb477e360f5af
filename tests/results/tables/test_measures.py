"""Measures of records, checked against plain computations."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError

from tpt.results.tables.results import LABELLED, MEASURES, Measures, binned, calibration_error, table_of


@pytest.mark.parametrize("bins", [15, 20])
@pytest.mark.parametrize("scale", [0.5, 3.0, 100.0])
def test_calibration_error_equals_torchmetrics(scale: float, bins: int) -> None:
    """No confidence lies on a bin's edge here; torchmetrics would use the upper bin."""
    generator = torch.Generator().manual_seed(0)
    probs = (torch.randn(400, 7, generator=generator) * scale).softmax(-1)
    labels = torch.randint(0, 7, (400,), generator=generator)
    confidence, pred = probs.max(-1)
    below_one = confidence.clamp(max=1 - 2**-24)  # torchmetrics puts 1 into a separate bin
    expected = float(BinaryCalibrationError(n_bins=bins)(below_one, (pred == labels).long()))
    parts = zip(confidence.split(90), (pred == labels).split(90), strict=True)
    counted = sum(binned(part.numpy(), right.numpy(), bins) for part, right in parts)
    assert calibration_error(np.asarray(counted)) == pytest.approx(expected, abs=1e-6)


def test_an_edge_belongs_to_the_bin_below() -> None:
    """Bins are (lower, upper], as in Guo et al., ICML 2017.  Shares of 20 votes are in float32, as recorded."""
    votes = np.arange(1, 21, dtype=np.float32) / np.float32(20)
    for bins, places in ((20, range(20)), (10, [(k + 2) // 2 - 1 for k in range(20)])):
        for vote, place in zip(votes, places, strict=True):
            images, *_ = binned(np.array([vote]), np.array([True]), bins)
            assert images.argmax() == place, (bins, vote)


def row(rank: int, confidence: float, entropy: float, selected: list[int]) -> dict[str, object]:
    before = {"rank_zero_shot": rank + 1, "confidence_zero_shot": 0.5, "entropy_zero_shot": 2 * entropy}
    about = {"path": "a", "content": "0", "problem": None, "seconds": 0.5, "selected": selected, "label": 2}
    about |= {"pred": 2 if rank == 0 else 1, "pred_zero_shot": 1}
    return {"rank": rank, "confidence": confidence, "entropy": entropy, **before, **about}


def test_measures_of_three_rows() -> None:
    """Computed by hand; a row without an answer counts only in the time."""
    failed = {**row(0, 0, 0, []), "problem": "unreadable", "content": None}
    rows = [row(0, 0.9, 1.0, [0, 2]), row(4, 0.6, 2.0, [1, 2]), row(7, 0.2, 3.0, [0, 1]), failed]
    measures = Measures().add(table_of(rows[:1])).add(table_of(rows[1:]))
    found = measures.values()
    assert found["acc"] == pytest.approx(100 / 3) and found["acc5"] == pytest.approx(200 / 3)
    assert found["acc_zero_shot"] == 0 and found["acc5_zero_shot"] == pytest.approx(100 / 3)
    assert found["entropy"] == pytest.approx(2) and found["entropy_zero_shot"] == pytest.approx(4)
    assert found["confidence"] == pytest.approx(170 / 3) and found["confidence_zero_shot"] == pytest.approx(50)
    assert found["changed"] == pytest.approx(100 / 3)
    assert found["selected_views"] == 2 and found["view0_selected"] == pytest.approx(2 / 3)
    assert found["ece"] == found["ece20"] == pytest.approx(100 * (0.1 + 0.6 + 0.2) / 3, abs=1e-4)
    assert measures.images == 3 and found["images_per_second"] == pytest.approx(4 / 2)
    assert measures.unanswered == [{"path": "a", "problem": "unreadable", "unreadable": True}]


def test_no_accuracy_or_calibration_without_labels() -> None:
    """The other measures are the same as with labels."""
    rows = [row(0, 0.9, 1.0, [0, 2]), row(4, 0.6, 2.0, [1, 2])]
    with_labels = Measures().add(table_of(rows)).values()
    without = Measures().add(table_of([r | dict.fromkeys(("label", "rank", "rank_zero_shot")) for r in rows])).values()
    gone = {f"{name}{end}" for name in LABELLED for end in ("", "_zero_shot")}
    assert without.keys() == with_labels.keys() - gone == set(MEASURES) - gone
    assert without == {key: value for key, value in with_labels.items() if key not in gone}
