"""The directory of a run: only one process at a time uses it, and only the same run can be resumed in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from tpt.errors import UserError
from tpt.files import remove_partial, why_no_lock, write_json
from tpt.results.runs.manifest import differences, read_manifest

log = logging.getLogger(__name__)

# Data-loading workers of a killed run hold its lock until they notice, which takes five seconds.
PATIENCE_S = 15.0
LOCK = ".lock"
LOGS = "csv"  # folder of the CSV logger, as in conf/logger/csv.yaml
ANOTHER = "choose another hydra.run.dir"
SHOWN = 3  # differences listed in an error


class ClaimedDirectory:
    """Base class of the directories of test runs and of training runs.

    Args:
        folder: the run's directory.
        resume: whether to resume the run in the directory; if not, a directory that holds a run is refused.
        first: whether this is the run's first process, the only one that locks and writes.
        another: how to choose another directory, for error messages.
    """

    manifest_name: str  # file name of the manifest
    free: tuple[str, ...]  # settings that may differ when the run is resumed
    marks: tuple[str, ...]  # patterns of files that show that there is a run
    strangers: tuple[str, ...] = ()  # files that only another program's runs have
    files: tuple[str, ...] = ()  # files and folders that the run writes
    folders: tuple[str, ...] = ()

    def __init__(self, folder: Path, resume: bool = False, first: bool = True, another: str = ANOTHER) -> None:
        self.folder = folder
        self.resume = resume
        self.is_new = not resume  # whether the directory must not hold a run yet
        self.first = first
        self.another = another
        self.way_out = f"continue with the same, or {another}"  # for error messages: what to do
        self.begun_anew = False  # set by `write`
        self._lock = FileLock(folder / LOCK, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def stored(self, key: str) -> Any:
        """The value of `key` in the manifest of the resumed run, or of this run's first process; None if missing."""
        if (self.resume or not self.first) and os.path.lexists(self.folder / self.manifest_name):
            return read_manifest(self.folder, self.manifest_name).get(key)
        return None

    def holds_a_run(self) -> bool:
        """Whether the directory holds a run, which a new one must not overwrite."""
        return any(path for mark in self.marks for path in self.folder.glob(mark))

    def take(self) -> None:
        """Locks the directory, and removes incomplete files of a killed process.

        Raises a UserError if another process uses it, it holds another run, or a needed name is something else.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (LOCK, self.manifest_name, *self.files, *self.folders):
            path, what = self.folder / name, "folder" if name in self.folders else "file"
            fits = path.is_dir() if what == "folder" else path.is_file()
            if os.path.lexists(path) and not fits:  # for example a pipe, or a broken link
                raise UserError(f"{path} is not a {what}, which a run needs there. Remove it, or {self.another}.")
        if (why := why_no_lock(self.folder / LOCK)) is None:
            try:
                self._lock.acquire()
            except Timeout as error:
                said = f"Another process is already writing to {self.folder}; wait for it, or {self.another}."
                raise UserError(said) from error
        else:
            log.warning("%s cannot be locked (%s). Start no second run there while this one works.", self.folder, why)
        if found := [name for name in self.strangers if (self.folder / name).exists()]:
            raise UserError(f"{self.folder} holds {found[0]} of another program's run; {self.another}.")
        if self.is_new and self.holds_a_run():
            way_out = f"Continue it with resume={self.folder}, or {self.another}"
            raise UserError(f"{self.folder} holds files of an earlier run. {way_out}.")
        for folder in (self.folder, *(self.folder / name for name in self.folders)):
            remove_partial(folder)

    def earlier_sessions(self, manifest: Mapping[str, Any], session: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The sessions of the resumed run, if it has the same settings and data; empty for a new run."""
        if self.is_new or not (os.path.lexists(self.folder / self.manifest_name) or self.holds_a_run()):
            return []
        return self.same_run(read_manifest(self.folder, self.manifest_name), manifest, session)

    def same_run(
        self, old: Mapping[str, Any], new: Mapping[str, Any], session: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The sessions of `old`, if `new` may continue it; otherwise raises a UserError that names the differences."""
        self.refuse_different(old, new)
        sessions: list[dict[str, Any]] = old["sessions"]
        now = {name: session["versions"].get(name, "not recorded") for name in sessions[-1]["versions"]}
        before = sessions[-1]["versions"].items()
        if changed := "; ".join(f"{name} {then}, now {now[name]}" for name, then in before if now[name] != then):
            log.warning("This run started with other library versions (%s); results may differ by rounding.", changed)
        return sessions

    def refuse_different(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Raises a UserError that names the differences, if `new` may not continue `old`."""
        if different := differences(old, new, self.free):
            more = f" (and {len(different) - SHOWN} more)" if len(different) > SHOWN else ""
            shown = "; ".join(different[:SHOWN])
            raise UserError(f"The run has other settings or data: {shown}{more}; {self.way_out}.")

    def write(self, manifest: Mapping[str, Any], sessions: list[dict[str, Any]], session: Mapping[str, Any]) -> None:
        """Writes the manifest with this session added; CSV logs of earlier sessions are kept."""
        self.begun_anew = not sessions
        if sessions and (self.folder / LOGS).is_dir():  # the CSV logger deletes existing files
            (self.folder / LOGS).replace(self.folder / f"{LOGS}_{len(sessions)}")
        write_json({**manifest, "sessions": [*sessions, dict(session)]}, self.folder / self.manifest_name)
