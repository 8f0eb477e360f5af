"""The content of `results.json`: measures of a run before and after adaptation, and how the run was made.

Images without labels have no accuracy and no calibration error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.data.dataset import without_outside
from tpt.errors import DataError, UnansweredError, UserError
from tpt.files import dotted_values
from tpt.results.runs import read_manifest, read_records_and_notes
from tpt.results.runs.records import ENDS, RECORD_SCHEMA, answered
from tpt.results.tables.statistics import PERCENT, Interval, bin_of, gain_of_counts, mean_of_intervals

BINS = 15  # of `ece`, as in Guo et al., ICML 2017
ERRORS = {"ece": BINS, "ece20": 20}  # 20 bins as in the code of C-TPT and of the methods compared with it
LABELLED = ("acc", "acc5", "class_acc", *ERRORS)  # measures that need labels
SHARES = (*LABELLED, "confidence", "changed")  # measures that are percentages
# Names of all measures.
MEASURES = (
    *(f"{name}{end}" for end in ENDS for name in ("acc", "acc5", "class_acc", "entropy", "confidence", *ERRORS)),
    *("changed", "selected_views", "view0_selected", "images", "images_per_second"),
)
_SCHEMA = pa.schema(
    RECORD_SCHEMA.field(name)
    for name in (
        *(f"{name}{end}" for end in ENDS for name in ("pred", "rank", "confidence", "entropy")),
        *("path", "content", "label", "selected", "seconds", "problem"),
    )
)
SOURCES = ("imagenet", "source_val", "source_train")  # datasets that prompts are learned on; all others are shifted
# Measures that are averaged over datasets, with equal weights.
AVERAGED = tuple(n for n in MEASURES if not n.startswith(("acc5", "view0_selected", "images")))


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of records given as dictionaries, with the columns that the measures need."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=_SCHEMA)


def binned(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(3, bins) sums over N answers in bins of confidence: number, confidence, and number of right ones.

    The confidence is the probability of the predicted class (Guo et al., ICML 2017).
    """
    place = bin_of(confidence, bins)
    return np.stack([np.bincount(place, weights, bins) for weights in (None, confidence, right)])


def calibration_error(sums: np.ndarray) -> float:
    """Mean gap between accuracy and confidence in [0, 1], from `binned`, weighted by images per bin; 0 without any."""
    images, confidence, right = sums
    return float(np.abs(right - confidence).sum() / max(1.0, images.sum()))


