"""Contact sheets: the views of one picture in the method's order, the selected ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpt.data import EpisodeDataModule, ImageDataset
from tpt.engine.tasks.method_maker import MakeMethod
from tpt.errors import UserError
from tpt.files import content_digest
from tpt.methods import Method
from tpt.views.batched import PlannedViews


@dataclass(frozen=True)
class PictureViews:
    """The views of one picture; view 0 is the picture itself."""

    pixels: np.ndarray  # (V, H, W, 3) uint8 pixels of the views, in their own order
    order: list[int]  # (V,) indices of the views: the selected ones first, each part sorted by `values`
    values: list[float]  # (V,) the values that the method sorts views by, in the views' own order
    value_name: str  # name and unit of the values
    selected: list[int]  # indices of the selected views


def views_of(dataset: ImageDataset, index: int, maker: Any, content: bytes | None = None) -> Tensor:
    """The views (V, 3, H, W) of one picture of a dataset, as in a run; `content` is its bytes if already read."""
    image = dataset.image(index, content)
    views = maker(image, dataset.view_identity(index, image))
    made: Tensor = maker.render([views])[0] if isinstance(views, PlannedViews) else views
    return made


@torch.no_grad()
def selected_first(
    method: Method, views: Tensor, features: Tensor, extras: Mapping[str, Tensor], selected: Sequence[int]
) -> PictureViews:
    """Sorts the views (V, 3, H, W) of one picture for display; features and extras are from `method.encode`."""
    shown = method.show(features, **extras)
    order = list(dict.fromkeys([*selected, *shown.order[0].tolist()]))
    if views.dtype != torch.uint8:  # normalised
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (method.clip.mean, method.clip.std))
        views = ((views.cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = views.cpu().permute(0, 2, 3, 1).numpy()
    return PictureViews(pixels, order, shown.values[0].tolist(), shown.name, list(selected))


@dataclass(frozen=True)
class Sheet:
    """The contact sheet of an image."""

    shown: PictureViews  # those recorded as selected first
    texts: list[str]  # lines above the views
    as_recorded: bool  # whether the recomputed selection equals the recorded one

    def draw(self) -> Any:
        """The sheet as a matplotlib figure."""
        from tpt.results.figures import contact_sheet  # noqa: PLC0415 -- matplotlib takes time to load

        shown = self.shown
        return contact_sheet(shown.pixels, shown.order, shown.selected, self.texts, shown.values, shown.value_name)


def sheet_of(record: Mapping[str, Any], data: EpisodeDataModule, make_method: MakeMethod) -> Sheet:
    """The contact sheet of an image of a run, from its record (columns of `tpt.results.runs.RECORD_SCHEMA`).

    Raises:
        UserError: the image has no answer, is missing, or has changed.
    """
    if record["problem"] is not None:
        raise UserError(f"{record['path']} has no answer ({record['problem']}). Choose another image.")
    name, path = record["dataset"], record["path"]
    named = (dataset for dataset in data.datasets if dataset.name == name)
    places = ((dataset, i) for dataset in named for i, sample in enumerate(dataset.samples) if sample.path == path)
    dataset, index = next(places, (None, 0))
    if dataset is None or content_digest(content := dataset.content(index)) != record["content"]:
        raise UserError(f"{name}/{path} has changed or disappeared since it was tested. Restore the file.")
    method, selected = make_method(dataset), list(record["selected"])
    device = method.clip.device
    views = views_of(dataset, index, data.make_views(dataset), content).to(device)
    features, extras = method.to(device).encode(views)
    remade = method(features, **extras).selected.tolist()
    texts = texts_of(record, dataset.class_names)
    if remade != selected:
        texts.append("the recomputed selection differs from the recorded one; the recorded one is framed")
    return Sheet(selected_first(method, views, features, extras, selected), texts, remade == selected)


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
