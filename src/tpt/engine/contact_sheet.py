"""One image of a run, looked at: `tpt-views RUN IMAGE [--dataset NAME] [--out FILE]`.

Its views are made again, as the run made them, and stand in the order of their entropy, the selected ones framed, with
the answers before and after.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from tpt.cli.errors import told
from tpt.cli.hints import FAMILIES, explained
from tpt.cli.places import config_dir
from tpt.cli.quoting import searched
from tpt.cli.resume import Start, enter, resumable
from tpt.clip import CLIP
from tpt.data import EpisodeDataModule, ImageDataset
from tpt.engine.printing import say
from tpt.engine.tasks import MethodMaker
from tpt.engine.tasks.method_maker import MakeMethod
from tpt.errors import UserError
from tpt.files import content_digest, file_name
from tpt.methods.base import ShownViews
from tpt.results.figures import contact_sheet
from tpt.results.figures.style import save_as
from tpt.results.runs.manifest import differences
from tpt.results.tables.runs import Run, load_run
from tpt.views.batched import PlannedViews

TRUST = "--trust"
PARTS = ("backbone", "context", "method", "views", "data")  # of a configuration, that are made again


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet.

    Args:
        figure: it.
        as_recorded: whether the selection that was made again is the recorded one; the recorded one is framed.
    """

    figure: Figure
    as_recorded: bool


class SheetMaker:
    """Draws sheets of a run's images.

    Args:
        clip: the frozen backbone.
        data: the run's data module, which knows how views are made.
        make_method: dataset -> the run's method.
    """

    def __init__(self, clip: CLIP, data: EpisodeDataModule, make_method: MakeMethod) -> None:
        self.clip = clip
        self.data = data
        self._make_method = make_method

    @torch.no_grad()
    def sheet(self, record: Mapping[str, Any]) -> Sheet:
        """The sheet of an image.

        Args:
            record: of the image, with the columns of `tpt.results.runs.RECORD_SCHEMA`.

        Raises:
            UserError: the image has no answer, is not there any more, or is another one by now.
        """
        if record["problem"] is not None:
            raise UserError(f"Expected an image with an answer, but {record['path']} has none ({record['problem']}).")
        dataset = next((d for d in self.data.datasets if d.name == record["dataset"]), None)
        samples = [] if dataset is None else dataset.samples
        index = next((i for i, sample in enumerate(samples) if sample.path == record["path"]), None)
        if dataset is None or index is None:
            raise UserError(
                f"Expected {record['path']} in dataset {record['dataset']!r} as in the run, found it there no more; "
                "put the data back."
            )
        views = self._views(dataset, index, record)
        selected = list(record["selected"])
        order, shown, remade = self._order(dataset, views, selected)
        texts = texts_of(record, dataset.class_names)
        if remade != selected:
            texts.append("the selection made again differs from the recorded one, which is framed")
        figure = contact_sheet(
            pixels_of(views, self.clip), order, selected, texts, shown.values[0].tolist(), shown.name
        )
        return Sheet(figure, remade == selected)

    def _views(self, dataset: ImageDataset, index: int, record: Mapping[str, Any]) -> Tensor:
        content = dataset.content(index)
        if content_digest(content) != record["content"]:
            raise UserError(
                f"Expected the picture {record['path']} that was tested, but its file has changed since; put it back."
            )
        maker = self.data.make_views(dataset)
        image = dataset.image(index, content)
        views = maker(image, dataset.view_identity(index, image))
        made: Tensor = maker.render([views])[0] if isinstance(views, PlannedViews) else views
        return made

    def _order(
        self, dataset: ImageDataset, views: Tensor, selected: Sequence[int]
    ) -> tuple[list[int], ShownViews, list[int]]:
        """Views in the order to show, selected ones first; what they are ordered by; and the selection made again."""
        method = self._make_method(dataset).to(self.clip.device)
        features, extras = method.encode(views.to(self.clip.device))
        shown = method.show(features, **extras)
        with torch.enable_grad():
            remade: list[int] = method(features, **extras).selected.tolist()
        rest = [view for view in shown.order[0].tolist() if view not in set(selected)]
        return [*selected, *rest], shown, remade


