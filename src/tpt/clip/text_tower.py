"""The causal text tower of a CLIP, for prompts with learnable vectors.

Attention is causal and a prompt's feature is that of its end token.  Three savings follow that do not change the
result: nothing after the end token is computed (no padding to 77), the shared start of all prompts is computed once,
and in the last layer only the end tokens have queries.

Shape letters: `B` contexts (one per image), `K` classes, `P` tokens of the shared start, `T` tokens of
all tails packed one after another, `D` token width, `H` heads, `E` joint embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tpt.clip.tower import BlockTower, Prompt, Prompts, finish, queries_keys_values


class PackedPrompts(Prompts):
    """K prompts as one shared start and K tails, sorted by length and packed without padding."""

    def __init__(self, prompts: Sequence[Prompt], shared: int) -> None:
        super().__init__()
        start = list(prompts[0][:shared])
        assert all(list(p[:shared]) == start and len(p) > shared for p in prompts)
        order = sorted(range(len(prompts)), key=lambda k: len(prompts[k]))
        tails = [list(prompts[k][shared:]) for k in order]
        lengths = [len(tail) for tail in tails]
        positions = [shared + i for length in lengths for i in range(length)]
        self._sorted = [[*start, *tail] for tail in tails]
        self.shared = shared
        self.num_prompts = len(prompts)
        self.num_tokens = len(positions)
        self.buckets = list(Counter(lengths).items())  # (length, number of tails), in packed order
        self.start = nn.Buffer(torch.tensor(start, dtype=torch.long), persistent=False)
        self.tails = nn.Buffer(torch.tensor([t for tail in tails for t in tail]), persistent=False)
        self.positions = nn.Buffer(torch.tensor(positions), persistent=False)
        self.ends = nn.Buffer(torch.tensor(lengths).cumsum(0) - 1, persistent=False)  # (K,) positions of end tokens
        self.unsort = nn.Buffer(torch.tensor(order).argsort(), persistent=False)

    def _cut(self, max_tokens: int) -> Iterator[PackedPrompts]:
        part: list[Prompt] = []
        size = 0
        for prompt in self._sorted:
            length = len(prompt) - self.shared
            if part and size + length > max_tokens:
                yield PackedPrompts(part, self.shared)
                part, size = [], 0
            part.append(prompt)
            size += length
        yield PackedPrompts(part, self.shared)


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


class TextTower(BlockTower):
    """A frozen causal text tower of plain blocks that pools at the end token, the last of every prompt."""

    def pack(self, prompts: Sequence[Prompt], shared: int) -> PackedPrompts:
        """Prompts without padding, with their shared start stored once."""
        return PackedPrompts(prompts, shared)

    def _features(self, prompts: PackedPrompts, slots_BND: Tensor | None) -> Tensor:
        shared = self._embed(prompts.start, slots_BND) + self.positional_embedding[: prompts.shared]
        tails = self._embed(prompts.tails, slots_BND) + self.positional_embedding[prompts.positions]
        for block in self.blocks:
            shared, tails = self._block(block, shared, tails, prompts, ends_only=block is self.blocks[-1])
        return self._project(tails)[:, prompts.unsort]

    def _block(
        self, block: nn.Module, shared: Tensor, tails: Tensor, prompts: PackedPrompts, ends_only: bool
    ) -> tuple[Tensor, Tensor]:
        """One residual attention block over start (B, P, D) and tails (B, T, D), or (B, K, D) of end tokens."""
        q_shared, k_shared, v_shared = queries_keys_values(block, shared)
        q, k, v = queries_keys_values(block, tails)
        parts = []
        sizes = [length * count for length, count in prompts.buckets]
        for (length, count), *rows in zip(prompts.buckets, *(x.split(sizes, 1) for x in (q, k, v)), strict=True):
            q_b, k_b, v_b = (x.unflatten(1, (count, length)) for x in rows)
            asking = q_b[:, :, -1:] if ends_only else q_b
            parts.append(_attend(asking, k_b, v_b, k_shared, v_shared).flatten(1, 2))
        mixed = torch.cat(parts, dim=1).flatten(-2)
        if ends_only:
            return shared, finish(block, tails[:, prompts.ends], mixed)
        # Not torch's fused attention: its kernels do not support the batched gradients that tuning needs.
        q_alone, k_alone, v_alone = (x[:, None] for x in (q_shared, k_shared, v_shared))
        causal = _attend(q_alone, k_alone, v_alone, k_shared[:, :0], v_shared[:, :0])[:, 0]
        shared = finish(block, shared, causal.flatten(-2))
        return shared, finish(block, tails, mixed)
