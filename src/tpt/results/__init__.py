"""What a run leaves, and what is made of it: records, tables, figures, predictions; without torch."""
