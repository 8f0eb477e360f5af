"""A run on disk: what it is, its records, and which of its images are done."""

from tpt.files import write_json
from tpt.results.runs.claim import ANOTHER
from tpt.results.runs.directory import RunDirectory
from tpt.results.runs.environment import environment, session
from tpt.results.runs.manifest import about_datasets, named_files, read_manifest
from tpt.results.runs.records import (
    RECORD_SCHEMA,
    answered,
    read_logits,
    read_notes,
    read_records,
    read_records_and_notes,
)
from tpt.results.runs.training import (
    TrainingDirectory,
    about_shots,
    as_text,
    metrics_before,
    trained_on,
    training_files,
)

__all__ = [
    "ANOTHER",
    "RECORD_SCHEMA",
    "RunDirectory",
    "TrainingDirectory",
    "about_datasets",
    "about_shots",
    "answered",
    "as_text",
    "environment",
    "metrics_before",
    "named_files",
    "read_logits",
    "read_manifest",
    "read_notes",
    "read_records",
    "read_records_and_notes",
    "session",
    "trained_on",
    "training_files",
    "write_json",
]
