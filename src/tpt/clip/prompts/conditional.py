"""Conditional contexts: a small network computes the context from the image (CoCoOp; Zhou et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tpt.clip.model import CLIP, tensors_digest
from tpt.clip.prompts.context import Context
from tpt.clip.prompts.learner import PromptLearner
from tpt.errors import Seed, UserError, refuse

REDUCTION = 16  # hidden width is E // 16, section 3.2 of the paper
MetaInput = Literal["raw", "unit"]
META_INPUTS: dict[MetaInput, str] = {
    "raw": "the un-normalised image feature, as the official code of TPT does",
    "unit": "the image feature at unit length, as CoCoOp is trained",
}


class MetaNet(nn.Module):
    """Computes a bias for the context from an image feature: linear, ReLU, linear, with E // 16 hidden units."""

    def __init__(self, embed_dim: int, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = max(1, embed_dim // REDUCTION) if hidden is None else hidden
        self.linear1 = nn.Linear(embed_dim, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        """(..., E) image features -> (..., D) bias."""
        return self.linear2(self.linear1(features).relu())  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ConditionalContext:
    """A context that depends on the image: `base + meta_net(image feature)`, with the same bias on every vector.

    Args:
        base: generic context, shared by all images.
        meta_net: computes the bias.
        meta_input: the network's input for TPT: "raw", the un-normalised image feature (as in TPT's official code), or
            "unit", the feature at unit length (as in CoCoOp's training).  CoCoOp's own prediction always uses "unit".
    """

    base: Context
    meta_net: MetaNet
    meta_input: MetaInput = "raw"

    def __post_init__(self) -> None:
        refuse("meta_input", MetaInput, self.meta_input)
        if self.base.class_specific:
            raise UserError(
                "Expected a generic context with a meta-net, got a class-specific one; train without class-specific "
                "contexts."
            )

    @property
    def source(self) -> str:
        """Where the context comes from, for logs and results."""
        return self.base.source

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on every bit of the base and the network, and on `meta_input`."""
        return tensors_digest(self.meta_net.state_dict(), f"{self.base.fingerprint()} {self.meta_input}")

    @property
    def note(self) -> str:
        """The meta-net's input for TPT, as a note in results."""
        return f"meta-net input for tuning ({self.meta_input}): {META_INPUTS[self.meta_input]}"

    def check(self, clip: CLIP) -> None:
        """Raises a UserError if the context or its meta-net does not fit the backbone."""
        self.base.check(clip)
        takes, gives = self.meta_net.linear1.in_features, self.meta_net.linear2.out_features
        if (takes, gives) != (clip.embed_dim, clip.width):
            raise UserError(
                f"Expected a meta-net from image features of length {clip.embed_dim} to vectors of width {clip.width} "
                f"for {clip.name}, got {takes} to {gives} ({self.source}); use one trained with this backbone."
            )


def initial_conditional(clip: CLIP, base: Context, seed: Seed = 0) -> ConditionalContext:
    """A conditional context of `base` and an untrained meta-net, without a change to the global generators."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        meta_net = MetaNet(clip.embed_dim, clip.width)
    return ConditionalContext(base, meta_net.to(clip.device))


def conditional_logits(
    learner: PromptLearner, ctx: Tensor, meta_net: MetaNet, image_BE: Tensor, max_tokens: int = 16384
) -> Tensor:
    """CoCoOp's prediction: each image is compared with its own class prompts (equation 4 of the paper).

    Returns the (B, K) cosines of unit-length image features with prompts of the shared context `ctx` (n_ctx, D), times
    the logit scale.  Images are processed in groups whose prompts have at most `max_tokens` tokens, or one by one.
    With gradients and several groups, activations are recomputed in the backward pass (gradient checkpointing), so
    memory does not grow with the batch.  The results equal those for one image at a time.
    """
    slots_BND = ctx + meta_net(image_BE)[:, None]
    groups = list(
        zip(*(t.split(max(1, max_tokens // learner.prompts.num_tokens)) for t in (slots_BND, image_BE)), strict=True)
    )

    def logits(slots: Tensor, image: Tensor) -> Tensor:
        text_BKE = learner(slots)
        with torch.autocast(image.device.type, enabled=False):  # scores near 100 need more than half precision
            return learner.clip.logit_scale * torch.einsum("be,bke->bk", image.float(), text_BKE.float())

    if len(groups) > 1 and slots_BND.requires_grad:
        return torch.cat([checkpoint(logits, *group, use_reentrant=False) for group in groups])
    return torch.cat([logits(*group) for group in groups])
