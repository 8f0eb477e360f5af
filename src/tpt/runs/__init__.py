"""A run on disk: what it is, its records, and which of its images are done."""

from tpt.runs.files import write_json
from tpt.runs.journal import Journal
from tpt.runs.manifest import about_datasets, named_files, read_manifest
from tpt.runs.records import RECORD_SCHEMA, answered, read_notes, read_records, read_records_and_notes
from tpt.runs.session import environment, session

__all__ = [
    "RECORD_SCHEMA",
    "Journal",
    "about_datasets",
    "answered",
    "environment",
    "named_files",
    "read_manifest",
    "read_notes",
    "read_records",
    "read_records_and_notes",
    "session",
    "write_json",
]
