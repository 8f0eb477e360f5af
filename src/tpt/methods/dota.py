"""DOTA: one Gaussian per class, estimated along the stream; Han et al., NeurIPS 2025."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from tpt.errors import NotNegative, Positive, UserError
from tpt.methods.functional.gaussians import (
    BAND,
    Batch,
    bands,
    by_band,
    by_matrix,
    discriminants,
    learn,
    mix_identity,
    repeated,
)
from tpt.methods.stream import Seen, State, StreamMethod
from tpt.methods.tuner import free_memory

FIRST_MEAN = 0.001  # in every coordinate
LEAST_EPSILON = 1e-6  # smaller values vanish in float32 rounding
FEATURES = 64  # maximum features per pass over the covariances


class DOTA(StreamMethod):
    """Adds the linear discriminant of class Gaussians to the zero-shot logits; its weight grows over the stream.

    As in the official code, each image is answered before the Gaussians are updated with it, and all classes share the
    mean of their covariances.  The state has K E (E + 64) / 2 floats: 0.6 GB for 1,000 classes and E = 512.  The images
    of a batch share one pass over it, so large batches are faster.  Answers for different batch sizes agree up to
    rounding.  The paper uses templates.

    Args:
        epsilon: weight of the identity matrix in the covariance, in [1e-6, 1].
        sigma: initial variance of each coordinate, above 0.
        eta: largest weight of the discriminant, at least 0.
        rho: growth of that weight with the mean number of images per class so far, at least 0.
        feature: as for `StreamMethod`; if it is "confident", each of the confident views updates the Gaussians.
    """

    paper: ClassVar = {
        "": {"feature": "view0", "epsilon": 1e-4, "sigma": 0.002, "eta": 0.2, "rho": 0.005},
        "natural_shift": {"feature": "confident"},
        "imagenet_a": {"eta": 0.5, "rho": 0.02},
        "imagenet_v2": {"eta": 0.1, "rho": 0.01},
        "imagenet_r": {"eta": 0.3, "rho": 0.0025},
        "imagenet_sketch": {"eta": 0.8, "rho": 0.03},
        "fgvc_aircraft": {"eta": 0.2, "rho": 0.01},
        "caltech101": {"eta": 0.3, "rho": 0.02, "epsilon": 2e-3},
        "stanford_cars": {"eta": 0.3, "rho": 0.01},
        "dtd": {"eta": 0.3, "rho": 0.02},
        "eurosat": {"eta": 3.0, "rho": 0.05},
        "flowers102": {"eta": 0.2, "rho": 0.02},
        "food101": {"eta": 0.1, "rho": 0.01, "epsilon": 4e-5},
        "oxford_pets": {"eta": 0.3, "rho": 0.02},
        "sun397": {"eta": 0.2, "rho": 0.01},
        "ucf101": {"eta": 0.4, "rho": 0.02},
    }

    epsilon: Annotated[float, Ge(LEAST_EPSILON), Le(1)] = 1e-4
    sigma: Positive = 0.002
    eta: NotNegative = 0.2
    rho: NotNegative = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        classes, self._width = len(self.class_names), self.clip.embed_dim
        needed = 2 * (classes + 2 * FEATURES) * self._width * (self._width + BAND)  # state and temporary matrices
        if needed > (free := free_memory(self.clip.device)):
            raise UserError(
                f"Expected {needed / 1e9:.1f} GB of free memory for DOTA's covariances, {classes} of {self._width} x "
                f"{self._width} numbers, got {free / 1e9:.1f} GB; use method=tda or method=pta."
            )

    def start(self, text_KE: Tensor) -> State:
        """Means of 0.001, counts of 1, and `sigma` times the identity as covariances."""
        classes, width = text_KE.shape
        covariance_EE = self.sigma * torch.eye(width, dtype=text_KE.dtype, device=text_KE.device)
        return {
            "means": text_KE.new_full((classes, width), FIRST_MEAN),
            "counts": text_KE.new_ones(classes),
            "scatters": repeated(covariance_EE, classes),  # covariances times counts
        }

    def state(self) -> State:
        """See `StreamMethod`; a row of `scatters` is then one class."""
        found = super().state()
        return found | {"scatters": by_matrix(found["scatters"], self._width)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `StreamMethod`."""
        super().load_state(state)
        current = self._current()
        current["scatters"] = by_band(current["scatters"], self._width)

    def step(self, image: Seen, state: State) -> Tensor:
        """(K,) logits from the Gaussians before the image; then updates them with it."""
        (logits_K,) = self.steps([image], state)
        return logits_K

    def steps(self, images: Sequence[Seen], state: State) -> Iterator[Tensor]:
        """The answers for images in order.  Updates do not depend on the answers, so several images share a pass."""
        together = max(1, FEATURES // len(images[0].selected))
        for first in range(0, len(images), together):
            some = images[first : first + together]
            features_NSE = torch.stack([image.selected_features for image in some])
            weights_NSK = torch.stack([image.selected_probabilities for image in some])
            batch = Batch.after(state["means"], state["counts"], features_NSE, weights_NSK)
            covariances = learn(bands(state["scatters"], self._width), batch)
            state["means"], state["counts"] = batch.learned()
            mix_identity([band[some[0].number == 1 :] for band in covariances], self.epsilon)  # except the initial
            found = discriminants(batch, covariances, torch.stack([image.feature for image in some]))
            for image, counts_K, found_K in zip(some, batch.counts, found, strict=True):
                weight = min(self.rho * float(counts_K.mean()) / len(image.selected), self.eta)
                yield image.logits + weight * found_K
