"""DOTA: one Gaussian per class, estimated along the stream; Han et al., NeurIPS 2025."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Unpack

import torch
from annotated_types import Ge, Le
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.errors import NotNegative, Positive, UserError
from tpt.methods.base import ViewShare
from tpt.methods.functional.gaussians import BAND, discriminant, learn, packed, unpacked
from tpt.methods.stream import Feature, Seen, State, StreamMethod
from tpt.methods.tuner import free_memory

FIRST_MEAN = 0.001  # in every coordinate
LEAST_EPSILON = 1e-6  # smaller values vanish in float32 rounding
FEATURES = 64  # most features per pass over the covariances


class DOTA(StreamMethod):
    """Adds the linear discriminant of class Gaussians to the zero-shot logits; its weight grows over the stream.

    As in the official code, each image is answered before the Gaussians are updated with it, and all classes share the
    mean of their covariances.  The state has K E (E + 64) / 2 floats: 0.6 GB for 1,000 classes and E = 512.  The images
    of a batch share one pass over it, so large batches are faster.  Answers for different batch sizes agree up to
    rounding.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        feature: what represents an image: "view0", or "confident" (the confident views, each of which updates the
            Gaussians).
        selection_p: share of the views that count as confident, in (0, 1]; at least one view is kept.
        epsilon: weight of the identity matrix in the covariance, in [1e-6, 1].
        sigma: initial variance of each coordinate, above 0.
        eta: largest weight of the discriminant, at least 0.
        rho: growth of that weight with the mean number of images per class so far, at least 0.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`; the paper uses templates.
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

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        feature: Feature = "view0",
        selection_p: ViewShare = 0.1,
        epsilon: Annotated[float, Ge(LEAST_EPSILON), Le(1)] = 1e-4,
        sigma: Positive = 0.002,
        eta: NotNegative = 0.2,
        rho: NotNegative = 0.005,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(clip, class_names, feature, selection_p, **text)
        self.epsilon = epsilon
        self.sigma = sigma
        self.eta = eta
        self.rho = rho
        numbers = (
            self.embed_dim * (self.embed_dim + BAND) // 2 + FEATURES * self.embed_dim
        )  # per class: state and means
        needed, free = 4 * len(self.class_names) * numbers, free_memory(clip.device)
        if needed > free:
            raise UserError(
                f"Expected {needed / 1e9:.1f} GB of free memory for DOTA's covariances, {len(self.class_names)} of "
                f"{self.embed_dim} x {self.embed_dim} numbers, got {free / 1e9:.1f} GB; use method=tda or method=pta."
            )

    def start(self, text_KE: Tensor) -> State:
        """Means of 0.001, counts of 1, and `sigma` times the identity as covariances."""
        classes, width = text_KE.shape
        covariance_EE = self.sigma * torch.eye(width, dtype=text_KE.dtype, device=text_KE.device)
        return {
            "means": text_KE.new_full((classes, width), FIRST_MEAN),
            "counts": text_KE.new_ones(classes),
            "scatters": packed(covariance_EE).repeat(classes, 1),  # covariances times counts
        }

    def step(self, image: Seen, state: State) -> Tensor:
        """(K,) logits from the Gaussians before the image; then updates them with it."""
        (logits_K,) = self.steps([image], state)
        return logits_K

    def steps(self, images: Sequence[Seen], state: State) -> Iterator[Tensor]:
        """The answers for images in order.  Updates do not depend on the answers, so several images share a pass."""
        together = max(1, FEATURES // len(images[0].selected))
        for first in range(0, len(images), together):
            some = images[first : first + together]
            means_NKE, counts_NK, covariances_NP = learn(
                state["means"],
                state["counts"],
                state["scatters"],
                torch.stack([image.selected_features for image in some]),
                torch.stack([image.selected_probabilities for image in some]),
            )
            state["means"], state["counts"] = means_NKE[-1].clone(), counts_NK[-1].clone()
            for image, means_KE, counts_K, mean_P in zip(some, means_NKE, counts_NK, covariances_NP, strict=False):
                yield self._answer_from(image, means_KE, counts_K, unpacked(mean_P, self.embed_dim))

    def _answer_from(self, image: Seen, means_KE: Tensor, counts_K: Tensor, mean_EE: Tensor) -> Tensor:
        """(K,) logits from the Gaussians before the image; epsilon applies from the second image on."""
        if image.number > 1:
            mean_EE *= 1 - self.epsilon
            mean_EE.diagonal().add_(self.epsilon)
        weight = min(self.rho * float(counts_K.mean()) / len(image.selected), self.eta)
        return image.logits + weight * discriminant(means_KE, mean_EE, image.feature)
