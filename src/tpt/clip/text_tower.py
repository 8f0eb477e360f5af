"""The causal text tower of a CLIP, for prompts with learnable vectors.

Attention is causal and a prompt's feature is that of its end token.  Three savings follow that do not change the
result: nothing after the end token is computed (no padding to 77), the shared start of all prompts is computed once,
and in the last layer only the end tokens have queries.

A CPU computes attention for one length of prompts at a time, so that no padding is computed.  Other devices compute it
for all prompts at once, padded to the longest: a sixth of the operations, which are too small to keep a GPU busy.
Where padding would be more than three times the tokens, it makes several groups.

Shape letters: `B` contexts (one per image), `K` classes, `P` tokens of the shared start, `T` tokens of all tails packed
one after another, `J` tokens of the longest tail, `D` token width, `H` heads, `E` joint embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpt.clip.tower import BlockTower, Prompt, Prompts, finish, queries_keys_values

MOST_PADDED = 3  # tokens of a group of padded tails, per token without padding: bounds memory if one name is very long


class PaddedTails(nn.Module):
    """Consecutive packed tails at the length J of the longest, for attention over all of them at once."""

    def __init__(self, lengths: Sequence[int], first: int, shared: int) -> None:
        super().__init__()
        place, own = torch.arange(lengths[-1]), torch.tensor(lengths)[:, None]
        ends = first + own.cumsum(0) - 1
        beyond = place >= own
        later = torch.ones(len(place), len(place), dtype=torch.bool).triu(1)
        unpadded = [k * len(place) + i for k, length in enumerate(lengths) for i in range(length)]
        self.ends = nn.Buffer(ends[:, 0], persistent=False)  # (C,) positions of end tokens
        self.rows = nn.Buffer((place + ends + 1 - own).masked_fill(beyond, first), persistent=False)  # (C, J) positions
        self.unpadded = nn.Buffer(torch.tensor(unpadded), persistent=False)  # indices in C * J of the tails' own tokens
        # Which of P + J tokens, start and tail, are hidden from end tokens (C, 1, 1, P + J), and from all (J, P + J).
        self.beyond = nn.Buffer(F.pad(beyond, (shared, 0))[:, None, None], persistent=False)
        self.later = nn.Buffer(F.pad(later, (shared, 0)), persistent=False)

    @staticmethod
    def split(lengths: Sequence[int], shared: int) -> Iterator[PaddedTails]:
        """Groups of tails, sorted by length, whose padded length is at most `MOST_PADDED` times their own."""
        first, part, tokens = 0, list[int](), 0
        for length in lengths:
            if length * (len(part) + 1) > MOST_PADDED * (tokens + length):
                yield PaddedTails(part, first, shared)
                first, part, tokens = first + tokens, [], 0
            part.append(length)
            tokens += length
        yield PaddedTails(part, first, shared)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, k_shared: Tensor, v_shared: Tensor, ends_only: bool) -> Tensor:
        """(B, n, H, d) attention of the group's n tokens, or (B, C, H, d) of its end tokens.

        q, k, v (B, T, H, d) of all packed tails; k_shared, v_shared (B, P, H, d).
        """
        keys, values = self._whole(k_shared, k), self._whole(v_shared, v)
        if ends_only:
            return _attend_to_all(q.index_select(1, self.ends)[:, :, None], keys, values, self.beyond)[:, :, 0]
        return _attend_to_all(self._pad(q), keys, values, self.later).flatten(1, 2).index_select(1, self.unpadded)

    def _whole(self, start: Tensor, tails: Tensor) -> Tensor:
        """(B, C, P + J, H, d) of the shared start (B, P, H, d) and packed tails (B, T, H, d).

        The start is repeated by `expand`: gathering it would add its gradients in no fixed order.
        """
        return torch.cat([start[:, None].expand(-1, len(self.rows), -1, -1, -1), self._pad(tails)], dim=2)

    def _pad(self, tails: Tensor) -> Tensor:
        """(B, C, J, H, d) of packed tails (B, T, H, d)."""
        flat = tails.index_select(1, self.rows.flatten())  # `tails[:, self.rows]` would sort in its backward pass
        return flat.view(len(tails), *self.rows.shape, *tails.shape[2:])


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
        later = torch.ones(shared, shared, dtype=torch.bool).triu(1)
        self.later = nn.Buffer(later, persistent=False)  # (P, P): tokens of the start that each of them does not see
        self.padded = nn.ModuleList(PaddedTails.split(lengths, shared))

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


def _attend_to_all(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attention (B, C, I, H, d) of queries of that shape over keys and values (B, C, J, H, d).

    `hidden` are booleans that broadcast to (C, H, I, J): the tokens that a query does not see.
    """
    q, k, v = (x.transpose(2, 3) for x in (q, k, v))
    # Not torch's fused attention: its kernels do not support the batched gradients that tuning needs.
    scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).masked_fill(hidden, float("-inf"))
    mixed: Tensor = scores.softmax(-1) @ v
    return mixed.transpose(2, 3)


class TextTower(BlockTower):
    """A frozen causal text tower of plain blocks that pools at the end token, the last of every prompt."""

    def pack(self, prompts: Sequence[Prompt], shared: int) -> PackedPrompts:
        """Prompts without padding, with their shared start stored once."""
        return PackedPrompts(prompts, shared)

    def _features(self, prompts: PackedPrompts, slots_BND: Tensor | None) -> Tensor:
        shared = self._embed(prompts.start, slots_BND) + self.positional_embedding[: prompts.shared]
        tails = self._embed(prompts.tails, slots_BND) + self.positional_embedding[prompts.positions]
        if self.pads:
            tails = self._at_once(torch.cat([shared, tails], dim=1), prompts)
        else:
            for block in self.blocks:
                shared, tails = self._block(block, shared, tails, prompts, ends_only=block is self.blocks[-1])
        return self._project(tails)[:, prompts.unsort]

    @property
    def pads(self) -> bool:
        """Whether attention is computed for all prompts at once."""
        return self.token_embedding.weight.device.type != "cpu"

    def _at_once(self, x: Tensor, prompts: PackedPrompts) -> Tensor:
        """(B, K, D) of the last layer's end tokens from the embedded start and tails (B, P + T, D)."""
        sizes = (prompts.shared, prompts.num_tokens)
        for block in self.blocks:
            ends_only = block is self.blocks[-1]
            (q_start, q), (k_start, k), (v_start, v) = (y.split(sizes, 1) for y in queries_keys_values(block, x))
            mixed = [each(q, k, v, k_start, v_start, ends_only) for each in prompts.padded]
            if ends_only:
                x = x.index_select(1, prompts.shared + prompts.ends)
            else:
                start = _attend_to_all(q_start[:, None], k_start[:, None], v_start[:, None], prompts.later)[:, 0]
                mixed = [start, *mixed]
            x = finish(block, x, torch.cat(mixed, dim=1).flatten(-2))
        return x

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
