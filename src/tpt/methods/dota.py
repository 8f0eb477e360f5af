"""DOTA: a Gaussian for each class, learned along the stream; Han et al., NeurIPS 2025."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Unpack

import torch
from annotated_types import Ge, Le
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.errors import NotNegative, Positive, UserError
from tpt.methods.base import ViewShare
from tpt.methods.functional.gaussians import discriminant, update
from tpt.methods.stream import Feature, Seen, State, StreamMethod
from tpt.methods.tuner import free_memory

FIRST_MEAN = 0.001  # in every coordinate
LEAST_EPSILON = 1e-6  # less is lost to float32's rounding


class DOTA(StreamMethod):
    """Adds the linear discriminant of class Gaussians to the zero-shot logits, the more the more images were seen.

    As the official code has it, an image is answered, then learned from, and all classes share the
    mean of their covariances.  Holds K E^2 floats, 1 GB for 1,000 classes of 512 numbers.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        feature: what stands for an image: "view0", or "confident", whose views are learned from one by one.
        selection_p: share of the views that count as confident, in (0, 1]; at least one view is kept.
        epsilon: share of the identity in the covariance, in [1e-6, 1].
        sigma: the covariance at first, above 0, times the identity.
        eta: largest weight of the discriminant, at least 0.
        rho: its weight for each image that a class has seen on average, at least 0.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`; the paper has templates.
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
        needed, free = 4 * len(self.class_names) * self.embed_dim**2, free_memory(clip.device)
        if needed > free:
            raise UserError(
                f"Expected {needed / 1e9:.1f} GB of free memory for DOTA's covariances, {len(self.class_names)} of "
                f"{self.embed_dim} x {self.embed_dim} numbers, got {free / 1e9:.1f} GB; use method=tda or method=pta."
            )

    def start(self, text_KE: Tensor) -> State:
        """Means of 0.001, counts of 1, covariances of `sigma`."""
        classes, width = text_KE.shape
        covariance_EE = self.sigma * torch.eye(width, dtype=text_KE.dtype, device=text_KE.device)
        return {
            "means": text_KE.new_full((classes, width), FIRST_MEAN),
            "counts": text_KE.new_ones(classes),
            "scatters": covariance_EE.repeat(classes, 1, 1),  # covariances times counts
            "covariance": covariance_EE,  # what all classes share
        }

    def step(self, image: Seen, state: State) -> Tensor:
        """The answer from the Gaussians of before; then they learn."""
        count = float(state["counts"].mean()) / len(image.selected_features)
        weight = min(self.rho * count, self.eta)
        logits_K = image.logits + weight * discriminant(state["means"], state["covariance"], image.feature)
        state["means"], state["counts"], mean_EE = update(
            state["means"], state["counts"], state["scatters"], image.selected_features, image.selected_probabilities
        )
        mean_EE *= 1 - self.epsilon
        mean_EE.diagonal().add_(self.epsilon)
        state["covariance"] = mean_EE
        return logits_K
