"""A run's output files, and what is made from them: records, tables, figures, predictions; without torch."""
