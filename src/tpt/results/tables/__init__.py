"""Measures, statistics and tables of runs; figures are in `tpt.results.figures`."""
