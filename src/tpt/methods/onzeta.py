"""OnZeta: class vectors and a balance of classes, learned along the stream; Qian and Hu, ECCV 2024."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Unpack

from annotated_types import Ge, Le
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.errors import Count, NotNegative, Positive, UserError
from tpt.methods.functional import log_probabilities
from tpt.methods.functional.online import balanced, pulled
from tpt.methods.stream import Seen, State, StreamMethod

log = logging.getLogger(__name__)
FEW = 20  # images a class, below which it may lose against zero-shot


class OnZeta(StreamMethod):
    """Mixes the zero-shot prediction, balanced over classes, with that of class vectors which learn from it.

    `logits` are the logarithm of the mixture.  Each image is answered before it is learned
    from.  With few images a class it does worse than zero-shot: the first steps of a class replace its vector.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        stream_length: images of the stream, on which the weight of the learned vectors depends; a run sets it to the
            number of images of each dataset.
        alpha: share of the images that a class gets at least, over 1 / K; 0 leaves the classes unbalanced.
        beta: weight of the learned vectors at the end of the stream, in [0, 1].
        proxy_lr: learning rate of the vectors, at least 0; the official `cw`.
        label_lr: of the balance, at least 0; the official `cr`.
        tau_text: temperature of the text's prediction, above 0.
        tau_image: of the learned vectors'.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`; the paper has imagenet_7.
    """

    selects: ClassVar[bool] = False
    paper: ClassVar = {  # ImageNet is the paper's own; the others are those of a public benchmark (tta-vlm)
        "": {"alpha": 1.0, "beta": 0.8, "proxy_lr": 0.5, "label_lr": 20.0, "tau_text": 0.01, "tau_image": 0.04},
        "fine_grained": {"beta": 0.4},
        "caltech101": {"alpha": 0.0},
    }

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        stream_length: Count | None = None,
        alpha: NotNegative = 1.0,
        beta: Annotated[float, Ge(0), Le(1)] = 0.8,
        proxy_lr: NotNegative = 0.5,
        label_lr: NotNegative = 20.0,
        tau_text: Positive = 0.01,
        tau_image: Positive = 0.04,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(clip, class_names, **text)
        self.alpha = alpha
        self.beta = beta
        self.proxy_lr = proxy_lr
        self.label_lr = label_lr
        self.tau_text = tau_text
        self.tau_image = tau_image
        self._given = None if stream_length is None else stream_length
        self.stream_length: int | None = None
        if self._given is not None:
            self.begin_dataset(self._given)

    def begin_dataset(self, images: int) -> None:
        """Starts a new stream; of `images` images unless `stream_length` says otherwise."""
        super().begin_dataset(images)
        self.stream_length = images if self._given is None else self._given
        classes = len(self.class_names)
        if self.stream_length < FEW * classes:
            self._note(
                f"OnZeta has {self.stream_length / classes:.3g} images a class, and with fewer than {FEW} it may be "
                "worse than zero-shot; a smaller method.proxy_lr (0.05) loses less"
            )

    def start(self, text_KE: Tensor) -> State:
        """The text features themselves, and no class raised."""
        return {"proxies": text_KE.clone(), "rho": text_KE.new_zeros(len(text_KE))}

    def step(self, image: Seen, state: State) -> Tensor:
        """The mixture from the vectors of before; then both learn."""
        if self.stream_length is None:
            raise UserError("Expected `stream_length`, the number of images of the stream, got none; OnZeta needs it.")
        if image.number == self.stream_length + 1:
            self._note(f"the stream went on after {self.stream_length} images; OnZeta keeps the weight of the last one")
        root = math.sqrt(image.number)
        text_K = (image.text @ image.feature / self.tau_text).softmax(-1)
        text_K, state["rho"] = balanced(text_K, state["rho"], self.label_lr / root, self.alpha / len(text_K))
        learned_K = (state["proxies"] @ image.feature / self.tau_image).softmax(-1)
        step = self.proxy_lr / root / self.tau_image
        state["proxies"] = pulled(state["proxies"], image.feature, learned_K - text_K, step)
        weight = self.beta * math.sqrt(min(image.number / self.stream_length, 1.0))
        return log_probabilities(weight * learned_K + (1 - weight) * text_K)

    def _note(self, note: str) -> None:
        """Says it now and in the results."""
        if note not in self.notes:
            log.warning("%s.", note)
            self.notes = (*self.notes, note)
