from .entries import CATALOG, CROSS_DATASET, NATURAL_SHIFT, Entry
from .readers import catalog_datasets, find_all, read_entry, validation_entry

__all__ = [
    "CATALOG",
    "CROSS_DATASET",
    "NATURAL_SHIFT",
    "Entry",
    "catalog_datasets",
    "find_all",
    "read_entry",
    "validation_entry",
]
