"""Calibration and risk of the answers before and after adaptation: `tpt-report RUNS --trust`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.data.dataset import OUTSIDE
from tpt.errors import UserError
from tpt.results.runs import read_logits
from tpt.results.runs.records import ENDS, answered
from tpt.results.tables import scores
from tpt.results.tables.comparability import left_out
from tpt.results.tables.grid import Grid, Legend, Line, Text, block, interval_text, number, signed
from tpt.results.tables.rows import NOTHING, labelled_runs
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import Interval, mean_of_intervals

OF_LOGITS = {"NLL": scores.likelihood, "Brier": scores.brier, "class ECE": scores.class_calibration}
OF_CONFIDENCE = {"ECE": scores.calibration, "adaptive ECE": scores.adaptive_calibration, "AURC": scores.risk_area}
OF_OUTSIDE = {"AUROC": scores.roc_area, "FPR95": scores.false_positives}
COLUMNS = ("NLL", "Brier", "ECE", "class ECE", "adaptive ECE", "AURC", "AUROC", "FPR95")
THREE_DIGITS = ("NLL", "Brier", "class ECE")
NEEDS = {
    "callbacks.records.logits=true": tuple(OF_LOGITS),
    "data.outside=..., pictures outside the classes": tuple(OF_OUTSIDE),
}
REMARKS = (
    "NLL in nats and Brier's score in [0, 2]; ECE over 15 bins, of each class's probability (class ECE), and over bins "
    "of equally many answers (adaptive ECE), in %; AURC: area under the risk-coverage curve, in %: less is better",
    "AUROC (more is better) and FPR at 95 % TPR, in %: confidence in pictures of the classes against others",
    "change: after minus before, on the same images; 95 % interval from a paired bootstrap",
)


class Scored(NamedTuple):
    """A score before and after adaptation, or its means over datasets."""

    before: float
    after: float
    change: Interval | None  # paired; None if the method does not adapt


def trust_of(run: Run, dataset: str, logits: pa.Table | None = None) -> dict[str, Scored]:
    """The scores of a run on a labelled dataset; those whose data are missing, such as `logits_of` it, are left out."""
    rows, outside = run.labelled(dataset), run.of(f"{dataset}{OUTSIDE}")
    sides: list[dict[str, scores.Score]] = []
    for end in ENDS:
        confidence, right = rows[f"confidence{end}"].to_numpy(), rows[f"rank{end}"].to_numpy() == 0
        side = {name: make(confidence, right) for name, make in OF_CONFIDENCE.items()}
        if logits is not None:
            label, probs = rows["label"].to_numpy(), _probabilities(logits, dataset, end)
            side |= {name: make(probs, label) for name, make in OF_LOGITS.items()}
        if len(outside):
            others = outside[f"confidence{end}"].to_numpy()
            side |= {name: make(confidence, others) for name, make in OF_OUTSIDE.items()}
        sides.append(side)
    found = {}
    for name, after in sides[0].items():
        before, sizes = sides[1][name], [len(rows), *([len(outside)] if name in OF_OUTSIDE else [])]
        change = scores.paired_difference(before, after, sizes) if run.adapts else None
        ones = np.ones(sum(sizes))
        found[name] = Scored(before(ones), after(ones), change)
    return found


def logits_of(run: Run) -> pa.Table | None:
    """The answers of a run with their logits; None if it did not keep them."""
    try:
        return answered(read_logits(run.path))
    except UserError:
        return None


def _probabilities(rows: pa.Table, dataset: str, end: str) -> np.ndarray:
    """(N, K) probabilities of the labelled images, in order."""
    rows = rows.filter((pc.field("dataset") == dataset) & pc.field("label").is_valid())
    column = rows[f"logits{end}"].combine_chunks()
    logits: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def mean_trust(found: Sequence[Mapping[str, Scored]]) -> dict[str, Scored]:
    """Mean over datasets, with equal weights, of the scores that all have; intervals as in Zou and Donner."""
    means = {}
    for name in COLUMNS:
        if all(name in each for each in found):
            before, after, changes = zip(*(each[name] for each in found), strict=True)
            change = None if None in changes else mean_of_intervals(changes)
            means[name] = Scored(float(np.mean(before)), float(np.mean(after)), change)
    return means


def trust_rows(runs: Sequence[Run]) -> Iterator[tuple[str, Run, dict[str, dict[str, Scored]]]]:
    """Label, run and scores by dataset of every run that has answers for labelled images."""
    for label, run, datasets in labelled_runs(runs):
        logits = logits_of(run)
        yield label, run, {name: trust_of(run, name, logits) for name in datasets}


def trust_grids(runs: Sequence[Run]) -> tuple[list[Grid], Legend]:
    """One table per dataset and one of their means: scores after and before adaptation, and the change."""
    rows = list(trust_rows(runs))
    if not rows:
        raise UserError(NOTHING)
    datasets = list(dict.fromkeys(name for _, _, found in rows for name in found))
    tables = {name: [(label, run, found[name]) for label, run, found in rows if name in found] for name in datasets}
    if len(datasets) > 1:
        whole = [(label, run, found) for label, run, found in rows if len(found) == len(datasets)]
        tables["the average"] = [(label, run, mean_trust(list(found.values()))) for label, run, found in whole]
    shown = [name for name in COLUMNS if any(name in each for _, _, found in rows for each in found.values())]
    grids = []
    for name, of in tables.items():
        lines = [line for each in of for line in _lines(*each, shown, [name] if name in datasets else datasets)]
        grids += [Grid(f"Trust on {name}", ("method", "backbone", *shown), tuple(lines))] if lines else []
    lacked = []
    for need, names in NEEDS.items():
        without = [label for label, _, found in rows if any(names[0] not in each for each in found.values())]
        lacked += [f"{', '.join(names)} need {need}, which {', '.join(without)} lacked"] if without else []
    return grids, Legend((), (*REMARKS, *lacked))


def _lines(
    label: str, run: Run, found: Mapping[str, Scored], shown: Sequence[str], datasets: Sequence[str]
) -> Iterator[Line]:
    cells = [(found[name], 3 if name in THREE_DIGITS else 2) if name in found else None for name in shown]
    return block(
        label,
        run.backbone,
        cells,
        lambda cell: Text(number(cell[0].after, cell[1])),
        [
            ("before", lambda cell: number(cell[0].change and cell[0].before, cell[1])),
            ("change", lambda cell: signed(cell[0].change and cell[0].change.mean, cell[1])),
            ("95 % interval", lambda cell: interval_text(cell[0].change, cell[1])),
        ],
        left_out([run], [f"{name}{end}" for name in datasets for end in ("", OUTSIDE)]),
    )