class Measures:
    """Running measures of one dataset's records in this process; docs/results.md defines them."""

    def __init__(self) -> None:
        self.images = self._labelled = 0  # with an answer; with an answer and a label
        self.unanswered: list[dict[str, Any]] = []
        self._seconds = 0.0
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._classes: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))  # images, right after, before
        self._bins = {f"{name}{end}": np.zeros((3, bins)) for name, bins in ERRORS.items() for end in ENDS}

    def add(self, records: pa.Table) -> Measures:
        """Adds records, with the columns of `tpt.results.runs.RECORD_SCHEMA`."""
        self._seconds += pc.sum(records["seconds"]).as_py() or 0.0
        failed = records.filter(pc.is_valid(records["problem"])).select(["path", "problem", "content"])
        self.unanswered += [
            {"path": row["path"], "problem": row["problem"], "unreadable": row["content"] is None}
            for row in failed.to_pylist()
        ]
        rows = answered(records)
        self.images += len(rows)
        for name in (f"{name}{end}" for end in ENDS for name in ("entropy", "confidence")):
            self._sums[name] += float(rows[name].to_numpy().astype(np.float64).sum())
        self._sums["changed"] += int((rows["pred"].to_numpy() != rows["pred_zero_shot"].to_numpy()).sum())
        selected = rows["selected"].combine_chunks()
        self._sums["selected_views"] += len(pc.list_flatten(selected))
        owners = pc.list_parent_indices(selected).to_numpy()[pc.list_flatten(selected).to_numpy() == 0]
        self._sums["view0_selected"] += len(np.unique(owners))
        self._add_labelled(rows.filter(pc.is_valid(rows["label"])))
        return self

    def _add_labelled(self, rows: pa.Table) -> None:
        self._labelled += len(rows)
        after, before = right = [rows[f"rank{end}"].to_numpy() == 0 for end in ENDS]
        for end, hits in zip(ENDS, right, strict=True):
            self._sums[f"acc{end}"] += int(hits.sum())
            self._sums[f"acc5{end}"] += int((rows[f"rank{end}"].to_numpy() < 5).sum())
            confidence = rows[f"confidence{end}"].to_numpy().astype(np.float64)
            for name, bins in ERRORS.items():
                self._bins[f"{name}{end}"] += binned(confidence, hits, bins)
        for label in np.unique(own := rows["label"].to_numpy()).tolist():
            inside = own == label
            self._classes[label] += inside.sum(), (after & inside).sum(), (before & inside).sum()
        self._sums["won"] += int((after & ~before).sum())
        self._sums["lost"] += int((before & ~after).sum())

    def gain(self) -> dict[str, float] | None:
        """The paired gain of accuracy, as a dictionary of the fields of `Gain`; None without labels."""
        won, lost = int(self._sums["won"]), int(self._sums["lost"])
        return gain_of_counts(won, lost, self._labelled)._asdict() if self._labelled else None

    def values(self) -> dict[str, float]:
        """All measures so far; the rate covers this process only."""
        rate = (self.images + len(self.unanswered)) / max(self._seconds, 1e-9)
        found = {"images": float(self.images), "images_per_second": rate}
        for name, total in self._sums.items():
            if count := self._labelled if name.startswith("acc") else self.images:
                found[name] = total / count
        if self._labelled:
            images, *right = np.stack(list(self._classes.values())).T
            found |= {f"class_acc{end}": float((hits / images).mean()) for end, hits in zip(ENDS, right, strict=True)}
            found |= {name: calibration_error(sums) for name, sums in self._bins.items()}
        return {n: found[n] * (PERCENT if n.startswith(SHARES) else 1) for n in MEASURES if n in found}


def results_of(run_dir: str | Path) -> dict[str, Any]:
    """The content of a `results.json`, from a run's manifest and its records so far.

    Raises a UserError if there are no records, a file is damaged, or a dataset has no answer at all.
    """
    found = results_from(read_manifest(run_dir), *read_records_and_notes(run_dir))
    for name, problems in found.pop("without_answer").items():
        raise DataError(
            f"None of the {len(problems)} images of dataset {name!r} has an answer ({problems[0]['problem']})."
        )
    return found


def results_from(manifest: dict[str, Any], records: pa.Table, notes: Sequence[str]) -> dict[str, Any]:
    """`results_of` for data already read; datasets that were started but have no answer are in `without_answer`."""
    found, without = {}, {}
    for name, about in manifest["datasets"].items():
        rows = records.filter(pc.field("dataset") == name)
        measures = Measures().add(rows)
        if measures.images:
            values = {**measures.values(), "images": measures.images}
            if manifest.get("about_method", {}).get("kind") != "stream":  # a stream is tested by one process
                values["images_per_second"] *= manifest["sessions"][-1]["processes"]
            found[name] = {
                **values,
                "gain": measures.gain(),
                "unanswered": measures.unanswered,
                "complete": len(rows) == about["to_test"],
                **about,
                "notes": [*about.get("notes", []), *notes_on_contents(rows, manifest.get("trained_on", []))],
            }
        elif len(rows):
            without[name] = measures.unanswered
    complete = len(found) == len(manifest["datasets"]) and all(d["complete"] for d in found.values())
    about_run = {**{k: v for k, v in manifest.items() if k != "trained_on"}, "notes": list(notes), "complete": complete}
    return {**about_run, "datasets": found, "averages": averages(found), "without_answer": without}


