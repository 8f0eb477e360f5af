"""A run on disk: what it is, its records, and which of its images are done."""

from tpt.files import write_json
from tpt.runs.directory import ANOTHER, RunDirectory
from tpt.runs.environment import environment, session
from tpt.runs.manifest import about_datasets, named_files, read_manifest
from tpt.runs.records import (
    RECORD_SCHEMA,
    answered,
    read_logits,
    read_notes,
    read_records,
    read_records_and_notes,
)

__all__ = [
    "ANOTHER",
    "RECORD_SCHEMA",
    "RunDirectory",
    "about_datasets",
    "answered",
    "environment",
    "named_files",
    "read_logits",
    "read_manifest",
    "read_notes",
    "read_records",
    "read_records_and_notes",
    "session",
    "write_json",
]
