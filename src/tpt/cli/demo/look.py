"""Adapts to one picture and returns what the page shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tpt.cli.compose import Parts, compose, method_class
from tpt.clip.model import CLIP
from tpt.data import EpisodeDataModule, ImageDataset, Sample
from tpt.data.pictures import class_list
from tpt.data.store import FileStore
from tpt.engine.contact_sheet import PictureViews, selected_first, views_of
from tpt.methods import Method

KEPT = 4  # cached methods with encoded class names, so that the next picture is quick


@dataclass(frozen=True)
class Look:
    """The answers for one picture, and its views."""

    class_names: list[str]
    views: PictureViews
    before: np.ndarray  # (K,) probabilities of the classes
    after: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, in order
    method: str = ""


class Looker:
    """Answers for pictures with one frozen backbone, on its device."""

    def __init__(self, clip: CLIP) -> None:
        self.clip = clip
        self._method = lru_cache(KEPT)(self._made)

    def __call__(
        self, picture: str | Path, class_names: Sequence[str], method: str, num_views: int, values: Mapping[str, Any]
    ) -> Look:
        """The answers for one picture, as by `tpt.predict`, with further settings `values` by dotted key."""
        seconds: dict[str, float] = {}
        dataset = _dataset(Path(picture).absolute(), class_list(list(class_names)))
        with _timed(seconds, "class names"):
            number = num_views if method_class(method).selects else min(num_views, 1)
            asked = ("views.num_views", number), *values.items()
            parts, made = self._method(tuple(dataset.class_names), method, asked)
        with _timed(seconds, "views"):
            maker = EpisodeDataModule([dataset]).use_views(parts.views).make_views(dataset)
            views = views_of(dataset, 0, maker).to(self.clip.device)
        with _timed(seconds, "image encoder"):
            features, extras = made.encode(views)
        with _timed(seconds, "adaptation"):
            made.begin_dataset(1)  # resets state, so that no picture affects the next
            out = made(features, **extras)
        before, after = (logits.detach().softmax(-1).cpu().numpy() for logits in (out.initial_logits, out.logits))
        shown = selected_first(made, views, features, extras, out.selected.tolist())
        return Look(list(dataset.class_names), shown, before, after, seconds, method)

    def _made(self, names: tuple[str, ...], method: str, values: tuple[tuple[str, Any], ...]) -> tuple[Parts, Method]:
        """The parts, and the method with the class names."""
        parts = Parts.of(compose([("method", method)], values), self.clip)
        return parts, parts.make_method(_dataset(Path("picture"), list(names))).to(self.clip.device)


def _dataset(picture: Path, names: list[str]) -> ImageDataset:
    store = FileStore(picture.parent)
    return ImageDataset("pictures", names, [Sample(picture.name)], store, by_content=True, upright=True)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[stage] = time.perf_counter() - began
