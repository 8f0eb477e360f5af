"""Two special tables: CoCoOp's base-to-new table, and the transfer matrix of the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tpt.errors import UserError
from tpt.results.tables.comparability import Mark, left_out
from tpt.results.tables.grid import HEADERS, MISSING, Grid, Legend, Line, Text, block, interval_text, number, signed
from tpt.results.tables.published import AVERAGE, content, paper_backbone
from tpt.results.tables.report import Comparison, compare, dataset_cell, seed_marks
from tpt.results.tables.rows import Row, rows_of
from tpt.results.tables.runs import Run

BASE, NEW = "base", "new"
LEARNED = ("coop", "cocoop")  # methods of Figure 2
BASELINE = "clip"


@dataclass(frozen=True)
class Transfer:
    """A transfer matrix of CoOp or CoCoOp: contexts learned on the `sources` and tested on the `targets`."""

    method: str
    backbone: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    # The context against the hand-written prompt, on the images that both have; pairs without a test are missing.
    cells: Mapping[tuple[str, str], Comparison]
    marks: Mapping[str, Sequence[Mark]] = field(default_factory=dict)  # by source: images that are left out

    @property
    def title(self) -> str:
        """Learner and backbone."""
        return f"{self.method}, {self.backbone}"


def harmonic_mean(base: float, new: float) -> float:
    """Harmonic mean of accuracies on base and on new classes, in %; 0 if either is 0."""
    return 2 * base * new / (base + new) if base and new else 0.0


def base_to_new_grids(runs: Sequence[Run]) -> tuple[list[Grid], Legend]:
    """CoCoOp's table of accuracies on the classes that contexts were learned on (base), and on the others (new).

    The halves are from runs with `data.classes=base` and `data.classes=new`; a UserError if no row has both.  As in the
    paper, the harmonic mean in the last column is computed from the means of the datasets.
    """
    rows_by_half = []
    for half in (BASE, NEW):
        own = rows_of([run for run in runs if run.settings.get("data.classes") == half])
        rows_by_half.append({(row.label, row.first.backbone): row for row in own})
    pairs = [(row, rows_by_half[1][key]) for key, row in rows_by_half[0].items() if key in rows_by_half[1]]
    found = [(*pair, cells) for pair in pairs if (cells := _both_halves(*pair))]
    if not found:
        raise UserError(
            "No method has runs on both halves of a dataset's classes. Test with data.classes=base and with "
            "data.classes=new."
        )
    names = list(dict.fromkeys(name for *_, cells in found for name in cells))
    lines: list[Line] = []
    published = False
    for base, new, cells in found:
        average = tuple(np.mean(list(cells.values()), axis=0).tolist())
        lines += block(
            base.label,
            base.first.backbone,
            [*(cells.get(name) for name in names), average],
            lambda both: Text(number(harmonic_mean(*both))),
            [(BASE, lambda both: number(both[0])), (NEW, lambda both: number(both[1]))],
            _left_out(base, BASE, cells) + _left_out(new, NEW, cells),
        )
        paper = paper_backbone(base.first.backbone), base.first.method
        for row in content()["base_to_new"]["rows"]:
            if (row["backbone"], row["method"]) == paper:
                published = True
                text = f"{harmonic_mean(row[BASE], row[NEW]):.2f} ({row[BASE]:.2f}, {row[NEW]:.2f})"
                lines.append(Line("published", "", (*(Text(MISSING) for _ in names), Text(text)), main=False))
    remarks = (
        "harmonic mean of the accuracies on base and on new classes, which stand below; in %, averages of the means",
        *([f"published: {content()['base_to_new']['source']}"] if published else []),
    )
    header = ("method", "backbone", *names, HEADERS[AVERAGE])
    return [Grid("Base to new", header, tuple(lines))], Legend((), remarks)


def _both_halves(base: Row, new: Row) -> dict[str, tuple[float, float]]:
    """The accuracies in % on both halves, by dataset; datasets without both are left out."""
    found = {}
    for name in dict.fromkeys(name for run in base.runs for name in run.to_test):
        first, second = (dataset_cell(row, name).accuracy for row in (base, new))
        if first is not None and second is not None:
            found[name] = (first, second)
    return found


def _left_out(row: Row, half: str, datasets: Iterable[str]) -> list[Mark]:
    """Marks for the images of a half, and the seeds, that a row lacks."""
    seeds = [(name, mark) for name in datasets for mark in seed_marks(row, name)]
    return left_out(row.runs, datasets, half) + [replace(mark, detail=f"{half} {name}") for name, mark in seeds]


def transfer_matrices(runs: Sequence[Run], learned_on: Mapping[str, str] | None = None) -> list[Transfer]:
    """One matrix per learner and backbone; the zero-shot accuracy is that of runs of `row=clip`.

    `learned_on` maps a run's directory or its context's path to a dataset, and takes precedence over `training.json`.
    A UserError says which runs are missing, or that the dataset that a context was learned on is unknown.
    """
    learned = [run for run in runs if run.method in LEARNED]
    baselines = [run for run in runs if run.method == BASELINE]
    if not learned:
        raise UserError("None of the runs has a learned context. Test with row=coop or row=cocoop.")
    if not baselines:
        raise UserError(f"None of the runs is of row={BASELINE}, which gives the zero-shot accuracy. Add one.")
    given = {Path(path).expanduser().resolve(): name for path, name in (learned_on or {}).items()}
    matrices: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in learned:
        by_source = matrices.setdefault((run.method, run.backbone), {})
        by_source.setdefault(_learned_on(run, given), []).append(run)
    return [
        _matrix(*key, by_source, [run for run in baselines if run.backbone == key[1]])
        for key, by_source in matrices.items()
    ]


def _learned_on(run: Run, given: Mapping[Path, str]) -> str:
    """The dataset that a run's context was learned on; `given` maps absolute paths of runs or contexts to datasets."""
    paths = (run.path, run.settings.get("context.path") or run.path)
    places = (Path(str(path)).expanduser().resolve() for path in paths)
    of_training = None if run.training is None else run.training.source
    source = next((given[place] for place in places if place in given), of_training)
    if source is None:
        raise UserError(
            f"No training.json next to the context of {run.path} names the dataset it was learned on. Pass "
            f"--learned-on {run.path}=DATASET."
        )
    return source


