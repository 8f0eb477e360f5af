"""Test-time prompt tuning: Shu et al., NeurIPS 2022."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tpt.checks import whole_number
from tpt.clip.model import CLIP
from tpt.clip.prompts.conditional import ConditionalContext
from tpt.clip.prompts.context import Context
from tpt.errors import UserError
from tpt.methods.base import Adaptation, Method, check_share, select_views
from tpt.methods.functional import marginal_entropy, num_selected
from tpt.methods.functional.objectives import lowers_marginal_entropy
from tpt.methods.tuner import MAX_TOKENS, Penalty, PromptTuner, graph_tokens, refuse_inference_mode


class TPT(Method):
    """Tunes the context to each image so that its confident views agree; predicts with it; forgets it.

    Section 3.2 of the paper: of V views the share `selection_p` with the least entropy is kept, the
    entropy of their averaged prediction is lowered by `steps` optimizer steps on the context, and view 0 is
    classified with the tuned context.  Every image starts from the same context and a fresh optimizer.  The first
    selection is kept for all steps.

    Other prompt tuners are this class with another `objective`, or with a `penalty`.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        ctx_init: initial context in words, `[CLS]` where the class name goes; None for `n_ctx` random vectors.
        n_ctx: number of random vectors; words are counted in tokens instead.
        class_token_position: "end", "middle" or "front".
        context: an initial context in place of words, such as one that CoOp learned.  With one of CoCoOp, every image
            starts from its own, `base + meta_net(feature of view 0)`, and what the network made is tuned, not the
            network; its `meta_input` says whether the feature has unit length.
        templates: must be None; a context is tuned, and an ensemble has none.
        learned_class_token: tunes a vector in place of each class name, see `PromptLearner`.
        steps: optimizer steps per image, 0 or more; 0 leaves the zero-shot prediction.
        selection_p: share of the views kept, in (0, 1]; the paper's 0.1.
        min_selected: least number of views kept; 0 is the paper's plain cut, an error if it keeps none.
        lr: learning rate; the paper's 5e-3.
        optimizer: takes the parameters and `lr`; the paper's AdamW at PyTorch's defaults, weight decay 0.01 included.
        seed: of random vectors.
        max_tokens, max_graph_tokens: bound memory, see `PromptTuner`.

    Raises:
        UserError: settings out of range, or names too long for the text tower.

    Example:
        >>> import tpt
        >>> clip = tpt.load_clip("emoji-mini")
        >>> method = tpt.TPT(clip, ["cat", "hot air balloon"], ctx_init="a photo of a", steps=2, selection_p=0.25)
        >>> features = clip.encode_views(torch.zeros(3, 16, 3, 64, 64))  # B = 3 images of V = 16 views
        >>> out = method(features)  # each image starts from the same context
        >>> out.logits.shape, out.selected.shape, out.context.shape == (3, 4, clip.width)
        (torch.Size([3, 2]), torch.Size([3, 4]), True)
        >>> method(features[1]).logits.shape  # or one image alone
        torch.Size([2])
    """

    tunes: ClassVar[bool] = True
    paper: ClassVar = {"": {"steps": 1, "selection_p": 0.1, "lr": 5e-3}}

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        ctx_init: str | None = "a photo of a",
        n_ctx: int = 4,
        class_token_position: str = "end",
        context: Context | ConditionalContext | None = None,
        templates: None = None,
        learned_class_token: bool = False,
        steps: int = 1,
        selection_p: float = 0.1,
        min_selected: int = 0,
        lr: float = 5e-3,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
        max_graph_tokens: int | None = None,
    ) -> None:
        if templates is not None:
            raise UserError(
                f"Expected a context to tune, but {templates!r} in `templates` has none; use ctx_init or context, or "
                "templates with method=zero_shot."
            )
        super().__init__(
            clip,
            class_names,
            ctx_init=ctx_init,
            n_ctx=n_ctx,
            class_token_position=class_token_position,
            context=context,
            learned_class_token=learned_class_token,
            seed=seed,
            max_tokens=max_tokens,
        )
        self.selection_p = check_share("selection_p", selection_p)
        self.min_selected = whole_number("min_selected", min_selected, way_out="0 is off")
        assert self.bank.learner is not None
        self.learner = self.bank.learner
        self.tuner = PromptTuner(
            self.learner, self.objective, self.penalty(), steps, lr, optimizer, max_tokens, max_graph_tokens
        )

    def objective(self, logits_BSK: Tensor, text_BKE: Tensor, *per_image: Tensor) -> Tensor:
        """(B,) the loss, see `tpt.methods.functional.objectives`: the marginal entropy of the selected views."""
        return lowers_marginal_entropy(logits_BSK, text_BKE)

    def penalty(self) -> Penalty | None:
        """A function `(..., K, E) -> (...)` of the text features alone, that is added to the objective."""
        return None

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if none of `num_views` would be kept, or there are fewer than `min_selected`."""
        num_selected(num_views, self.selection_p, self.min_selected)

    @classmethod
    def machine_settings(cls, clip: CLIP, device: torch.device) -> Mapping[str, int]:
        """`max_graph_tokens`: what fits into the memory that is free."""
        return {"max_graph_tokens": graph_tokens(clip.text, device)}

    def take_less_memory(self) -> str | None:
        """Halves `max_tokens` and `max_graph_tokens`, down to about a prompt."""
        return self.tuner.take_less_memory()

    def adapt(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Adaptation:
        """One episode for every image of the batch."""
        refuse_inference_mode()
        start_BND, text = self.start(features_BVE, image_norm_B)
        logits_BVK = self.clip.logit_scale * features_BVE @ text.mT
        selected, trusted_BSE = select_views(features_BVE, logits_BVK, self.selection_p, self.min_selected)
        initial_entropy = marginal_entropy(self.clip.logit_scale * trusted_BSE @ text.mT)
        slots = self.tuner.tune(trusted_BSE, start_BND, *self.per_image(selected, **needed))
        if self.tuner.steps == 0:
            logits, entropy = self.predict(features_BVE, logits_BVK), initial_entropy
        else:
            logits, entropy = self.tuned(slots, features_BVE, trusted_BSE)
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy, initial_entropy, self.learner.split(slots)[0])

    def start(self, features_BVE: Tensor, image_norm_B: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Slots of each image's own (B, n_slots, D) with their text (B, K, E), or None with the shared text (K, E)."""
        start_BND = self.bank.own_slots(features_BVE[:, 0], image_norm_B)
        return start_BND, self.tuner.initial_text() if start_BND is None else self.tuner.text(start_BND)

    def per_image(self, selected_BS: Tensor, **needed: Tensor) -> tuple[Tensor, ...]:
        """Further tensors of the objective, of first dimension B."""
        return ()

    def tuned(self, slots: Tensor, features_BVE: Tensor, trusted_BSE: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits of the prediction and (B,) marginal entropy of the selected views, at the tuned slots."""
        scale = self.clip.logit_scale
        cosines_B1K, logits_BSK = self.tuner.products(slots, features_BVE[:, :1], scale * trusted_BSE)
        return scale * cosines_B1K[:, 0], marginal_entropy(logits_BSK)

    def predict(self, features_BVE: Tensor, logits_BVK: Tensor) -> Tensor:
        """(B, K) logits of the prediction, from those of all views: view 0's."""
        return logits_BVK[:, 0]

    def view_logits(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Tensor:
        """(B, V, K) logits of all views at the initial context."""
        return self.clip.logit_scale * features_BVE @ self.start(features_BVE, image_norm_B)[1].mT
