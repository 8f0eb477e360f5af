"""Confidence selection: which views of an image a method may trust."""

from __future__ import annotations

import math

from torch import Tensor

from tpt.errors import UserError
from tpt.methods.functional.entropy import entropy


def num_selected(num_views: int, selection_p: float, min_selected: int = 0, name: str = "selection_p") -> int:
    """Number of views that a share keeps: `num_views * selection_p`, rounded down, but at least `min_selected`.

    Args:
        num_views: V.
        selection_p: share of the views to keep, in (0, 1].
        min_selected: least number kept; with 0, as in the paper, a small share of few views may keep none.
        name: name of the share in messages.

    Raises:
        UserError: a value is out of range, or no view would be kept.
    """
    if not 0 < selection_p <= 1:
        raise UserError(f"Expected `{name}` in (0, 1], got {selection_p}; use `method=zero_shot` to skip tuning.")
    if min_selected < 0 or int(min_selected) != min_selected:
        raise UserError(f"Expected `min_selected` to be a whole number of at least 0, got {min_selected}; 0 is off.")
    if min_selected > num_views:
        raise UserError(
            f"Expected `min_selected` of at most num_views={num_views}, got {min_selected}; use more views, or "
            "a smaller min_selected."
        )
    kept = max(int(num_views * selection_p), int(min_selected))
    if kept < 1:
        enough_views = math.ceil(1 / selection_p)
        while int(enough_views * selection_p) < 1:  # 1 / p may have been rounded down
            enough_views += 1
        raise UserError(
            f"{name}={selection_p} of num_views={num_views} selects no view. Use num_views={enough_views} or more, or "
            f"{name}={1 / num_views:g} or more" + (", or min_selected=1." if name == "selection_p" else ".")
        )
    return kept


def select_confident(logits_VK: Tensor, selection_p: float, min_selected: int = 0) -> Tensor:
    """Indices of the views with the lowest entropy, most confident first.

    Shu et al., NeurIPS 2022, section 3.2, "confidence selection".  View 0 is treated like any other view.  Ties go to
    the lower index.

    Args:
        logits_VK: (..., V, K) logits of the views.
        selection_p: share of the views to keep, in (0, 1].
        min_selected: as for `num_selected`.

    Returns:
        (..., S) indices into V.
    """
    kept = num_selected(logits_VK.shape[-2], selection_p, min_selected)
    return entropy(logits_VK).argsort(dim=-1, stable=True)[..., :kept]
