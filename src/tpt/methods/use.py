"""USE: tunes the context towards SE's mixture if the views disagree (ICML 2026)."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from tpt.methods.base import Adaptation, gather_views
from tpt.methods.functional import log_probabilities, marginal_entropy
from tpt.methods.functional.mixture import confident_augmented, mixed, more_uncertain
from tpt.methods.se import refuse_no_augmented, with_image
from tpt.methods.tpt import TPT


class USE(TPT):
    """Tunes the context so that the mean prediction of the views moves towards SE's mixture; predicts with the mixture.

    Of the augmented views, the share `selection_p` with the lowest entropy is kept, but at least one.  The image itself
    is always kept.  If all of them agree with the image's answer, nothing is tuned.  `selected` holds view 0, then the
    others.

    Args:
        scale: the weight of the image's own prediction differs from 1/2 by at most `scale / 2`; in [0, 1]; the paper's
            0.4.
    """

    paper: ClassVar = {"": {"scale": 0.4}}
    scale: Annotated[float, Ge(0), Le(1)] = 0.4

    def objective(self, logits_BSK: Tensor, text_BKE: Tensor, *per_image: Tensor) -> Tensor:
        """(B,) cross-entropy -sum P log Q of the mean prediction P and Q, the mixture before tuning."""
        (target_BK,) = per_image
        return -(logits_BSK.softmax(-1).mean(-2) * log_probabilities(target_BK)).sum(-1)

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if there is no augmented view."""
        refuse_no_augmented(num_views)

    def adapt(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Adaptation:
        """Runs one episode for every image whose views disagree."""
        start_BND, text = self.start(features_BVE, image_norm_B)
        logits_BVK = self.clip.logit_scale * features_BVE @ text.mT
        count = max(1, self.min_selected, int((logits_BVK.shape[1] - 1) * self.selection_p))
        confident = confident_augmented(logits_BVK, count)
        selected = with_image(confident)
        weight_B = 0.5 + self.scale * (more_uncertain(logits_BVK) - 0.5)
        initial_BSK = gather_views(logits_BVK, selected)
        target_BK = mixed(initial_BSK[:, 0], initial_BSK[:, 1:], weight_B)
        answers = initial_BSK.argmax(-1)
        stepping = (answers[:, 1:] != answers[:, :1]).any(-1) & torch.tensor(self.tuner.steps > 0)
        slots = self.learner.slots.repeat(len(features_BVE), 1, 1) if start_BND is None else start_BND.clone()
        final_BSK = initial_BSK.clone()
        if stepping.any():
            trusted_BSE = gather_views(features_BVE, selected)[stepping]
            own = None if start_BND is None else start_BND[stepping]
            slots[stepping] = tuned = self.tuner.tune(trusted_BSE, own, target_BK[stepping])
            (final_BSK[stepping],) = self.tuner.products(tuned, self.clip.logit_scale * trusted_BSE)
        logits = log_probabilities(mixed(final_BSK[:, 0], final_BSK[:, 1:], weight_B))
        entropies = marginal_entropy(final_BSK), marginal_entropy(initial_BSK)
        return Adaptation(logits, logits_BVK[:, 0], selected, *entropies, self.learner.split(slots)[0])
