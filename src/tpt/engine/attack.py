"""Adversarial copies of a dataset's images, in the dataset's layout."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tpt.clip.model import CLIP
from tpt.data.dataset import ImageDataset
from tpt.data.store import FileStore
from tpt.errors import Count, Positive, Seed, UserError, checked
from tpt.files import read_bytes, write_json, writing
from tpt.methods.base import Method
from tpt.methods.functional.attack import pgd
from tpt.views.maker import whole_picture

LISTS = (".txt", ".csv", ".tsv", ".json", ".mat")  # files in which datasets list their images


@checked
def attack_dataset(
    dataset: ImageDataset,
    method: Method,
    folder: Path,
    root: Path | None = None,
    eps: Annotated[float, Ge(1), Le(255)] = 4.0,
    step: Positive | None = None,
    steps: Count = 7,
    seed: Seed = 0,
    batch_size: Count = 32,
) -> Path:
    """Writes adversarial copies of a dataset's images, made to mislead a method's first prediction.

    Each image is cropped to the backbone's input square, attacked there by projected gradient descent from a random
    start, and written as PNG under its original name, even if that has another suffix, because the dataset's lists use
    it.  The same settings on the same device write the same bytes.

    Args:
        dataset: a labelled dataset in a folder or a zip archive.
        method: the method to attack, such as `ZeroShot`.
        folder: folder of the copies; the dataset's own folder in it is returned.
        root: folder of all datasets, whose layout is kept; None, and archives, get a folder named after the dataset.
        eps: largest change of a pixel, in units of 1/255.
        step: step size, in units of 1/255; None uses a quarter of `eps`, as in R-TPT's code.
        steps: number of steps of gradient ascent.
        seed: seed of the random starts, combined with each image's name.
        batch_size: images attacked in parallel; affects only rounding.

    Raises:
        UserError: the folder holds copies made with other settings.
        DataError: the images have no labels, or one cannot be read.
    """
    store, labels, clip = dataset.store, dataset.labels(), method.clip
    if not isinstance(store, FileStore):
        raise UserError(
            f"Expected {dataset.name!r} in a folder or a zip archive, got another source; save it in a folder."
        )
    inside = Path(dataset.name)
    if root is not None and not store.is_archive and store.root.absolute().is_relative_to(root.absolute()):
        inside = store.root.absolute().relative_to(root.absolute())
        _copy_lists(root, inside.parts[0] if inside.parts else "", folder)
    step = eps / 4 if step is None else step
    settings = {"eps": eps, "step": step, "steps": steps, "seed": seed, "batch_size": batch_size}
    about = {**settings, "dataset": dataset.fingerprint(), "backbone": clip.fingerprint(), "device": clip.device.type}
    _begin(folder / f"attack_{dataset.name}.json", about)
    for first in range(0, len(dataset), batch_size):  # fixed batches, so that resuming gives the same bytes
        indices = range(first, min(first + batch_size, len(dataset)))
        paths = [folder / inside / dataset.samples[index].path for index in indices]
        if all(path.is_file() for path in paths):
            continue
        true = torch.tensor([labels[index] for index in indices])
        for path, pixels in zip(paths, _attacked(dataset, indices, true, method, seed, eps, step, steps), strict=True):
            with writing(path) as partial:
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(partial, format="PNG")
    return folder / inside


def _attacked(
    dataset: ImageDataset, indices: range, labels: Tensor, method: Method, seed: int, eps: float, *ascent: Any
) -> Tensor:
    """(B, 3, H, W) attacked images, uint8 on the CPU; `ascent` is the size and the number of steps."""
    clip: CLIP = method.clip
    square = whole_picture(clip.image_size, clip.resize, clip.interpolation)
    images = [dataset.image(index) for index in indices]
    shape = (3, clip.image_size, clip.image_size)
    names = [dataset.view_identity(index, image) for index, image in zip(indices, images, strict=True)]
    start = eps * torch.stack([_noise(f"attack/{seed}/{name}", shape) for name in names]).to(clip.device)
    pixels = torch.stack([pil_to_tensor(square(image)) for image in images]).float().to(clip.device)
    with torch.no_grad():
        text = method.bank(clip.encode_pixels(pixels))

    def logits_of(changed: Tensor) -> Tensor:
        logits: Tensor = clip.logit_scale * (clip.encode_pixels(changed)[:, None] @ text.mT).squeeze(1)
        return logits

    return pgd(pixels, labels.to(clip.device), logits_of, start, eps, *ascent).byte().cpu()


def _noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise in [-1, 1), seeded with a name, the same on every device."""
    digits = hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()[:8]
    drawn = torch.Generator().manual_seed(int.from_bytes(digits) >> 1)
    return 2 * torch.rand(shape, generator=drawn) - 1


def _begin(path: Path, about: dict[str, Any]) -> None:
    """Writes the settings next to the copies, or compares them with those of existing copies."""
    if not path.is_file():
        write_json(about, path)
        return
    found = json.loads(read_bytes(path))
    for key in (key for key, value in about.items() if found.get(key) != value):
        raise UserError(
            f"Expected the settings of the existing copies in {path.parent}, where {key} is {found.get(key)}, got "
            f"{about[key]}; choose another folder."
        )


def _copy_lists(root: Path, inside: str, folder: Path) -> None:
    """Copies the files that list a dataset's images, in their layout; CoOp's lists may be next to its folder."""
    for source in [*root.glob("*"), *root.glob("*splits/*"), *(root / inside).rglob("*")]:
        target = folder / source.relative_to(root)
        if source.suffix.lower() in LISTS and source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
