"""AugMix (Hendrycks et al., ICLR 2020) as the official code of TPT applies it, severity 1 by default.

Differences from torchvision's `AugMix`, which is why it is not used: nine operations without colour ones,
magnitudes drawn below the severity, rotation and translation cut to whole degrees and pixels, chains mixed after
normalisation, and a weight that multiplies the original rather than the mixture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]

_BILINEAR = Image.Resampling.BILINEAR


def _level(severity: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(0.1, severity))


def _signed(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() > 0.5 else value


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=_BILINEAR)


def autocontrast(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Stretches each channel to 0..255."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Flattens each channel's histogram."""
    return ImageOps.equalize(image)


def posterize(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Keeps 4 bits a channel, fewer at higher severities."""
    return ImageOps.posterize(image, 4 - int(_level(severity, rng) * 4 / 10))


def rotate(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Turns by whole degrees: 0 to 2 at severity 1."""
    return image.rotate(_signed(int(_level(severity, rng) * 30 / 10), rng), resample=_BILINEAR)


def solarize(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Inverts what is brighter than 256 less 2 to 25 at severity 1."""
    return ImageOps.solarize(image, 256 - int(_level(severity, rng) * 256 / 10))


def shear_x(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Shears along x by up to 0.03 at severity 1."""
    return _affine(image, (1, _signed(_level(severity, rng) * 0.3 / 10, rng), 0, 0, 1, 0))


def shear_y(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Shears along y by up to 0.03 at severity 1."""
    return _affine(image, (1, 0, 0, _signed(_level(severity, rng) * 0.3 / 10, rng), 1, 0))


def translate_x(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Moves along x by whole pixels, up to a thirtieth of the width at severity 1."""
    return _affine(image, (1, 0, _signed(int(_level(severity, rng) * (image.width / 3) / 10), rng), 0, 1, 0))


def translate_y(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Moves along y by whole pixels, up to a thirtieth of the height at severity 1."""
    return _affine(image, (1, 0, 0, 0, 1, _signed(int(_level(severity, rng) * (image.height / 3) / 10), rng)))


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    posterize,
    rotate,
    solarize,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)


class AugMix:
    """Mixes an image with chains of operations on it.

    With w ~ Dirichlet(1, 1, 1) and m ~ Beta(1, 1), the result is `m * image + (1 - m) * sum_i w_i * chain_i(image)`.

    Args:
        severity: of the operations, above 0; the paper's 1.
        width: number of chains.
    """

    def __init__(self, severity: float = 1.0, width: int = 3) -> None:
        if severity < 0.1:
            raise ValueError(f"Expected `severity` of at least 0.1, got {severity}; use augmix=false for none.")
        self.severity = severity
        self.width = width

    def __call__(
        self, image: Image.Image, normalise: Callable[[Image.Image], np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """The mixture of normalised images.

        Args:
            image: the view, already cropped.
            normalise: an image to the array that is mixed.
            rng: the only source of chance.
        """
        weights = rng.dirichlet(np.ones(self.width)).astype(np.float32)
        keep = np.float32(rng.beta(1.0, 1.0))
        mixture = np.zeros((), dtype=np.float32)
        for weight in weights:
            changed = image
            for _ in range(rng.integers(1, 4)):
                changed = OPERATIONS[rng.integers(len(OPERATIONS))](changed, self.severity, rng)
            mixture = mixture + weight * normalise(changed)
        return np.asarray(keep * normalise(image) + (1 - keep) * mixture, dtype=np.float32)
