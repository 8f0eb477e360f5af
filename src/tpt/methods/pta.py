"""PTA: class vectors that move from the text to a running mean of the images; Huang et al., ICML 2026."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from tpt.errors import Positive, Share
from tpt.methods.stream import Seen, State, StreamMethod

LEAST = 0.1  # an image moves the prototypes of classes with at least this probability


class PTA(StreamMethod):
    """Adds the logits of refined class vectors to the zero-shot logits.

    Each image moves the prototypes of the classes to which it may belong.  Then, for all classes, the refined vector
    becomes `text_share * refined + (1 - text_share) * prototype`, scaled to unit length.  As in the official code, this
    starts from the previous refined vector, so a few images after a class first occurs its vector points along its
    prototype.  The paper uses templates.

    Args:
        text_share: share of the refined vectors that is kept at each image, in (0, 1]; the official `alpha`.
        temperature: above 0; larger values move the prototypes more slowly; 50 for Caltech101.
    """

    paper: ClassVar = {
        "": {"feature": "view0", "text_share": 0.01, "temperature": 20.0},
        "natural_shift": {"feature": "confident"},
        "caltech101": {"temperature": 50.0},
    }
    text_share: Share = 0.01
    temperature: Positive = 20.0

    def start(self, text_KE: Tensor) -> State:
        """Prototypes of zero, and the text features as refined vectors."""
        return {"prototypes": text_KE.new_zeros(text_KE.shape), "refined": text_KE.clone()}

    def step(self, image: Seen, state: State) -> Tensor:
        """Updates the state with the image; then returns its (K,) logits."""
        feature_E, share = image.feature, self.text_share
        probabilities_K = image.logits.softmax(-1)
        # A class of probability p moves by the share 1 - exp(-p / temperature).
        moves_K = -(-probabilities_K / self.temperature).expm1() * (probabilities_K >= LEAST)
        means_KE = state["prototypes"] + moves_K[:, None] * (feature_E - state["prototypes"])
        refined_KE = F.normalize(share * state["refined"] + (1 - share) * means_KE, dim=-1)
        state["prototypes"], state["refined"] = means_KE, refined_KE
        return image.logits + image.scale * (refined_KE @ feature_E)