def texts_of(record: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """The lines above a sheet."""

    def answer(end: str) -> str:
        pred = record[f"pred{end}"]
        right = "" if record["label"] is None else ", right" if pred == record["label"] else ", wrong"
        return f"{class_names[pred]} ({100 * record[f'confidence{end}']:.0f} %{right})"

    entropy = f"marginal entropy {record['entropy_zero_shot']:.2f} before, {record['entropy']:.2f} after (nats)"
    label = "" if record["label"] is None else f", class: {class_names[record['label']]}"
    return [
        f"{record['dataset']}/{record['path']}{label}",
        f"before: {answer('_zero_shot')}",
        f"after: {answer('')}; {entropy}",
    ]


def pixels_of(views: Tensor, clip: CLIP) -> np.ndarray:
    """(V, H, W, 3) uint8 pixels of views (V, 3, H, W), which may be normalised."""
    if views.dtype != torch.uint8:
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (clip.mean, clip.std))
        views = ((views.cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    return views.cpu().permute(0, 2, 3, 1).numpy()


def maker_of(run: Run, begun: Start) -> SheetMaker:
    """Makes the parts of a run again, from the settings that it was started with.

    Args:
        run: read from its directory.
        begun: how it was started, as `tpt.cli.resume.resumable` gives it.

    Raises:
        UserError: the settings mean something else now, or what they name is not there.
    """
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        folders = searched([Path(folder) for folder in begun.folders])
        cfg = hydra.compose(begun.program, [*folders, *begun.settings], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    now = {part: OmegaConf.to_container(cfg[part], resolve=True) for part in PARTS}
    before = {part: run.results["config"].get(part) for part in PARTS}
    if changed := differences({"config": before}, {"config": now}):
        raise UserError(
            f"The settings of the run in {run.path} mean something else now: {'; '.join(changed[:3])}. Make the run "
            "anew, or use the version of tpt that it was made with."
        )
    clip, data, methods = _made(cfg)
    if not methods.about()["selects"]:
        raise UserError(
            f"Expected a run that selects views, but method {run.method} of {run.path} looks at the image alone; "
            "choose a run of another method, such as method=tpt."
        )
    return SheetMaker(clip, data, methods)


def _made(cfg: DictConfig) -> tuple[CLIP, EpisodeDataModule, MethodMaker]:
    clip: CLIP = instantiate(cfg.backbone)
    data: EpisodeDataModule = instantiate(cfg.data.module)
    data.use_views(instantiate(cfg.views)(**clip.preprocessing))
    return clip, data, MethodMaker(clip, instantiate(cfg.context), instantiate(cfg.method))


def record_of(run: Run, image: str, dataset: str | None = None) -> dict[str, Any]:
    """The record of an image.

    Args:
        run: that tested it.
        image: its path in the dataset; or, if only one image has it, the end of that, its name without suffix, a folder
            on it, or its class.
        dataset: its name; None looks in all.

    Raises:
        UserError: there is none, or several.
    """
    rows = [r for r in run.records.to_pylist() if dataset in (None, r["dataset"])]
    ways: list[Callable[[dict[str, Any]], bool]] = [
        lambda r: r["path"] == image,
        lambda r: f"/{r['path']}".endswith(f"/{image}"),
        lambda r: PurePosixPath(r["path"]).stem == image,
        lambda r: image in PurePosixPath(r["path"]).parts or image == r["class_name"],
    ]
    matches = ([r for r in rows if way(r)] for way in ways)
    found: list[dict[str, Any]] = next(filter(None, matches), [])
    if len(found) != 1:
        some = ", ".join(f"{r['dataset']}: {r['path']}" for r in (found or rows)[:3])
        more = "give its path" if len({r["dataset"] for r in found}) == 1 else "add --dataset"
        what = "none" if not found else f"{len(found)}, {more}"
        raise UserError(f"Expected one image {image!r} in the records of {run.path}, got {what}; such as {some}.")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a sheet; one sentence and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="tpt-views", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="directory that test_time.py made")
    parser.add_argument("image", metavar="IMAGE", help="its path in the dataset, or what only it has: a name, a class")
    parser.add_argument("--dataset", metavar="NAME", help="where several have such an image")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=".png, .svg or .pdf; contact_sheets/... in RUN if left out"
    )
    parser.add_argument(TRUST, action="store_true", help="uses whatever the settings of a run of others name")
    args = parser.parse_args(arguments)
    with told(explained, FAMILIES):
        run, out = load_run(args.run.absolute()), args.out and args.out.absolute()
        record = record_of(run, args.image, args.dataset)
        begun = resumable(run.path, "test_time", [TRUST] if args.trust else [], TRUST)
        enter(begun)
        sheet = maker_of(run, begun).sheet(record)
        own = (
            run.path
            / "contact_sheets"
            / f"{file_name(record['dataset'] + '/' + str(PurePosixPath(record['path']).with_suffix('')))}.png"
        )
        say(str(save_as(sheet.figure, out or own)))
        if not sheet.as_recorded:
            say("Note: the selection made again differs from the recorded one, which is framed.", error=True)


if __name__ == "__main__":
    main()
