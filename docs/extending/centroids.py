"""A stream method: class vectors move from their text feature to the mean of their images."""

from torch import Tensor
from torch.nn.functional import normalize

import tpt
from tpt.errors import Positive
from tpt.methods.stream import Seen, State


class Centroids(tpt.StreamMethod):
    """Averages the text feature of a class and image features, by zero-shot probability.

    Args:
        text_weight: the text counts as much as this many images; above 0.
    """

    text_weight: Positive = 10.0

    def start(self, text_KE: Tensor) -> State:
        """The state before the first image: tensors of a fixed shape."""
        return {"sums": self.text_weight * text_KE}

    def step(self, image: Seen, state: State) -> Tensor:
        """Returns logits (K,) from the images so far, then adds this image to the state."""
        logits_K = image.scale * normalize(state["sums"], dim=-1) @ image.feature
        state["sums"] = state["sums"] + image.logits.softmax(-1)[:, None] * image.feature
        return logits_K
