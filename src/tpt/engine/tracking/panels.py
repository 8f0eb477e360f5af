"""Weights & Biases panels at the end of a run; docs/wandb.md lists every key."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch
import wandb
from lightning import Callback, Trainer
from PIL import Image

from tpt.data import ImageDataset
from tpt.data.datamodule import EpisodeDataModule
from tpt.engine.contact_sheet import sheet_of
from tpt.engine.tracking.guard import Guard
from tpt.engine.tracking.logger import STEP, WandbLogger
from tpt.errors import BadImageError, Natural, checked
from tpt.methods import Method
from tpt.results.tables.classes import Record, flips_of
from tpt.results.tables.formats import VALUES
from tpt.results.tables.grid import HEADERS, grids
from tpt.results.tables.report import make_report
from tpt.results.tables.results import numbers_of
from tpt.results.tables.runs import Run, load_run
from tpt.results.tables.trust import trust_rows

log = logging.getLogger(__name__)
Panels = dict[str, Any]
Records = Mapping[str, Sequence[Record]]  # by dataset
SIDE = 128  # size of an image in a table, in pixels
DPI = 110  # resolution of a contact sheet, for screens
# Measures in the summary: of the averages, and of each dataset.
RANKED_MEANS = ("acc", "acc_zero_shot", "gain", "gain_low", "gain_high", "ece", "ece_zero_shot")
RANKED = ("acc", "gain")
MEASURES = (
    *("images", "acc_zero_shot", "acc", "changed", "confidence_zero_shot", "confidence"),
    *("entropy_zero_shot", "entropy", "selected_views", "ece", "images_per_second"),
)
FLIPS = (
    *("dataset", "kind", "image", "path", "label", "prediction_before", "prediction_after"),
    *("confidence_before", "confidence_after", "entropy_before", "entropy_after"),
)
TRUST = ("dataset", "score", "before", "after", "change", "change_low", "change_high")


class WandbPanels(Callback):
    """At the end of a run, logs tables, histograms and images of the records of all processes and sessions.

    The series themselves come from `DatasetMetrics`, through Lightning's logger.

    Args:
        folder: the run's directory.
        flips: maximum number of images per dataset in the table of changed predictions.
        sheets: contact sheets per dataset, each of which encodes an image's views again; 0 draws none.
    """

    @checked
    def __init__(self, folder: str | Path, flips: Natural = 50, sheets: Natural = 4) -> None:
        self.folder = Path(folder)
        self.flips = flips
        self.sheets = sheets

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Logs the panels to the trainer's W&B loggers, and the run's measures by dataset."""
        loggers = [g for g in trainer.loggers if isinstance(g, Guard) and isinstance(g.logger, WandbLogger)]
        if not loggers:
            return
        panels: Panels = {STEP: sum(len(d["unanswered"]) + d["images"] for d in found.values())}
        for what, make in self._parts(trainer, load_run(self.folder), found).items():
            try:
                panels |= make()
            except Exception as error:  # the run is done and its files are written, so a failed panel must not end it
                log.warning("Cannot log the %s to W&B (%s).", what, error)
        for logger in loggers:
            logger.safely(lambda wandb_logger: wandb_logger.log_panels(panels, summary_of(found)))

    def _parts(self, trainer: Trainer, run: Run, found: dict[str, dict[str, Any]]) -> dict[str, Callable[[], Panels]]:
        """The panels; each is drawn separately, so that one may fail."""
        task: Any = trainer.lightning_module
        data, device = trainer.datamodule, trainer.strategy.root_device  # type: ignore[attr-defined]
        records = {
            name: run.records.filter(pc.field("dataset") == name).to_pylist() for name in run.results["datasets"]
        }
        return {
            "results table": lambda: results_panel(found),
            "histograms of selected views": lambda: selected_views(records),
            "report": lambda: report_tables(run),
            "scores of trust": lambda: trust_panels(run),
            "table of flips": lambda: flips_table(records, task.datasets, self.flips),
            "contact sheets": lambda: contact_sheets(records, task, data, device, self.sheets),
        }


