"""A method that learns along the stream: each class's vector turns from its text to the mean of its images."""

from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

import tpt
from tpt.errors import Positive
from tpt.methods.stream import Seen, State


class Centroids(tpt.StreamMethod):
    """Every image counts for a class by its zero-shot probability, and the text counts like some images.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        text_weight: how many images the text counts for, above 0.
        settings: `feature` and `selection_p`, and where the prompts come from: `ctx_init`, `context`, `templates`.
    """

    def __init__(self, clip: tpt.CLIP, class_names: list[str], text_weight: Positive = 10.0, **settings: Any) -> None:
        super().__init__(clip, class_names, **settings)
        self.text_weight = text_weight

    def start(self, text_KE: Tensor) -> State:
        """The state before the first image: tensors of a fixed shape."""
        return {"sums": self.text_weight * text_KE}

    def step(self, image: Seen, state: State) -> Tensor:
        """The answer (K,) for one image, from the images before it; then it is learned from."""
        logits_K = image.scale * normalize(state["sums"], dim=-1) @ image.feature
        state["sums"] = state["sums"] + image.logits.softmax(-1)[:, None] * image.feature
        return logits_K
