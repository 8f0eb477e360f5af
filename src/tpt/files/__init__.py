"""Writes files atomically, reads untrusted files, and names files."""

from tpt.files.names import BUNDLED, at_home, bundled, file_name, harmless, is_file, with_suffix
from tpt.files.reading import content_digest, dotted_values, map_files, open_plain, read_bytes, readable, reason
from tpt.files.writing import PARTIAL, remove_partial, why_no_lock, write_bytes, write_json, write_text, writing

__all__ = [
    "BUNDLED",
    "PARTIAL",
    "at_home",
    "bundled",
    "content_digest",
    "dotted_values",
    "file_name",
    "harmless",
    "is_file",
    "map_files",
    "open_plain",
    "read_bytes",
    "readable",
    "reason",
    "remove_partial",
    "why_no_lock",
    "with_suffix",
    "write_bytes",
    "write_json",
    "write_text",
    "writing",
]
