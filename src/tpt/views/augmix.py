"""AugMix (Hendrycks et al., ICLR 2020) as in the official code of TPT, with severity 1 by default.

torchvision's `AugMix` is not used because it differs: here there are nine operations, none on colours; magnitudes are
drawn below the severity; rotation and translation are truncated to whole degrees and pixels; chains are mixed after
normalisation; and the weight multiplies the original, not the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from PIL import Image, ImageOps

from tpt.errors import checked

_BILINEAR = Image.Resampling.BILINEAR
Draw = Callable[[float, np.random.Generator, int, int], float]  # severity, random generator, width, height


@dataclass(frozen=True)
class Operation:
    """One of the nine operations: how its magnitude is drawn, and how it changes an image.

    Args:
        name: name of the operation.
        draw: draws its signed magnitude; 0 if it has none.
        apply: applies the operation with that magnitude.
    """

    name: str
    draw: Draw
    apply: Callable[[Image.Image, float], Image.Image]


def _level(severity: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(0.1, severity))


def _signed(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() > 0.5 else value


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=_BILINEAR)


# Stretches each channel to 0..255.
autocontrast = Operation("autocontrast", lambda s, rng, w, h: 0.0, lambda im, _: ImageOps.autocontrast(im))
# Flattens each channel's histogram.
equalize = Operation("equalize", lambda s, rng, w, h: 0.0, lambda im, _: ImageOps.equalize(im))
# Keeps 4 bits per channel, fewer at higher severities.
posterize = Operation(
    "posterize",
    lambda s, rng, w, h: 4 - int(_level(s, rng) * 4 / 10),
    lambda im, bits: ImageOps.posterize(im, int(bits)),
)
# Rotates by whole degrees: 0 to 2 at severity 1.
rotate = Operation(
    "rotate",
    lambda s, rng, w, h: _signed(int(_level(s, rng) * 30 / 10), rng),
    lambda im, degrees: im.rotate(degrees, resample=_BILINEAR),
)
# Inverts values from a threshold on: 256 minus 2 to 25 at severity 1.
solarize = Operation(
    "solarize",
    lambda s, rng, w, h: 256 - int(_level(s, rng) * 256 / 10),
    lambda im, threshold: ImageOps.solarize(im, int(threshold)),
)
# Shears along x or y by up to 0.03 at severity 1.
shear_x = Operation(
    "shear_x",
    lambda s, rng, w, h: _signed(_level(s, rng) * 0.3 / 10, rng),
    lambda im, shear: _affine(im, (1, shear, 0, 0, 1, 0)),
)
shear_y = Operation(
    "shear_y",
    lambda s, rng, w, h: _signed(_level(s, rng) * 0.3 / 10, rng),
    lambda im, shear: _affine(im, (1, 0, 0, shear, 1, 0)),
)
# Translates along x or y by whole pixels, up to 1/30 of the side at severity 1.
translate_x = Operation(
    "translate_x",
    lambda s, rng, w, h: _signed(int(_level(s, rng) * (w / 3) / 10), rng),
    lambda im, pixels: _affine(im, (1, 0, pixels, 0, 1, 0)),
)
translate_y = Operation(
    "translate_y",
    lambda s, rng, w, h: _signed(int(_level(s, rng) * (h / 3) / 10), rng),
    lambda im, pixels: _affine(im, (1, 0, 0, 0, 1, pixels)),
)

OPERATIONS = (autocontrast, equalize, posterize, rotate, solarize, shear_x, shear_y, translate_x, translate_y)


@dataclass(frozen=True)
class Mixture:
    """The random numbers of one view.

    Args:
        weights: weights of the chains.
        keep: m, the weight of the unchanged view.
        chains: operations of each chain, as (index in `OPERATIONS`, magnitude).
    """

    weights: np.ndarray
    keep: np.float32
    chains: list[list[tuple[int, float]]]


class AugMix:
    """Mixes an image with the results of random chains of operations.

    With w ~ Dirichlet(1, 1, 1) and m ~ Beta(1, 1), the result is `m * image + (1 - m) * sum_i w_i * chain_i(image)`.

    Args:
        severity: severity of the operations, at least 0.1; the paper's 1.
        width: number of chains.
    """

    @checked
    def __init__(self, severity: Annotated[float, Ge(0.1), "use augmix=null for none"] = 1.0, width: int = 3) -> None:
        self.severity = severity
        self.width = width

    def about(self) -> dict[str, Any]:
        """Everything that mixtures depend on besides the image and the random numbers."""
        return {"severity": self.severity, "width": self.width}

    def draw(self, rng: np.random.Generator, width: int, height: int) -> Mixture:
        """Draws the mixture of a view of `width` x `height` pixels; `rng` is the only source of randomness."""
        weights = rng.dirichlet(np.ones(self.width)).astype(np.float32)
        keep = np.float32(rng.beta(1.0, 1.0))
        chains = []
        for _ in range(self.width):
            chain = []
            for _ in range(rng.integers(1, 4)):
                index = int(rng.integers(len(OPERATIONS)))
                chain.append((index, OPERATIONS[index].draw(self.severity, rng, width, height)))
            chains.append(chain)
        return Mixture(weights, keep, chains)

    def __call__(
        self, image: Image.Image, normalise: Callable[[Image.Image], np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """The mixture of the normalised images.

        Args:
            image: the view, already cropped.
            normalise: converts an image to the array that is mixed.
            rng: the only source of randomness.
        """
        drawn = self.draw(rng, *image.size)
        mixture = np.zeros((), dtype=np.float32)
        for weight, chain in zip(drawn.weights, drawn.chains, strict=True):
            changed = image
            for index, value in chain:
                changed = OPERATIONS[index].apply(changed, value)
            mixture = mixture + weight * normalise(changed)
        return np.asarray(drawn.keep * normalise(image) + (1 - drawn.keep) * mixture, dtype=np.float32)