def notes_on_contents(rows: pa.Table, trained_on: Sequence[str]) -> list[str]:
    """Notes on images that were tested more than once, or that the context was trained on."""
    rows = rows.filter(pc.is_valid(rows["content"]))
    found = rows.group_by("content").aggregate([("index", "count"), ("label", "count_distinct"), ("path", "min")])
    twice = found.filter(pc.greater(found["index_count"], 1))
    notes = []
    if len(twice):
        note = f"{len(twice)} pictures were tested more than once ({pc.sum(twice['index_count'])} records), such as "
        two = pc.sum(pc.greater(twice["label_count_distinct"], 1)).as_py()
        notes.append(f"{note}{twice['path_min'][0]}{f'; {two} of them with different labels' if two else ''}")
    known = pc.sum(pc.is_in(rows["content"], pa.array(trained_on, pa.string()))).as_py()
    if known:
        notes.append(f"{known} of the {len(rows)} pictures are among those that the context was trained on")
    return notes


def averages(datasets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over datasets, with equal weights, of the measures that all of them have.

    `shifted` has the means without the datasets that prompts are learned on, if there are both kinds (the
    out-of-distribution average of the paper's Table 1).
    """
    datasets = {name: datasets[name] for name in without_outside(datasets)}
    if not datasets:
        return {}
    shifted = {name: d for name, d in datasets.items() if name not in SOURCES}
    common = [key for key in AVERAGED if all(key in d for d in datasets.values())]
    mean: dict[str, Any] = {key: float(np.mean([d[key] for d in datasets.values()])) for key in common}
    gains = [gain for d in datasets.values() if (gain := gain_interval(d.get("gain"))) is not None]
    if len(gains) == len(datasets):
        found = mean_of_intervals(gains)
        mean["gain"] = {"points": found.mean, "low": found.low, "high": found.high}
    return {**mean, "shifted": averages(shifted)} if shifted and len(shifted) < len(datasets) else mean


def gain_interval(gain: Mapping[str, Any] | None) -> Interval | None:
    """The interval of a `gain`; None if there is none."""
    return None if gain is None else Interval(gain["points"], gain["low"], gain["high"])


def gain_values(values: Mapping[str, Any]) -> dict[str, float]:
    """The gain of a dataset or an average as separate numbers, so that loggers can rank runs; empty without labels."""
    names = {"gain": "points", "gain_low": "low", "gain_high": "high", "gain_p": "p_value"}
    gain = values.get("gain") or {}
    return {name: gain[key] for name, key in names.items() if key in gain}


def numbers_of(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Measures and gains of the `datasets` in a `results.json`, with `average` and `shifted` first."""
    mean = averages(found)
    means = {"average": mean} | ({"shifted": mean["shifted"]} if "shifted" in mean else {})
    return {
        name: {key: values[key] for key in MEASURES if key in values} | gain_values(values)
        for name, values in (means | found).items()
    }


def refuse_unanswered(results: dict[str, Any]) -> None:
    """Raises an UnansweredError if readable images have no answer; unreadable images were left out on request."""
    failed = [u["path"] for d in results["datasets"].values() for u in d["unanswered"] if not u["unreadable"]]
    if failed:
        raise UnansweredError(
            f"Images without an answer: {len(failed)}, such as {failed[0]}. results.json says why, under `unanswered`."
        )


def objective(name: str | None, found: Mapping[str, Any]) -> float | None:
    """The number in the results that a sweeper optimizes, by its dotted name; a UserError if there is none."""
    numbers = {key: float(value) for key, value in dotted_values(found) if isinstance(value, int | float)}
    if name is not None and name not in numbers:
        known = ", ".join([*numbers, "null"])
        raise UserError(f"Expected `optimized_metric` to be one of {known}, got {name!r}; the run itself is complete.")
    return None if name is None else numbers[name]
