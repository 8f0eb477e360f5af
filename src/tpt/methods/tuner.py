"""The engine of prompt tuning: any objective, many images at once, and one shared graph for the first step."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import psutil
import torch
from torch import Tensor, nn

from tpt.clip.prompts.learner import PromptLearner
from tpt.clip.tower import Tower

# These update each coordinate independently, so one optimizer over B stacked contexts acts as B optimizers.
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
GRAPH_BYTES = 4 * 2**30  # enough for ImageNet's classes with the text tower of ViT-B/16, or 100 with SigLIP's
# Floats that a layer keeps for each token, in units of its width D: the inputs of two normalisations (2), queries, keys
# and values with their copies by prompt length (about 8), and the hidden units before and after QuickGELU's gate (8).
FLOATS_PER_WIDTH = 18
PADDED_FLOATS_PER_WIDTH = 27  # of a tower that `pads`; 22 for ImageNet's classes

MakeOptimizer = Annotated[Callable[..., torch.optim.Optimizer], "pass a class of torch.optim"]
Penalty = Callable[[Tensor], Tensor]  # as from `TPT.penalty`


@dataclass
class PromptTuner:
    """Tunes a separate context for each of many images, independently of the others.

    All images start from the same context unless each brings its own.  From a shared start, the first forward pass of
    the text tower is the same for all images: its graph is kept, and each image only runs the backward pass.  Later
    steps process as many images at once as memory allows.

    Args:
        learner: the class prompts and the shared context.
        objective: the loss to minimise.
        penalty: `(..., K, E) -> (...)`, a term of the loss that depends on the text features only.  At a shared start
            its gradient is the same for all images and is computed once.
        steps, lr: optimizer steps per image and their learning rate, at least 0.
        optimizer: called with the parameters and `lr`.  One that is not known to work elementwise runs image by image.
        max_tokens: maximum prompt tokens per forward pass without gradients.  It bounds memory and changes results
            only by rounding.
        max_graph_tokens: maximum prompt tokens in one graph.  Larger sets of classes run the backward pass in parts,
            which repeats the forward pass for each batch.
    """

    learner: PromptLearner
    objective: Callable[..., Tensor]  # as `TPT.objective`; the loss of an image depends on its logits only
    penalty: Penalty | None
    steps: int
    lr: float
    optimizer: MakeOptimizer
    max_tokens: int
    max_graph_tokens: int

    def __post_init__(self) -> None:
        self._first: tuple[Tensor, Tensor] | None = None  # slots (n_slots, D) and their text features (K, E)
        self._penalty_pull: Tensor | None = None  # (K, E) gradient of the penalty at the shared start

    def take_less_memory(self) -> str | None:
        """Halves `max_tokens` and `max_graph_tokens` and returns them as text; None if both are below one prompt."""
        if max(self.max_tokens, self.max_graph_tokens) < self.learner.clip.text.context_length:
            return None
        self._first = self._penalty_pull = None
        self.max_tokens, self.max_graph_tokens = (max(1, n // 2) for n in (self.max_tokens, self.max_graph_tokens))
        return f"max_tokens={self.max_tokens} and max_graph_tokens={self.max_graph_tokens}"

    def initial_text(self) -> Tensor:
        """(K, E) text features of the shared context."""
        return self._start()[1].detach()

    @torch.no_grad()
    def text(self, slots_BND: Tensor) -> Tensor:
        """(B, K, E) text features of one context per image."""
        groups = self._groups(self.max_tokens, slots_BND)
        return torch.cat([self.learner.encode(some, self.max_tokens) for (some,) in groups])

    def tune(self, trusted_BSE: Tensor, start_BND: Tensor | None = None, *per_image: Tensor) -> Tensor:
        """(B, n_slots, D) tuned slots.

        Args:
            trusted_BSE: features of the views that the objective uses.
            start_BND: initial slots per image; None starts all images from the learner's slots.
            per_image: further inputs of the objective, with first dimension B.

        Raises:
            RuntimeError: under `torch.inference_mode`, which forbids gradients.
        """
        refuse_inference_mode()
        start = self.learner.slots.repeat(len(trusted_BSE), 1, 1) if start_BND is None else start_BND.clone()
        if self.steps == 0:
            return start
        rows = (start, trusted_BSE, *per_image)
        # If an optimizer's steps mix coordinates, each image needs its own optimizer.
        parts = [rows] if is_elementwise(self.optimizer) else list(zip(*(t.split(1) for t in rows), strict=True))
        return torch.cat([self._steps(part[0], part[1], part[2:], start_BND is None) for part in parts])

    @torch.no_grad()
    def products(self, slots_BND: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """(B, P, K) products of each (B, P, E) tensor in `features` with the text features at the given slots."""
        found = []
        for slots, *some in self._groups(self.max_tokens, slots_BND, *features):
            text_BEK = self.learner.encode(slots, self.max_tokens).transpose(1, 2)
            found.append([each @ text_BEK for each in some])
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    def _start(self) -> tuple[Tensor, Tensor]:
        """The shared slots as a leaf tensor and their text features, with the graph between them if it fits."""
        if self._first is None or self._first[0].device != self.learner.slots.device:
            with torch.enable_grad():
                leaf = self.learner.slots.clone().requires_grad_(self.steps > 0)
                self._first = (leaf, self.learner(leaf) if self._fits else self.learner.encode(leaf, self.max_tokens))
            self._penalty_pull = None
        return self._first

    @property
    def _fits(self) -> bool:
        """Whether one graph can hold all classes."""
        return self.learner.prompts.num_tokens <= self.max_graph_tokens

    def _steps(self, start_BND: Tensor, trusted_BSE: Tensor, per_image: tuple[Tensor, ...], shared: bool) -> Tensor:
        slots = nn.Parameter(start_BND)
        optimizer = self.optimizer([slots], lr=self.lr)
        for step in range(self.steps):
            first = shared and step == 0
            rows = (trusted_BSE, *per_image)
            slots.grad = self._first_gradient(*rows) if first else self._gradient(slots, *rows)
            optimizer.step()
        return slots.detach()

    def _first_gradient(self, trusted_BSE: Tensor, *per_image: Tensor) -> Tensor:
        """(B, n_slots, D) gradients at the shared slots, through the graph that all images share."""
        leaf, text_KE = self._start()
        text_BKE = text_KE.expand(len(trusted_BSE), -1, -1)
        pull_BKE = self._text_gradient(self._own_loss, text_BKE, trusted_BSE, *per_image)
        if self.penalty is not None:
            if self._penalty_pull is None:
                self._penalty_pull = self._text_gradient(self.penalty, text_KE)
            pull_BKE = pull_BKE + self._penalty_pull
        if self._fits:
            return pull_back(text_KE, leaf, pull_BKE, keep_graph=True)
        return self._pull_back_in_parts(leaf, pull_BKE)

    def _gradient(self, slots: Tensor, trusted_BSE: Tensor, *per_image: Tensor) -> Tensor:
        """(B, n_slots, D) gradients at `slots`, for as many images at once as `max_graph_tokens` allows."""
        gradients = []
        for some, *rows in self._groups(self.max_graph_tokens, slots, trusted_BSE, *per_image):
            leaf = some.detach().requires_grad_()
            if self._fits:
                with torch.enable_grad():
                    (gradient,) = torch.autograd.grad(self._loss(self.learner(leaf), *rows).sum(), leaf)
            else:  # the loss needs the features of all classes, the backward pass only one part at a time
                text_BKE = self.learner.encode(leaf, self.max_tokens)
                gradient = self._pull_back_in_parts(leaf, self._text_gradient(self._loss, text_BKE, *rows))
            gradients.append(gradient)
        return torch.cat(gradients)

    def _text_gradient(self, loss: Callable[..., Tensor], text: Tensor, *rows: Tensor) -> Tensor:
        """Gradients of the losses with respect to each image's text features; the losses are independent."""
        with torch.enable_grad():
            own = text.detach().clone().requires_grad_()
            return torch.autograd.grad(loss(own, *rows).sum(), own)[0]

    def _pull_back_in_parts(self, leaf: Tensor, pull_BKE: Tensor) -> Tensor:
        """(B, n_slots, D) gradients as from `pull_back`, with the graph of one part of the classes at a time.

        `leaf` has shape (n_slots, D) if all images share it, or (1, n_slots, D) for a single image.
        """
        packed = torch.empty_like(pull_BKE)
        packed[:, self.learner.prompts.unsort] = pull_BKE
        total, first = torch.zeros((), device=leaf.device), 0
        for part in self.learner.prompts.split(self.max_graph_tokens):
            with torch.enable_grad():
                text = self.learner.clip.text(part, leaf)
            pull = packed[:, first : first + part.num_prompts]
            first += part.num_prompts
            gradient = torch.autograd.grad(text, leaf, pull)[0] if leaf.ndim == 3 else pull_back(text, leaf, pull)
            total = total + gradient
        return total

    def _own_loss(self, text_BKE: Tensor, trusted_BSE: Tensor, *per_image: Tensor) -> Tensor:
        """(B,) the objective without the penalty."""
        logits_BSK = self.learner.clip.logit_scale * trusted_BSE @ text_BKE.transpose(1, 2)
        return self.objective(logits_BSK, text_BKE, *per_image)

    def _loss(self, text_BKE: Tensor, trusted_BSE: Tensor, *per_image: Tensor) -> Tensor:
        loss = self._own_loss(text_BKE, trusted_BSE, *per_image)
        return loss if self.penalty is None else loss + self.penalty(text_BKE)

    def _groups(self, max_tokens: int, *tensors: Tensor) -> Iterator[Any]:
        """Splits the rows of tensors into groups whose prompts have at most `max_tokens` tokens, or single rows."""
        size = max(1, max_tokens // self.learner.prompts.num_tokens)
        return zip(*(t.detach().split(size) for t in tensors), strict=True)


def is_elementwise(optimizer: MakeOptimizer) -> bool:
    """Whether an optimizer is known to update each coordinate independently."""
    return type(optimizer([nn.Parameter(torch.zeros(1))], lr=1e-3)) in ELEMENTWISE


def refuse_inference_mode() -> None:
    """Raises a RuntimeError if gradients cannot be computed."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Tuning needs gradients, which torch.inference_mode forbids; pass `inference_mode=False` to the "
            "Trainer, or leave the inference_mode block."
        )


def pull_back(text_KE: Tensor, leaf: Tensor, pull_BKE: Tensor, keep_graph: bool = False) -> Tensor:
    """(B, n_slots, D) gradients at `leaf` (n_slots, D) for B images that share the graph from it to `text_KE`.

    On a GPU all images run at once, because the kernels for one image are too small to fill it; a single image is
    faster without batching.  On a CPU it is faster to run them one by one (docs/engine.md).  `pull_BKE` is the gradient
    of each image's loss with respect to `text_KE`.
    """
    if text_KE.is_cuda and len(pull_BKE) > 1:
        return torch.autograd.grad(text_KE, leaf, pull_BKE, retain_graph=keep_graph, is_grads_batched=True)[0]
    last = len(pull_BKE) - 1
    pulled = [
        torch.autograd.grad(text_KE, leaf, pull, retain_graph=keep_graph or i < last)[0]
        for i, pull in enumerate(pull_BKE)
    ]
    return torch.stack(pulled)


def graph_tokens(tower: Tower, device: torch.device) -> int:
    """Number of prompt tokens whose graph fits into half of the free memory of `device`, but at most into 4 GiB.

    Below 4 GiB, the size is rounded down to a power of two.  Otherwise small differences in free memory between runs
    would change how work is split, which affects rounding.
    """
    half = free_memory(device) // 2
    budget = GRAPH_BYTES if half >= GRAPH_BYTES else 2 ** int(math.log2(max(half, 2**20)))
    floats = PADDED_FLOATS_PER_WIDTH if tower.pads else FLOATS_PER_WIDTH
    return max(1, budget // (4 * floats * tower.width * tower.depth))


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are currently free on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
