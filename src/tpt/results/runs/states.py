"""Saved states of stream methods, so that a stopped run resumes with bit-equal results.

`streams/<dataset number>-<dataset>-<images>-<digest>.safetensors` is the state after that many images.  It is written
before the records of the last of these images, and counts only if all their records exist.  Records that no such state
covers are computed again, with the same result.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path

from tpt.errors import UserError
from tpt.files import content_digest, file_name, open_plain, write_bytes

log = logging.getLogger(__name__)

STATES = "streams"
MOST_STATE_BYTES = 2**36
_NAME = re.compile(r"(\d+)-.*-(\d+)-([0-9a-f]{16})\.safetensors")


def write_state(content: bytes, run_dir: Path, number: int, dataset: str, images: int) -> Path:
    """Writes the state after `images` images, whole or not at all; `number` is the dataset's number in the run."""
    path = run_dir / STATES / f"{number:02d}-{file_name(dataset)}-{images:07d}-{content_digest(content)}.safetensors"
    write_bytes(content, path)
    return path


def read_state(path: Path) -> bytes:
    """The bytes of a state; a UserError if they are not those that were written, an OSError if they cannot be read."""
    with open_plain(path, MOST_STATE_BYTES) as file:  # `read_bytes` would ask for memory for the largest state
        content = file.read()
    if content_digest(content) != path.stem.rsplit("-", 1)[-1]:
        raise UserError(f"{path} is damaged: its checksum differs.")
    return content


def drop_states(run_dir: Path, number: int, but: Path | None = None) -> None:
    """Removes the states of a dataset except `but`, because each may take a gigabyte (DOTA)."""
    for _, path in _states(run_dir, number):
        if path != but:
            path.unlink(missing_ok=True)


def latest_state(run_dir: Path, number: int, images: int, recorded: Collection[int]) -> tuple[int, Path | None]:
    """The number of finished images of a stream, and the state after them; None if no state is needed to continue.

    `number` is the dataset's number in the run, `images` its size, and `recorded` the positions that have a record.
    """
    first_missing = next((position for position in range(images) if position not in recorded), images)
    if first_missing == images:
        return images, None
    for seen, path in _states(run_dir, number):
        if seen <= first_missing:
            try:
                read_state(path)
                return seen, path
            except (UserError, OSError) as error:
                log.warning("Ignoring a saved state of the stream: %s", error)
    return 0, None


def _states(run_dir: Path, number: int) -> list[tuple[int, Path]]:
    """The number of images and the file of each state of a dataset, the latest first."""
    found = [(_NAME.fullmatch(path.name), path) for path in (run_dir / STATES).glob("*.safetensors")]
    return sorted(((int(m[2]), path) for m, path in found if m and int(m[1]) == number), reverse=True)
