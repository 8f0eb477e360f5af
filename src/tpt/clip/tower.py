"""What every text tower offers: prompts packed once, then encoded with vectors that are given at run time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Prompt = Sequence[int]  # token ids; the number -1 - s stands for slot s, a vector given at run time


def slot(index: int) -> int:
    """How a `Prompt` names the vector `index` of the run-time `slots`."""
    return -1 - index


class Prompts(nn.Module):
    """K prompts in the form that a tower computes with.

    Attributes:
        num_prompts: K.
        num_tokens: tokens that are computed for each context, which memory and time grow with.
        unsort: (K,) where each prompt's feature stands among those of the parts that `split` gives.
    """

    num_prompts: int
    num_tokens: int
    unsort: Tensor

    def split(self, max_tokens: int) -> Sequence[Prompts]:
        """Parts of at most `max_tokens` tokens, or of one prompt; side by side their features lie in packed order,
        which `unsort` brings into the order of the prompts.
        """
        raise NotImplementedError


class Tower(nn.Module):
    """A frozen text tower.

    Attributes:
        token_embedding: (vocabulary, D), token ids to vectors of the kind that slots are given as.
    """

    token_embedding: nn.Embedding

    @property
    def width(self) -> int:
        """Token width D."""
        return int(self.token_embedding.embedding_dim)

    @property
    def embed_dim(self) -> int:
        """Length E of a feature."""
        raise NotImplementedError

    @property
    def depth(self) -> int:
        """Number of layers."""
        raise NotImplementedError

    @property
    def context_length(self) -> int:
        """Most tokens a prompt may have, with those that the tokenizer adds."""
        raise NotImplementedError

    def pack(self, prompts: Sequence[Prompt], shared: int) -> Prompts:
        """Prompts ready for `forward`.

        Args:
            prompts: each from its start token to its end token, without padding.
            shared: how many leading entries all prompts have in common.
        """
        raise NotImplementedError

    def forward(self, prompts: Prompts, slots: Tensor | None = None) -> Tensor:
        """Unit-length text features.

        Args:
            prompts: what `pack` gave.
            slots: (n_slots, D) or (B, n_slots, D) vectors that the prompts' slots stand for.

        Returns:
            (K, E), or (B, K, E) if `slots` has a batch dimension.
        """
        raise NotImplementedError

    def _embed(self, tokens: Tensor, slots_BND: Tensor | None) -> Tensor:
        """(1 or B, ..., D) vectors of `tokens`, those of slots taken from `slots_BND`."""
        fixed: Tensor = self.token_embedding(tokens.clamp(min=0))[None]
        if slots_BND is None or not bool((tokens < 0).any()):
            return fixed
        given = slots_BND[:, (-1 - tokens).clamp(min=0)]
        return torch.where((tokens < 0)[..., None], given.to(fixed.dtype), fixed)


def project(x: Tensor, projection: Tensor | nn.Module | None) -> Tensor:
    """(..., D) -> (..., E) by a matrix (D, E), a linear layer, or not at all."""
    if projection is None:
        return x
    if isinstance(projection, nn.Module):
        projected: Tensor = projection(x)
        return projected
    return x @ projection


def projected_width(projection: Tensor | nn.Module | None, width: int) -> int:
    """E, of a matrix (D, E), a linear layer, or of nothing."""
    if projection is None:
        return width
    if isinstance(projection, Tensor):
        return int(projection.shape[1])
    assert isinstance(projection, nn.Linear)
    return projection.out_features
