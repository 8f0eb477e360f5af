"""A run on disk: its manifest, its records, and which of its images are done."""

from tpt.results.runs.directory import RunDirectory
from tpt.results.runs.manifest import read_manifest
from tpt.results.runs.records import RECORD_SCHEMA, answered, read_logits, read_records, read_records_and_notes

__all__ = [
    "RECORD_SCHEMA",
    "RunDirectory",
    "answered",
    "read_logits",
    "read_manifest",
    "read_records",
    "read_records_and_notes",
]
