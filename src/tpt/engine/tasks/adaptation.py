"""Test-time adaptation as a LightningModule."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

import torch
from lightning import LightningModule
from safetensors.torch import load
from torch import Tensor, nn

from tpt.clip.model import CLIP, is_out_of_memory
from tpt.clip.other_views import encode_all
from tpt.data.cache import FeatureCache
from tpt.data.datamodule import EpisodeBatch
from tpt.data.dataset import ImageDataset
from tpt.engine.tasks.method_maker import MakeMethod, same_text
from tpt.engine.tasks.outcome import Outcome, answered_rows, named, unanswered_row
from tpt.errors import UserError
from tpt.methods.base import IMAGE, Adaptation, Method
from tpt.methods.stream import StreamMethod
from tpt.results.runs.states import read_state

log = logging.getLogger(__name__)

NOT_FINITE = "the image's features are not finite; use backbone.precision=fp32, or check the image"


class AdaptationTask(LightningModule):
    """`test_step` encodes views and runs one episode per image, each from the same initial state.

    Args:
        clip: the frozen backbone.
        make_method: dataset -> method; called when a dataset starts, so that only one text bank is in memory.
        datasets: in the order of the test loaders.
        threads: number of torch's threads; None leaves it to torch and Lightning.
        cache: stores the features; None stores nothing.
        encoders: further CLIPs that encode the views for the method, by the method's names for them.
    """

    def __init__(
        self,
        clip: CLIP,
        make_method: MakeMethod,
        datasets: Sequence[ImageDataset],
        threads: int | None = None,
        cache: FeatureCache | None = None,
        encoders: Mapping[str, CLIP] | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.threads = threads
        self.datasets = list(datasets)
        self.cache = cache
        self.encoders = nn.ModuleDict(encoders)
        self.make_method = make_method
        self._methods: dict[int, Method] = {}
        self.notes: list[str] = []  # events that the results must mention
        self.states: Mapping[str, Path] = {}  # by dataset, the position from which a stream is resumed
        self._steps = 0
        self._clock = 0.0

    def on_test_start(self) -> None:
        """Raises if the Trainer disables gradients; sets this process's number of threads."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if torch.is_inference_mode_enabled():
            raise UserError(
                "Expected a Trainer with inference_mode=False, because test-time tuning needs gradients; "
                "set trainer.inference_mode=false."
            )
        self._clock = time.perf_counter()

    def method(self, dataset_index: int) -> Method:
        """The method with the text bank of one dataset.

        The previous dataset's method is reused if the classes are the same, as in the bundled domains, and otherwise
        released; a stream method is reset.
        """
        if dataset_index not in self._methods:
            dataset = self.datasets[dataset_index]
            before, method = self._methods.popitem() if self._methods else (0, None)
            if method is not None and not same_text(type(method), self.datasets[before], dataset):
                method = None
                gc.collect()  # a prompt tuner and its engine form a reference cycle that holds a large graph
            if method is None:
                method = self.make_method(dataset).to(self.device)
            method.begin_dataset(len(dataset))
            if isinstance(method, StreamMethod) and dataset.name in self.states:
                method.load_state(load(read_state(self.states[dataset.name])))
            self._methods[dataset_index] = method
        return self._methods[dataset_index]

    def test_step(  # type: ignore[override]
        self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Outcome:
        """Runs one episode per image; an image without finite features gets a record that says so."""
        self._steps += 1
        dataset, method = self.datasets[dataloader_idx], self.method(dataloader_idx)
        rows = [unanswered_row(b.index, b.path, None, b.label, b.problem) for b in batch.bad]
        if len(batch):
            features, extras = self.features(batch)
            finite = features.isfinite().flatten(1).all(1)
            for value in extras.values():
                finite &= value.isfinite().flatten(1).all(1) if value.ndim > 1 else value.isfinite()
            good, bad = (mask.nonzero().flatten().tolist() for mask in (finite, ~finite))
            rows += [
                unanswered_row(int(batch.indices[i]), batch.paths[i], batch.contents[i], batch.label(i), NOT_FINITE)
                for i in bad
            ]
            if good:
                chosen = {name: value[good] for name, value in extras.items()}
                began = time.perf_counter()  # the features exist, because they were checked
                adaptation = self._adapt(method, features[good], chosen).cpu()
                own = {"method_seconds": (time.perf_counter() - began) / len(good)}
                rows += [row | own for row in answered_rows(batch.select(good), adaptation)]
        now = time.perf_counter()
        share, self._clock = (now - self._clock) / max(len(rows), 1), now
        about = {"dataset": dataset.name, "seconds": share}
        placed = (row | about | {"position": batch.positions.get(row["index"])} for row in rows)
        full = sorted((named(row, dataset.class_names) for row in placed), key=itemgetter("index"))
        return Outcome(dataset, full, [*method.notes, *self.notes], self._state(method))

    def _state(self, method: Method) -> Callable[[], Mapping[str, Tensor] | None] | None:
        """A function that returns the stream method's state, or None once the method has seen another image."""
        if not isinstance(method, StreamMethod):
            return None
        steps = self._steps
        return lambda: method.state() if self._steps == steps else None

    def teardown(self, stage: str) -> None:
        """Closes the feature cache; processes without images must also join the sum."""
        if self.cache is not None:
            self.cache.close(partial(self.trainer.strategy.reduce, reduce_op="sum"), self.device)

    def features(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, V, E) and the method's extras, from the cache, or encoded and stored there."""
        if batch.cached is not None:
            extras = dict(batch.cached)
            if self.cache is not None:
                self.cache.from_cache += len(batch)
        else:
            assert isinstance(batch.views, Tensor)  # the data module has created them by now
            before = self.clip.max_images
            encoded = encode_all({IMAGE: self.clip, **self.encoders}, batch.views, self.clip)  # type: ignore[dict-item]
            if self.clip.max_images != before:
                self.notes.append(f"out of memory: continued with at most {self.clip.max_images} views per pass")
            if self.cache is not None:
                self.cache.keep(batch.keys, encoded)
            taken = slice(batch.num_views)
            extras = {name: x[:, taken].contiguous() if x.ndim > 1 else x for name, x in encoded.items()}
        return extras.pop(f"{IMAGE}_features"), extras

    def _adapt(self, method: Method, features: Tensor, extras: Mapping[str, Tensor]) -> Adaptation:
        """The method's predictions, in smaller parts if memory runs out."""
        while True:
            try:
                out: Adaptation = method(features, **extras)
                return out
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (smaller := method.take_less_memory()) is None:
                    raise
                log.warning("Out of memory: continuing with %s.", smaller)
                self.notes.append(f"out of memory: continued with {smaller}")
