"""Batches of episodes: for each image of each dataset, its views."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tpt.data.dataset import ImageDataset
from tpt.errors import BadImageError
from tpt.views.batched import PlannedViews

log = logging.getLogger(__name__)

# An image and what identifies it -> its views (V, 3, H, W), or what `render` makes them of on the device.
ViewMaker = Callable[[Image.Image, str], Tensor | PlannedViews]


@dataclass
class EpisodeBatch:
    """Views of B images; those that could not be read are left out and listed in `bad`.

    Args:
        views: (B, V, 3, H, W); uint8 pixels, or floats already normalised.  Before they reach the device, perhaps a
            list of what they will be made of there.
        labels: (B,).
        indices: (B,) of the images in their dataset.
        paths: of the images in their dataset.
        bad: (path, why) of images that could not be read.
        seconds: time spent reading images and making views, in the loading process.
    """

    views: Tensor | list[PlannedViews]
    labels: Tensor
    indices: Tensor
    paths: list[str]
    bad: list[tuple[str, str]]
    seconds: float

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device, non_blocking: bool = False) -> EpisodeBatch:
        """On another device; Lightning calls this."""
        if isinstance(self.views, list):
            views: Tensor | list[PlannedViews] = [v.to(device, non_blocking) for v in self.views]
        else:
            views = self.views.to(device, non_blocking=non_blocking)
        labels = self.labels.to(device, non_blocking=non_blocking)
        return EpisodeBatch(views, labels, self.indices, self.paths, self.bad, self.seconds)

    def pin_memory(self) -> EpisodeBatch:
        """In page-locked memory; the data loader calls this."""
        views = [v.pin_memory() for v in self.views] if isinstance(self.views, list) else self.views.pin_memory()
        return EpisodeBatch(views, self.labels, self.indices, self.paths, self.bad, self.seconds)


@dataclass
class _Episode:
    views: Tensor | PlannedViews | None
    label: int
    index: int
    path: str
    problem: str | None
    seconds: float


class _Episodes(Dataset[_Episode]):
    """Item i: the views of image i."""

    def __init__(self, dataset: ImageDataset, make_views: ViewMaker, skip_bad: bool) -> None:
        self.dataset, self.make_views, self.skip_bad = dataset, make_views, skip_bad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> _Episode:
        start = time.perf_counter()
        sample, views, problem = self.dataset.samples[index], None, None
        try:
            # Only the names of dataset and image fix the views: not their order, nor who loads them.
            views = self.make_views(self.dataset.image(index), f"{self.dataset.name}/{sample.path}")
        except BadImageError as error:
            if not self.skip_bad:
                raise
            problem = str(error)
        return _Episode(views, sample.label, index, sample.path, problem, time.perf_counter() - start)


def _collate(episodes: list[_Episode]) -> EpisodeBatch:
    good = [e for e in episodes if e.views is not None]
    made = [e.views for e in good if isinstance(e.views, Tensor)]
    planned = [e.views for e in good if isinstance(e.views, PlannedViews)]
    return EpisodeBatch(
        views=planned or (torch.stack(made) if made else torch.empty(0)),
        labels=torch.tensor([e.label for e in good]),
        indices=torch.tensor([e.index for e in good]),
        paths=[e.path for e in good],
        bad=[(e.path, e.problem) for e in episodes if e.problem is not None],
        seconds=sum(e.seconds for e in episodes),
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)  # workers share the cores with the model


class EpisodeDataModule(LightningDataModule):
    """One test loader per dataset, in order.

    Args:
        datasets: what to test on; their names must differ.
        batch_size: images tuned side by side.
        num_workers: loading processes; 0 loads in the main process.
        on_bad_image: "error" stops at an unreadable image, "skip" leaves it out and lists it in the results.
        pin_memory: page-locked batches, for a GPU.
    """

    def __init__(
        self,
        datasets: Sequence[ImageDataset],
        batch_size: int = 8,
        num_workers: int = 0,
        on_bad_image: str = "error",
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        names = [d.name for d in datasets]
        if not names:
            raise ValueError("Expected at least one dataset, got none; see conf/data.")
        if len(set(names)) < len(names):
            raise ValueError(f"Expected datasets of different names, got {', '.join(names)}; pass data.name.")
        if on_bad_image not in ("error", "skip"):
            raise ValueError(f"Expected `data.on_bad_image` to be error or skip, got {on_bad_image!r}.")
        if batch_size < 1:
            raise ValueError(f"Expected `data.batch_size` of at least 1, got {batch_size}.")
        self.datasets = list(datasets)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.on_bad_image = on_bad_image
        self.pin_memory = pin_memory
        self._make_views: ViewMaker | Mapping[bool, ViewMaker] | None = None

    def use_views(self, make_views: ViewMaker | Mapping[bool, ViewMaker]) -> EpisodeDataModule:
        """Sets how views are made, which depends on the backbone's image size.

        Args:
            make_views: of every dataset, or one for those whose `augmix` is true and one for the others.
        """
        self._make_views = make_views
        return self

    def make_views(self, dataset: ImageDataset) -> Any:
        """What makes the views of a dataset."""
        assert self._make_views is not None, "call use_views first"
        return self._make_views[dataset.augmix] if isinstance(self._make_views, Mapping) else self._make_views

    def on_after_batch_transfer(self, batch: EpisodeBatch, dataloader_idx: int) -> EpisodeBatch:
        """Makes the views of a batch that has arrived on the device, where the loader only planned them."""
        if isinstance(batch.views, list):
            batch = replace(batch, views=self.make_views(self.datasets[dataloader_idx]).render(batch.views))
        return batch

    def test_dataloader(self) -> list[DataLoader[_Episode]]:
        """A loader for each dataset."""
        return [
            DataLoader(
                _Episodes(dataset, self.make_views(dataset), self.on_bad_image == "skip"),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                collate_fn=_collate,
                pin_memory=self.pin_memory,
                worker_init_fn=_one_thread,
            )
            for dataset in self.datasets
        ]
