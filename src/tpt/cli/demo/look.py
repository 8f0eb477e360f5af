"""One picture's adaptation, to be shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tpt.cli.compose import Parts, compose
from tpt.clip.model import CLIP
from tpt.clip.other_views import encode_views_of
from tpt.data import ImageDataset
from tpt.data.pictures import pictures
from tpt.engine.contact_sheet import pixels_of
from tpt.methods import Method
from tpt.views.batched import PlannedViews

KEPT = 4  # methods with their class names, so that the same question about another picture is quick


@dataclass(frozen=True)
class Look:
    """One picture, looked at.

    Args:
        class_names: K names.
        pixels: (V, H, W, 3) uint8 pixels of the views; view 0 is the picture itself.
        order: (V,) indices of the views: the selected ones first, each part by what the method orders them by.
        values: (V,) what that is, for each view, in the views' own order.
        value_name: its name, with the unit.
        selected: indices of the views that were trusted.
        before, after: (K,) probabilities of the classes.
        seconds: that each stage took, in their order.
    """

    class_names: list[str]
    pixels: np.ndarray
    order: list[int]
    values: list[float]
    value_name: str
    selected: list[int]
    before: np.ndarray
    after: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)


class Looker:
    """Looks at pictures with one backbone.

    Args:
        clip: the frozen backbone, on the device that computes.
    """

    def __init__(self, clip: CLIP) -> None:
        self.clip = clip
        self._kept: dict[tuple[object, ...], tuple[Parts, Method]] = {}

    def __call__(
        self,
        picture: str | Path,
        class_names: Sequence[str],
        method: str = "tpt",
        num_views: int = 64,
        settings: Sequence[str] = (),
    ) -> Look:
        """The look at one picture, with the answer that `tpt.predict` gives.

        Args:
            picture: path of a file.
            class_names: at least two different ones.
            method: an option of `conf/method`.
            num_views: V.
            settings: others, as on the command line.

        Raises:
            UserError: a file that is no picture, names or settings that cannot be.
        """
        seconds: dict[str, float] = {}
        dataset = pictures(picture, list(class_names))
        with _timed(seconds, "class names"):
            parts, made = self._method(dataset, method, num_views, tuple(settings))
        with _timed(seconds, "views"):
            views = _views(dataset, parts).to(self.clip.device)
        with _timed(seconds, "image encoder"):
            features, norm = self.clip.encode_views(views, return_norm=True)
            reward = parts.make_method.reward
            rewards = None if reward is None else encode_views_of(reward.to(self.clip.device), views, self.clip)
        with _timed(seconds, "adaptation"):
            out = made(features, norm, rewards)
        with torch.no_grad():
            shown = made.show(features, norm, rewards)
        selected = out.selected.tolist()
        rest = [view for view in shown.order[0].tolist() if view not in set(selected)]
        return Look(
            class_names=list(dataset.class_names),
            pixels=pixels_of(views, self.clip),
            order=[*dict.fromkeys(selected), *rest],
            values=shown.values[0].tolist(),
            value_name=shown.name,
            selected=selected,
            before=_probabilities(out.initial_logits),
            after=_probabilities(out.logits),
            seconds=seconds,
        )

    def _method(
        self, dataset: ImageDataset, method: str, num_views: int, settings: tuple[str, ...]
    ) -> tuple[Parts, Method]:
        """The parts and the method with the class names; the last few are kept."""
        key = (tuple(dataset.class_names), method, num_views, settings)
        if key not in self._kept:
            cfg = compose([("method", method)], [("views.num_views", num_views)], settings)
            parts = Parts.of(cfg, self.clip).on_one_view()
            made = parts.make_method(dataset).to(self.clip.device)
            self._kept = dict([*self._kept.items(), (key, (parts, made))][-KEPT:])
        return self._kept[key]


def _views(dataset: ImageDataset, parts: Parts) -> Tensor:
    image = dataset.image(0)
    maker = parts.views[dataset.augmix] if isinstance(parts.views, dict) else parts.views
    views = maker(image, dataset.view_identity(0, image))
    made: Tensor = maker.render([views])[0] if isinstance(views, PlannedViews) else views
    return made


def _probabilities(logits: Tensor) -> np.ndarray:
    found: np.ndarray = logits.detach().softmax(-1).cpu().numpy()
    return found


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[stage] = time.perf_counter() - began
