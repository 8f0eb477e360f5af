"""Figures of runs, for print: each function returns a matplotlib `Figure`; `save_as` writes it as PNG, SVG or PDF."""

from tpt.results.figures.along import along, along_figure
from tpt.results.figures.answers import entropy_figure, reliability_figure, risk_figure
from tpt.results.figures.confusion import confusion_figure
from tpt.results.figures.drawing import BY_RUN, KINDS, draw_all, figures_of
from tpt.results.figures.heat_map import transfer_figure
from tpt.results.figures.methods import methods_figure
from tpt.results.figures.settings import curves, setting_figure
from tpt.results.figures.sheet import contact_sheet
from tpt.results.figures.style import save_as

__all__ = [
    "BY_RUN",
    "KINDS",
    "along",
    "along_figure",
    "confusion_figure",
    "contact_sheet",
    "curves",
    "draw_all",
    "entropy_figure",
    "figures_of",
    "methods_figure",
    "reliability_figure",
    "risk_figure",
    "save_as",
    "setting_figure",
    "transfer_figure",
]
