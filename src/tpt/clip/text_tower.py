"""The causal text tower of a CLIP, encoding prompts whose vectors may be learned.

Two facts about the architecture let it skip most of the plain algorithm's work without changing an
answer: attention is causal, and a prompt's feature is read at its end token.  So nothing behind the
end token is computed (no padding to 77), the start that all prompts share is computed once, and in the
last layer only the end tokens ask a question.

Shape letters: `B` contexts (one an image), `K` classes, `P` tokens of the shared start, `T` tokens of
all tails packed one after another, `D` token width, `H` heads, `E` joint embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Prompt = Sequence[int]  # token ids; the number -1 - s stands for slot s, a vector given at run time


def slot(index: int) -> int:
    """How a `Prompt` names the vector `index` of the run-time `slots`."""
    return -1 - index


@dataclass(frozen=True)
class Bucket:
    """`count` tails of one `length`, packed from `start` on."""

    start: int
    count: int
    length: int


class PackedPrompts(nn.Module):
    """K prompts as one shared start and K tails, sorted by length and packed without padding.

    Args:
        prompts: each from its start token to its end token, at most `context_length` long.
        shared: how many leading entries all prompts have in common.
    """

    def __init__(self, prompts: Sequence[Prompt], shared: int) -> None:
        super().__init__()
        start = list(prompts[0][:shared])
        assert all(list(p[:shared]) == start and len(p) > shared for p in prompts)
        order = sorted(range(len(prompts)), key=lambda k: len(prompts[k]))
        tails = [list(prompts[k][shared:]) for k in order]
        positions = [shared + i for tail in tails for i in range(len(tail))]
        self._parts: dict[tuple[int, torch.device], list[PackedPrompts]] = {}
        self._sorted = [[*start, *tail] for tail in tails]
        self.shared = shared
        self.num_prompts = len(prompts)
        self.num_tokens = len(positions)
        self.buckets: list[Bucket] = []
        offset = 0
        for length, group in groupby(tails, key=len):
            count = len(list(group))
            self.buckets.append(Bucket(offset, count, length))
            offset += count * length
        self.start: Tensor
        self.tails: Tensor
        self.positions: Tensor
        self.unsort: Tensor
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order)] = torch.arange(len(order))
        self.register_buffer("start", torch.tensor(start, dtype=torch.long), persistent=False)
        self.register_buffer("tails", torch.tensor([t for tail in tails for t in tail]), persistent=False)
        self.register_buffer("positions", torch.tensor(positions), persistent=False)
        self.register_buffer("unsort", inverse, persistent=False)

    def split(self, max_tokens: int) -> list[PackedPrompts]:
        """Parts of at most `max_tokens` tail tokens, or of one prompt; side by side their features lie in packed order,
        which `unsort` brings into the order of the prompts.
        """
        key = (max_tokens, self.tails.device)
        if key not in self._parts:  # every batch asks for the same ones
            self._parts[key] = [PackedPrompts(part, self.shared).to(key[1]) for part in self._cut(max_tokens)]
        return self._parts[key]

    def _cut(self, max_tokens: int) -> list[list[Prompt]]:
        parts: list[list[Prompt]] = [[]]
        size = 0
        for prompt in self._sorted:
            length = len(prompt) - self.shared
            if parts[-1] and size + length > max_tokens:
                parts.append([])
                size = 0
            parts[-1].append(prompt)
            size += length
        return parts

    def ends(self) -> Tensor:
        """(K,) position of each tail's end token among the packed tokens, in packed order."""
        device = self.tails.device
        return torch.cat([b.start + torch.arange(1, b.count + 1, device=device) * b.length - 1 for b in self.buckets])


def _attend(q: Tensor, k: Tensor, v: Tensor, k_shared: Tensor, v_shared: Tensor) -> Tensor:
    """Causal attention of one bucket of tails over the shared start and over themselves.

    q (B, C, I, H, d): the last I of the tail's J tokens; k, v (B, C, J, H, d); k_shared (B, P, H, d).
    """
    scale = q.shape[-1] ** -0.5
    asked, length = q.shape[2], k.shape[2]
    own = torch.einsum("bcihd,bcjhd->bchij", q, k)
    if asked > 1:
        future = torch.ones(asked, length, dtype=torch.bool, device=q.device).triu(1 + length - asked)
        own = own.masked_fill(future, float("-inf"))
    common = torch.einsum("bcihd,bphd->bchip", q, k_shared)
    weights = (torch.cat([common, own], dim=-1) * scale).softmax(-1)
    shared = k_shared.shape[1]
    mixed = torch.einsum("bchip,bphd->bcihd", weights[..., :shared], v_shared)
    return mixed + torch.einsum("bchij,bcjhd->bcihd", weights[..., shared:], v)


