"""Results of runs: measures, statistics, tables; figures are in `tpt.reports.figures`."""

from tpt.reports.formats import render
from tpt.reports.measures import Measures, measures_of
from tpt.reports.pivots import transfer_matrices
from tpt.reports.report import make_report
from tpt.reports.results import refuse_unanswered, results_of
from tpt.reports.runs import Run, load_run, load_runs
from tpt.reports.statistics import Gain, Interval, accuracy_interval, difference_interval, paired_gain
from tpt.reports.table import print_table, results_grid

__all__ = [
    "Gain",
    "Interval",
    "Measures",
    "Run",
    "accuracy_interval",
    "difference_interval",
    "load_run",
    "load_runs",
    "make_report",
    "measures_of",
    "paired_gain",
    "print_table",
    "refuse_unanswered",
    "render",
    "results_grid",
    "results_of",
    "transfer_matrices",
]
