"""`tpt-cache export`: writes the view features of a run or a dataset into one file."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tpt.cli.compose import Parts, compose, compose_again
from tpt.cli.resume import START
from tpt.data import EpisodeDataModule, ImageDataset
from tpt.data.features import FEATURES, NORMS, SUFFIXES, TEXT, save_features, stack
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.files import is_file, with_suffix


def export(source: str, file: Path, settings: Sequence[str] = ()) -> int:
    """Writes the features of a run's directory or an option of `conf/data`; returns the number of images."""
    file = with_suffix(file, SUFFIXES).absolute()
    if is_file(Path(source) / START):
        cfg = compose_again(Path(source).absolute(), settings)
    else:
        cfg = compose([("data", source)], overrides=settings)
    parts = Parts.of(cfg)
    clip = parts.clip
    data: EpisodeDataModule = instantiate(cfg.data.module).use_views(parts.views)
    cache = instantiate(cfg.cache)(clip, clip.device.type, str(cfg.trainer.get("precision", "32-true")))
    task = AdaptationTask(clip, parts.make_method, data.use_cache(cache).datasets, cache=cache)
    found = [_features(number, dataset, data, task) for number, dataset in enumerate(data.datasets)]
    cache.close(lambda counts: counts, torch.device("cpu"))
    about = {"name": clip.name, "weights": clip.encoding()["weights"], "precision": clip.precision}
    save_features(file, found, {**about, "views": OmegaConf.to_container(cfg.views, resolve=True)})
    return sum(len(about["paths"]) for about, _ in found)


@torch.no_grad()
def _features(
    number: int, dataset: ImageDataset, data: EpisodeDataModule, task: AdaptationTask
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The description and the tensors of one dataset, in the order of its images."""
    rows: list[tuple[Any, ...]] = []
    for loaded in data.test_dataloader()[number]:
        batch = data.on_after_batch_transfer(loaded.to(task.clip.device), number)
        features, extras = task.features(batch)
        rows += zip(batch.indices.tolist(), batch.contents, features, extras["image_norm"], strict=True)
    indices, contents, made, norms = map(list, zip(*sorted(rows, key=itemgetter(0)), strict=True))
    samples = [dataset.samples[index] for index in indices]
    own = ("name", "class_names", "notes", "size", "split", "template", "augmix")
    about = {name: getattr(dataset, name) for name in own} | {"root": str(dataset.store.root)}
    about |= {"paths": [one.path for one in samples], "labels": [one.label for one in samples], "contents": contents}
    bank = task.method(number).bank
    tensors = {FEATURES: stack(made), NORMS: stack(norms)}
    return about, tensors if bank.conditional is not None else {**tensors, TEXT: bank().detach().float().cpu().clone()}
