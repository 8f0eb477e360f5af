"""Builds the method of a run for each of its datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from tpt.clip.model import CLIP
from tpt.clip.prompts import context_from_file
from tpt.clip.prompts.text_bank import WORDS
from tpt.data.catalog.entries import CROSS_DATASET, NATURAL_SHIFT
from tpt.data.dataset import ImageDataset
from tpt.errors import UserError
from tpt.methods.base import Method

MakeMethod = Callable[[ImageDataset], Method]
THREADS = "threads"
OWN = "dataset"  # value of a setting that means each dataset's own template
PAPER = "paper"  # value that means the one in the method's paper for the dataset's family


class MethodMaker:
    """Builds the method of a run for one dataset after another.

    Args:
        clip: the frozen backbone.
        make_context: clip -> context.
        make_method: clip, class_names, context -> method.  Either may have `"dataset"` for `ctx_init` or `templates`,
            and is then called with the dataset's own.
    """

    def __init__(self, clip: CLIP, make_context: partial[Any], make_method: partial[Method]) -> None:
        self.clip = clip
        self._make_context, self._make_method = make_context, make_method
        made = make_method.func
        # The method's class; the base class of all methods if a function builds it.
        self._kind: type[Method] = made if isinstance(made, type) and issubclass(made, Method) else Method
        self.division: dict[str, int] = {}  # how work is split: threads per process on a CPU, chunk sizes
        self._own_words = make_context.keywords.get("ctx_init") == OWN
        self._context = None if self._own_words else make_context(clip)
        # The source of the contexts, for the results.
        self.source: str = "words: each dataset's own" if self._context is None else self._context.source

    def fingerprint(self) -> str | None:
        """A digest of the context; None if it follows from each dataset's words."""
        return None if self._context is None else str(self._context.fingerprint())

    @property
    def encoders(self) -> dict[str, CLIP]:
        """The method's other image encoders, by its names for them."""
        given = self._make_method.keywords
        return {name: given[name] for name in self._kind.encoders if name in given}

    def about(self) -> dict[str, bool | str]:
        """The method's description: whether it tunes, selects views, and learns along the stream."""
        return {"tunes": self._kind.tunes, "selects": self._kind.selects, "kind": self._kind.kind}

    def divide(self, stored: Mapping[str, int] | None, device: torch.device, threads: int) -> dict[str, int]:
        """Sets how work is split, because this affects rounding, and returns it; a resumed run keeps its stored one."""
        fresh = {THREADS: threads} if device.type == "cpu" else {}
        given = self._make_method.keywords
        own = self._kind.machine_settings(self.clip, device)
        fresh |= {name: value for name, value in own.items() if given.get(name) is None}
        self.division = fresh if stored is None else dict(stored)
        return self.division

    @property
    def view_0_serves(self) -> bool:
        """Whether the method has work to do if there is only view 0."""
        return not self._kind.selects or self._kind.kind == "stream"

    def check(self, num_views: Sequence[tuple[ImageDataset, int | None]]) -> None:
        """Builds the method of every dataset (with its number of views, if known) once, before anything is encoded.

        Raises:
            UserError: a setting, class names or a number of views that the method cannot work with.
        """
        seen: list[ImageDataset] = []
        for dataset, views in num_views:
            if not any(same_text(self._kind, dataset, earlier) for earlier in seen):
                self._check_one(dataset, views)
                seen.append(dataset)

    def _check_one(self, dataset: ImageDataset, views: int | None) -> None:
        method = self(dataset)  # freed on return: one text bank at a time
        if method.kind != self._kind.kind:  # the run is planned before a method is built
            raise UserError(
                f"Expected the class of {type(method).__name__}, which learns along the stream, in `method._target_`, "
                "got a function that builds one; name the class."
            )
        method.begin_dataset(len(dataset))  # may log a warning
        if views is not None:
            method.check_views(views)

    def __call__(self, dataset: ImageDataset) -> Method:
        """The method with the classes of `dataset`."""
        context = self._make_context(self.clip, ctx_init=dataset.template) if self._own_words else self._context
        given, papers = self._make_method.keywords, self._kind.paper_settings(family_of(dataset), dataset.name)
        wanted = [name for name, value in given.items() if isinstance(value, str) and value == PAPER]
        if missing := [name for name in wanted if name not in papers]:
            raise UserError(
                f"Expected a value for `method.{missing[0]}`, got {PAPER!r}, but {self._kind.__name__} has none from "
                "its paper's."
            )
        own: dict[str, Any] = {name: papers[name] for name in wanted}
        if (given | own).get("templates") == OWN:
            own["templates"] = [dataset.template]
        notes = _departures({**given, **own}, papers, family_of(dataset))
        texts = [name for name in ("templates", "descriptions") if (given | own).get(name) is not None]
        if texts and self._make_context.func is not context_from_file:  # a learned context is refused
            context = None
            if self.source != f"words: {WORDS}":
                notes.append(f"method.{texts[0]} replaces the context ({self.source})")
        division = {key: value for key, value in self.division.items() if key != THREADS}
        method = self._make_method(clip=self.clip, class_names=dataset.class_names, context=context, **own, **division)
        method.notes = (*method.notes, *notes)
        return method


def _departures(given: Mapping[str, Any], papers: Mapping[str, Any], family: str) -> list[str]:
    """Notes for the results on settings that differ from those of the method's paper for a family of datasets."""
    where = f" for {family}" if family else ""
    return [
        f"{name}={_short(given[name])}, in the method's paper {_short(value)}{where}"
        for name, value in papers.items()
        if name in given and isinstance(given[name], int | float | str) and given[name] != value
    ]


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def family_of(dataset: ImageDataset) -> str:
    """The dataset's family, for which papers share settings: imagenet, natural_shift, fine_grained, or ""."""
    if dataset.name == "imagenet":
        return "imagenet"
    if dataset.name in NATURAL_SHIFT:
        return "natural_shift"
    return "fine_grained" if dataset.name in CROSS_DATASET else ""


def same_text(kind: type[Method], one: ImageDataset, other: ImageDataset) -> bool:
    """Whether two datasets may share a method: same classes, and same settings in its paper."""
    texts = [(d.class_names, d.template, kind.paper_settings(family_of(d), d.name)) for d in (one, other)]
    return texts[0] == texts[1]
