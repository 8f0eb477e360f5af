"""LightningModules that process a run's batches."""
