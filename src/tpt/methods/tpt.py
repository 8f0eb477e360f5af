"""Test-time prompt tuning: Shu et al., NeurIPS 2022."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tpt.backbones.clip import CLIP
from tpt.errors import UserError
from tpt.functional import marginal_entropy, num_selected
from tpt.methods.base import Adaptation, Method, select_views
from tpt.methods.memory import graph_tokens
from tpt.prompts.conditional import ConditionalContext
from tpt.prompts.context import Context, context_from_words, random_context
from tpt.prompts.learner import PromptLearner, check_class_names

# Their update of one coordinate never looks at another, so one optimizer over B stacked contexts is B optimizers.
ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Rprop,
)


class TPT(Method):
    """Tunes the context to each image so that its confident views agree; predicts with it; forgets it.

    Section 3.2 of the paper: of V views the share `selection_p` with the least entropy is kept, the
    entropy of their averaged prediction is lowered by `steps` optimizer steps on the context, and view 0 is
    classified with the tuned context.  Every image starts from the same context and a fresh optimizer.  The first
    selection is kept for all steps.

    The first forward pass of the text tower is the same for every image, so its graph is kept and images only
    pull their gradients back through it; further passes run over many images at once.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        ctx_init: initial context in words, `[CLS]` where the class name goes; None for `n_ctx` random vectors.
        n_ctx: number of random vectors; words are counted in tokens instead.
        class_token_position: "end", "middle" or "front".
        context: an initial context in place of words, such as one that CoOp learned.  With one of CoCoOp, every image
            starts from its own, `base + meta_net(feature of view 0)`, and what the network made is tuned, not the
            network; its `meta_input` says whether the feature has unit length.
        learned_class_token: tunes a vector in place of each class name, see `PromptLearner`.
        steps: optimizer steps per image, 0 or more; 0 leaves the zero-shot prediction.
        selection_p: share of the views kept, in (0, 1]; the paper's 0.1.
        min_selected: at least so many views are kept; 0 is the paper's plain cut, an error where it leaves none.
        lr: learning rate; the paper's 5e-3.
        optimizer: takes the parameters and `lr`; the paper's AdamW at PyTorch's defaults, weight decay 0.01 included.
        seed: of random vectors.
        max_tokens: most prompt tokens in flight without a graph; bounds memory, changes no answer.
        max_graph_tokens: most prompt tokens whose graph is kept; more are pulled back in parts, computed once more for
            each batch.  None takes what fits into the free memory, at most 2 GiB.

    Raises:
        UserError: settings out of range, or names too long for the text tower.
    """

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        ctx_init: str | None = "a photo of a",
        n_ctx: int = 4,
        class_token_position: str = "end",
        context: Context | ConditionalContext | None = None,
        learned_class_token: bool = False,
        steps: int = 1,
        selection_p: float = 0.1,
        min_selected: int = 0,
        lr: float = 5e-3,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        seed: int = 0,
        max_tokens: int = 16384,
        max_graph_tokens: int | None = None,
    ) -> None:
        names = check_class_names(class_names)
        super().__init__(clip, names)
        if steps < 0 or int(steps) != steps:
            raise UserError(f"Expected `steps` to be a whole number of at least 0, got {steps}.")
        if lr < 0:
            raise UserError(f"Expected `lr` of at least 0, got {lr}.")
        if context is None and ctx_init is not None:
            context = context_from_words(clip, ctx_init, class_token_position)
        elif context is None:
            context = random_context(clip, n_ctx, class_token_position, seed)
        self.conditional: ConditionalContext | None = None
        if isinstance(context, ConditionalContext):
            self.conditional, context = context, context.base
        self.learner = PromptLearner(clip, names, context, learned_class_token, seed)
        if self.conditional is not None:
            self.conditional.check(clip)
            self.meta_net = copy.deepcopy(self.conditional.meta_net).float().to(clip.device).requires_grad_(False)
            self.needs_norm = self.conditional.meta_input == "raw"
            self.notes = (self.conditional.note,)
        self.steps = int(steps)
        self.selection_p = selection_p
        self.min_selected = min_selected
        self.lr = lr
        self.optimizer = optimizer
        self.max_tokens = max_tokens
        self.max_graph_tokens = max_graph_tokens or graph_tokens(clip.text, clip.device)
        probe = self._new_optimizer(nn.Parameter(torch.zeros(1)))
        self._elementwise = type(probe) in ELEMENTWISE
        self._first: tuple[Tensor, Tensor] | None = None  # slots (n_slots, D) and their text features (K, E)

    def check_views(self, num_views: int) -> None:
        """Raises a UserError where none of `num_views` would be kept, or there are fewer than `min_selected`."""
        num_selected(num_views, self.selection_p, self.min_selected)

    def take_less_memory(self) -> str | None:
        """Halves `max_tokens` and `max_graph_tokens`, down to about a prompt."""
        if max(self.max_tokens, self.max_graph_tokens) < self.clip.text.context_length:
            return None
        self._first = None
        self.max_tokens, self.max_graph_tokens = (max(1, n // 2) for n in (self.max_tokens, self.max_graph_tokens))
        return f"max_tokens={self.max_tokens} and max_graph_tokens={self.max_graph_tokens}"

    def adapt(self, features_BVE: Tensor, image_norm_B: Tensor | None = None) -> Adaptation:
        """One episode for every image of the batch."""
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "Tuning needs gradients, which torch.inference_mode forbids; pass `inference_mode=False` to the "
                "Trainer, or leave the inference_mode block."
            )
        start_BND = self._own_start(features_BVE[:, 0], image_norm_B)
        text = self._initial_text()[1].detach() if start_BND is None else self._text(start_BND)  # (K, E) or (B, K, E)
        logits_BVK = self.clip.logit_scale * features_BVE @ text.mT
        selected, trusted_BSE = select_views(features_BVE, logits_BVK, self.selection_p, self.min_selected)
        initial_entropy = marginal_entropy(self.clip.logit_scale * trusted_BSE @ text.mT)
        if self.steps == 0:
            slots = self.learner.slots.expand(len(features_BVE), -1, -1) if start_BND is None else start_BND
            logits, entropy = logits_BVK[:, 0], initial_entropy
        else:
            slots = self._tune(trusted_BSE, start_BND)
            logits, entropy = self._predict(slots, features_BVE[:, 0], trusted_BSE)
        context, _ = self.learner.split(slots)
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy, initial_entropy, context)

    @torch.no_grad()
    def _own_start(self, image_BE: Tensor, image_norm_B: Tensor | None) -> Tensor | None:
        """(B, n_slots, D) initial slots where every image has its own; None where all share the learner's."""
        if self.conditional is None:
            return None
        fed = image_BE if image_norm_B is None else image_BE * image_norm_B.to(image_BE)[:, None]
        slots = self.learner.slots.repeat(len(image_BE), 1, 1)
        slots[:, : self.learner.context.n_ctx] += self.meta_net(fed)[:, None]
        return slots

    @torch.no_grad()
    def _text(self, slots_BND: Tensor) -> Tensor:
        """(B, K, E) text features."""
        groups = self._groups(self.max_tokens, slots_BND)
        return torch.cat([self.learner.encode(some, self.max_tokens) for (some,) in groups])

    def _initial_text(self) -> tuple[Tensor, Tensor]:
        """The initial slots as a leaf, and their text features, with the graph that leads back to it if that fits."""
        if self._first is None or self._first[0].device != self.learner.slots.device:
            with torch.enable_grad():
                leaf = self.learner.slots.clone().requires_grad_(self.steps > 0)
                self._first = (leaf, self.learner(leaf) if self._fits else self.learner.encode(leaf, self.max_tokens))
        return self._first

    @property
    def _fits(self) -> bool:
        """Whether the graph of all classes can be kept."""
        return self.learner.prompts.num_tokens <= self.max_graph_tokens

    def _tune(self, trusted_BSE: Tensor, start_BND: Tensor | None) -> Tensor:
        """(B, n_slots, D) tuned slots."""
        if self._elementwise:
            return self._steps(trusted_BSE, start_BND)
        # The optimizer's steps mix coordinates: every image needs one of its own.
        starts = [None] * len(trusted_BSE) if start_BND is None else start_BND.split(1)
        pairs = zip(trusted_BSE.split(1), starts, strict=True)
        return torch.cat([self._steps(trusted, start) for trusted, start in pairs])

    def _steps(self, trusted_BSE: Tensor, start_BND: Tensor | None) -> Tensor:
        shared = start_BND is None
        slots = nn.Parameter(
            self.learner.slots.repeat(len(trusted_BSE), 1, 1) if start_BND is None else start_BND.clone()
        )
        optimizer = self._new_optimizer(slots)
        for step in range(self.steps):
            first = shared and step == 0
            slots.grad = self._first_gradient(trusted_BSE) if first else self._gradient(slots, trusted_BSE)
            optimizer.step()
        return slots.detach()

    def _new_optimizer(self, slots: nn.Parameter) -> torch.optim.Optimizer:
        return self.optimizer([slots], lr=self.lr)

    def _first_gradient(self, trusted_BSE: Tensor) -> Tensor:
        """(B, n_slots, D) gradients at the initial slots, pulled back through the one graph all images share."""
        leaf, text_KE = self._initial_text()
        pull_BKE = self._text_gradient(text_KE.expand(len(trusted_BSE), -1, -1), trusted_BSE)
        if self._fits:
            return _pull_back(text_KE, leaf, pull_BKE, keep_graph=True)
        return self._pull_back_in_parts(leaf, pull_BKE)

    def _gradient(self, slots: Tensor, trusted_BSE: Tensor) -> Tensor:
        """(B, n_slots, D) gradients at `slots`, for as many images at once as `max_graph_tokens` allows."""
        gradients = []
        for some, trusted in self._groups(self.max_graph_tokens, slots, trusted_BSE):
            leaf = some.detach().requires_grad_()
            if self._fits:
                with torch.enable_grad():
                    (gradient,) = torch.autograd.grad(self._loss(self.learner(leaf), trusted), leaf)
            else:  # the loss needs the features of all classes, the way back only those of one part
                text_BKE = self.learner.encode(leaf, self.max_tokens)
                gradient = self._pull_back_in_parts(leaf, self._text_gradient(text_BKE, trusted))
            gradients.append(gradient)
        return torch.cat(gradients)

    def _text_gradient(self, text_BKE: Tensor, trusted_BSE: Tensor) -> Tensor:
        """(B, K, E) gradient of the loss by the text features."""
        with torch.enable_grad():
            own = text_BKE.detach().clone().requires_grad_()
            return torch.autograd.grad(self._loss(own, trusted_BSE), own)[0]

    def _pull_back_in_parts(self, leaf: Tensor, pull_BKE: Tensor) -> Tensor:
        """(B, n_slots, D): as `_pull_back`, with the graph of one part of the classes at a time.

        `leaf` (n_slots, D) is shared by the B images, or (1, n_slots, D) belongs to the only one.
        """
        packed = torch.empty_like(pull_BKE)
        packed[:, self.learner.prompts.unsort] = pull_BKE
        total, first = torch.zeros((), device=leaf.device), 0
        for part in self.learner.prompts.split(self.max_graph_tokens):
            with torch.enable_grad():
                text = self.clip.text(part, leaf)
            pull = packed[:, first : first + part.num_prompts]
            first += part.num_prompts
            gradient = torch.autograd.grad(text, leaf, pull)[0] if leaf.ndim == 3 else _pull_back(text, leaf, pull)
            total = total + gradient
        return total

    def _loss(self, text_BKE: Tensor, trusted_BSE: Tensor) -> Tensor:
        """Sum over images of the marginal entropy: each image's gradient is its own."""
        logits_BSK = self.clip.logit_scale * trusted_BSE @ text_BKE.transpose(1, 2)
        return marginal_entropy(logits_BSK).sum()

    @torch.no_grad()
    def _predict(self, slots: Tensor, image_BE: Tensor, trusted_BSE: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits of view 0 and (B,) marginal entropy of the selected views, at the tuned slots."""
        logits, entropies = [], []
        for some, image, trusted in self._groups(self.max_tokens, slots, image_BE, trusted_BSE):
            text_BEK = self.learner.encode(some, self.max_tokens).transpose(1, 2)
            logits.append(self.clip.logit_scale * (image[:, None] @ text_BEK)[:, 0])
            entropies.append(marginal_entropy(self.clip.logit_scale * trusted @ text_BEK))
        return torch.cat(logits), torch.cat(entropies)

    def _groups(self, max_tokens: int, *tensors: Tensor) -> Any:
        """The tensors' rows in groups whose prompts stay within `max_tokens`, or one by one."""
        size = max(1, max_tokens // self.learner.prompts.num_tokens)
        return zip(*(t.detach().split(size) for t in tensors), strict=True)


def _pull_back(text_KE: Tensor, leaf: Tensor, pull_BKE: Tensor, keep_graph: bool = False) -> Tensor:
    """(B, n_slots, D) gradients of B images through one graph from `leaf` (n_slots, D) to `text_KE`.

    On a GPU all at once: the kernels of one image are too small to fill it.  On a CPU one after another, which was
    the faster way (docs/engine.md).
    """
    if text_KE.is_cuda:
        return torch.autograd.grad(text_KE, leaf, pull_BKE, retain_graph=keep_graph, is_grads_batched=True)[0]
    last = len(pull_BKE) - 1
    pulled = [
        torch.autograd.grad(text_KE, leaf, pull, retain_graph=keep_graph or i < last)[0]
        for i, pull in enumerate(pull_BKE)
    ]
    return torch.stack(pulled)