def _matrix(method: str, backbone: str, by_source: Mapping[str, list[Run]], baselines: Sequence[Run]) -> Transfer:
    targets = tuple(dict.fromkeys(name for runs in by_source.values() for run in runs for name in run.to_test))
    cells = {}
    for source, runs in by_source.items():
        row, *more = rows_of(runs)  # one row, possibly of several seeds, because a cell holds one number
        if more:
            raise UserError(
                f"Expected one kind of context learned on {source}, got {row.label} ({row.first.path}) and "
                f"{more[0].label} ({more[0].first.path}); give runs that differ in the seed alone."
            )
        for target in targets:
            cell = compare(row.having(target), [run for run in baselines if target in run.to_test], target)
            if cell is not None:
                cells[source, target] = cell
    sources = tuple(sorted(by_source, key=lambda name: targets.index(name) if name in targets else len(targets)))
    zero_shot = left_out(baselines, targets, BASELINE)
    marks = {source: left_out(runs, targets, method) + zero_shot for source, runs in by_source.items()}
    return Transfer(method, backbone, sources, targets, cells, marks)


def transfer_grids(matrices: Sequence[Transfer]) -> tuple[list[Grid], Legend]:
    """The matrices, with sources as rows and targets as columns, and their legend."""
    grids = [_transfer_grid(matrix) for matrix in matrices]
    remarks = ["(accuracy - zero-shot accuracy) / zero-shot accuracy on the target, as in the paper's Figure 2"]
    if any(matrix.cells for matrix in matrices):
        remarks.append("below it accuracy and zero-shot accuracy in %, and the 95 % interval of their difference")
    marks = (mark for grid in grids for line in grid.lines for text in line.cells for mark in text.marks)
    return grids, Legend(tuple(marks), tuple(remarks))


def _transfer_grid(matrix: Transfer) -> Grid:
    def main(pair: tuple[str, str]) -> Text:
        cell = matrix.cells[pair]
        part = f"{' to '.join(pair)} {cell.images:,} of {cell.images + cell.only_one:,}"
        marks = (Mark("on the images that both runs have", part),) if cell.only_one else ()
        return Text(signed(cell.improvement) or MISSING, marks)

    lines: list[Line] = []
    for source in matrix.sources:
        pairs = [(source, target) for target in matrix.targets]
        lines += block(
            source,
            matrix.backbone,
            [pair if pair in matrix.cells else None for pair in pairs],
            main,
            [
                ("accuracy", lambda pair: number(matrix.cells[pair].first)),
                ("zero-shot", lambda pair: number(matrix.cells[pair].second)),
                ("95 % interval", lambda pair: interval_text(matrix.cells[pair].points)),
            ],
            matrix.marks.get(source, ()),
        )
    return Grid(f"Transfer of {matrix.method}", ("learned on", "backbone", *matrix.targets), tuple(lines))
