"""Figures of runs, for print: each function returns a matplotlib `Figure`; `save_as` writes it as PNG, SVG or PDF."""

from tpt.results.figures.answers import risk_figure
from tpt.results.figures.drawing import BY_RUN, KINDS, draw_all, figures_of
from tpt.results.figures.sheet import contact_sheet
from tpt.results.figures.style import save_as

__all__ = ["BY_RUN", "KINDS", "contact_sheet", "draw_all", "figures_of", "risk_figure", "save_as"]
