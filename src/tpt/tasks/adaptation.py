"""Test-time adaptation as a LightningModule."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from tpt.backbones.clip import CLIP, is_out_of_memory
from tpt.cache import FeatureCache
from tpt.data.datamodule import EpisodeBatch
from tpt.data.dataset import ImageDataset
from tpt.methods.base import Adaptation, Method
from tpt.methods.memory import graph_tokens
from tpt.tasks.outcome import Outcome, answered_rows, unanswered_row

log = logging.getLogger(__name__)

MakeMethod = Callable[[ImageDataset], Method]
NOT_FINITE = "the image's features are not finite; use backbone.precision=fp32, or look at the image"
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


def _same_text(one: ImageDataset, other: ImageDataset) -> bool:
    return (one.class_names, one.template) == (other.class_names, other.template)


class AdaptationTask(LightningModule):
    """`test_step` encodes views and runs one episode for every image, each from the same start.

    Args:
        clip: the frozen backbone.
        make_method: dataset -> method; called when a dataset's turn comes, so one text bank is kept at a time.
        datasets: in the order of the test loaders.
        threads: that torch computes with; None leaves it to torch and Lightning.
        cache: keeps what is encoded; None keeps nothing.
    """

    def __init__(
        self,
        clip: CLIP,
        make_method: MakeMethod,
        datasets: Sequence[ImageDataset],
        threads: int | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.threads = threads
        self.datasets = list(datasets)
        self.cache = cache
        self.make_method = make_method
        self._methods: dict[int, Method] = {}
        self.notes: list[str] = []  # what happened on the way and results must say
        self._clock = 0.0

    def on_test_start(self) -> None:
        """Refuses a Trainer that forbids gradients; gives this process as many threads as any other has."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "Expected a Trainer with inference_mode=False, since tuning at test time needs gradients; "
                "set trainer.inference_mode=false."
            )
        self._clock = time.perf_counter()

    def method(self, dataset_index: int) -> Method:
        """The method with the text bank of one dataset; the bank of the dataset before is dropped, or used again.

        It serves again where the classes are the same, as in the bundled domains: nothing of an image stays in it.
        """
        if dataset_index not in self._methods:
            dataset = self.datasets[dataset_index]
            kept = [method for index, method in self._methods.items() if _same_text(self.datasets[index], dataset)]
            self._methods.clear()
            method = kept[0] if kept else self.make_method(dataset).to(self.device)
            self._methods[dataset_index] = method
        return self._methods[dataset_index]

    def test_step(  # type: ignore[override]
        self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Outcome:
        """One episode for each image of the batch; an image without finite features gets a record that says so."""
        dataset = self.datasets[dataloader_idx]
        rows = [unanswered_row(b.index, b.path, None, b.label, b.problem) for b in batch.bad]
        if len(batch):
            features, norms = self._features(batch)
            finite = features.isfinite().flatten(1).all(1)
            good, bad = (mask.nonzero().flatten().tolist() for mask in (finite, ~finite))
            rows += [
                unanswered_row(
                    int(batch.indices[i]), batch.paths[i], batch.contents[i], int(batch.labels[i]), NOT_FINITE
                )
                for i in bad
            ]
            if good:
                adaptation = self._adapt(dataloader_idx, features[good], norms[good])
                rows += answered_rows(batch.select(good), adaptation.cpu())
        now = time.perf_counter()
        share, self._clock = (now - self._clock) / max(len(rows), 1), now
        about = {"dataset": dataset.name, "seconds": share}
        method_notes = self._methods[dataloader_idx].notes if dataloader_idx in self._methods else ()
        return Outcome(
            dataset, sorted((row | about for row in rows), key=itemgetter("index")), [*method_notes, *self.notes]
        )

    def teardown(self, stage: str) -> None:
        """Closes the feature cache: here, where processes without images come as well, since all are counted."""
        if self.cache is not None:
            self.cache.close(partial(self.trainer.strategy.reduce, reduce_op="sum"), self.device)

    def _features(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
        """Features (B, V, E) and norms (B,): from the cache, or encoded and kept there."""
        if batch.cached is not None:
            if self.cache is not None:
                self.cache.from_cache += len(batch)
            return batch.cached
        assert isinstance(batch.views, Tensor)  # the data module has made them by now
        features, norms = self._encode(batch.views)
        if self.cache is not None:
            self.cache.keep(batch.keys, features, norms)
        return features[:, : batch.num_views].contiguous(), norms

    def _encode(self, views: Tensor) -> tuple[Tensor, Tensor]:
        before = self.clip.max_images
        encoded = self.clip.encode_views(views, return_norm=True)
        if self.clip.max_images != before:
            self.notes.append(f"memory ran out: from then on at most {self.clip.max_images} views a pass")
        return encoded

    def _adapt(self, dataset_index: int, features: Tensor, norms: Tensor) -> Adaptation:
        """The method's answer, in smaller parts where memory runs out."""
        method = self.method(dataset_index)
        while True:
            try:
                out: Adaptation = method(features, norms)
                return out
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (smaller := method.take_less_memory()) is None:
                    raise
                log.warning("Out of memory: going on with %s.", smaller)
                self.notes.append(f"memory ran out: from then on {smaller}")
