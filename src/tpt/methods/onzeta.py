"""OnZeta: class vectors and class balancing, learned along the stream; Qian and Hu, ECCV 2024."""

import logging
import math
from dataclasses import field
from typing import Annotated, ClassVar

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from tpt.errors import Count, NotNegative, Positive, UserError
from tpt.methods.base import ViewShare
from tpt.methods.functional import log_probabilities
from tpt.methods.stream import Feature, Seen, State, StreamMethod

log = logging.getLogger(__name__)
FEW = 20  # images per class; with fewer, the accuracy may be below zero-shot


class OnZeta(StreamMethod):
    """Mixes the zero-shot prediction, balanced over classes, with a prediction from class vectors that learn from it.

    `logits` are the logarithm of the mixture.  Each image is answered before the state is updated with it.  With few
    images per class the method does worse than zero-shot, because the first steps of a class replace its vector.
    The paper uses the templates imagenet_7.

    Args:
        stream_length: number of images in the stream, which sets how the weight of the learned vectors grows; a run
            sets it to the number of images of each dataset.
        alpha: least share of the images for each class, as a multiple of 1 / K; 0 turns balancing off.
        beta: weight of the learned vectors at the end of the stream, in [0, 1].
        proxy_lr: learning rate of the vectors, at least 0; the official `cw`.
        label_lr: learning rate of the balancing, at least 0; the official `cr`.
        tau_text: temperature of the zero-shot prediction, above 0.
        tau_image: temperature of the learned vectors' prediction, above 0.
    """

    selects: ClassVar[bool] = False
    paper: ClassVar = {  # ImageNet's are from the paper; the others are from a public benchmark (tta-vlm)
        "": {"alpha": 1.0, "beta": 0.8, "proxy_lr": 0.5, "label_lr": 20.0, "tau_text": 0.01, "tau_image": 0.04},
        "fine_grained": {"beta": 0.4},
        "caltech101": {"alpha": 0.0},
    }
    feature: Feature = field(default="view0", init=False)  # no setting: it sees view 0 only
    selection_p: ViewShare = field(default=0.1, init=False)
    stream_length: Count | None = None
    alpha: NotNegative = 1.0
    beta: Annotated[float, Ge(0), Le(1)] = 0.8
    proxy_lr: NotNegative = 0.5
    label_lr: NotNegative = 20.0
    tau_text: Positive = 0.01
    tau_image: Positive = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        self._given = self.stream_length
        if self.stream_length is not None:
            self.begin_dataset(self.stream_length)

    def begin_dataset(self, images: int) -> None:
        """Starts a new stream of `images` images, or of `stream_length` if that was given."""
        super().begin_dataset(images)
        self.stream_length = images if self._given is None else self._given
        classes = len(self.class_names)
        if self.stream_length < FEW * classes:
            self._note(
                f"OnZeta has {self.stream_length / classes:.3g} images per class; with fewer than {FEW} it may be "
                "worse than zero-shot; a smaller method.proxy_lr (0.05) loses less"
            )

    def start(self, text_KE: Tensor) -> State:
        """The text features as class vectors, without balancing."""
        return {"proxies": text_KE.clone(), "rho": text_KE.new_zeros(len(text_KE))}

    def step(self, image: Seen, state: State) -> Tensor:
        """(K,) logits from the state before the image; then updates the class vectors and the balancing."""
        if self.stream_length is None:
            raise UserError("Expected `stream_length`, got none; OnZeta needs the number of images in the stream.")
        if image.number == self.stream_length + 1:
            self._note(
                f"the stream has more than {self.stream_length} images; OnZeta keeps the weight of the last of these"
            )
        root = math.sqrt(image.number)
        text_K = (image.text @ image.feature / self.tau_text).softmax(-1)
        # Dual variables of at least 0 raise classes whose share of the predictions has been below alpha / K.
        text_K = text_K * state["rho"].exp()
        text_K = text_K / text_K.sum()
        state["rho"] = (state["rho"] - self.label_lr / root * (text_K - self.alpha / len(text_K))).clamp(min=0)
        # A gradient step on the cross-entropy between the learned prediction and the balanced one.
        learned_K = (state["proxies"] @ image.feature / self.tau_image).softmax(-1)
        pull_KE = self.proxy_lr / root / self.tau_image * (learned_K - text_K)[:, None] * image.feature
        state["proxies"] = F.normalize(state["proxies"] - pull_KE, dim=-1)
        weight = self.beta * math.sqrt(min(image.number / self.stream_length, 1.0))
        return log_probabilities(weight * learned_K + (1 - weight) * text_K)

    def _note(self, note: str) -> None:
        """Logs a note now and adds it to the results."""
        if note not in self.notes:
            log.warning("%s.", note)
            self.notes = (*self.notes, note)
