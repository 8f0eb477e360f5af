"""Makes the method of a run for each of its datasets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any

import torch

from tpt.backbones.clip import CLIP
from tpt.data.dataset import ImageDataset
from tpt.methods.base import Method
from tpt.methods.memory import graph_tokens

MakeMethod = Callable[[ImageDataset], Method]
GRAPH_TOKENS = "max_graph_tokens"
THREADS = "threads"
OWN = "dataset"  # as a setting, stands for the template of each dataset


class MethodMaker:
    """The method of a run for one dataset after another.

    Args:
        clip: the frozen backbone.
        make_context: clip -> context.
        make_method: clip, class_names, context -> method.  Either may have `"dataset"` for `ctx_init` or `templates`,
            and is then called with each dataset's own.
    """

    def __init__(self, clip: CLIP, make_context: partial[Any], make_method: partial[Method]) -> None:
        self.clip = clip
        self._make_context, self._make_method = make_context, make_method
        self._division: dict[str, int] = {}
        self._own_words = make_context.keywords.get("ctx_init") == OWN
        self._context = None if self._own_words else make_context(clip)
        # Where contexts come from, for the results.
        self.source: str = "words: each dataset's own" if self._context is None else self._context.source

    def fingerprint(self) -> str | None:
        """Changes with any bit of the context; None where that follows from each dataset's words."""
        return None if self._context is None else str(self._context.fingerprint())

    def settings(self) -> frozenset[str]:
        """The names of all settings that the method has."""
        return frozenset(inspect.signature(self._make_method.func).parameters)

    def changed(self, **settings: Any) -> MethodMaker:
        """The same, context and division included, with other settings of the method."""
        made = copy(self)
        made._make_method = partial(self._make_method, **settings)
        return made

    def divide(self, stored: Mapping[str, int] | None, device: torch.device, threads: int) -> dict[str, int]:
        """Fixes how work is divided where that follows from the machine, since it moves last digits.

        Args:
            stored: the division of the run that is continued; None divides anew.
            device: that will do the work.
            threads: of each process, where that is a CPU.

        Returns:
            The division: threads of a process, and the method's settings that were left open.
        """
        takes = self.settings()
        fresh = {THREADS: threads} if device.type == "cpu" else {}
        if GRAPH_TOKENS in takes and self._make_method.keywords.get(GRAPH_TOKENS) is None:
            fresh[GRAPH_TOKENS] = graph_tokens(self.clip.text, device)
        self._division = fresh if stored is None else dict(stored)
        return self._division

    @property
    def threads(self) -> int | None:
        """That a process computes with on a CPU, where their number moves last digits."""
        return self._division.get(THREADS)

    def __call__(self, dataset: ImageDataset) -> Method:
        """The method with the classes of `dataset`."""
        context = self._make_context(self.clip, ctx_init=dataset.template) if self._own_words else self._context
        own = {"templates": [dataset.template]} if self._make_method.keywords.get("templates") == OWN else {}
        division = {key: value for key, value in self._division.items() if key != THREADS}
        return self._make_method(clip=self.clip, class_names=dataset.class_names, context=context, **own, **division)
