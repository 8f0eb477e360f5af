"""The order of the images in a stream."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpt.data.stream_order import stream_order
from tpt.errors import UserError

LABELS = [k % 10 for k in range(200)]


def changes(order: list[int]) -> int:
    """Number of images of a different class than the image before."""
    classes = [LABELS[image] for image in order]
    return sum(one != other for one, other in pairwise(classes))


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.sampled_from(["listed", "shuffled", "sorted", "dirichlet"]),
    st.integers(0, 3),
    st.sampled_from([1e-9, 0.1, 1.0, 1e6]),
)
def test_every_image_occurs_once_and_a_seed_fixes_the_order(
    labels: list[int], order: str, seed: int, concentration: float
) -> None:
    found = stream_order(labels, order, seed, concentration)  # type: ignore[arg-type]
    assert sorted(found) == list(range(len(labels)))
    assert found == stream_order(labels, order, seed, concentration)  # type: ignore[arg-type]


def test_listed_sorted_and_shuffled_orders() -> None:
    assert stream_order(LABELS, "listed", 3) == list(range(200))
    assert changes(stream_order(LABELS, "sorted", 3)) == 9
    before = list(range(200))
    random.Random("0/a").shuffle(before)
    assert stream_order(LABELS, "shuffled", "0/a") == before  # as with data.shuffle=true in version 0.1
    firsts = {LABELS[stream_order(LABELS, "sorted", seed)[0]] for seed in range(20)}
    assert len(firsts) > 3  # the order of the classes is random too


def test_a_smaller_concentration_groups_classes_more() -> None:
    means = [
        sum(changes(stream_order(LABELS, "dirichlet", seed, c)) for seed in range(20)) / 20 for c in (1e-6, 0.1, 1, 100)
    ]
    assert means == sorted(means) and means[0] == 9  # each class in one slot
    assert means[-1] > 90 and means[0] < means[1] < means[2]


@pytest.mark.parametrize("order", ["sorted", "dirichlet"])
def test_orders_by_class_need_labels(order: str) -> None:
    with pytest.raises(UserError, match=f"Expected labels for data.order={order}.*data.order=listed or shuffled"):
        stream_order([None, None], order)  # type: ignore[arg-type]
    assert sorted(stream_order([None, None], "shuffled")) == [0, 1]