def summary_of(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The values to rank runs by: averages, and each dataset's accuracy and gain; the rest is in series and tables."""
    return {
        f"test/{name}/{key}": value
        for name, values in numbers_of(found).items()
        for key, value in values.items()
        if key in (RANKED if name in found else RANKED_MEANS)
    }


def results_panel(found: Mapping[str, Mapping[str, Any]]) -> Panels:
    """The measures of each dataset; empty cells without labels."""
    rows = [[name, *(values.get(measure) for measure in MEASURES)] for name, values in found.items()]
    return {"test/results": wandb.Table(columns=["dataset", *MEASURES], data=rows)}


def selected_views(records: Records) -> Panels:
    """Histograms of how often each view was selected."""
    panels = {}
    for name, rows in records.items():
        counts = Counter(view for record in rows for view in record["selected"] or ())
        views = range(max(counts, default=0) + 1)
        histogram = wandb.Histogram(np_histogram=([counts[v] for v in views], [*views, len(views)]))
        panels[f"test/{name}/selected_view_index"] = histogram
    return panels


def flips_table(records: Records, datasets: Sequence[ImageDataset], limit: int) -> Panels:
    """A table of images whose prediction changed, at most `limit` per dataset; no table if that is 0."""
    rows = []
    for dataset in datasets if limit else ():
        names = dataset.class_names
        for kind, record in flips_of(records.get(dataset.name, ()), limit):
            numbered = (record[key] for key in ("label", "pred_zero_shot", "pred"))
            classes = [None if number is None else names[number] for number in numbered]
            numbers = [record[f"{key}{end}"] for key in ("confidence", "entropy") for end in ("_zero_shot", "")]
            rows.append([dataset.name, kind, _picture(dataset, record["index"]), record["path"], *classes, *numbers])
    return {"test/flips": wandb.Table(columns=list(FLIPS), data=rows)} if limit else {}


def _picture(dataset: ImageDataset, index: int) -> Any:
    """A thumbnail; None if the image can no longer be read."""
    try:
        image = dataset.image(index)
    except BadImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    return wandb.Image(image)


def contact_sheets(records: Records, task: Any, data: EpisodeDataModule, device: torch.device, count: int) -> Panels:
    """At most `count` contact sheets per dataset, of images whose prediction changed.

    Each encodes an image's views again, on `device`; the task may have moved to the CPU.
    """
    panels: Panels = {}
    if not count or not task.make_method.about()["selects"]:
        return panels
    task.clip.to(device)
    for dataset in task.datasets:
        if chosen := [record for _, record in flips_of(records.get(dataset.name, ()), count)]:
            panels[f"test/{dataset.name}/contact_sheets"] = _sheets(chosen, data, task.make_method(dataset))
    return panels


def _sheets(records: Sequence[Record], data: EpisodeDataModule, method: Method) -> list[Any]:
    sheets = [sheet_of(record, data, lambda _: method) for record in records]
    return [wandb.Image(_pixels(sheet.draw()), caption="\n".join(sheet.texts)) for sheet in sheets]


def _pixels(figure: Any) -> Image.Image:
    from tpt.results.figures.style import style  # noqa: PLC0415 -- matplotlib takes time to load

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI)
    return Image.open(buffer)


def trust_panels(run: Run) -> Panels:
    """Calibration scores per dataset before and after adaptation, their paired change, and risk-coverage curves."""
    from tpt.results.figures import risk_figure  # noqa: PLC0415 -- matplotlib takes time to load

    rows = [
        [name, score, each.before, each.after, *(each.change or (None,) * 3)]
        for _, _, by_dataset in trust_rows([run])
        for name, found in by_dataset.items()
        for score, each in found.items()
    ]
    if not rows:
        return {}
    table = wandb.Table(columns=list(TRUST), data=rows)
    return {"test/trust": table, "test/risk_coverage": wandb.Image(_pixels(risk_figure(run)))}


def report_tables(run: Run) -> Panels:
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
