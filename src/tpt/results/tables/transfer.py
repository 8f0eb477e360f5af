"""The transfer matrix of the paper's Figure 2: contexts learned on one dataset, tested on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpt.errors import UserError
from tpt.results.tables.compare import shared_images
from tpt.results.tables.rows import Row, rows_of
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import Interval, difference_interval

LEARNED = ("coop", "cocoop")  # methods of Figure 2
BASELINE = "clip"


@dataclass(frozen=True)
class TransferCell:
    """One cell.

    Args:
        accuracy: of the learned context on the target, in %.
        zero_shot: of the written prompt on the same images, in %.
        difference: of the two in percentage points, with its paired 95 % interval.
        images: that both were tested on.
        only_one: images that only one of them was tested on.
    """

    accuracy: float
    zero_shot: float
    difference: Interval
    images: int
    only_one: int

    @property
    def improvement(self) -> float | None:
        """Relative, see `relative_improvement`; None if zero-shot classification gets nothing right."""
        return relative_improvement(self.accuracy, self.zero_shot) if self.zero_shot else None


@dataclass(frozen=True)
class Transfer:
    """One matrix.

    Args:
        method: coop or cocoop.
        backbone: its name.
        sources, targets: datasets, rows and columns.
        cells: by source and target; what was not tested is missing.
    """

    method: str
    backbone: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    cells: Mapping[tuple[str, str], TransferCell]

    @property
    def title(self) -> str:
        """Learner and backbone."""
        return f"{self.method}, {self.backbone}"


def relative_improvement(accuracy: float, zero_shot: float) -> float:
    """(accuracy - zero-shot accuracy) / zero-shot accuracy on the target, Shu et al., Figure 2.

    Args:
        accuracy, zero_shot: in the same unit.
    """
    return (accuracy - zero_shot) / zero_shot


def transfer_matrices(runs: Sequence[Run], learned_on: Mapping[str, str] | None = None) -> list[Transfer]:
    """One matrix for each learner and backbone.

    Args:
        runs: with learned contexts (rows coop and cocoop), and of `row=clip` for the zero-shot accuracy.
        learned_on: a run's directory or its context's path -> dataset, if its `training.json` does not say.

    Raises:
        UserError: there is no run of one of these kinds, or the dataset a context was learned on is not known.
    """
    learned = [run for run in runs if run.method in LEARNED]
    baselines = [run for run in runs if run.method == BASELINE]
    if not learned:
        raise UserError("Expected runs with a learned context, got none; test with row=coop or row=cocoop.")
    if not baselines:
        raise UserError(f"Expected runs of row={BASELINE} for the zero-shot accuracy, got none; add them.")
    given = {str(Path(path).expanduser().resolve()): name for path, name in (learned_on or {}).items()}
    matrices: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in learned:
        by_source = matrices.setdefault((run.method, run.backbone), {})
        by_source.setdefault(source_of(run, given), []).append(run)
    return [_matrix(*key, by_source, baselines) for key, by_source in matrices.items()]


def source_of(run: Run, given: Mapping[str, str]) -> str:
    """The dataset that the context of a run was learned on.

    Args:
        run: with a learned context.
        given: absolute path of a run or a context -> dataset.
    """
    context = run.settings.get("context.path")
    for path in (str(run.path), *([context] if isinstance(context, str) else [])):
        if (found := given.get(str(Path(path).expanduser().resolve()))) is not None:
            return found
    if run.training is None or run.training.source is None:
        raise UserError(
            f"Expected a training.json beside the context of {run.path} that names the dataset it was learned on, "
            f"found none; pass --learned-on {run.path}=DATASET."
        )
    return run.training.source


def _matrix(method: str, backbone: str, by_source: Mapping[str, list[Run]], baselines: Sequence[Run]) -> Transfer:
    near = [run for run in baselines if run.backbone == backbone]
    targets = tuple(dict.fromkeys(name for runs in by_source.values() for run in runs for name in run.to_test))
    cells = {}
    for source, runs in by_source.items():
        row = _one_row(source, runs)
        for target in targets:
            cell = transfer_cell(row.having(target), [run for run in near if target in run.to_test], target)
            if cell is not None:
                cells[source, target] = cell
    sources = tuple(sorted(by_source, key=lambda name: targets.index(name) if name in targets else len(targets)))
    return Transfer(method, backbone, sources, targets, cells)


def _one_row(source: str, runs: Sequence[Run]) -> Row:
    """Runs of several seeds make one row; those that differ in more are refused, for a cell holds one number."""
    rows = rows_of(runs)
    if len(rows) > 1:
        raise UserError(
            f"Expected one kind of context learned on {source}, got {rows[0].label} ({rows[0].first.path}) and "
            f"{rows[1].label} ({rows[1].first.path}); give runs that differ in the seed alone."
        )
    return rows[0]


def transfer_cell(runs: Sequence[Run], baselines: Sequence[Run], target: str) -> TransferCell | None:
    """One cell, on the images that both sides have; None if there is none."""
    if not runs or not baselines:
        return None
    shared = shared_images(runs, baselines, target)
    if not len(shared.first):
        return None
    accuracy, zero_shot = (float(100 * side.mean()) for side in (shared.first, shared.second))
    difference = difference_interval(shared.first - shared.second)
    return TransferCell(accuracy, zero_shot, difference, len(shared.first), shared.only_one)
