"""Results of runs: records, statistics, tables."""

from tpt.reports.records import RECORD_SCHEMA, read_records
from tpt.reports.statistics import Gain, paired_gain
from tpt.reports.table import comparison_table, print_table, results_table

__all__ = ["RECORD_SCHEMA", "Gain", "comparison_table", "paired_gain", "print_table", "read_records", "results_table"]
