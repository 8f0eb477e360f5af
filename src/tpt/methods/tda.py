"""TDA: two caches of confident images seen so far; Karmanov et al., CVPR 2024."""

import math
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from tpt.errors import NotNegative, UserError
from tpt.methods.functional.caches import EMPTY, affinities, keep_surest
from tpt.methods.stream import Seen, State, StreamMethod


class TDA(StreamMethod):
    """Adjusts an image's logits by its similarity to cached images.

    The image enters the caches before it is answered.  The positive cache holds the most confident images of each class
    and raises the logit of that class.  The negative cache holds images of medium entropy and lowers the logits of all
    classes to which they may belong.  The paper uses templates.

    Args:
        positive: whether there is a positive cache.
        positive_shots: entries per class in the positive cache, at least 1.
        positive_alpha: weight of the positive cache, at least 0.
        positive_beta: how fast an entry's influence falls with the cosine distance, at least 0.
        negative: whether there is a negative cache.
        negative_shots, negative_alpha, negative_beta: the same for the negative cache.
        entropy_low, entropy_high: the negative cache takes images whose entropy in nats, divided by log2 K, lies
            between them.  These are the official code's units, in which the largest entropy is 0.693.
        mask_low, mask_high: an entry lowers the classes whose probability for it lies between them.
    """

    paper: ClassVar = {
        "": {
            "feature": "view0", "positive_shots": 3, "positive_alpha": 2.0, "positive_beta": 5.0,
            "negative_shots": 2, "negative_alpha": 0.117, "negative_beta": 1.0,
            "entropy_low": 0.2, "entropy_high": 0.5, "mask_low": 0.03, "mask_high": 1.0,
        },
        "natural_shift": {"feature": "confident"},
        "imagenet_v2": {"positive_alpha": 1.0, "positive_beta": 8.0},
        "imagenet_r": {"positive_alpha": 1.0, "positive_beta": 8.0},
        "imagenet_sketch": {"positive_alpha": 2.363, "positive_beta": 7.45},
        "fgvc_aircraft": {"positive_alpha": 2.0, "positive_beta": 2.0},
        "caltech101": {"positive_alpha": 5.0, "positive_beta": 5.0},
        "stanford_cars": {"positive_alpha": 1.0, "positive_beta": 7.0},
        "dtd": {"positive_alpha": 2.0, "positive_beta": 3.0},
        "eurosat": {"positive_alpha": 4.0, "positive_beta": 8.0},
        "flowers102": {"positive_alpha": 1.0, "positive_beta": 5.0},
        "food101": {"positive_alpha": 1.0, "positive_beta": 1.0},
        "oxford_pets": {"positive_alpha": 2.0, "positive_beta": 7.0},
        "sun397": {"positive_alpha": 2.0, "positive_beta": 3.0},
        "ucf101": {"positive_alpha": 3.0, "positive_beta": 8.0},
    }  # fmt: skip
    keep_negative = staticmethod(keep_surest)  # which entry a full negative cache drops

    positive: bool = True
    positive_shots: Annotated[int, Ge(1), "positive=false is off"] = 3
    positive_alpha: NotNegative = 2.0
    positive_beta: NotNegative = 5.0
    negative: bool = True
    negative_shots: Annotated[int, Ge(1), "negative=false is off"] = 2
    negative_alpha: NotNegative = 0.117
    negative_beta: NotNegative = 1.0
    entropy_low: float = 0.2
    entropy_high: float = 0.5
    mask_low: float = 0.03
    mask_high: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("entropy", "mask"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if not low < high:
                raise UserError(f"Expected `{name}_low` below `{name}_high`, got {low:g} and {high:g}.")

    def start(self, text_KE: Tensor) -> State:
        """Empty caches."""
        (classes, width), found = text_KE.shape, {}
        if self.positive:
            found["positive_keys"] = text_KE.new_zeros(classes, self.positive_shots, width)
            found["positive_entropies"] = text_KE.new_full((classes, self.positive_shots), EMPTY)
        if self.negative:
            found["negative_keys"] = text_KE.new_zeros(classes, self.negative_shots, width)
            found["negative_entropies"] = text_KE.new_full((classes, self.negative_shots), EMPTY)
            found["negative_lowers"] = text_KE.new_zeros(classes, self.negative_shots, classes)  # 1 if lowered
        return found

    def step(self, image: Seen, state: State) -> Tensor:
        """Adds the image to the caches; then returns its (K,) logits."""
        label, entropy, logits_K = int(image.logits.argmax()), float(image.entropy), image.logits
        if self.positive:
            keys_KSE, entropies_KS = state["positive_keys"], state["positive_entropies"]
            keep_surest([keys_KSE[label]], entropies_KS[label], [image.feature], entropy)
            logits_K = logits_K + self._raised(image, keys_KSE, entropies_KS)
        if self.negative:
            if self.entropy_low < entropy / math.log2(max(len(logits_K), 2)) < self.entropy_high:
                self._keep_unsure(image, label, entropy, state)
            weights_KS = affinities(
                state["negative_keys"], state["negative_entropies"], image.feature, self.negative_beta
            )
            lowered_K = weights_KS.flatten() @ state["negative_lowers"].flatten(0, 1)
            logits_K = logits_K - self.negative_alpha * lowered_K
        return logits_K

    def _raised(self, image: Seen, keys_KSE: Tensor, entropies_KS: Tensor) -> Tensor:
        """(K,) logits added by the positive cache."""
        weights_KS = affinities(keys_KSE, entropies_KS, image.feature, self.positive_beta)
        return self.positive_alpha * weights_KS.sum(-1)

    def _keep_unsure(self, image: Seen, label: int, entropy: float, state: State) -> None:
        mean_K = image.selected_probabilities.mean(0)
        columns = state["negative_keys"][label], state["negative_lowers"][label]
        entry = image.feature, ((mean_K > self.mask_low) & (mean_K < self.mask_high)).to(mean_K)
        self.keep_negative(columns, state["negative_entropies"][label], entry, entropy)
