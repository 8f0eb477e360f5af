"""How far answers can be trusted, before and after adaptation: `tpt-report RUNS --trust`."""

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
from tpt.results.tables.grid import MISSING, Grid, Legend, Line, Text, interval_text, signed
from tpt.results.tables.rows import Row, rows_of
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


@dataclass(frozen=True)
class Trust:
    """What is known of a run's answers on a dataset, or of a mean over datasets.

    Args:
        before, after: by column.
        change: after minus before, with its paired 95 % interval; empty if nothing adapts.
    """

    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    change: Mapping[str, Interval] = field(default_factory=dict)


def trust_of(run: Run, dataset: str, logits: pa.Table | None = None, resamples: int = scores.RESAMPLES) -> Trust:
    """The scores of a run on a dataset; those that its records lack something for are left out.

    Args:
        run: finished or not.
        dataset: of the run, with labels.
        logits: as `logits_of` gives them; None leaves out what needs them.
        resamples: of the bootstrap that the intervals come from.
    """
    strangers = run.of(f"{dataset}{OUTSIDE}")
    before, after = (_scores(run, dataset, strangers, logits, end) for end in reversed(ENDS))
    images = len(run.outcomes(dataset))

    def sizes(name: str) -> list[int]:
        return [images, len(strangers)] if name in OF_OUTSIDE else [images]

    values = [{name: score(np.ones(sum(sizes(name)))) for name, score in side.items()} for side in (before, after)]
    changes = {
        name: scores.paired_difference(before[name], after[name], sizes(name), resamples)
        for name in (after if run.adapts else ())
    }
    return Trust(values[0], values[1], changes)


def _scores(run: Run, dataset: str, strangers: pa.Table, logits: pa.Table | None, end: str) -> dict[str, Score]:
    rows = run.of(dataset)
    rows = rows.filter(pc.is_valid(rows["label"]))
    confidence, right = _confidence(rows, end), rows[f"rank{end}"].to_numpy() == 0
    found: dict[str, Score] = {name: make(confidence, right) for name, make in OF_CONFIDENCE.items()}
    if logits is not None:
        label, probs = rows["label"].to_numpy(), _probabilities(logits, dataset, end)
        found |= {name: make(probs, label) for name, make in OF_LOGITS.items()}
    if len(strangers):
        found |= {name: make(confidence, _confidence(strangers, end)) for name, make in OF_OUTSIDE.items()}
    return found


def _confidence(rows: pa.Table, end: str) -> np.ndarray:
    found: np.ndarray = rows[f"confidence{end}"].to_numpy()
    return found


def logits_of(run: Run) -> pa.Table | None:
    """The answers of a run with their logits; None if it kept none."""
    try:
        return answered(read_logits(run.path))
    except UserError:
        return None


def _probabilities(rows: pa.Table, dataset: str, end: str) -> np.ndarray:
    """(N, K) of the labelled images, in order."""
    rows = rows.filter(pc.and_(pc.equal(rows["dataset"], dataset), pc.is_valid(rows["label"])))
    column = rows[f"logits{end}"].combine_chunks()
    logits: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def mean_trust(found: Sequence[Trust]) -> Trust:
    """The mean over datasets, each counting once, of what all of them have; intervals as in Zou and Donner."""
    common = [name for name in COLUMNS if all(name in each.after for each in found)]
    before, after = (
        {name: float(np.mean([getattr(each, side)[name] for each in found])) for name in common}
        for side in ("before", "after")
    )
    changed = [name for name in common if all(name in each.change for each in found)]
    return Trust(before, after, {name: mean_of_intervals([each.change[name] for each in found]) for name in changed})


def trust_rows(runs: Sequence[Run]) -> Iterator[tuple[str, Run, dict[str, Trust]]]:
    """Label, run and scores by dataset of every run that has answers to labelled images."""
    for row in rows_of(runs):
        for run in row.runs:
            logits, datasets = logits_of(run), run.results["datasets"]
            found = {name: trust_of(run, name, logits) for name, about in datasets.items() if "acc" in about}
            if found:
                yield _label(row, run), run, found


def _label(row: Row, run: Run) -> str:
    return f"{row.label}, seed={run.results.get('seed')}" if len(row.by_seed()) > 1 else row.label


def trust_grids(runs: Sequence[Run]) -> tuple[list[Grid], Legend]:
    """A table for each dataset and one of their means: scores after and before adaptation, and the change.

    Raises:
        UserError: no run has an answered image with a label.
    """
    rows = list(trust_rows(runs))
    if not rows:
        raise UserError("Expected answered images with labels, found none; wait until the runs have some.")
    datasets = list(dict.fromkeys(name for _, _, found in rows for name in found))
    tables = {name: [(label, run, found[name]) for label, run, found in rows if name in found] for name in datasets}
    if len(datasets) > 1:
        whole = [(label, run, found) for label, run, found in rows if len(found) == len(datasets)]
        tables["the average"] = [(label, run, mean_trust(list(found.values()))) for label, run, found in whole]
    shown = [name for name in COLUMNS if any(name in each.after for _, _, found in rows for each in found.values())]
    grids = [_grid(f"Trust on {name}", lines, shown) for name, lines in tables.items() if lines]
    return grids, Legend((), (*REMARKS, *_lacking(rows)))


REMARKS = (
    "NLL in nats and Brier's score in [0, 2]; ECE over 15 bins, of each class's probability (class ECE), and over bins "
    "of equally many answers (adaptive ECE), in %; AURC: area under the risk-coverage curve, in %: less is better",
    "AUROC (more is better) and FPR at 95 % TPR, in %: confidence in pictures of the classes against others",
    "change: after minus before, on the same images; 95 % interval from a paired bootstrap",
)


def _grid(caption: str, rows: Sequence[tuple[str, Run, Trust]], shown: Sequence[str]) -> Grid:
    lines = [line for label, run, found in rows for line in _lines(label, run, found, shown)]
    return Grid(caption, ("method", "backbone", *shown), tuple(lines))


def _lines(label: str, run: Run, found: Trust, shown: Sequence[str]) -> Iterator[Line]:
    def texts(values: Mapping[str, str]) -> tuple[Text, ...]:
        return tuple(Text(values.get(name, MISSING)) for name in shown)

    yield Line(label, run.backbone, texts({n: f"{v:.{_digits(n)}f}" for n, v in found.after.items()}), main=True)
    if found.change:
        yield Line("before", "", texts({n: f"{v:.{_digits(n)}f}" for n, v in found.before.items()}), main=False)
        changes = {name: signed(change.mean, _digits(name)) for name, change in found.change.items()}
        yield Line("change", "", texts(changes), main=False)
        ends = {name: interval_text(change, _digits(name)) for name, change in found.change.items()}
        yield Line("95 % interval", "", texts(ends), main=False)


def _digits(name: str) -> int:
    return 3 if name in THREE_DIGITS else 2


def _lacking(rows: Sequence[tuple[str, Run, Mapping[str, Trust]]]) -> Iterator[str]:
    """What runs would have needed for more."""
    for need, names in NEEDS.items():
        without = [label for label, _, found in rows if any(names[0] not in each.after for each in found.values())]
        if without:
            yield f"{', '.join(names)} need {need}, which {', '.join(without)} lacked"
