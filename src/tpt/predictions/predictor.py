"""Answers for pictures in one call: paths, PIL images, arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image

from tpt.backbones.clip import CLIP
from tpt.data import EpisodeDataModule, ImageDataset, Sample
from tpt.data.pictures import PictureStore, class_list, find_pictures
from tpt.errors import UserError
from tpt.parts import Parts
from tpt.predictions.prediction import Prediction, Predictions, prediction_of
from tpt.tasks import AdaptationTask
from tpt.tasks.outcome import cut

Picture = str | Path | Image.Image | np.ndarray


def predict(
    images: Picture | Sequence[Picture],
    class_names: str | Path | Sequence[str],
    *,
    method: str = "tpt",
    backbone: str | CLIP = "emoji_mini",
    pretrained: str | None = None,
    num_views: int = 64,
    top: int = 5,
    batch_size: int = 8,
    seed: int = 0,
    device: str | torch.device | None = None,
    settings: Sequence[str] = (),
) -> Predictions:
    """The answer for each picture, without a label, before and after adaptation to that picture alone.

    The same pixels get the same answer, up to last digits: as a path, as an image, under any name, in any company.

    Args:
        images: one picture or several: paths of files, folders and zip archives, patterns, PIL images, or arrays
            (H, W, 3) or (H, W) of uint8.
        class_names: at least two: a list, a text file with a name a line, or a text with commas.
        method: an option of `conf/method`: "tpt", "zero_shot" and others.
        backbone: a CLIP, or an option of `conf/backbone`; "emoji_mini" is the bundled one, which knows drawings alone.
        pretrained: weights of the backbone, where the option asks for them: a tag of open_clip, or a file.
        num_views: V, the picture itself and random crops of it.
        top: likeliest classes in each answer.
        batch_size: pictures adapted to side by side; moves last digits alone.
        seed: of the views.
        device: where to compute; None takes a GPU if there is one.
        settings: others, as on the command line of test_time.py, such as "method.steps=2".

    Returns:
        An answer for each picture, in their order; of one that cannot be read, what its problem is.

    Raises:
        UserError: there is no such file, option or setting, or the class names cannot be told apart.
    """
    given = [images] if isinstance(images, str | PurePath | Image.Image | np.ndarray) else list(images)
    weights = () if pretrained is None else (("backbone.pretrained", pretrained),)
    parts = Parts.of(
        (("method", method), *((("backbone", backbone),) if isinstance(backbone, str) else ()), *weights),
        (("views.num_views", num_views), ("seed", seed)),
        settings,
        clip=backbone if isinstance(backbone, CLIP) else None,
        device=device,
    )
    dataset = dataset_of(given, class_list(class_names))
    return Predictions(list(_stream(parts, dataset, batch_size, top))) if given else Predictions([])


def _stream(parts: Parts, dataset: ImageDataset, batch_size: int, top: int) -> Iterator[Prediction]:
    """Predictions, a batch after another."""
    data = EpisodeDataModule([dataset], batch_size, on_bad_image="skip").use_views(parts.views)
    task = AdaptationTask(parts.clip, parts.make_method, [dataset])
    for number, batch in enumerate(data.test_dataloader()[0]):
        here = data.on_after_batch_transfer(batch.to(parts.clip.device), 0)
        for row in task.test_step(here, number).rows:
            yield prediction_of(cut(row, dataset.class_names, top))
