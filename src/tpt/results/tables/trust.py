"""Calibration and risk of the answers before and after adaptation: `tpt-report RUNS --trust`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpt.data.dataset import OUTSIDE
from tpt.errors import UserError
from tpt.results.runs import read_logits
from tpt.results.runs.records import ENDS, answered
from tpt.results.tables import scores
from tpt.results.tables.comparability import left_out, said
from tpt.results.tables.grid import Grid, Legend, Line, Text, block, interval_text, number, signed
from tpt.results.tables.rows import NOTHING, labelled_runs
from tpt.results.tables.runs import Run
from tpt.results.tables.scores import Score
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


@dataclass(frozen=True)
class Trust:
    """Scores of a run's answers on a dataset, by column, or their means over datasets."""

    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    change: Mapping[str, Interval] = field(default_factory=dict)  # paired; empty if the method does not adapt


def trust_of(run: Run, dataset: str, logits: pa.Table | None = None, resamples: int = scores.RESAMPLES) -> Trust:
    """The scores of a run on a labelled dataset; those whose data are missing, such as `logits_of` it, are left out."""
    outside = run.of(f"{dataset}{OUTSIDE}")
    after, before = (_scores(run, dataset, outside, logits, end) for end in ENDS)
    images = len(run.outcomes(dataset))
    sizes = {name: [images, len(outside)] if name in OF_OUTSIDE else [images] for name in after}
    first, second = ({n: score(np.ones(sum(sizes[n]))) for n, score in side.items()} for side in (before, after))
    changes = {
        name: scores.paired_difference(before[name], after[name], sizes[name], resamples)
        for name in (after if run.adapts else ())
    }
    return Trust(first, second, changes)


def _scores(run: Run, dataset: str, outside: pa.Table, logits: pa.Table | None, end: str) -> dict[str, Score]:
    rows = run.labelled(dataset)
    confidence, right = rows[f"confidence{end}"].to_numpy(), rows[f"rank{end}"].to_numpy() == 0
    found: dict[str, Score] = {name: make(confidence, right) for name, make in OF_CONFIDENCE.items()}
    if logits is not None:
        label, probs = rows["label"].to_numpy(), _probabilities(logits, dataset, end)
        found |= {name: make(probs, label) for name, make in OF_LOGITS.items()}
    if len(outside):
        others = outside[f"confidence{end}"].to_numpy()
        found |= {name: make(confidence, others) for name, make in OF_OUTSIDE.items()}
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


def mean_trust(found: Sequence[Trust]) -> Trust:
    """Mean over datasets, with equal weights, of the scores that all have; intervals as in Zou and Donner."""
    common = [name for name in COLUMNS if all(name in each.after for each in found)]
    before, after = (
        {name: float(np.mean([getattr(each, side)[name] for each in found])) for name in common}
        for side in ("before", "after")
    )
    changed = [name for name in common if all(name in each.change for each in found)]
    return Trust(before, after, {name: mean_of_intervals([each.change[name] for each in found]) for name in changed})


def trust_rows(runs: Sequence[Run]) -> Iterator[tuple[str, Run, dict[str, Trust]]]:
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
    shown = [name for name in COLUMNS if any(name in each.after for _, _, found in rows for each in found.values())]
    grids = []
    for name, of in tables.items():
        lines = [line for each in of for line in _lines(*each, shown, [name] if name in datasets else datasets)]
        grids += [Grid(f"Trust on {name}", ("method", "backbone", *shown), tuple(lines))] if lines else []
    return grids, Legend((), (*REMARKS, *_lacking(rows)))


def _lines(label: str, run: Run, found: Trust, shown: Sequence[str], datasets: Sequence[str]) -> Iterator[Line]:
    def digits(name: str) -> int:
        return 3 if name in THREE_DIGITS else 2

    below = [
        ("before", lambda name: number(found.before[name], digits(name))),
        ("change", lambda name: signed(found.change[name].mean, digits(name))),
        ("95 % interval", lambda name: interval_text(found.change[name], digits(name))),
    ]
    names = [name if name in found.after else None for name in shown]
    marks = said(left_out([run], [f"{name}{end}" for name in datasets for end in ("", OUTSIDE)]))
    yield from block(
        label,
        run.backbone,
        names,
        lambda n: Text(number(found.after[n], digits(n))),
        below if found.change else (),
        tuple(marks.values()),
    )


def _lacking(rows: Sequence[tuple[str, Run, Mapping[str, Trust]]]) -> Iterator[str]:
    """Remarks on the settings that runs lacked for some scores."""
    for need, names in NEEDS.items():
        without = [label for label, _, found in rows if any(names[0] not in each.after for each in found.values())]
        if without:
            yield f"{', '.join(names)} need {need}, which {', '.join(without)} lacked"
