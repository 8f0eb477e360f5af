"""TPS: tunes a shift of the class vectors and never runs the text tower again; Sui et al., WACV 2025."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpt.checks import real_number, whole_number
from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.methods.base import Adaptation, Method, check_share, gather_views, select_views
from tpt.methods.functional import marginal_entropy, num_selected
from tpt.methods.tuner import ELEMENTWISE, refuse_inference_mode


class TPS(Method):
    """Adds a vector to each class's text feature and tunes it so that the confident views agree; forgets it.

    Section 3 of the paper.  The shift starts at zero; the views are selected anew at every step.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        selection_p: share of the views kept, in (0, 1]; the paper's 0.1.
        min_selected: least number of views kept; 0 is the plain cut, an error if it keeps none.
        steps: optimizer steps per image, 0 or more.
        lr: learning rate; 5e-3 for ImageNet and its variants, 1e-3 for the ten as a public benchmark has it.
        per_class: a shift for each class; otherwise one for all.
        optimizer: takes the parameters and `lr`.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`; the paper's best has templates.
    """

    tunes: ClassVar[bool] = True
    paper: ClassVar = {"": {"steps": 1, "selection_p": 0.1, "lr": 5e-3}, "fine_grained": {"lr": 1e-3}}

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        selection_p: float = 0.1,
        min_selected: int = 0,
        steps: int = 1,
        lr: float = 5e-3,
        per_class: bool = True,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(clip, class_names, **text)
        self.selection_p = check_share("selection_p", selection_p)
        self.min_selected = whole_number("min_selected", min_selected, way_out="0 is off")
        self.steps = whole_number("steps", steps)
        self.lr = real_number("lr", lr, least=0)
        self.per_class = per_class
        self.optimizer = optimizer
        self._elementwise = type(optimizer([nn.Parameter(torch.zeros(1))], lr=self.lr)) in ELEMENTWISE

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if none of `num_views` would be kept, or there are fewer than `min_selected`."""
        num_selected(num_views, self.selection_p, self.min_selected)

    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """One episode for every image of the batch."""
        refuse_inference_mode()
        text = F.normalize(self.bank(features_BVE[:, 0], **needed), dim=-1)
        initial_BVK = self._logits(features_BVE, text)  # shared by the images, (K, E), or each image's own
        selected, trusted_BSK = self._selected(features_BVE, initial_BVK)
        parts = [(features_BVE, text)]
        if not self._elementwise:  # an optimizer whose steps mix coordinates: every image needs one of its own
            own = text.expand(len(features_BVE), -1, -1)
            parts = list(zip(features_BVE.split(1), own.split(1), strict=True))
        shift = torch.cat([self._tuned(*part) for part in parts])
        final_BVK = self._logits(features_BVE, F.normalize(text + shift, dim=-1)) if self.steps else initial_BVK
        _, finally_BSK = self._selected(features_BVE, final_BVK)
        return Adaptation(
            final_BVK[:, 0],
            initial_BVK[:, 0],
            selected,
            marginal_entropy(finally_BSK),
            marginal_entropy(trusted_BSK),
        )

    def _tuned(self, features_BVE: Tensor, text: Tensor) -> Tensor:
        """(B, K, E) or (B, 1, E) shifts."""
        classes, width = text.shape[-2:]
        shift = nn.Parameter(text.new_zeros(len(features_BVE), classes if self.per_class else 1, width))
        optimizer = self.optimizer([shift], lr=self.lr)
        for _ in range(self.steps):
            with torch.enable_grad():
                logits_BVK = self._logits(features_BVE, F.normalize(text + shift, dim=-1))
                _, trusted_BSK = self._selected(features_BVE, logits_BVK)
                (shift.grad,) = torch.autograd.grad(marginal_entropy(trusted_BSK).sum(), shift)
            optimizer.step()
        return shift.detach()

    def _logits(self, features_BVE: Tensor, text_BKE: Tensor) -> Tensor:
        return self.clip.logit_scale * (features_BVE @ text_BKE.mT)

    def _selected(self, features_BVE: Tensor, logits_BVK: Tensor) -> tuple[Tensor, Tensor]:
        selected, _ = select_views(features_BVE, logits_BVK.detach(), self.selection_p, self.min_selected)
        return selected, gather_views(logits_BVK, selected)
