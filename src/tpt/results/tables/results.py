"""The content of `results.json`: measures of a run, and how the run was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.data.dataset import without_outside
from tpt.errors import DataError, UnansweredError
from tpt.results.runs import read_manifest, read_records_and_notes
from tpt.results.tables.measures import MEASURES, Measures
from tpt.results.tables.statistics import Interval, mean_of_intervals

SOURCES = ("imagenet", "source_val", "source_train")  # datasets that prompts are learned on; all others are shifted
# Measures that are averaged over datasets, with equal weights.
AVERAGED = tuple(n for n in MEASURES if not n.startswith(("acc5", "view0_selected", "images")))


def results_of(run_dir: str | Path) -> dict[str, Any]:
    """The content of a `results.json`, from a run's manifest and its records so far.

    Raises:
        UserError: there are no records, a file in the directory is damaged, or a dataset has no answer at all.
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
    """Means over datasets, with equal weights.

    `shifted` has the means without the datasets that prompts are learned on, if there are both kinds (the
    out-of-distribution average of the paper's Table 1).  Measures that a dataset lacks, such as accuracy if it has no
    labels, have no mean.
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
