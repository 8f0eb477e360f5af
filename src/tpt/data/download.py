"""One file over HTTP: resumed after an interruption, its length and checksum checked, in its place only when whole."""

from __future__ import annotations

import hashlib
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

from tpt.data.sources import Archive
from tpt.errors import DataError

log = logging.getLogger(__name__)

ATTEMPTS = 5  # connections in a row that brought nothing, before giving up
PAUSE_S = 1.0  # before the second of them, twice that before the third, ...
TIMEOUT_S = 60.0
BLOCK = 1 << 20
_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class _BrokenError(Exception):
    """The connection could not be made or ended early; trying again may help."""


def progress_bar() -> Progress:
    """On a terminal a bar on standard error, elsewhere nothing."""
    console = Console(stderr=True, markup=False)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def download(archive: Archive, folder: Path, progress: Progress) -> Path:
    """The archive as a file in `folder`, whole and checked; continues what an earlier call began.

    Raises:
        DataError: no connection, or another checksum or length than expected.
        OSError: the disk is full or cannot be written.
    """
    final, partial = folder / archive.name, folder / f"{archive.name}.part"
    if final.is_file():
        return final
    task = progress.add_task(archive.name, total=None)
    failures = most = 0
    while failures < ATTEMPTS:
        try:
            _continue(archive, partial, progress, task)
            break
        except _BrokenError as error:
            reason, have = error, _size(partial)
            failures, most = (0 if have > most else failures + 1), max(have, most)
            log.warning("%s: %s; trying again.", archive.name, reason)
            time.sleep(PAUSE_S * 2 ** max(failures - 1, 0) if failures < ATTEMPTS else 0)
    else:
        raise DataError(
            f"Expected to download {archive.url}, but the connection failed {ATTEMPTS} times ({reason}); the first "
            f"{_size(partial):,} bytes are kept, run again to continue."
        )
    _check(archive, partial)
    _tag_file(partial).unlink(missing_ok=True)
    return partial.replace(final)


def _continue(archive: Archive, partial: Path, progress: Progress, task: TaskID) -> None:
    """Appends what is missing; starts again if the server cannot continue or has another file by now."""
    have, tag = _size(partial), _tag(partial)
    if not tag and not archive.md5:
        have = 0  # nothing would tell that the rest belongs to another file
    response = _open(archive, have, tag)
    if response is None:
        _refuse_another_length(archive, partial, have)
        return
    with response:
        found = _validator(response)
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            have = 0
        elif (tag and found and found != tag) or not response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        ):
            partial.unlink()
            raise _BrokenError("its server sent a part of another file")
        _tag_file(partial).write_text(found or tag if have else found, "utf-8")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        _refuse_full_disk(archive, partial.parent, (total or 0) - have)
        progress.update(task, total=total, completed=have)
        with partial.open("ab" if have else "wb") as file:
            for block in _blocks(response):
                file.write(block)
                progress.advance(task, len(block))
            size = file.tell()
    if total is not None and size < total:
        raise _BrokenError(f"{size:,} of {total:,} bytes came")


def _open(archive: Archive, have: int, tag: str) -> http.client.HTTPResponse | None:
    """The server's answer; None if nothing lies behind the first `have` bytes."""
    headers = {"User-Agent": "tpt"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    request = urllib.request.Request(archive.url, headers=headers)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return None
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _TRY_AGAIN:
            raise _BrokenError(f"its server says {error.code}") from error
        raise DataError(
            f"Expected the file {archive.url}, but its server says {error.code} {error.reason}; get the dataset by "
            "hand, docs/datasets.md says where it goes."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(getattr(error, "reason", None) or error) from error


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body of the answer; errors here are the connection's, errors in writing it the disk's."""
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(error) from error


def _refuse_another_length(archive: Archive, partial: Path, have: int) -> None:
    """The server has no byte after those we have: all is here if the checksum says so."""
    if archive.md5 is None:
        partial.unlink()
        raise _BrokenError(f"{have:,} bytes came before, and its server has no more")


def _refuse_full_disk(archive: Archive, folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"Expected {need:,} bytes free in {folder} for {archive.name}, got {free:,}; make room and run again."
        )


def _size(partial: Path) -> int:
    return partial.stat().st_size if partial.is_file() else 0


def _tag_file(partial: Path) -> Path:
    return partial.with_suffix(".tag")


def _tag(partial: Path) -> str:
    """What names the version of the file that `partial` belongs to; empty if its server says nothing."""
    return _tag_file(partial).read_text("utf-8") if _tag_file(partial).is_file() else ""


def _validator(response: http.client.HTTPResponse) -> str:
    """A strong entity tag, or the date; a weak tag does not promise the same bytes (RFC 9110, section 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _check(archive: Archive, file: Path) -> None:
    if archive.md5 is None:
        log.warning("%s: its publishers name no checksum, so only its length was checked.", archive.name)
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "md5").hexdigest()
    if found != archive.md5:
        file.unlink()
        _tag_file(file).unlink(missing_ok=True)
        raise DataError(
            f"Expected {archive.name} with MD5 {archive.md5}, got {found}; it was removed, so run again, or get the "
            "dataset by hand if its publishers have changed it."
        )
