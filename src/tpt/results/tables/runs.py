"""Loads runs for reports, whether they are finished, running or killed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tpt.errors import UserError
from tpt.files import dotted_values
from tpt.results.runs import RECORD_SCHEMA, answered, read_manifest, read_records_and_notes
from tpt.results.runs.manifest import NAME
from tpt.results.runs.records import shard_files
from tpt.results.runs.settings import CONCENTRATION, ORDER, ORDER_SEED, SEED, TRAINING, meaning
from tpt.results.runs.training import Training, training_of
from tpt.results.tables.results import results_from

log = logging.getLogger(__name__)

ITSELF = "each dataset itself"


class ImageResult(NamedTuple):
    """The result of one labelled image."""

    content: str  # digest of its file
    label: int
    before: bool  # whether the answer before adaptation is right
    after: bool
    class_name: str | None = None  # None in records of version 0.1


@dataclass(frozen=True, eq=False)
class Run:
    """One run."""

    path: Path  # its directory
    results: dict[str, Any]  # the content of `results.json`, computed from the records so far
    records: pa.Table  # of all images done, with the columns of `tpt.results.runs.RECORD_SCHEMA`
    to_test: dict[str, dict[str, Any]]  # the manifest's entry of each dataset, even without an answer yet
    settings: dict[str, Any]  # every value of the configuration by its dotted key
    training: Training | None  # how the context was learned; None if unknown

    @property
    def method(self) -> str:
        """The method's row in the paper's tables: clip, tpt, tpt+coop and so on."""
        return str(self.results["method"])

    @property
    def adapts(self) -> bool:
        """Whether the method changes answers at test time: tunes, selects or weights views, or learns from a stream."""
        about = self.results.get("about_method")  # missing in early runs
        if about is None:
            return self.option != "zero_shot"
        return bool(about.get("tunes") or about.get("selects") or self.stream)

    @property
    def stream(self) -> bool:
        """Whether the method learns from one image to the next, so that answers depend on the order."""
        return bool(self.results.get("about_method", {}).get("kind") == "stream")

    @property
    def option(self) -> str:
        """The option of `method` that the run was started with."""
        return str(self.results["choices"].get("method"))

    @property
    def backbone(self) -> str:
        """The name in open_clip, with the tag of its weights."""
        return str(self.results["backbone"]["name"])

    @cached_property
    def compared(self) -> dict[str, Any]:
        """The settings that distinguish rows of a table, and the seeds.

        Contexts that were learned in the same way count as equal.  With `data.classes` base or new this includes
        contexts of different datasets, each tested on the dataset that it was learned on (CoCoOp, Table 1).
        """
        kept = {k: v for k, v in self.settings.items() if meaning(k).row}
        if any(key.startswith("views.augmix.") for key in kept):
            kept["views.augmix"] = "on"  # the setting is None if AugMix is off
        kept = {ORDER: "listed", ORDER_SEED: kept.get(SEED), **kept}  # version 0.1 did not record them
        if kept[ORDER] != "dirichlet":
            kept.pop(CONCENTRATION, None)
        if self.training is None:
            return kept
        learned = {f"{TRAINING}{k}": v for k, v in self.training.settings.items() if meaning(f"{TRAINING}{k}").row}
        kept.pop("context.path", None)
        source = self.training.source
        if self.settings.get("data.classes") in ("base", "new") and list(self.to_test) == [source]:
            learned = {key: value for key, value in learned.items() if value != source}
            source = ITSELF
        return {**kept, f"{TRAINING}learned_on": source, **learned}

    @cached_property
    def outcomes(self) -> dict[str, dict[str, ImageResult]]:
        """All labelled images that have an answer, by dataset and path."""
        found: dict[str, dict[str, ImageResult]] = {}
        table = answered(self.records).filter(pc.field("label").is_valid())
        columns = ("dataset", "path", "content", "label", "pred_zero_shot", "pred", "class_name")
        rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
        for dataset, path, content, label, before, after, name in rows:
            found.setdefault(dataset, {})[path] = ImageResult(content, label, before == label, after == label, name)
        return found

    def same_test_set(self, other: Run, dataset: str) -> bool:
        """Whether two runs have the same classes and list of images, and shared images the same bytes and class.

        Lists are compared only if neither run took a subset, because subsets depend on the seed.
        """
        one, two = self.to_test[dataset], other.to_test[dataset]
        whole = all(about["to_test"] == about["size"] for about in (one, two))
        if any(one.get(key) != two.get(key) for key in ("classes", "size", *(("fingerprint",) if whole else ()))):
            return False
        mine, theirs = (run.outcomes.get(dataset, {}) for run in (self, other))
        return all(
            (a.content, a.label) == (b.content, b.label)
            and (a.class_name or b.class_name) == (b.class_name or a.class_name)
            for a, b in ((mine[path], theirs[path]) for path in mine.keys() & theirs.keys())
        )

    def of(self, dataset: str) -> pa.Table:
        """The records of a dataset's images with an answer."""
        return answered(self.records.filter(pc.field("dataset") == dataset))

    def record(self, image: str, dataset: str | None = None) -> dict[str, Any]:
        """The record of an image, named by its path or anything unique to it: a file name, a class.

        Raises a UserError if several images fit, or none; `dataset` limits the search to one dataset.
        """

        def fits(record: dict[str, Any]) -> bool:
            path = PurePosixPath(record["path"])
            return f"/{path}".endswith(f"/{image}") or image in (path.stem, *path.parts, record["class_name"])

        rows = [r for r in self.records.to_pylist() if dataset in (None, r["dataset"])]
        found = [r for r in rows if r["path"] == image] or [*filter(fits, rows)]
        if len(found) != 1:
            some = ", ".join(f"{r['dataset']}: {r['path']}" for r in (found or rows)[:3])
            got = f"got {len(found)}; give its path, or --dataset too, such as {some}"
            raise UserError(f"Expected one image {image!r} in the records of {self.path}, {got}.")
        return dict(found[0])

    def labelled(self, dataset: str) -> pa.Table:
        """The records of a dataset's labelled images with an answer."""
        return self.of(dataset).filter(pc.field("label").is_valid())


