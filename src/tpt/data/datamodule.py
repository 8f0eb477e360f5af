"""Batches of episodes: the views of each image of each dataset, and of pictures of unknown classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tpt.data.bundled import DOMAINS, emoji_shift
from tpt.data.cache import CachedViews, FeatureCache
from tpt.data.catalog import CATALOG, read_entry
from tpt.data.dataset import AVERAGES, OUTSIDE, Classes, ImageDataset, Sample
from tpt.data.features import FeatureRows
from tpt.data.loading import Loader
from tpt.data.pictures import find_pictures
from tpt.data.stream_order import Order, stream_order
from tpt.errors import BadImageError, Count, DataError, Natural, Positive, Seed, UserError, checked, text_key
from tpt.files import content_digest
from tpt.views.batched import PlannedViews

log = logging.getLogger(__name__)

OTHER = "other"  # the half of the classes that the run does not test
# Maps an image and its identity to its (V, 3, H, W) views, or to the input of `render` on the device.
ViewMaker = Callable[[Image.Image, str], Tensor | PlannedViews]


@dataclass
class _Episode:
    """One image; its `problem` says why it could not be read."""

    label: int | None
    index: int
    path: str
    file: bytes = b""
    content: str = ""
    key: str = ""
    views: Tensor | PlannedViews | None = None
    cached: dict[str, Tensor] | None = None
    problem: str = ""
    position: int = 0


@dataclass
class EpisodeBatch:
    """Views of B images; those that could not be read are left out and listed in `bad`."""

    views: Tensor | list[PlannedViews]  # (B, V, 3, H, W) uint8 pixels or normalised floats; or inputs of `render`
    labels: Tensor | None  # (B,) classes
    indices: Tensor  # (B,) of the images in their dataset
    paths: list[str]
    contents: list[str]  # digests of the image files
    bad: list[_Episode]
    num_views: int | None = None  # that the run uses; `views` may hold more, for the feature cache.  None uses all.
    # Cached features instead of views: (B, V, E) `image_features`, the (B,) `image_norm` of view 0, and the same for
    # further encoders by name.
    cached: Mapping[str, Tensor] | None = None
    keys: list[str] = field(default_factory=list)  # for the cache; empty if the features need not be stored
    positions: Mapping[int, int] = field(default_factory=dict)  # in the run, by index, also of unreadable images

    def __len__(self) -> int:
        return len(self.paths)

    def label(self, row: int) -> int | None:
        """The class of one of the images, or None."""
        return None if self.labels is None else int(self.labels[row])

    def select(self, rows: Sequence[int]) -> EpisodeBatch:
        """A batch of some of the images; the views must be a tensor."""
        chosen = list(rows)
        return replace(
            self._moved(lambda tensor: tensor[chosen] if len(tensor) else tensor),  # no views beside cached features
            keys=[self.keys[i] for i in chosen] if self.keys else [],
            indices=self.indices[chosen],
            paths=[self.paths[i] for i in chosen],
            contents=[self.contents[i] for i in chosen],
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> EpisodeBatch:
        """A copy on another device; called by Lightning."""
        return self._moved(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> EpisodeBatch:
        """A copy in page-locked memory; called by the data loader."""
        return self._moved(lambda part: part.pin_memory())

    def _moved(self, move: Callable[[Any], Any]) -> EpisodeBatch:
        views = [move(planned) for planned in self.views] if isinstance(self.views, list) else move(self.views)
        labels = None if self.labels is None else move(self.labels)
        cached = None if self.cached is None else {name: move(tensor) for name, tensor in self.cached.items()}
        return replace(self, views=views, labels=labels, cached=cached)


class _Episodes(Dataset[_Episode]):
    """Item i holds the views of image i, or their features if those of its whole batch are cached."""

    def __init__(self, dataset: ImageDataset, shelf: CachedViews, skip_bad: bool, order: Sequence[int]) -> None:
        self.dataset, self.shelf, self.skip_bad = dataset, shelf, skip_bad
        self._place = {index: position for position, index in enumerate(order)}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> list[_Episode]:
        """A batch; it is encoded as a whole or not at all, since the number of views per pass affects rounding."""
        episodes = [self._read(index) for index in indices]
        for episode in episodes:
            if not episode.problem and episode.cached is None:
                self._make(episode)
        if any(episode.views is not None for episode in episodes):
            for episode in episodes:
                if episode.cached is not None:
                    episode.cached = None
                    self._make(episode)
        return episodes

    def _read(self, index: int) -> _Episode:
        """The parts of an episode that do not need the decoded image."""
        sample = self.dataset.samples[index]
        episode = _Episode(sample.label, index, sample.path, position=self._place[index])
        with self._noting(episode):
            if isinstance(store := self.dataset.store, FeatureRows):
                episode.content = store.digest(sample.path)
                episode.cached = store.features(sample.path, self.shelf.num_views)
            else:
                episode.file = self.dataset.content(index)
                episode.content = content_digest(episode.file)
                episode.key = self.shelf.key(self.dataset.file_identity(index), episode.file)
                episode.cached = self.shelf.find(episode.key)
        return episode

    def _make(self, episode: _Episode) -> None:
        with self._noting(episode):
            image = self.dataset.image(episode.index, episode.file)
            episode.views = self.shelf.make_views(image, self.dataset.view_identity(episode.index, image))

    @contextmanager
    def _noting(self, episode: _Episode) -> Iterator[None]:
        try:
            yield
        except BadImageError as error:
            if not self.skip_bad:
                raise
            episode.problem = error.problem


def _collate(episodes: list[_Episode], num_views: int | None = None) -> EpisodeBatch:
    good = [e for e in episodes if not e.problem]
    made = [e.views for e in good if isinstance(e.views, Tensor)]
    planned = [e.views for e in good if isinstance(e.views, PlannedViews)]
    cached = [e.cached for e in good if e.cached is not None]
    labels = [e.label for e in good if e.label is not None]
    return EpisodeBatch(
        num_views=num_views,
        cached={name: torch.stack([c[name] for c in cached]) for name in cached[0]} if cached else None,
        keys=[e.key for e in good],
        views=planned or (torch.stack(made) if made else torch.empty(0)),
        labels=torch.tensor(labels) if labels or not good else None,
        indices=torch.tensor([e.index for e in good]),
        paths=[e.path for e in good],
        contents=[e.content for e in good],
        bad=[replace(e, file=b"") for e in episodes if e.problem],
        positions={e.index: e.position for e in episodes},
    )


def with_outside(
    datasets: Sequence[ImageDataset], outside: str | None, root: str | Path | None, limit: int | None, seed: int
) -> list[ImageDataset]:
    """The datasets, each followed by `<name>_outside`: pictures of unknown classes, tested with the same class names.

    Args:
        outside: a folder, archive or pattern of pictures; the key of a dataset in `root`, whose pictures of tested
            classes are left out; "other" for the half of the classes that `data.classes` leaves out; None for none.
        limit, seed: number of pictures, drawn with this seed; None uses all.
    """
    if outside is None:
        return list(datasets)
    return [found for d in datasets for found in (d, _strangers(d, outside, root).subset(limit, seed))]


def _strangers(dataset: ImageDataset, outside: str, root: str | Path | None) -> ImageDataset:
    store, known = dataset.store, {text_key(name) for name in dataset.class_names}
    if outside == OTHER:
        samples = list(dataset.others)
    elif outside in DOMAINS or outside in CATALOG:
        source = emoji_shift(outside) if outside in DOMAINS else read_entry(outside, root, "test")
        store, names = source.store, source.class_names
        labelled = zip(source.samples, source.labels(), strict=True)
        samples = [Sample(sample.path) for sample, label in labelled if text_key(names[label]) not in known]
    else:
        found = find_pictures([outside])
        store, samples = found.store, [Sample(path) for path in dict.fromkeys(found.paths)]
    if not samples:
        way_out = "Set data.classes=base or new" if outside == OTHER else "Choose pictures of other classes"
        raise DataError(f"data.outside={outside} has no pictures outside the classes of {dataset.name!r}. {way_out}.")
    outside_ones = replace(dataset, name=f"{dataset.name}{OUTSIDE}", samples=samples, store=store, size=0, others=())
    return replace(outside_ones, notes=[f"pictures of none of the classes, from data.outside={outside}"])


class EpisodeDataModule(LightningDataModule):
    """One test loader per dataset, in order.

    A batch is the unit of work.  Its images depend only on the settings, so its results are bit-equal in any process
    and at any time.  Of N processes, process r runs the remaining batches r, r + N, ...; for stream methods, processes
    run whole datasets instead.

    Args:
        datasets: the dataset or datasets to test on; their names must differ.
        batch_size: images per batch.
        num_workers: number of data-loading workers; 0 loads in the main process.
        on_bad_image: "error" stops at an unreadable image; "skip" leaves it out and lists it in the results.
        pin_memory: whether batches are page-locked, for a GPU.
        order, order_seed, order_concentration: order of the images in each dataset, see `stream_order`.  Except for
            rounding, it only affects stream methods.
        classes: "all", or "base" or "new" for a half of the classes of each dataset.
        limit, seed: number of images of each dataset, drawn with this seed; None uses all.
        outside, outside_root: pictures of unknown classes that each dataset is also tested on, see `with_outside`.
    """

    @checked
    def __init__(
        self,
        datasets: ImageDataset | Sequence[ImageDataset],
        batch_size: Count = 8,
        num_workers: Natural = 0,
        on_bad_image: Literal["error", "skip"] = "error",
        pin_memory: bool = False,
        order: Order = "listed",
        order_seed: Seed = 0,
        order_concentration: Positive = 0.1,
        classes: Classes = "all",
        limit: Count | None = None,
        seed: Seed = 0,
        outside: str | None = None,
        outside_root: str | None = None,
    ) -> None:
        super().__init__()
        datasets = [datasets] if isinstance(datasets, ImageDataset) else datasets
        datasets = [dataset.half(classes).subset(limit, seed) for dataset in datasets]
        datasets = with_outside(datasets, outside, outside_root, limit, seed)
        names = [d.name for d in datasets]
        if not names:
            raise UserError("Expected at least one dataset, got none; see conf/data.")
        if len(set(names)) < len(names):
            raise UserError(f"Expected datasets of different names, got {', '.join(names)}; pass data.name.")
        if taken := {*names} & {*AVERAGES}:
            raise UserError(f"Expected another name than those of averages, got {', '.join(taken)}; pass data.name.")
        self.datasets, self.batch_size = list(datasets), batch_size
        self.num_workers, self.on_bad_image, self.pin_memory = num_workers, on_bad_image, pin_memory
        self.orders = {
            d.name: stream_order([s.label for s in d.samples], order, f"{order_seed}/{d.name}", order_concentration)
            for d in self.datasets
        }
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer batches than processes
        self._make_views: ViewMaker | Mapping[bool, ViewMaker] | None = None
        self._done: Mapping[str, Collection[int]] = {}
        self._cache: FeatureCache | None = None
        self._whole = False

    def use_views(self, make_views: ViewMaker | Mapping[bool, ViewMaker]) -> EpisodeDataModule:
        """Sets how views are made, which depends on the backbone; a mapping has one maker per value of `augmix`."""
        self._make_views = make_views
        return self

    def make_views(self, dataset: ImageDataset) -> Any:
        """The maker of a dataset's views."""
        assert self._make_views is not None, "call use_views first"
        return self._make_views[dataset.augmix] if isinstance(self._make_views, Mapping) else self._make_views

    def num_views(self, view_0_serves: bool = False) -> list[tuple[ImageDataset, int | None]]:
        """Every dataset with its number of views; None if the maker does not specify it.

        Args:
            view_0_serves: whether the method can work with view 0 only, if a feature file has no other views.

        Raises:
            DataError: a feature file has fewer views than the run uses.
        """
        found = []
        for dataset in self.datasets:
            wanted: int | None = getattr(self.make_views(dataset), "num_views", None)
            have = dataset.store.num_views if isinstance(dataset.store, FeatureRows) else None
            if wanted is not None and have is not None and have < wanted:
                if have > 1 or not view_0_serves:
                    raise DataError(
                        f"Expected {wanted} views of each image in {dataset.store.root}, got {have}; set "
                        f"views.num_views={have}, choose a method that needs no views, or export more views."
                    )
                wanted = have
            found.append((dataset, wanted))
        return found

    def on_after_batch_transfer(self, batch: EpisodeBatch, dataloader_idx: int) -> EpisodeBatch:
        """Makes the views on the device, if the loader only drew their random numbers."""
        if isinstance(batch.views, list):
            batch = replace(batch, views=self.make_views(self.datasets[dataloader_idx]).render(batch.views))
        return batch

    def use_cache(self, cache: FeatureCache) -> EpisodeDataModule:
        """Uses features from `cache` for images that were encoded before."""
        self._cache = cache
        return self

    def leave_out(self, done: Mapping[str, Collection[int]]) -> EpisodeDataModule:
        """Skips batches whose images all have a record already; `done` has their indices by dataset."""
        self._done = done
        return self

    def keep_whole(self, whole: bool = True) -> EpisodeDataModule:
        """Gives each dataset to one process, since no other can continue its stream."""
        self._whole = whole
        return self

    def batches(self, dataset: ImageDataset) -> list[list[int]]:
        """The remaining batches of a dataset, for all processes together."""
        done, order = self._done.get(dataset.name, ()), self.orders[dataset.name]
        every = [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]
        return [batch for batch in every if any(index not in done for index in batch)]

    def shares(self, processes: int) -> list[list[list[list[int]]]]:
        """The remaining batches, by dataset and process."""
        every = [self.batches(dataset) for dataset in self.datasets]
        if not self._whole:
            return [[batches[rank::processes] for rank in range(processes)] for batches in every]
        found: list[list[list[list[int]]]] = [[[] for _ in range(processes)] for _ in every]
        load = [0] * processes
        for number in sorted(range(len(every)), key=lambda number: -len(every[number])):
            rank = load.index(min(load))
            found[number][rank] = every[number]
            load[rank] += len(every[number])
        return found

    def test_dataloader(self) -> list[DataLoader[_Episode]]:
        """A loader for each dataset, with this process's batches."""
        processes, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        makers, shares = [self.make_views(dataset) for dataset in self.datasets], self.shares(processes)
        shelves = [CachedViews(maker, None) if self._cache is None else self._cache.shelf(maker) for maker in makers]
        idle = sum(not any(share[other] for share in shares) for other in range(processes))
        if self._whole and idle and rank == 0 and any(any(share) for share in shares):
            log.warning(
                "%d of %d processes %s nothing to do: a stream cannot be divided, so each takes whole datasets.",
                *(idle, processes, "has" if idle == 1 else "have"),
            )
        return [
            Loader(
                _Episodes(dataset, shelf, self.on_bad_image == "skip", self.orders[dataset.name]),
                batch_sampler=share[rank],
                num_workers=self.num_workers,
                collate_fn=partial(_collate, num_views=shelf.num_views),
                pin_memory=self.pin_memory,
            )
            for dataset, shelf, share in zip(self.datasets, shelves, shares, strict=True)
        ]
