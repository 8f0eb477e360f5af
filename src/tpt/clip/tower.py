"""The interface of text towers: prompts are packed once, then encoded with vectors that are given at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Prompt = Sequence[int]  # token ids; the number -1 - s means slot s, a vector given at run time


def slot(index: int) -> int:
    """The number that means vector `index` of the run-time `slots` in a `Prompt`."""
    return -1 - index


class Prompts(nn.Module):
    """K prompts in the packed form of a tower."""

    num_prompts: int
    num_tokens: int  # computed for each context; memory and time grow with it
    unsort: Tensor  # (K,) index of each prompt's feature in the concatenated features of the parts from `split`

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[tuple[int, torch.device], list[Prompts]] = {}

    def split(self, max_tokens: int) -> list[Prompts]:
        """Parts of at most `max_tokens` tokens, or of a single prompt.

        Their concatenated features are in packed order; `unsort` restores the order of the prompts.
        """
        key = (max_tokens, self.unsort.device)
        if key not in self._parts:  # every batch needs the same parts
            self._parts[key] = [part.to(key[1]) for part in self._cut(max_tokens)]
        return self._parts[key]

    def _cut(self, max_tokens: int) -> Iterator[Prompts]:
        raise NotImplementedError


class Tower(nn.Module):
    """A frozen text tower."""

    token_embedding: nn.Embedding  # (vocabulary, D); slots are vectors of the same kind
    embed_dim: int  # length E of a feature
    depth: int  # number of layers
    context_length: int  # maximum tokens per prompt, including those that the tokenizer adds before the padding

    @property
    def width(self) -> int:
        """Token width D."""
        return int(self.token_embedding.embedding_dim)

    @property
    def pads(self) -> bool:
        """Whether attention pads packed prompts, which takes more memory per token; see `TextTower`."""
        return False

    def pack(self, prompts: Sequence[Prompt], shared: int) -> Prompts:
        """Packs prompts from start to end token, without padding, whose first `shared` entries are the same in all."""
        raise NotImplementedError

    def forward(self, prompts: Prompts, slots: Tensor | None = None) -> Tensor:
        """Unit-length features (K, E) of packed prompts with slots (n_slots, D); (B, K, E) of (B, n_slots, D)."""
        if slots is not None and slots.ndim == 3:
            return F.normalize(self._features(prompts, slots), dim=-1)
        return F.normalize(self._features(prompts, None if slots is None else slots[None]), dim=-1)[0]

    def _features(self, prompts: Any, slots_BND: Tensor | None) -> Tensor:
        """(B, K, E) features before they are scaled to unit length; B is 1 without slots."""
        raise NotImplementedError

    def _embed(self, tokens: Tensor, slots_BND: Tensor | None) -> Tensor:
        """(B, ..., D) vectors of `tokens`; those of slots come from `slots_BND`."""
        fixed: Tensor = self.token_embedding(tokens.clamp(min=0))[None]
        if slots_BND is None:
            return fixed
        given = slots_BND[:, (-1 - tokens).clamp(min=0)]
        return torch.where((tokens < 0)[..., None], given.to(fixed.dtype), fixed)


class BlockTower(Tower):
    """A frozen text tower of open_clip's residual attention blocks; `text` may also be a CLIP with its parts."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.token_embedding = text.token_embedding
        self.positional_embedding: Tensor = text.positional_embedding  # (L, D)
        self.blocks: nn.ModuleList = text.transformer.resblocks
        self.ln_final: nn.Module = text.ln_final
        self.projection: Tensor | nn.Linear | None = text.text_projection  # (D, E)
        self.depth, self.context_length = len(self.blocks), len(self.positional_embedding)
        self.embed_dim = self._project(self.positional_embedding[:1]).shape[-1]

    def _project(self, x: Tensor) -> Tensor:
        """(..., D) of the last layer -> (..., E)."""
        x = self.ln_final(x)
        if self.projection is None:
            return x
        out: Tensor = x @ self.projection if isinstance(self.projection, Tensor) else self.projection(x)
        return out


def queries_keys_values(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(..., H, d) of a plain block's input (..., D)."""
    attn: nn.MultiheadAttention = block.attn  # type: ignore[assignment]
    qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)  # type: ignore[operator]
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).unbind(-3)
    return q, k, v


def finish(block: nn.Module, x: Tensor, mixed: Tensor) -> Tensor:
    """The part of a plain block after attention: output projection, residuals, feed-forward network."""
    x = x + block.ls_1(block.attn.out_proj(mixed))  # type: ignore[operator, union-attr]
    return x + block.ls_2(block.mlp(block.ln_2(x)))  # type: ignore[operator, no-any-return]
