"""Test-time prompt tuning: Shu et al., NeurIPS 2022."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.errors import Natural, NotNegative, UserError
from tpt.methods.base import Adaptation, Method, SelectingMethod, gather_views
from tpt.methods.functional import marginal_entropy
from tpt.methods.tuner import MakeOptimizer, Penalty, PromptTuner, graph_tokens, refuse_inference_mode


class TPT(SelectingMethod):
    """Tunes the context for each image so that its confident views agree, and then classifies the image with it.

    Section 3.2 of the paper.  Of V views, the share `selection_p` with the lowest entropy is kept.  `steps` optimizer
    steps on the context lower the entropy of their averaged prediction.  View 0 is classified with the tuned context.
    Every image starts from the same context with a new optimizer.  The views are selected once, before the first step.

    With `learned_class_token`, a vector in place of each class name is tuned too.  With a CoCoOp context, every image
    starts from its own, and the network is not tuned.

    Other prompt-tuning methods subclass this one with another `objective` or a `penalty`.

    Args:
        steps: optimizer steps per image, 0 or more; 0 gives the zero-shot prediction.
        lr: learning rate; the paper's 5e-3.
        optimizer: called with the parameters and `lr`; the paper's AdamW with PyTorch's defaults (weight decay 0.01).
        max_graph_tokens: bounds memory, like `max_tokens`, see `PromptTuner`; None uses what fits into half of the free
            memory, at most 4 GiB.

    Raises:
        UserError: a setting is out of range, a name is too long for the text tower, or there is no context to tune.

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
    made_from: ClassVar = {**Method.made_from, "tuner": ("steps", "lr", "optimizer", "max_graph_tokens")}
    steps: Natural = 1
    lr: NotNegative = 5e-3
    optimizer: MakeOptimizer = torch.optim.AdamW
    max_graph_tokens: Natural | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bank.learner is None:
            raise UserError(
                "Expected a context to tune, got templates or descriptions, which have none; use ctx_init or context, "
                "or method=zero_shot."
            )
        self.learner = self.bank.learner
        self.tuner = PromptTuner(
            self.learner,
            self.objective,
            self.penalty(),
            self.steps,
            self.lr,
            self.optimizer,
            self.max_tokens,
            graph_tokens(self.clip.text, self.clip.device) if self.max_graph_tokens is None else self.max_graph_tokens,
        )

    def objective(self, logits_BSK: Tensor, text_BKE: Tensor, *per_image: Tensor) -> Tensor:
        """(B,) marginal entropy of the selected views; a subclass may replace it.

        Args:
            logits_BSK: logits of the selected views.
            text_BKE: the unit-length text features behind the logits.
            per_image: what the method `per_image` returns.
        """
        return marginal_entropy(logits_BSK)

    def penalty(self) -> Penalty | None:
        """A function `(..., K, E) -> (...)` of the text features that is added to the objective; None for none."""
        return None

    @classmethod
    def machine_settings(cls, clip: CLIP, device: torch.device) -> Mapping[str, int]:
        """`max_graph_tokens`, from the free memory."""
        return {"max_graph_tokens": graph_tokens(clip.text, device)}

    def take_less_memory(self) -> str | None:
        """Halves `max_tokens` and `max_graph_tokens` and returns them as text; None if both are below one prompt."""
        return self.tuner.take_less_memory()

    def adapt(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Adaptation:
        """Runs one episode for every image of the batch."""
        refuse_inference_mode()
        start_BND, text = self.start(features_BVE, image_norm_B)
        logits_BVK = self.clip.logit_scale * features_BVE @ text.mT
        selected = self.select(logits_BVK)
        trusted_BSE = gather_views(features_BVE, selected)
        initial_entropy = marginal_entropy(self.clip.logit_scale * trusted_BSE @ text.mT)
        slots = self.tuner.tune(trusted_BSE, start_BND, *self.per_image(selected, **needed))
        if self.tuner.steps == 0:
            logits, entropy = self.predict(features_BVE, logits_BVK), initial_entropy
        else:
            logits, entropy = self.tuned(slots, features_BVE, trusted_BSE)
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy, initial_entropy, self.learner.split(slots)[0])

    def start(self, features_BVE: Tensor, image_norm_B: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """(B, n_slots, D) slots per image and their text (B, K, E); for a shared start, None and its text (K, E)."""
        start_BND = self.bank.own_slots(features_BVE[:, 0], image_norm_B)
        return start_BND, self.tuner.initial_text() if start_BND is None else self.tuner.text(start_BND)

    def per_image(self, selected_BS: Tensor, **needed: Tensor) -> tuple[Tensor, ...]:
        """Further inputs of the objective, with first dimension B."""
        return ()

    def tuned(self, slots: Tensor, features_BVE: Tensor, trusted_BSE: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits of the prediction and (B,) marginal entropy of the selected views, at the tuned slots."""
        scale = self.clip.logit_scale
        cosines_B1K, logits_BSK = self.tuner.products(slots, features_BVE[:, :1], scale * trusted_BSE)
        return scale * cosines_B1K[:, 0], marginal_entropy(logits_BSK)

    def predict(self, features_BVE: Tensor, logits_BVK: Tensor) -> Tensor:
        """(B, K) logits of the prediction: view 0's; a subclass may combine the logits of all views."""
        return logits_BVK[:, 0]

    def view_logits(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Tensor:
        """(B, V, K) logits of all views at the initial context."""
        return self.clip.logit_scale * features_BVE @ self.start(features_BVE, image_norm_B)[1].mT
