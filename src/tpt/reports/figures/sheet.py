"""The contact sheet of one image: its views, and which of them were trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tpt.reports.figures.style import BLUE, GREY, PAGE, short, styled

ACROSS = 8  # views beside each other
HEADER = 0.2  # inches a line of text


@styled
def contact_sheet(
    views: np.ndarray, entropies: Sequence[float], selected: Sequence[int], texts: Sequence[str] = ()
) -> Figure:
    """The views in the order of their entropy, the selected ones framed.

    Args:
        views: (V, H, W, 3) uint8 pixels.
        entropies: (V,) of each view's prediction, in nats.
        selected: indices of the views that were trusted.
        texts: lines above the views: the image, its class, the prediction before and after.

    Raises:
        ValueError: shapes or indices that do not fit.
    """
    count = len(views)
    if views.ndim != 4 or views.shape[-1] != 3 or len(entropies) != count or not count:
        raise ValueError(
            f"Expected views (V, H, W, 3) and V entropies, got shapes {views.shape} and {np.shape(entropies)}."
        )
    if not set(selected) <= set(range(count)):
        raise ValueError(f"Expected indices of {count} views in `selected`, got {list(selected)}.")
    down = -(-count // ACROSS)
    side = PAGE / ACROSS
    height = down * (side + 0.14) + HEADER * (len(texts) + 1) + 0.1
    figure = Figure(figsize=(PAGE, height))
    top = 1 - (HEADER * (len(texts) + 1)) / height
    for number, line in enumerate(texts):
        figure.text(0.005, 1 - (HEADER * (number + 0.8)) / height, short(line, 120), va="center")
    axes = figure.subplots(down, ACROSS, squeeze=False).flatten()
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=top - 0.1 / height, wspace=0.06, hspace=0.24)
    for panel in axes:
        panel.set_axis_off()
    for panel, view in zip(axes, np.argsort(np.asarray(entropies), kind="stable").tolist(), strict=False):
        panel.imshow(views[view])
        chosen = view in selected
        name = "image" if view == 0 else f"view {view}"
        weight = "bold" if chosen else "normal"
        panel.set_title(f"{name}  {entropies[view]:.2f}", pad=2, color=BLUE if chosen else "black", fontweight=weight)
        if chosen:
            frame = {"fill": False, "edgecolor": BLUE, "linewidth": 3.0, "clip_on": False, "transform": panel.transAxes}
            panel.add_patch(Rectangle((0, 0), 1, 1, **frame))
    said = f"{len(set(selected))} of {count} views selected (framed), in the order of entropy (nats)"
    figure.text(0.995, 1 - HEADER * (len(texts) + 0.8) / height, said, ha="right", va="center", color=GREY)
    return figure
