"""BoostAdapter: TDA with the image's own confident views in its positive cache; Zhang et al., NeurIPS 2024."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from tpt.errors import Natural
from tpt.methods.functional import entropy, select_confident
from tpt.methods.functional.caches import EMPTY, keep_newest, keep_surest
from tpt.methods.stream import Seen
from tpt.methods.tda import TDA


class BoostAdapter(TDA):
    """TDA, with each image's confident views added to a copy of the positive cache before the image is answered.

    A view is stored under the class that it predicts.  The negative cache drops its oldest entry, as in the official
    code.

    Args:
        delta: extra entries per class in the copy, beyond `positive_shots`; at least 0.
        selection_p: as for `TDA`; also the share of the views added to the copy, rounded down.
    """

    paper: ClassVar = {
        "": {"delta": 0},
        "imagenet_a": {"delta": 3},
        "imagenet_r": {"delta": 3},
        "imagenet_v2": {"delta": 1},
        "imagenet_sketch": {"delta": 1},
        "caltech101": {"delta": 2},
        "fgvc_aircraft": {"delta": 2},
        "sun397": {"delta": 1},
        "stanford_cars": {"delta": 3},
        "food101": {"delta": 3},
    }
    keep_negative = staticmethod(keep_newest)
    delta: Natural = 0

    def _raised(self, image: Seen, keys_KSE: Tensor, entropies_KS: Tensor) -> Tensor:
        if int(len(image.views) * self.selection_p):  # with a single view, none is added
            keys_KSE = F.pad(keys_KSE, (0, 0, 0, self.delta)).clone()
            entropies_KS = F.pad(entropies_KS, (0, self.delta), value=EMPTY).clone()
            chosen_S = select_confident(image.view_logits, self.selection_p)
            logits_SK = image.view_logits[chosen_S]
            labels, values = logits_SK.argmax(-1).tolist(), entropy(logits_SK).tolist()
            for feature_E, label, value in zip(image.views[chosen_S], labels, values, strict=True):
                keep_surest([keys_KSE[label]], entropies_KS[label], [feature_E], value)
        return super()._raised(image, keys_KSE, entropies_KS)
