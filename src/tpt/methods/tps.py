"""TPS: tunes a shift of the text features, so the text tower runs only once; Sui et al., WACV 2025."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpt.errors import Natural, NotNegative
from tpt.methods.base import Adaptation, SelectingMethod, gather_views
from tpt.methods.functional import marginal_entropy
from tpt.methods.tuner import MakeOptimizer, is_elementwise, refuse_inference_mode


class TPS(SelectingMethod):
    """Adds a vector to each class's text feature and tunes it for each image so that the confident views agree.

    Section 3 of the paper.  For each image the shift starts at zero, and the views are selected again at every step.
    The paper's best results use templates.

    Args:
        steps: optimizer steps per image, 0 or more.
        lr: learning rate; 5e-3 for ImageNet and its variants, and 1e-3, from a public benchmark, for the ten
            fine-grained datasets.
        per_class: whether each class has its own shift; otherwise all classes share one.
        optimizer: called with the parameters and `lr`.
    """

    tunes: ClassVar[bool] = True
    paper: ClassVar = {"": {"steps": 1, "selection_p": 0.1, "lr": 5e-3}, "fine_grained": {"lr": 1e-3}}
    steps: Natural = 1
    lr: NotNegative = 5e-3
    per_class: bool = True
    optimizer: MakeOptimizer = torch.optim.AdamW

    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Runs one episode for every image of the batch."""
        refuse_inference_mode()
        text = F.normalize(self.bank(features_BVE[:, 0], **needed), dim=-1)
        initial_BVK = self._logits(features_BVE, text)  # the text is shared, (K, E), or per image
        selected, trusted_BSK = self._selected(initial_BVK)
        parts = [(features_BVE, text)]
        if not is_elementwise(self.optimizer):  # if its steps mix coordinates, each image needs its own optimizer
            own = text.expand(len(features_BVE), -1, -1)
            parts = list(zip(features_BVE.split(1), own.split(1), strict=True))
        shift = torch.cat([self._tuned(*part) for part in parts])
        final_BVK = self._logits(features_BVE, F.normalize(text + shift, dim=-1)) if self.steps else initial_BVK
        _, finally_BSK = self._selected(final_BVK)
        entropies = marginal_entropy(finally_BSK), marginal_entropy(trusted_BSK)
        return Adaptation(final_BVK[:, 0], initial_BVK[:, 0], selected, *entropies)

    def _tuned(self, features_BVE: Tensor, text: Tensor) -> Tensor:
        """(B, K, E) or (B, 1, E) tuned shifts."""
        classes, width = text.shape[-2:]
        shift = nn.Parameter(text.new_zeros(len(features_BVE), classes if self.per_class else 1, width))
        optimizer = self.optimizer([shift], lr=self.lr)
        for _ in range(self.steps):
            with torch.enable_grad():
                logits_BVK = self._logits(features_BVE, F.normalize(text + shift, dim=-1))
                _, trusted_BSK = self._selected(logits_BVK)
                (shift.grad,) = torch.autograd.grad(marginal_entropy(trusted_BSK).sum(), shift)
            optimizer.step()
        return shift.detach()

    def _logits(self, features_BVE: Tensor, text_BKE: Tensor) -> Tensor:
        return self.clip.logit_scale * (features_BVE @ text_BKE.mT)

    def _selected(self, logits_BVK: Tensor) -> tuple[Tensor, Tensor]:
        selected = self.select(logits_BVK.detach())
        return selected, gather_views(logits_BVK, selected)
