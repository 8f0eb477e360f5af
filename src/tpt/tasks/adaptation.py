"""Test-time adaptation as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from tpt.backbones.clip import CLIP
from tpt.data.datamodule import EpisodeBatch
from tpt.data.dataset import ImageDataset
from tpt.methods.base import Adaptation, Method

MakeMethod = Callable[[ImageDataset], Method]
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
        self._own_words = make_context.keywords.get("ctx_init") == OWN
        self._context = None if self._own_words else make_context(clip)
        # Where contexts come from, for the results.
        self.source: str = "words: each dataset's own" if self._context is None else self._context.source

    def __call__(self, dataset: ImageDataset) -> Method:
        """The method with the classes of `dataset`."""
        context = self._make_context(self.clip, ctx_init=dataset.template) if self._own_words else self._context
        own = {"templates": [dataset.template]} if self._make_method.keywords.get("templates") == OWN else {}
        return self._make_method(clip=self.clip, class_names=dataset.class_names, context=context, **own)


@dataclass(frozen=True)
class Outcome:
    """What a test step hands to the callbacks; all tensors on the CPU.

    Args:
        dataset: the images come from.
        batch: without its views.
        adaptation: of every image of the batch, without the tuned contexts.
    """

    dataset: ImageDataset
    batch: EpisodeBatch
    adaptation: Adaptation | None

    @property
    def probs(self) -> Tensor:
        """(B, K) after adaptation."""
        assert self.adaptation is not None
        return self.adaptation.logits.softmax(-1)

    @property
    def probs_zero_shot(self) -> Tensor:
        """(B, K) before adaptation."""
        assert self.adaptation is not None
        return self.adaptation.initial_logits.softmax(-1)


class AdaptationTask(LightningModule):
    """`test_step` encodes views and runs one episode for every image, each from the same start.

    Args:
        clip: the frozen backbone.
        make_method: dataset -> method; called when a dataset's turn comes, so one text bank is kept at a time.
        datasets: in the order of the test loaders.
    """

    def __init__(self, clip: CLIP, make_method: MakeMethod, datasets: Sequence[ImageDataset]) -> None:
        super().__init__()
        self.clip = clip
        self.datasets = list(datasets)
        self._make_method = make_method
        self._methods: dict[int, Method] = {}
        self.notes: list[str] = []  # what the results must say about the method beyond its settings

    def on_test_start(self) -> None:
        """Refuses a Trainer that forbids gradients."""
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "Expected a Trainer with inference_mode=False, since tuning at test time needs gradients; "
                "set trainer.inference_mode=false."
            )

    def method(self, dataset_index: int) -> Method:
        """The method with the text bank of one dataset; the bank of the dataset before is dropped."""
        if dataset_index not in self._methods:
            self._methods.clear()
            method = self._make_method(self.datasets[dataset_index])
            self._methods[dataset_index] = method.to(self.device)
            self.notes = list(method.notes)
        return self._methods[dataset_index]

    def test_step(  # type: ignore[override]
        self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Outcome:
        """One episode for each image of the batch."""
        dataset, adaptation = self.datasets[dataloader_idx], None
        if len(batch):
            assert isinstance(batch.views, Tensor)  # the data module has made them by now
            features, norms = self.clip.encode_views(batch.views, return_norm=True)
            self._refuse_bad_features(features, batch, dataset)
            adaptation = self.method(dataloader_idx)(features, norms).cpu()
        light = EpisodeBatch(torch.empty(0), batch.labels.cpu(), batch.indices, batch.paths, batch.bad, batch.seconds)
        return Outcome(dataset, light, adaptation)

    @staticmethod
    def _refuse_bad_features(features: Tensor, batch: EpisodeBatch, dataset: ImageDataset) -> None:
        bad = (~features.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            names = ", ".join(f"{dataset.store.root}/{batch.paths[i]}" for i in bad)
            raise ValueError(
                f"Expected finite features, but the backbone gave NaN or infinity for {names}; "
                "use backbone.precision=fp32, or remove the image."
            )
