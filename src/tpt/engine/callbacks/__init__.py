"""Callbacks: metrics, records, progress and processes of a run."""
