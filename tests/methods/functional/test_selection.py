"""Selection of confident views."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tpt.methods.functional import entropy, num_selected, select_confident


@given(st.integers(1, 300), st.floats(0.001, 1.0))
def test_number_is_rounded_down_and_the_suggestion_works(num_views: int, p: float) -> None:
    try:
        kept = num_selected(num_views, p)
    except ValueError as error:
        assert int(num_views * p) == 0
        words = str(error).split()
        enough = next(w for w in words if w.startswith("num_views=") and w != f"num_views={num_views}").split("=")[1]
        assert num_selected(int(enough), p) >= 1
    else:
        assert kept == int(num_views * p) >= 1


def test_paper_keeps_six_of_sixty_four() -> None:
    assert num_selected(64, 0.1) == 6


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1, float("nan")])
def test_selection_p_out_of_range(p: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `selection_p` to be a number in \(0, 1\]"):
        num_selected(64, p)


def test_no_selected_view_suggests_settings_that_work() -> None:
    with pytest.raises(ValueError, match=r"num_views=10 or more, or selection_p=0\.125 or more, or min_selected=1\."):
        num_selected(8, 0.1)


@given(st.integers(1, 300), st.floats(0.001, 1.0), st.integers(1, 300))
def test_min_selected_is_a_lower_bound(num_views: int, p: float, least: int) -> None:
    if least > num_views:
        with pytest.raises(ValueError, match=f"Expected `min_selected` of at most num_views={num_views}"):
            num_selected(num_views, p, least)
    else:
        assert num_selected(num_views, p, least) == max(least, int(num_views * p))


@pytest.mark.parametrize("least", [-1, 0.5])
def test_min_selected_out_of_range(least: float) -> None:
    with pytest.raises(ValueError, match="Expected `min_selected` to be a whole number of at least 0"):
        num_selected(64, 0.1, least)  # type: ignore[arg-type]


def test_a_single_selected_view_is_the_most_confident() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 3.0], [9.0, 0.0]])
    assert select_confident(logits, 0.1, min_selected=1).tolist() == [2]


def test_most_confident_first_without_preferring_view_0() -> None:
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    assert select_confident(logits, 0.75).tolist() == [1, 2, 3]


def test_batches_and_ties() -> None:
    logits = torch.randn(5, 20, 7, generator=torch.Generator().manual_seed(1))
    logits[2] = 0.0
    selected = select_confident(logits, 0.3)
    assert selected.shape == (5, 6)
    assert selected[2].tolist() == [0, 1, 2, 3, 4, 5]
    for image, chosen in zip(logits, selected, strict=True):
        values = entropy(image)
        others = [v for v in range(20) if v not in chosen.tolist()]
        assert values[chosen].max() <= values[others].min()
