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

import numpy as np
import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from tpt.cli.errors import told
from tpt.cli.hints import FAMILIES, explained
from tpt.cli.trust import refuse_strangers
from tpt.clip import CLIP
from tpt.clip.other_views import encode_views_of
from tpt.data import EpisodeDataModule, ImageDataset
from tpt.data.store import content_digest
from tpt.engine.printing import say
from tpt.engine.tasks import MethodMaker
from tpt.engine.tasks.method_maker import MakeMethod
from tpt.errors import UserError
from tpt.files import file_name
from tpt.methods.base import ShownViews
from tpt.results.figures import contact_sheet
from tpt.results.figures.style import save_as
from tpt.results.tables.runs import Run, load_run
from tpt.views.batched import PlannedViews

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
        views = views.to(self.clip.device)
        features, norm = self.clip.encode_views(views, return_norm=True)
        reward = getattr(method, "reward", None)
        rewards = None if reward is None else encode_views_of(reward, views, self.clip)
        shown = method.show(features, norm, rewards)
        with torch.enable_grad():
            remade: list[int] = method(features, norm, rewards).selected.tolist()
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


def maker_of(run: Run, trust: bool = False) -> SheetMaker:
    """Makes the parts of a run again, from its configuration.

    Args:
        run: read from its directory.
        trust: whether the configuration may name anything, which then runs.

    Raises:
        UserError: the configuration names something else, or what it names is not there.
    """
    stored = {part: run.results["config"].get(part) for part in PARTS}
    if not trust:
        refuse_strangers(stored, str(run.path), "if you know the run, pass --trust")
    try:
        clip, data, methods = _made_again(OmegaConf.create(stored))
    except (TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
        raise UserError(
            f"Expected the settings of a run in {run.path}, but its parts cannot be made of them ({error}); make the "
            "run anew."
        ) from error
    if not methods.about()["selects"]:
        raise UserError(
            f"Expected a run that selects views, but method {run.method} of {run.path} looks at the image alone; "
            "choose a run of another method, such as method=tpt."
        )
    return SheetMaker(clip, data, methods)


def _made_again(cfg: DictConfig) -> tuple[CLIP, EpisodeDataModule, MethodMaker]:
    clip: CLIP = instantiate(cfg.backbone)
    data: EpisodeDataModule = instantiate(cfg.data.module)
    data.use_views(instantiate(cfg.views)(image_size=clip.image_size, mean=clip.mean, std=clip.std))
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
    parser.add_argument("--trust", action="store_true", help="makes whatever the run's configuration names")
    args = parser.parse_args(arguments)
    with told(explained, FAMILIES):
        run = load_run(args.run)
        record = record_of(run, args.image, args.dataset)
        sheet = maker_of(run, args.trust).sheet(record)
        own = (
            run.path
            / "contact_sheets"
            / f"{file_name(record['dataset'] + '/' + str(PurePosixPath(record['path']).with_suffix('')))}.png"
        )
        say(str(save_as(sheet.figure, own if args.out is None else args.out)))
        if not sheet.as_recorded:
            say("Note: the selection made again differs from the recorded one, which is framed.", error=True)


if __name__ == "__main__":
    main()
