"""Pictures in memory: PIL images, arrays, tensors."""

from __future__ import annotations

import io
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tpt.errors import BadImageError, UserError

CHANNELS = (1, 3, 4)


def is_one(images: Any) -> bool:
    """Whether `images` is one picture: a path, an image, or an array or tensor without a batch axis."""
    return isinstance(images, str | PurePath | Image.Image) or len(getattr(images, "shape", (0,) * 4)) in (2, 3)


def as_image(picture: Any, number: int) -> Image.Image:
    """A picture in memory as a PIL image.

    Args:
        picture: a PIL image, or an array or tensor (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels; in PyTorch
            tensors the channels come first.  Values are integers from 0 to 255, booleans, or floats from 0 to 1.
        number: its number among the given pictures, for messages.
    """
    if isinstance(picture, Image.Image):
        return picture
    if not hasattr(picture, "shape"):
        raise UserError(
            f"Expected a path, a PIL image, an array or a tensor as picture {number}, got {type(picture).__name__}; "
            "convert it."
        )
    first = hasattr(picture, "detach")  # PyTorch has channels first
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
    """The pixels as 8-bit integers; 16-bit grey values stay, since Pillow supports them."""
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2):
        return np.ascontiguousarray(array)
    kind, most = array.dtype.kind, 1 if array.dtype.kind in "bf" else 255
    if kind not in "biuf" or not (array.min() >= 0 and array.max() <= most):
        what = f"from {array.min():g} to {array.max():g}" if kind in "iuf" else "others"
        raise UserError(
            f"Expected integers from 0 to 255 or floats from 0 to 1 in picture {number}, got {array.dtype} "
            f"{what}; undo the normalization, or rescale it."
        )
    return np.ascontiguousarray(np.rint(array * (255 / most)).astype(np.uint8))


def as_file(image: Image.Image) -> bytes:
    """The pixels as an encoded file, rotated by its EXIF orientation, so that it is read like any other file."""
    try:
        upright = ImageOps.exif_transpose(image)
        buffer = io.BytesIO()
        upright.save(buffer, "PPM" if upright.mode == "RGB" else "TIFF")  # fast to write and to read
        return buffer.getvalue()
    except Exception as error:  # many causes: a closed or damaged file, or a mode that no format supports
        raise BadImageError(f"Cannot read the image ({error}). Open it again.", f"cannot be read: {error}") from error
