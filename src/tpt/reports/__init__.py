"""Results of runs: measures, statistics, tables, figures."""

from tpt.reports.measures import Measures, measures_of
from tpt.reports.results import refuse_unanswered, results_of
from tpt.reports.statistics import Gain, Interval, mean_interval, paired_gain
from tpt.reports.table import print_table, results_table

__all__ = [
    "Gain",
    "Interval",
    "Measures",
    "mean_interval",
    "measures_of",
    "paired_gain",
    "print_table",
    "refuse_unanswered",
    "results_of",
    "results_table",
]
