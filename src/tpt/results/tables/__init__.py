"""Results of runs: measures, statistics, tables; figures are in `tpt.results.figures`."""
