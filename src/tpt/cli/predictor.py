"""`tpt.predict`: predictions for pictures given as paths, PIL images, arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from tpt.cli.compose import Parts, compose, picture_method
from tpt.cli.options import own_options
from tpt.clip.model import CLIP
from tpt.data import EpisodeDataModule
from tpt.data.pictures import Picture, class_list, given_pictures, is_one
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.engine.tasks.outcome import cut
from tpt.errors import Count, Seed, checked
from tpt.results.predictions import Predictions, prediction_of


@checked
def predict(
    images: Picture | Sequence[Picture],
    class_names: str | Path | Sequence[str],
    *,
    method: str = "tpt",
    backbone: str | CLIP = "emoji_mini",
    pretrained: str | None = None,
    num_views: Count = 64,
    top: Count = 5,
    batch_size: Count = 8,
    seed: Seed = 0,
    device: str | torch.device | None = None,
    settings: str | Sequence[str] = (),
    config_dir: str | Path | None = None,
    progress: bool = True,
) -> Predictions:
    """Predicts the class of each picture, before and after adaptation to that picture alone.

    The answer depends only on the pixels, up to rounding: not on the file name, nor on the other pictures.

    Args:
        images: one or more pictures: paths of files, folders and zip archives, patterns, PIL images, or arrays and
            tensors (H, W), (H, W, C) or (C, H, W), integers up to 255 or floats up to 1; or a batch of these.
        class_names: at least two: a list, a text file with one name per line, or a comma-separated text.
        method: an option of `conf/method`: "tpt", "zero_shot" and others.
        backbone: a CLIP, or an option of `conf/backbone`; "emoji_mini" is the bundled one, trained only on drawings.
        pretrained: weights of the backbone, if the option needs them: a tag of open_clip, or a file.
        num_views: V: the picture itself and V - 1 random crops.
        top: number of most probable classes in each answer.
        batch_size: pictures per batch; affects only rounding.
        seed: of the random views.
        device: where to compute; None takes a GPU if there is one.
        settings: one or more further settings, as on the command line of tpt-test, such as "method.steps=2".
        config_dir: a folder with your own options, such as `method/mine.yaml`.
        progress: shows a progress bar on stderr if there is more than one batch.

    Returns:
        One answer per picture, in order; for an unreadable picture, `problem` says why.

    Raises:
        UserError: a file, option or setting does not exist, or two class names are equal to the model.
    """
    further = [settings] if isinstance(settings, str) else settings
    given: list[Any] = [images] if is_one(images) else list(images)  # type: ignore[arg-type] # a single one is no sequence
    own = backbone if isinstance(backbone, CLIP) else None
    groups = [("method", method), *([("backbone", backbone)] if isinstance(backbone, str) else [])]
    names = class_list(class_names)
    if not given:
        return Predictions([])
    dataset = given_pictures(given, names)
    with own_options(config_dir):
        made = picture_method(method, "predict")
        values = {"views.num_views": num_views if made.selects else min(num_views, 1), "seed": seed}
        weights = {} if pretrained is None else {"backbone.pretrained": pretrained}
        parts = Parts.of(compose(groups, {**values, **weights}.items(), further), own, device)
    data = EpisodeDataModule([dataset], batch_size, on_bad_image="skip").use_views(parts.views)
    parts.make_method.check(data.num_views())
    task = AdaptationTask(parts.clip, parts.make_method, [dataset], encoders=parts.make_method.encoders)
    task.to(parts.clip.device).on_test_start()
    batches = (data.on_after_batch_transfer(batch.to(task.device), 0) for batch in data.test_dataloader()[0])
    rows = (row for number, batch in enumerate(batches) for row in task.test_step(batch, number).rows)
    hidden = not progress or len(dataset) <= batch_size
    shown = track(rows, "Pictures", len(dataset), console=Console(stderr=True), disable=hidden)
    return Predictions([prediction_of(cut(row, names, top)) for row in shown])
