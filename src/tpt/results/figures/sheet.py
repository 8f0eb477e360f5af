"""The contact sheet of one image: its views, with the selected ones framed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tpt.results.figures.style import BLUE, PAGE, short, styled

ACROSS = 8  # views per row
HEADER = 0.2  # inches per line of text


@styled
def contact_sheet(
    views: np.ndarray,
    order: Sequence[int],
    selected: Sequence[int],
    texts: Sequence[str],
    values: Sequence[float],
    name: str,
) -> Figure:
    """The V views in a given order, for example by entropy, with the selected ones framed.

    `views` are (V, H, W, 3) uint8 pixels, and `order` begins with the view that the method trusts most.  `texts` are
    lines above all views; the (V,) `values`, whose `name` includes their unit, are written above each view.
    """
    summary = f"{len(set(selected))} of {len(views)} views selected (framed), most trusted first; above each its {name}"
    lines = [*(short(text, 110) for text in texts), summary]
    rows = -(-len(views) // ACROSS)
    height = rows * (PAGE / ACROSS + 0.16) + HEADER * len(lines) + 0.25
    figure = Figure(figsize=(PAGE, height))
    figure.suptitle("\n".join(lines), x=0.005, ha="left")
    for panel, view in zip_longest(figure.subplots(rows, ACROSS, squeeze=False).flat, order):
        panel.set_axis_off()
        if view is None:
            continue
        panel.imshow(views[view])
        title = panel.set_title(f"{f'#{view}' if view else 'image'}  {values[view]:.2f}", pad=3)
        if view in selected:
            title.set(color=BLUE, fontweight="bold")
            frame = Rectangle((0, 0), 1, 1, fill=False, edgecolor=BLUE, linewidth=3.0, clip_on=False)
            panel.add_patch(frame).set_transform(panel.transAxes)
    return figure
