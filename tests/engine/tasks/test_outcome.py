"""Records of a batch: ranks, most likely classes, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tpt.data.datamodule import EpisodeBatch
from tpt.engine.tasks.outcome import EMPTY, answered_rows, cut, likeliest, named, ranks, unanswered_row
from tpt.methods import Adaptation
from tpt.results.runs.records import LOGITS, RANK, RANKING

NAMES = ["cat", "dog", "eel", "fly"]


def batch_of(labels: list[int] | None, count: int) -> EpisodeBatch:
    paths = [f"{i}.png" for i in range(count)]
    return EpisodeBatch(
        torch.zeros(count, 1, 3, 2, 2),
        None if labels is None else torch.tensor(labels),
        torch.arange(count),
        paths,
        paths,
        [],
    )


def adaptation(logits: torch.Tensor) -> Adaptation:
    ones = torch.ones(len(logits))
    return Adaptation(logits, logits.flip(-1), torch.zeros(len(logits), 1, dtype=torch.long), ones, ones)


@given(arrays(np.float32, (3, 4), elements=st.sampled_from([-2.0, 0.0, 0.0, 1.0, 3.0])))
def test_the_likeliest_classes_agree_with_prediction_and_rank(values: np.ndarray) -> None:
    """Even with ties, the first class is the prediction, and the class at a label's rank has the label's logit."""
    logits = torch.from_numpy(values)
    pred = logits.softmax(-1).max(-1).indices
    order = likeliest(logits, pred)
    assert order[:, 0].equal(pred)
    assert all(sorted(row) == [0, 1, 2, 3] for row in order.tolist())
    sorted_logits = logits.gather(1, order)
    assert (sorted_logits[:, :-1] >= sorted_logits[:, 1:]).all()
    for label in range(4):
        place = ranks(logits, torch.full((3,), label), pred)
        at_place = logits.gather(1, order.gather(1, place[:, None]))[:, 0]
        assert at_place.equal(logits[:, label])


def rows_of(labels: list[int] | None, logits: torch.Tensor) -> list[dict[str, Any]]:
    return answered_rows(batch_of(labels, len(logits)), adaptation(logits))


def test_labels_add_columns_and_change_no_others() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0], [3.0, 2.0, 1.0, 0.0]])
    with_labels, without = rows_of([2, 0], logits), rows_of(None, logits)
    for one, other in zip(with_labels, without, strict=True):
        assert other["label"] is other["rank"] is other["rank_zero_shot"] is None
        kept = [name for name in one if name not in ("label", *RANK, *RANKING, *LOGITS)]
        assert all(one[name] == other[name] for name in kept)
    assert [row["rank"] for row in with_labels] == [1, 0]


def test_names_and_most_likely_classes() -> None:
    (row,) = rows_of([2], torch.tensor([[0.0, 2.0, 1.0, -1.0]]))
    full = cut(named(row, NAMES), NAMES, top=3)
    assert (full["class_name"], full["pred_name"], full["pred_name_zero_shot"]) == ("eel", "dog", "eel")
    assert full["top"] == [1, 2, 0] and full["top_name"] == ["dog", "eel", "cat"]
    assert full["top_confidence"][0] == full["confidence"]
    assert full["top_confidence"] == pytest.approx(
        row["logits"].dtype.type(1) * torch.tensor([0.6439, 0.2369, 0.0871]).numpy(), abs=1e-3
    )
    assert np.array_equal(full["logits"], [0, 2, 1, -1]) and np.array_equal(full["logits_zero_shot"], [-1, 1, 2, 0])


@pytest.mark.parametrize("label", [1, None])
def test_without_an_answer_only_the_label_has_a_name(label: int | None) -> None:
    (bad,) = rows_of([0], torch.tensor([[float("nan"), 0.0, 0.0, 0.0]]))
    unread = unanswered_row(3, "a", None, label, "gone")
    for row in (bad, unread):
        full = cut(named(row, NAMES), NAMES, top=2)
        assert all(full[name] is None for name in EMPTY) and full["pred_name"] is full["top_name"] is None
    assert named(unread, NAMES)["class_name"] == (None if label is None else "dog")
