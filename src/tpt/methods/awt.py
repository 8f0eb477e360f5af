"""AWT: transports weighted views to weighted descriptions; Zhu et al., NeurIPS 2024."""

from typing import ClassVar

import torch
from torch import Tensor

from tpt.errors import Positive
from tpt.methods.base import Adaptation, Method, ShownViews
from tpt.methods.functional import entropy, marginal_entropy
from tpt.methods.functional.entropy import replaced_entropy
from tpt.methods.functional.transport import sinkhorn

EPSILON = 0.1  # regularisation of the transport, in units of the cost, 1 - cosine
ELEMENTS = 2**24  # in the largest tensor; bounds the number of images solved at once
# The templates in the paper's code, by dataset or family of datasets.
TEMPLATES = {
    "imagenet": "a photo of a {}.",
    "natural_shift": "a photo of a {}.",
    "imagenet_r": "a rendition photo of a {}.",
    "imagenet_sketch": "a sketch photo of a {}.",
    "fine_grained": "a photo of a {}.",
    "flowers102": "a photo of a {}, a type of flower.",
    "dtd": "a photo of a {}, which is a type of texture, or a type of pattern.",
    "oxford_pets": "a photo of a {} from OxfordPets.",
    "ucf101": "a photo of a person doing {}.",
    "food101": "a photo of a {} from Food101.",
    "fgvc_aircraft": "a photo of a {} from Fine-Grained Visual Classification of Aircraft.",
    "eurosat": "satellite photo of the {}.",
}


class AWT(Method):
    """Scores a class by the optimal transport between an image's views and the class's texts; nothing is tuned.

    Views and texts are weighted by the entropy of their predictions.  A class's texts are its templates and
    `descriptions`.  With one text per class, the answer is the weighted mean of the views' logits.

    All views contribute, so all are `selected`, in descending order of weight.  The paper uses one template per dataset
    and 50 descriptions per class.

    Args:
        after_prompt: as for `TextBank`.
        view_temperature: temperature of the softmax over the views' negative entropies, above 0; the paper's 0.5.
        text_temperature: the same for the texts of a class; the paper's 0.5.
    """

    paper: ClassVar = {
        "": {"view_temperature": 0.5, "text_temperature": 0.5},
        **{name: {"templates": [template]} for name, template in TEMPLATES.items()},
    }
    after_prompt: bool = True
    view_temperature: Positive = 0.5
    text_temperature: Positive = 0.5

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Returns the logit scale times each class's mean cosine under its transport plan."""
        logits, weights_BV = self._solved(features_BVE, self.bank.sets(features_BVE[:, 0], **needed))
        logits_BVK = self.view_logits(features_BVE, **needed)
        selected = weights_BV.argsort(dim=-1, descending=True, stable=True)
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy(logits), marginal_entropy(logits_BVK))

    def view_order(self, features_BVE: Tensor, **needed: Tensor) -> ShownViews:
        """Orders the views by weight."""
        _, weights_BV = self._solved(features_BVE, self.bank.sets(features_BVE[:, 0], **needed))
        return ShownViews(weights_BV.argsort(dim=-1, descending=True, stable=True), 100 * weights_BV, "weight (%)")

    def _solved(self, features_BVE: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits and (B, V) weights of the views, a few images at a time."""
        classes, texts = text.shape[-3:-1]
        size = max(1, ELEMENTS // (classes * max(classes, texts * features_BVE.shape[1])))
        of_images = text.split(size) if text.ndim == 4 else [text] * -(-len(features_BVE) // size)
        solved = [self._transported(*some) for some in zip(features_BVE.split(size), of_images, strict=True)]
        logits, weights = zip(*solved, strict=True)
        return torch.cat(logits), torch.cat(weights)

    def _transported(self, features_BVE: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """As `_solved`, for all images at once; text is (K, M, E) or (B, K, M, E), padded with zeros."""
        scale, present = self.clip.logit_scale, text.any(-1)
        cosines_BVKM = (features_BVE @ text.flatten(-3, -2).mT).unflatten(-1, text.shape[-3:-1])
        mean_BVK = scale * cosines_BVKM.sum(-1) / present.sum(-1)[..., None, :]
        weights_BV = (-entropy(mean_BVK) / self.view_temperature).softmax(-1)
        of_texts = replaced_entropy(mean_BVK[:, 0], scale * cosines_BVKM[:, 0])
        texts_BKM = (-of_texts / self.text_temperature).masked_fill(~present, -torch.inf).softmax(-1)
        cosines_BKVM = cosines_BVKM.transpose(1, 2).contiguous()
        plans_BKVM = sinkhorn(((cosines_BKVM - 1) / EPSILON).exp(), weights_BV, texts_BKM)
        return scale * (plans_BKVM * cosines_BKVM).sum((-2, -1)), weights_BV
