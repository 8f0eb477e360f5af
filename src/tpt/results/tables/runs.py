"""Runs on disk, finished, still going or killed, as reports see them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tpt.errors import UserError
from tpt.files import dotted_values
from tpt.results.runs import RECORD_SCHEMA, answered, read_manifest, read_records_and_notes
from tpt.results.runs.records import shard_files
from tpt.results.tables.results import results_from
from tpt.results.tables.training import Training, training_of

log = logging.getLogger(__name__)

MANIFEST = "run.json"
ZERO_SHOT = "zero_shot"  # the only method of the first runs that changes no answer


class ImageResult(NamedTuple):
    """One image's outcome: digest of its file, its class, whether the answers before and after are right.

    The class's name is None in records of version 0.1.
    """

    content: str
    label: int
    before: bool
    after: bool
    class_name: str | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Args:
        path: its directory.
        results: as in `results.json`, computed from the records; what is done of an unfinished run.
        records: of all images done, as `tpt.results.runs.RECORD_SCHEMA`.
        to_test: by dataset, what the manifest says of it, also of those without an answer yet.
        settings: every value of its configuration by its dotted key.
        training: how the context was learned, if that is known.
    """

    path: Path
    results: dict[str, Any]
    records: pa.Table
    to_test: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    training: Training | None

    @property
    def method(self) -> str:
        """The row of the paper's tables: clip, tpt, tpt+coop and so on."""
        return str(self.results["method"])

    @property
    def adapts(self) -> bool:
        """Whether the method changes answers at test time: tunes something, trusts some views more, or learns."""
        about = self.results.get("about_method")
        if isinstance(about, Mapping):
            return bool(about.get("tunes") or about.get("selects") or about.get("kind") == "stream")
        return bool(self.option != ZERO_SHOT)  # a run from before methods said so themselves

    @property
    def stream(self) -> bool:
        """Whether the method learns from one image for the next, so that answers depend on the order."""
        return bool((self.results.get("about_method") or {}).get("kind") == "stream")

    @property
    def option(self) -> str:
        """Which option of `method` it was started with."""
        return str(self.results["choices"].get("method"))

    @property
    def backbone(self) -> str:
        """Its name, as open_clip has it, with the tag of its weights."""
        return str(self.results["backbone"]["name"])

    @cached_property
    def _outcomes(self) -> dict[str, dict[str, ImageResult]]:
        found: dict[str, dict[str, ImageResult]] = {}
        columns = ("dataset", "path", "content", "label", "pred_zero_shot", "pred", "class_name")
        table = answered(self.records)
        rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
        for dataset, path, content, label, before, after, name in rows:
            if label is None:  # neither right nor wrong
                continue
            found.setdefault(dataset, {})[path] = ImageResult(content, label, before == label, after == label, name)
        return found

    def outcomes(self, dataset: str) -> dict[str, ImageResult]:
        """Every answered image of a dataset that has a label, by its path."""
        return self._outcomes.get(dataset, {})

    def same_test_set(self, other: Run, dataset: str) -> bool:
        """Whether two runs were asked the same: same classes and list of images, and in images of both the same bytes.

        Lists are compared where neither run took a subset: another seed draws another one.
        """
        one, two = self.to_test[dataset], other.to_test[dataset]
        whole = all(about["to_test"] == about["size"] for about in (one, two))
        if any(one.get(key) != two.get(key) for key in ("classes", "size", *(("fingerprint",) if whole else ()))):
            return False
        mine, theirs = self.outcomes(dataset), other.outcomes(dataset)
        pairs = [(mine[path], theirs[path]) for path in mine.keys() & theirs.keys()]
        return all(
            (a.content, a.label) == (b.content, b.label)
            and (a.class_name or b.class_name) == (b.class_name or a.class_name)
            for a, b in pairs
        )

    def of(self, dataset: str) -> pa.Table:
        """The records of a dataset's answered images."""
        return answered(self.records.filter(pc.equal(self.records["dataset"], dataset)))


def find_runs(path: str | Path) -> list[Path]:
    """The directories of the run, or of every run of the sweep, in a directory.

    Args:
        path: a directory, or a file of a run, such as its `results.json`.

    Raises:
        UserError: there is no run.
    """
    found = _below(Path(path))
    if not found:
        raise UserError(
            f"Expected the directory of a run or sweep of test_time.py at {path}, found no {MANIFEST} below it; check "
            "the path."
        )
    return found


def _below(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder.parent] if (folder.parent / MANIFEST).is_file() else []
    return sorted((p.parent for p in folder.rglob(MANIFEST)), key=_by_number)


def _by_number(path: Path) -> list[tuple[int, int, str]]:
    """Sorts job 10 of a sweep behind job 9."""
    return [(0, int(part), "") if part.isdecimal() and len(part) < 10 else (1, 0, part) for part in path.parts]


def load_runs(paths: Iterable[str | Path]) -> list[Run]:
    """The runs in some directories, each once; what holds none, such as a training run, is named and passed over.

    Raises:
        UserError: there is none in any of them, a path does not exist, or a run is damaged.
    """
    places = [Path(path) for path in paths]
    others = [place for place in places if place.exists() and not _below(place)]
    others = others if len(others) < len(places) else []
    if others:
        log.warning("Passing over what is no run of test_time.py: %s.", ", ".join(map(str, others)))
    found = {folder.resolve(): folder for place in places if place not in others for folder in find_runs(place)}
    return [load_run(folder) for folder in found.values()]


def load_run(folder: str | Path) -> Run:
    """One run.

    Raises:
        UserError: it is no run's directory, or something in it is damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    records, notes = read_records_and_notes(folder) if shard_files(folder) else (RECORD_SCHEMA.empty_table(), [])
    try:
        _refuse_gaps(manifest, records)
        settings = dict(dotted_values(manifest["config"]))
        json.dumps(settings)  # as deep as can be shown
        results = results_from(manifest, records, notes)
    except Exception as error:  # what others wrote may be anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"Expected what test_time.py wrote in {folder}, but {MANIFEST} or the records do not fit ({reason}); start "
            "the run anew."
        ) from error
    context = settings.get("context.path")
    training = training_of(context) if isinstance(context, str) else None
    return Run(folder, results, records, manifest["datasets"], settings, training)


def _refuse_gaps(manifest: Mapping[str, Any], records: pa.Table) -> None:
    """Raises a UserError where something is missing that reports use; its kind is checked by `read_manifest`."""
    datasets = manifest["datasets"]
    needed = [
        (manifest, ("method", "choices", "backbone")),
        (manifest.get("backbone", {}), ("name", "precision")),
        (manifest["sessions"][-1], ("processes",)),
        *((about, ("to_test", "classes", "size", "split", "notes")) for about in datasets.values()),
    ]
    if missing := [key for node, keys in needed for key in keys if key not in node]:
        raise UserError(f"{missing[0]} is missing")
    if strange := set(records["dataset"].to_pylist()) - set(datasets):
        raise UserError(f"there are records of a dataset {min(map(str, strange))!r} that the run does not have")
