"""Results of runs: measures, statistics, tables; figures are in `tpt.results.figures`."""

from tpt.results.tables.formats import render
from tpt.results.tables.measures import Measures
from tpt.results.tables.pivots import transfer_matrices
from tpt.results.tables.report import make_report
from tpt.results.tables.results import refuse_unanswered, results_of
from tpt.results.tables.runs import Run, load_run, load_runs
from tpt.results.tables.statistics import Gain, Interval, accuracy_interval, difference_interval, paired_gain
from tpt.results.tables.table import print_table, results_grid

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
    "paired_gain",
    "print_table",
    "refuse_unanswered",
    "render",
    "results_grid",
    "results_of",
    "transfer_matrices",
]
