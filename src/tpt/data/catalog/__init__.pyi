from .entries import (
    CATALOG,
    CORRUPTED,
    CROSS_DATASET,
    DOMAINS,
    KEYS,
    NATURAL_SHIFT,
    PAPER,
    SEVERITIES,
    Entry,
    entry_of,
    keys_of,
)
from .readers import catalog_datasets, find_all, read_entry, validation_entry

__all__ = [
    "CATALOG",
    "CORRUPTED",
    "CROSS_DATASET",
    "DOMAINS",
    "KEYS",
    "NATURAL_SHIFT",
    "PAPER",
    "SEVERITIES",
    "Entry",
    "catalog_datasets",
    "entry_of",
    "find_all",
    "keys_of",
    "read_entry",
    "validation_entry",
]
