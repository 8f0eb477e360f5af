"""Pictures that are given in memory: PIL images, arrays, tensors."""

from __future__ import annotations

import io
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tpt.errors import BadImageError, UserError

CHANNELS = (1, 3, 4)


def is_one(images: Any) -> bool:
    """Whether it is one picture, not several: a path, an image, an array or tensor without an axis of a batch."""
    return isinstance(images, str | PurePath | Image.Image) or len(getattr(images, "shape", (0,) * 4)) in (2, 3)


def as_image(picture: Any, number: int) -> Image.Image:
    """A picture in memory as a PIL image.

    Args:
        picture: a PIL image; or an array or tensor (H, W), (H, W, C) or (C, H, W) of 1, 3 or 4 channels, of which those
            of PyTorch have their channels first: whole numbers from 0 to 255, truth values, or fractions from 0 to 1.
        number: of it among those that are given.

    Raises:
        UserError: it is no picture.
    """
    if isinstance(picture, Image.Image):
        return picture
    if not hasattr(picture, "shape"):
        raise UserError(
            f"Expected a path, a PIL image, an array or a tensor as picture {number}, got {type(picture).__name__}; "
            "convert it."
        )
    first = hasattr(picture, "detach")  # of PyTorch
    if first:
        picture = picture.detach().cpu()
        picture = picture.float() if picture.is_floating_point() else picture  # NumPy has no bfloat16
    return Image.fromarray(_bytes(_channels_last(np.asarray(picture), first, number), number))


def _channels_last(array: np.ndarray, first: bool, number: int) -> np.ndarray:
    """The array as (H, W), (H, W, 3) or (H, W, 4)."""
    axes = [axis for axis in ((0, 2) if first else (2, 0)) if array.ndim == 3 and array.shape[axis] in CHANNELS]
    if not array.size or not (array.ndim == 2 or axes):
        raise UserError(
            f"Expected an array (H, W), (H, W, C) or (C, H, W) of 1, 3 or 4 channels as picture {number}, got "
            f"{array.shape} of {array.dtype}; convert it."
        )
    last = np.moveaxis(array, axes[0], -1) if axes else array
    return last[..., 0] if axes and last.shape[-1] == 1 else last


def _bytes(array: np.ndarray, number: int) -> np.ndarray:
    """The same pixels as whole numbers of eight bits; greys of sixteen stay, since Pillow has them."""
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2):
        return np.ascontiguousarray(array)
    kind, most = array.dtype.kind, 1 if array.dtype.kind in "bf" else 255
    if kind not in "biuf" or not (array.min() >= 0 and array.max() <= most):
        what = f"from {array.min():g} to {array.max():g}" if kind in "iuf" else "others"
        raise UserError(
            f"Expected whole numbers from 0 to 255 or fractions from 0 to 1 in picture {number}, got {array.dtype} "
            f"{what}; undo its normalization, or scale it."
        )
    return np.ascontiguousarray(np.rint(array * (255 / most)).astype(np.uint8))


def as_file(image: Image.Image) -> bytes:
    """A file of the same pixels, upright as the camera held it, so that it is read as files are."""
    try:
        upright = ImageOps.exif_transpose(image)
        buffer = io.BytesIO()
        upright.save(buffer, "PPM" if upright.mode == "RGB" else "TIFF")  # which are quick to write and to read
        return buffer.getvalue()
    except Exception as error:  # of many kinds: its file was closed or is damaged, or no format has its mode
        raise BadImageError(
            f"Expected an image that can be read, but it cannot ({error}); open it anew.", f"cannot be read: {error}"
        ) from error
