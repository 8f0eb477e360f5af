"""The paper's fifteen datasets, read as they lie on people's disks."""

from tpt.data.catalog.entries import CATALOG, CROSS_DATASET, NATURAL_SHIFT, Entry
from tpt.data.catalog.readers import catalog_datasets, find_all, read_entry, validation_entry

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
