"""Confidence selection: which views of an image a method may trust."""

from itertools import count

from torch import Tensor

from tpt.errors import Natural, Share, UserError, checked
from tpt.methods.functional.entropy import entropy


@checked
def num_selected(num_views: int, selection_p: Share, min_selected: Natural = 0, name: str = "selection_p") -> int:
    """Number of views that a share keeps: `num_views * selection_p`, rounded down, but at least `min_selected`.

    With `min_selected` 0, as in the paper, a small share of few views may keep none, which is an error.

    Raises:
        UserError: no view would be kept, or there are too few; `name` is the name of the share in the message.
    """
    if min_selected > num_views:
        raise UserError(f"Expected `min_selected` of at most num_views={num_views}, got {min_selected}.")
    kept = max(int(num_views * selection_p), min_selected)
    if kept < 1:
        enough = next(views for views in count(num_views) if int(views * selection_p) >= 1)
        raise UserError(
            f"{name}={selection_p} of num_views={num_views} selects no view. Use num_views={enough} or more, or "
            f"{name}={1 / num_views:g} or more" + (", or min_selected=1." if name == "selection_p" else ".")
        )
    return kept


def select_confident(logits_VK: Tensor, selection_p: float, min_selected: int = 0) -> Tensor:
    """Indices of the views with the lowest entropy, most confident first.

    Shu et al., NeurIPS 2022, section 3.2, "confidence selection".  View 0 is treated like any other view.  Ties go to
    the lower index.

    Args:
        logits_VK: (..., V, K) logits of the views.
        selection_p, min_selected: as for `num_selected`.

    Returns:
        (..., S) indices into V.
    """
    kept = num_selected(logits_VK.shape[-2], selection_p, min_selected)
    return entropy(logits_VK).argsort(dim=-1, stable=True)[..., :kept]
