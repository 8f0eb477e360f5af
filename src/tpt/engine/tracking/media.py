"""Tables and images of a run for Weights & Biases."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import wandb
from PIL import Image

from tpt.data import ImageDataset
from tpt.data.datamodule import EpisodeDataModule
from tpt.engine.contact_sheet import sheet_of
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.engine.tasks.method_maker import MethodMaker
from tpt.errors import BadImageError
from tpt.methods import Method
from tpt.results.tables.classes import Record, flips_of
from tpt.results.tables.formats import VALUES
from tpt.results.tables.grid import HEADERS, grids
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import Run
from tpt.results.tables.trust import trust_rows

SIDE = 128  # size of an image in a table, in pixels
DPI = 110  # resolution of a contact sheet, for screens
FLIPS = (
    *("dataset", "kind", "image", "path", "label", "prediction_before", "prediction_after"),
    *("confidence_before", "confidence_after", "entropy_before", "entropy_after"),
)
MEASURES = (
    *("images", "acc_zero_shot", "acc", "changed", "confidence_zero_shot", "confidence"),
    *("entropy_zero_shot", "entropy", "selected_views", "ece", "images_per_second"),
)


def results_panel(found: Mapping[str, Mapping[str, Any]]) -> Any:
    """The measures of each dataset; empty cells without labels."""
    rows = [[name, *(values.get(measure) for measure in MEASURES)] for name, values in found.items()]
    return wandb.Table(columns=["dataset", *MEASURES], data=rows)


def selected_views(records: Sequence[Record]) -> Any:
    """A histogram of how often each view was selected."""
    counts = Counter(view for record in records for view in record["selected"] or ())
    views = range(max(counts, default=0) + 1)
    return wandb.Histogram(np_histogram=([counts[v] for v in views], [*views, len(views)]))


def flips_table(records: Mapping[str, Sequence[Record]], datasets: Sequence[ImageDataset], limit: int) -> Any:
    """A table of images whose prediction changed, at most `limit` per dataset; records by dataset."""
    rows = []
    for dataset in datasets:
        names = dataset.class_names
        for kind, record in flips_of(records.get(dataset.name, ()), limit):
            numbered = (record[key] for key in ("label", "pred_zero_shot", "pred"))
            classes = [None if number is None else names[number] for number in numbered]
            numbers = [record[f"{key}{end}"] for key in ("confidence", "entropy") for end in ("_zero_shot", "")]
            rows.append([dataset.name, kind, _picture(dataset, record["index"]), record["path"], *classes, *numbers])
    return wandb.Table(columns=list(FLIPS), data=rows)


def _picture(dataset: ImageDataset, index: int) -> Any:
    """A thumbnail; None if the image can no longer be read."""
    try:
        image = dataset.image(index)
    except BadImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    return wandb.Image(image)


def contact_sheets(
    task: AdaptationTask,
    data: EpisodeDataModule,
    device: torch.device,
    records: Mapping[str, Sequence[Record]],
    count: int,
) -> Iterator[tuple[str, list[Any]]]:
    """At most `count` contact sheets per dataset, of images whose prediction changed; records by dataset.

    Each encodes an image's views again, on `device`; the task may have moved to the CPU.
    """
    if not count or not isinstance(task.make_method, MethodMaker) or not task.make_method.about()["selects"]:
        return
    task.clip.to(device)
    for dataset in task.datasets:
        chosen = [record for _, record in flips_of(records.get(dataset.name, ()), count)]
        if chosen:
            yield dataset.name, _sheets(chosen, data, task.make_method(dataset))


def _sheets(records: Sequence[Record], data: EpisodeDataModule, method: Method) -> list[Any]:
    sheets = [sheet_of(record, data, lambda _: method) for record in records]
    return [wandb.Image(_pixels(sheet.draw()), caption="\n".join(sheet.texts)) for sheet in sheets]


def _pixels(figure: Any) -> Image.Image:
    from tpt.results.figures.style import style  # noqa: PLC0415 -- matplotlib takes time to load

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI)
    return Image.open(buffer)


def trust_panels(run: Run) -> dict[str, Any]:
    """Calibration scores per dataset before and after adaptation, their paired change, and risk-coverage curves."""
    from tpt.results.figures import risk_figure  # noqa: PLC0415 -- matplotlib takes time to load

    rows = [
        [name, score, each.before, each.after, *(each.change or (None,) * 3)]
        for _, _, by_dataset in trust_rows([run])
        for name, found in by_dataset.items()
        for score, each in found.items()
    ]
    columns = ["dataset", "score", "before", "after", "change", "change_low", "change_high"]
    if not rows:
        return {}
    return {
        "test/trust": wandb.Table(columns=columns, data=rows),
        "test/risk_coverage": wandb.Image(_pixels(risk_figure(run))),
    }


def report_tables(run: Run) -> dict[str, Any]:
    """The report of a run, as from `tpt-report`: one line per dataset and average, and the meaning of the marks."""
    report = make_report([run])
    _, legend = grids(report)
    columns = [name or "accuracy" for name in VALUES]
    data = [
        [table.caption, row.label, HEADERS.get(name, name), *values, " ".join(legend.letters(cell.marks))]
        for table in report.tables
        for row, cells in table.rows
        for name, cell in cells.items()
        if any(values := [value(cell) for value in VALUES.values()])
    ]
    lines = [*legend.explained.values(), *(("", remark) for remark in legend.remarks)]
    return {
        "test/report": wandb.Table(columns=["table", "method", "dataset", *columns, "marks"], data=data),
        "test/report_notes": wandb.Table(columns=["mark", "meaning"], data=[list(line) for line in lines]),
    }
