"""Makes the views of an image: the plain image and random crops of it."""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from tpt.errors import Count, Seed, UserError, checked
from tpt.views.augmix import AugMix
from tpt.views.batched import PlannedViews, crop_views, mix

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images
_STD = (0.26862954, 0.26130258, 0.27577711)


def whole_picture(image_size: int, resize: str = "shortest", interpolation: str = "bicubic") -> transforms.Compose:
    """The transform from an image to a square of `image_size` pixels, as in a model's training; see `Views`."""
    if resize not in ("shortest", "squash") or interpolation not in ("bicubic", "bilinear"):
        raise UserError(
            f"Expected `resize` to be shortest or squash and `interpolation` to be bicubic or bilinear, got {resize!r} "
            f"and {interpolation!r}."
        )
    mode = transforms.InterpolationMode(interpolation)
    if resize == "squash":
        return transforms.Compose([transforms.Resize((image_size, image_size), mode)])
    return transforms.Compose([transforms.Resize(image_size, mode), transforms.CenterCrop(image_size)])


class Views:
    """Makes the (V, 3, H, W) views of an image, always the same for the same seed and identity.

    View 0 is the plain image, prepared as in the model's training: for CLIP, resized (bicubic) to fit the shorter side
    and cropped at the centre.  The others are random resized crops of the original (area 0.08 to 1, aspect ratio 3/4 to
    4/3, bilinear), flipped with probability 1/2, as in the official code.  The paper adds AugMix on the ten
    fine-grained datasets, but not on ImageNet and its variants.

    `Views(**clip.preprocessing)` prepares images as for training the model; the defaults are those of OpenAI's models.

    Args:
        image_size: side of a view in pixels.
        num_views: V, at least 1; the paper's 64.
        augmix: applied to every random crop; None for none.
        seed: seed of all views, used together with the names of the dataset and the image.
        mean, std: mean and standard deviation per channel, for normalised views.
        made_on: "loader" makes views with PIL where the image is loaded.  "device" only draws the random numbers there
            and makes the views with tensors on the model's device, see `tpt.views.batched`.  The pixels agree up to
            rounding.
        resize: how view 0 is made: "shortest" (resize the shorter side and crop the centre) or "squash" (resize to a
            square).
        interpolation: interpolation of this resize, "bicubic" or "bilinear".

    Example:
        >>> make = Views(image_size=64, num_views=8)
        >>> picture = Image.new("RGB", (120, 90), "orange")
        >>> views = make(picture, "mine/1.png")
        >>> views.shape, views.dtype
        (torch.Size([8, 3, 64, 64]), torch.uint8)
        >>> torch.equal(make.more(4)(picture, "mine/1.png"), views[:4])  # the same views for any number
        True
    """

    @checked
    def __init__(
        self,
        image_size: Count,
        num_views: Count = 64,
        augmix: AugMix | None = None,
        seed: Seed = 0,
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
        made_on: Literal["loader", "device"] = "loader",
        resize: str = "shortest",
        interpolation: str = "bicubic",
    ) -> None:
        self.image_size = image_size
        self.num_views = num_views
        self.made_on = made_on
        self.augmix = augmix
        self.seed = seed
        self._mean = np.asarray(mean, dtype=np.float32).reshape(3, 1, 1)
        self._std = np.asarray(std, dtype=np.float32).reshape(3, 1, 1)
        self.resize, self.interpolation = resize, interpolation
        self._plain = whole_picture(image_size, resize, interpolation)
        self._random = transforms.Compose([transforms.RandomResizedCrop(image_size), transforms.RandomHorizontalFlip()])

    def about(self) -> dict[str, Any] | None:
        """Everything that pixels depend on besides image, identity and `num_views`; None if `augmix` has no `about`."""
        if self.augmix is not None and not hasattr(self.augmix, "about"):
            return None
        crop, flip = self._random.transforms
        return {
            "image_size": self.image_size,
            "whole": [self.resize, self.interpolation],
            "crops": {"scale": crop.scale, "ratio": crop.ratio, "flip": flip.p},
            "augmix": None if self.augmix is None else self.augmix.about(),
            "seed": self.seed,
            "normalised": None if self.augmix is None else [self._mean.tolist(), self._std.tolist()],
            "made_on": self.made_on,
            "code": [_code(type(part)) for part in (self, self.augmix) if part is not None],
        }

    def more(self, num_views: int) -> Self:
        """The same maker with another number of views; views that both make are equal."""
        other = copy.copy(self)
        other.num_views = num_views
        return other

    def __call__(self, image: Image.Image, identity: str) -> Tensor | PlannedViews:
        """The views of an image, or with `made_on="device"` the input of `render`.

        Args:
            image: RGB image.
            identity: names of the dataset and the image; the random numbers depend only on it and on `seed`.

        Raises:
            UserError: not an RGB image of PIL.
        """
        if not isinstance(image, Image.Image) or image.mode != "RGB":
            got = f"mode {image.mode}" if isinstance(image, Image.Image) else type(image).__name__
            raise UserError(f"Expected an RGB image of PIL, got {got}; use PIL.Image.open(FILE).convert('RGB').")
        return self.make(image, identity) if self.made_on == "loader" else self.plan(image, identity)

    def make(self, image: Image.Image, identity: str) -> Tensor:
        """The views made with PIL: uint8 pixels, or normalised floats with AugMix, which mixes normalised images."""
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(_number(self.seed, identity) % 2**63)
            crops = [self._plain(image), *(self._random(image) for _ in range(self.num_views - 1))]
        if self.augmix is None:
            return torch.from_numpy(np.stack([_pixels(crop) for crop in crops]))
        rng = np.random.default_rng(_number(self.seed, identity))
        mixed = [self.augmix(crop, self._normalise, rng) for crop in crops[1:]]
        return torch.from_numpy(np.stack([self._normalise(crops[0]), *mixed]))

    def plan(self, image: Image.Image, identity: str) -> PlannedViews:
        """The input of `render`, with the same random numbers as in `make`."""
        boxes, flips = [], []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_number(self.seed, identity) % 2**63)
            crop, flip = self._random.transforms
            for _ in range(self.num_views - 1):
                boxes.append(crop.get_params(image, crop.scale, crop.ratio))
                flips.append(bool(torch.rand(1) < flip.p))
        mixtures = None
        if self.augmix is not None:
            rng = np.random.default_rng(_number(self.seed, identity))
            mixtures = [self.augmix.draw(rng, self.image_size, self.image_size) for _ in boxes]
        pixels = torch.from_numpy(_pixels(image).copy())
        return PlannedViews(pixels, torch.tensor(boxes).reshape(-1, 4), torch.tensor(flips, dtype=torch.bool), mixtures)

    def render(self, plans: Sequence[PlannedViews]) -> Tensor:
        """(B, V, 3, H, W) views on the device of the plans, of the same type as from `make`."""
        views = torch.stack([crop_views(plan, self.image_size, self.resize, self.interpolation) for plan in plans])
        if self.augmix is None:
            return views
        mean, std = (torch.from_numpy(x).to(views.device) for x in (self._mean, self._std))

        def normalise(pixels: Tensor) -> Tensor:
            return (pixels.float() / 255 - mean) / std

        mixtures = [m for plan in plans for m in plan.mixtures or []]
        out = normalise(views)
        if mixtures:
            mixed = mix(views[:, 1:].flatten(0, 1), mixtures, normalise)
            out[:, 1:] = mixed.unflatten(0, (len(plans), -1))
        return out

    def _normalise(self, image: Image.Image) -> np.ndarray:
        return (_pixels(image).astype(np.float32) / 255 - self._mean) / self._std


@checked
def paper_views(image_size: int, augmix: AugMix, **settings: Any) -> dict[bool, Views]:
    """The paper's views, with AugMix (True) for the ten datasets of its Table 2 and without (False) for the others.

    Args:
        image_size, augmix, settings: as for `Views`.
    """
    return {mixed: Views(image_size, augmix=augmix if mixed else None, **settings) for mixed in (False, True)}


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1)


def _code(kind: type) -> str:
    """A digest of the source of a class's module and of its base classes' modules, which may be a user's own."""
    digest = hashlib.sha256(kind.__qualname__.encode())
    for base in kind.__mro__[:-1]:
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        digest.update(Path(file).read_bytes() if file and Path(file).is_file() else base.__module__.encode())
    return digest.hexdigest()[:16]


def _number(seed: int, identity: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{identity}".encode()).digest()[:16], "little")
