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

from tpt.errors import Count, checked

_BILINEAR = Image.Resampling.BILINEAR


def _level(severity: float, rng: np.random.Generator, most: float) -> float:
    """A magnitude that is `most` at severity 10."""
    return float(rng.uniform(0.1, severity)) * most / 10


def _signed(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() > 0.5 else value


# Operation -> its magnitude from severity, random generator, width and height; the others have none.
_DRAWS: dict[str, Callable[[float, np.random.Generator, int, int], float]] = {
    "posterize": lambda s, rng, w, h: 4 - int(_level(s, rng, 4)),  # bits per channel: 4, fewer at higher severities
    "rotate": lambda s, rng, w, h: _signed(int(_level(s, rng, 30)), rng),  # whole degrees: 0 to 2 at severity 1
    "solarize": lambda s, rng, w, h: 256 - int(_level(s, rng, 256)),  # values from this threshold on are inverted
    "shear_x": lambda s, rng, w, h: _signed(_level(s, rng, 0.3), rng),  # by up to 0.03 at severity 1
    "shear_y": lambda s, rng, w, h: _signed(_level(s, rng, 0.3), rng),
    "translate_x": lambda s, rng, w, h: _signed(int(_level(s, rng, w / 3)), rng),  # whole pixels, up to 1/30 of a side
    "translate_y": lambda s, rng, w, h: _signed(int(_level(s, rng, h / 3)), rng),
}
# Operation -> its affine map from pixels of the result to pixels of the image, as Pillow takes it.
AFFINE: dict[str, Callable[[float], tuple[float, ...]]] = {
    "shear_x": lambda shear: (1, shear, 0, 0, 1, 0),
    "shear_y": lambda shear: (1, 0, 0, shear, 1, 0),
    "translate_x": lambda pixels: (1, 0, pixels, 0, 1, 0),
    "translate_y": lambda pixels: (1, 0, 0, 0, 1, pixels),
}
_OTHERS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda im, _: ImageOps.autocontrast(im),
    "equalize": lambda im, _: ImageOps.equalize(im),
    "posterize": lambda im, bits: ImageOps.posterize(im, int(bits)),
    "rotate": lambda im, degrees: im.rotate(degrees, resample=_BILINEAR),
    "solarize": lambda im, threshold: ImageOps.solarize(im, int(threshold)),
}
OPERATIONS = (*_OTHERS, *AFFINE)


def draw_magnitude(operation: str, severity: float, rng: np.random.Generator, width: int, height: int) -> float:
    """Draws the signed magnitude of an operation on an image of this size; 0 if it has none."""
    return _DRAWS[operation](severity, rng, width, height) if operation in _DRAWS else 0.0


def apply_operation(operation: str, image: Image.Image, magnitude: float) -> Image.Image:
    """The image after an operation with a magnitude from `draw_magnitude`."""
    if operation in _OTHERS:
        return _OTHERS[operation](image, magnitude)
    return image.transform(image.size, Image.Transform.AFFINE, AFFINE[operation](magnitude), resample=_BILINEAR)


@dataclass(frozen=True)
class Mixture:
    """The random numbers of one view."""

    weights: np.ndarray  # of the chains
    keep: np.float32  # m, the weight of the unchanged view
    chains: list[list[tuple[str, float]]]  # operations of each chain and their magnitudes


class AugMix:
    """Mixes an image with the results of random chains of operations.

    With w ~ Dirichlet(1, 1, 1) and m ~ Beta(1, 1), the result is `m * image + (1 - m) * sum_i w_i * chain_i(image)`.

    Args:
        severity: severity of the operations, at least 0.1; the paper's 1.
        width: number of chains.
    """

    @checked
    def __init__(self, severity: Annotated[float, Ge(0.1), "use augmix=null for none"] = 1.0, width: Count = 3) -> None:
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
                operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
                chain.append((operation, draw_magnitude(operation, self.severity, rng, width, height)))
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
            for operation, magnitude in chain:
                changed = apply_operation(operation, changed, magnitude)
            mixture = mixture + weight * normalise(changed)
        return np.asarray(drawn.keep * normalise(image) + (1 - drawn.keep) * mixture, dtype=np.float32)
