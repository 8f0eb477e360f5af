"""Zero-shot classification: no adaptation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tpt.backbones.clip import CLIP
from tpt.backbones.templates import load_templates
from tpt.functional import entropy
from tpt.methods.base import Adaptation, Method
from tpt.methods.cocoop import CoCoOp
from tpt.prompts.conditional import ConditionalContext
from tpt.prompts.context import Context, context_from_words
from tpt.prompts.learner import PromptLearner, check_class_names, clean_name


class ZeroShot(Method):
    """CLIP's own answer for the unaugmented image (Radford et al., ICML 2021).

    Args:
        clip: the frozen backbone.
        class_names: K names.
        ctx_init: words of the prompt, as for `TPT`.
        class_token_position: "end", "middle" or "front".
        context: a context in place of `ctx_init`, such as one that CoOp learned; with one of CoCoOp, the answer is
            that of `CoCoOp`.
        templates: an ensemble in place of both: "imagenet_80", "imagenet_7", a text file or a list of templates
            with `{}`; the unit-length features of a class are averaged and scaled to unit length.
    """

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        ctx_init: str = "a photo of a",
        class_token_position: str = "end",
        context: Context | ConditionalContext | None = None,
        templates: str | list[str] | None = None,
    ) -> None:
        names = check_class_names(class_names)
        super().__init__(clip, names)
        self.cocoop: CoCoOp | None = None
        self.text_features_KE: Tensor
        if templates is None and isinstance(context, ConditionalContext):
            self.cocoop = CoCoOp(clip, names, context)
            return
        if templates is None:
            assert not isinstance(context, ConditionalContext)
            context = context or context_from_words(clip, ctx_init, class_token_position)
            with torch.no_grad():
                text_features = PromptLearner(clip, names, context)()
        else:
            text_features = ensemble(clip, names, load_templates(templates))
        self.register_buffer("text_features_KE", text_features, persistent=False)

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor) -> Adaptation:
        """The answer for view 0; the other views are not looked at, so `selected` is view 0."""
        if self.cocoop is not None:
            return self.cocoop.adapt(features_BVE)
        logits = self.clip.logit_scale * features_BVE[:, 0] @ self.text_features_KE.T
        selected = torch.zeros(len(logits), 1, dtype=torch.long, device=logits.device)
        uncertainty = entropy(logits)
        return Adaptation(logits, logits, selected, uncertainty, uncertainty)


@torch.no_grad()
def ensemble(clip: CLIP, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(K, E) unit-length mean over templates of unit-length features."""
    names = [clean_name(name) for name in class_names]
    total = torch.stack([clip.encode_text([t.replace("{}", name) for name in names]) for t in templates]).mean(0)
    return F.normalize(total, dim=-1)