class TextTower(nn.Module):
    """A frozen causal text tower that pools at the end token.

    Args:
        token_embedding: (vocabulary, D).
        positional_embedding: (context_length, D).
        blocks: open_clip's plain residual attention blocks.
        ln_final: the last normalisation.
        projection: (D, E), a linear layer, or None.
    """

    def __init__(
        self,
        token_embedding: nn.Embedding,
        positional_embedding: Tensor,
        blocks: nn.ModuleList,
        ln_final: nn.Module,
        projection: Tensor | nn.Module | None,
    ) -> None:
        super().__init__()
        self.token_embedding = token_embedding
        self.positional_embedding = positional_embedding
        self.blocks = blocks
        self.ln_final = ln_final
        self.projection = projection

    @property
    def width(self) -> int:
        """Token width D."""
        return int(self.positional_embedding.shape[1])

    @property
    def context_length(self) -> int:
        """Most tokens a prompt may have, start and end token included."""
        return int(self.positional_embedding.shape[0])

    def forward(self, prompts: PackedPrompts, slots: Tensor | None = None) -> Tensor:
        """Unit-length text features.

        Args:
            prompts: what to encode.
            slots: (n_slots, D) or (B, n_slots, D) vectors that the prompts' slots stand for.

        Returns:
            (K, E), or (B, K, E) if `slots` has a batch dimension.
        """
        batched = slots is not None and slots.ndim == 3
        slots_BND = slots if slots is None or batched else slots[None]
        shared = self._embed(prompts.start, slots_BND)
        shared = shared + self.positional_embedding[: prompts.shared]
        tails = self._embed(prompts.tails, slots_BND) + self.positional_embedding[prompts.positions]
        if slots_BND is not None:  # an encoding without slots in the start still has B tails, and the reverse
            shared = shared.expand(len(slots_BND), -1, -1)
            tails = tails.expand(len(slots_BND), -1, -1)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            shared, tails = self._block(block, shared, tails, prompts, ends_only=layer == last)
        features: Tensor = F.normalize(self._project(self.ln_final(tails)), dim=-1)[:, prompts.unsort]
        return features if batched else features[0]

    def _embed(self, tokens: Tensor, slots_BND: Tensor | None) -> Tensor:
        """(1 or B, n, D) vectors of `tokens`, those of slots taken from `slots_BND`."""
        fixed: Tensor = self.token_embedding(tokens.clamp(min=0))[None]
        if slots_BND is None or not bool((tokens < 0).any()):
            return fixed
        given = slots_BND[:, (-1 - tokens).clamp(min=0)]
        return torch.where((tokens < 0)[:, None], given.to(fixed.dtype), fixed)

    def _block(
        self, block: nn.Module, shared: Tensor, tails: Tensor, prompts: PackedPrompts, ends_only: bool
    ) -> tuple[Tensor, Tensor]:
        """One residual attention block over start (B, P, D) and tails (B, T, D), or (B, K, D) of end tokens."""
        attn: nn.MultiheadAttention = block.attn  # type: ignore[assignment]
        heads = (attn.num_heads, attn.embed_dim // attn.num_heads)
        qkv_shared = F.linear(block.ln_1(shared), attn.in_proj_weight, attn.in_proj_bias)  # type: ignore[operator]
        qkv = F.linear(block.ln_1(tails), attn.in_proj_weight, attn.in_proj_bias)  # type: ignore[operator]
        q_shared, k_shared, v_shared = qkv_shared.unflatten(-1, (3, *heads)).unbind(-3)
        q, k, v = qkv.unflatten(-1, (3, *heads)).unbind(-3)
        parts = []
        for b in prompts.buckets:
            rows = slice(b.start, b.start + b.count * b.length)
            q_b, k_b, v_b = (x[:, rows].unflatten(1, (b.count, b.length)) for x in (q, k, v))
            asking = q_b[:, :, -1:] if ends_only else q_b
            parts.append(_attend(asking, k_b, v_b, k_shared, v_shared).flatten(1, 2))
        mixed = torch.cat(parts, dim=1).flatten(-2)
        if ends_only:
            return shared, self._finish(block, tails[:, prompts.ends()], mixed)
        # Not torch's fused attention: many gradients are pulled back at once, for which its kernels have no rule.
        q_alone, k_alone, v_alone = (x[:, None] for x in (q_shared, k_shared, v_shared))
        causal = _attend(q_alone, k_alone, v_alone, k_shared[:, :0], v_shared[:, :0])[:, 0]
        shared = self._finish(block, shared, causal.flatten(-2))
        return shared, self._finish(block, tails, mixed)

    @staticmethod
    def _finish(block: nn.Module, x: Tensor, mixed: Tensor) -> Tensor:
        """The part of a block behind attention: output projection, residuals, feed-forward network."""
        x = x + block.ls_1(block.attn.out_proj(mixed))  # type: ignore[operator, union-attr]
        return x + block.ls_2(block.mlp(block.ln_2(x)))  # type: ignore[operator, no-any-return]

    def _project(self, x: Tensor) -> Tensor:
        if self.projection is None:
            return x
        if isinstance(self.projection, nn.Module):
            projected: Tensor = self.projection(x)
            return projected
        return x @ self.projection
