"""Batches for training a context: random crops that depend only on seed, epoch and image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision import transforms

from tpt.data.dataset import ImageDataset
from tpt.data.few_shot import Shots
from tpt.data.loading import Loader
from tpt.errors import Count, Natural, Seed, checked
from tpt.views import whole_picture

BICUBIC = transforms.InterpolationMode.BICUBIC
SMALLEST_CROP = 0.08  # share of the picture's area, as in the official programs


class LabelledBatch(NamedTuple):
    """B images of known class: (B, 3, H, W) uint8 pixels, (B,) labels, and their paths in the dataset."""

    images: Tensor
    labels: Tensor
    paths: list[str]


Key = tuple[int, int]  # epoch, -1 for validation, and index of the image


class LabelledImages(Dataset[tuple[Tensor, int, str]]):
    """Item (epoch, i) is image i with that epoch's random crop and flip, or as at test time for epoch -1."""

    def __init__(
        self,
        dataset: ImageDataset,
        image_size: int,
        seed: int,
        resize: str = "shortest",
        interpolation: str = "bicubic",
    ) -> None:
        self.dataset, self.labels, self.seed = dataset, dataset.labels(), seed
        crop = transforms.RandomResizedCrop(image_size, scale=(SMALLEST_CROP, 1.0), interpolation=BICUBIC)
        self._random = transforms.Compose([crop, transforms.RandomHorizontalFlip()])
        self._plain = whole_picture(image_size, resize, interpolation)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> tuple[Tensor, int, str]:
        epoch, index = key
        sample, image = self.dataset.samples[index], self.dataset.image(index)
        crop = self._plain(image) if epoch < 0 else self._augment(image, f"{self.seed}/{epoch}/{sample.path}")
        return torch.from_numpy(np.asarray(crop).transpose(2, 0, 1).copy()), self.labels[index], sample.path

    def _augment(self, image: Image.Image, identity: str) -> Image.Image:
        digest = hashlib.sha256(identity.encode()).digest()
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(int.from_bytes(digest[:7], "little"))
            crop: Image.Image = self._random(image)
            return crop


class EpochSampler(DistributedSampler[Key]):
    """Shuffled (epoch, index) keys of one process; they depend only on seed and epoch, so a run can be resumed.

    `epoch` returns the next epoch.  It is called when keys are drawn, because in a resumed run a loader draws its first
    keys before `set_epoch` is called.
    """

    def __init__(self, dataset: Dataset[Any], processes: int, rank: int, seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(dataset, processes, rank, shuffle=True, seed=seed)
        self._next_epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        self.epoch = self._next_epoch()
        epoch, indices = self.epoch, list(super().__iter__())  # not lazily: `epoch` may change before all are drawn
        return ((epoch, index) for index in indices)  # type: ignore[misc]


class InOrderSampler(DistributedSampler[Key]):
    """Every image once over all processes, without repeated images as padding."""

    def __iter__(self) -> Iterator[Key]:
        return ((-1, i) for i in range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]


def _collate(items: list[tuple[Tensor, int, str]]) -> LabelledBatch:
    images, labels, paths = zip(*items, strict=True)
    return LabelledBatch(torch.stack(images), torch.tensor(labels), list(paths))


class ShotsDataModule(LightningDataModule):
    """Training and validation batches of a few-shot draw.

    Args:
        shots: the drawn images.
        batch_size: images per step on each device; as in the official programs, a smaller last batch of an epoch is
            dropped if there is at least one full batch.
        val_batch_size: images per validation step.
        num_workers: number of data-loading workers; 0 loads in the main process.
        seed: seed of the order and the crops.
        pin_memory: whether batches are page-locked, for a GPU.
    """

    @checked
    def __init__(
        self,
        shots: Shots,
        batch_size: Count = 32,
        val_batch_size: Count = 100,
        num_workers: Natural = 0,
        seed: Seed = 1,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self.shots, self.seed = shots, seed
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self._seen: tuple[int, str, str] | None = None

    @property
    def class_names(self) -> list[str]:
        """The K names to train on."""
        return self.shots.train.class_names

    def use_image_size(
        self, image_size: int, resize: str = "shortest", interpolation: str = "bicubic"
    ) -> ShotsDataModule:
        """Sets the side of the crops and how whole pictures are made, see `tpt.views.whole_picture`."""
        self._seen = (image_size, resize, interpolation)
        return self

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int, str]]:
        """Training batches, shuffled again in every epoch."""
        images = self._images(self.shots.train)
        sampler = EpochSampler(images, *self._place(), self.seed, self._epoch)
        full = len(sampler) >= self.batch_size
        return self._loader(images, sampler=sampler, batch_size=self.batch_size, drop_last=full)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int, str]] | list[DataLoader[tuple[Tensor, int, str]]]:
        """Whole pictures in order, prepared for the backbone; an empty list if there are no validation images."""
        if self.shots.val is None:
            return []
        images = self._images(self.shots.val)
        sampler = InOrderSampler(images, *self._place(), shuffle=False)
        return self._loader(images, sampler=sampler, batch_size=self.val_batch_size)

    def _images(self, dataset: ImageDataset) -> LabelledImages:
        assert self._seen is not None, "call use_image_size first"
        image_size, resize, interpolation = self._seen
        return LabelledImages(dataset, image_size, self.seed, resize, interpolation)

    def _place(self) -> tuple[int, int]:
        """The number of processes and the rank of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _epoch(self) -> int:
        """The number of completed epochs, including those before a resume."""
        # Not `current_epoch`, which is one too small after a resume from a checkpoint at the end of an epoch.
        progress: Any = None if self.trainer is None else self.trainer.fit_loop.epoch_progress.current
        return 0 if progress is None else int(progress.processed)

    def _loader(self, images: LabelledImages, **options: Any) -> DataLoader[tuple[Tensor, int, str]]:
        return Loader(images, _collate, num_workers=self.num_workers, pin_memory=self.pin_memory, **options)
