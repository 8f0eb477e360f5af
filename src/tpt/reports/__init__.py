"""Results of runs: measures, statistics, tables."""

from tpt.reports.measures import Measures, measures_of
from tpt.reports.results import refuse_unanswered, results_of
from tpt.reports.statistics import Gain, paired_gain
from tpt.reports.table import comparison_table, print_table, results_table

__all__ = [
    "Gain",
    "Measures",
    "comparison_table",
    "measures_of",
    "paired_gain",
    "print_table",
    "refuse_unanswered",
    "results_of",
    "results_table",
]