def load_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Loads the runs in some directories, each once; names and skips directories without one, such as training runs.

    Raises a UserError if no directory has a run, a path does not exist, or a run is damaged.
    """

    def by_number(path: Path) -> list[str]:  # job 10 of a sweep follows job 9
        return [part.zfill(10) if part.isdecimal() else part for part in path.parts]

    places = {Path(path): sorted(Path(path).rglob(NAME), key=by_number) for path in paths}
    empty = [place for place, runs in places.items() if not runs]
    if missing := empty if len(empty) == len(places) else [place for place in empty if not place.exists()]:
        raise UserError(
            f"There is no run of test_time.py in {missing[0]}: no {NAME} in it or below it. Check the path."
        )
    if empty:
        log.warning("Skipping what is not a run of test_time.py: %s.", ", ".join(map(str, empty)))
    found = {manifest.parent.resolve(): manifest.parent for runs in places.values() for manifest in runs}
    return [load_run(folder) for folder in found.values()]


def load_run(folder: str | Path) -> Run:
    """Loads one run; raises a UserError if the directory has none, or a file in it is damaged."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    records, notes = read_records_and_notes(folder) if shard_files(folder) else (RECORD_SCHEMA.empty_table(), [])
    datasets = manifest["datasets"]
    try:
        if strange := set(pc.unique(records["dataset"]).to_pylist()) - set(datasets):
            raise UserError(f"there are records of a dataset {min(map(str, strange))!r} that the run does not have")
        settings = dict(dotted_values(manifest["config"]))
        json.dumps(settings)  # fails if they are nested too deeply to be shown
        results = results_from(manifest, records, notes)
    except Exception as error:  # files from others may contain anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{NAME} or the records in {folder} are not as test_time.py wrote them ({reason}). Start the run anew."
        ) from error
    context = settings.get("context.path")
    training = training_of(context) if isinstance(context, str) else None
    return Run(folder, results, records, datasets, settings, training)


def images_of(runs: Iterable[Run], dataset: str) -> dict[str, list[ImageResult]]:
    """The results of a dataset's labelled images in some runs, by path."""
    found: dict[str, list[ImageResult]] = {}
    for run in runs:
        for path, outcome in run.outcomes.get(dataset, {}).items():
            found.setdefault(path, []).append(outcome)
    return found
