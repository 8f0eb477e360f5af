"""Text towers in which prompts cannot share their start: attention is bidirectional, or padding is part of the input.

SigLIP, CLIPA and MobileCLIP-S attend to the padding and pool the last position or the end token, so every prompt is
computed at the length of training.  CoCa appends a class token and masks the padding, so positions that are masked in
all prompts are left out.  In the last layer, only the pooled position has a query.

Shape letters: `B` contexts (one per image), `K` classes, `L` positions, `D` token width, `H` heads, `E` embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from tpt.clip.tower import BlockTower, Prompt, Prompts, finish, queries_keys_values


@dataclass(frozen=True)
class Padding:
    """How a tokenizer pads a row to its length.

    Args:
        pad: token after the end token.
        closing: tokens at the very end of a row, after the padding; usually none.
    """

    pad: int
    closing: tuple[int, ...] = ()

    def rows(self, prompts: Sequence[Prompt], length: int) -> Tensor:
        """(K, length) token ids, slots negative."""
        room = length - len(self.closing)
        assert all(len(prompt) <= room for prompt in prompts)
        return torch.tensor([[*p, *[self.pad] * (room - len(p)), *self.closing] for p in prompts])


@dataclass(frozen=True)
class Reading:
    """What a tower attends to, and the position of its feature.

    Args:
        pool: "first", "last", "argmax" (the highest token id) or "eos" (the first token `eos_id`).
        eos_id: token id for "eos".
        causal: whether a position attends only to itself and earlier positions.
        masked_id: token that is masked as padding; None if padding is attended to.
        mask_shift: number of positions that the padding mask is shifted by; 1 for CoCa, as in its training.
    """

    pool: str
    eos_id: int | None = None
    causal: bool = False
    masked_id: int | None = None
    mask_shift: int = 0

    def position(self, tokens_KL: Tensor) -> Tensor:
        """(K,) position of each prompt's feature."""
        match self.pool:
            case "first":
                return torch.zeros(len(tokens_KL), dtype=torch.long)
            case "last":
                return torch.full((len(tokens_KL),), tokens_KL.shape[1] - 1)
            case "argmax":
                return tokens_KL.argmax(-1)
            case "eos":
                return tokens_KL.eq(self.eos_id or 0).int().argmax(-1)
            case _:
                raise AssertionError(self.pool)


class PaddedPrompts(Prompts):
    """K prompts at one length.

    Args:
        tokens_KL: token ids, slots negative.
        positions_L: position of each column in the tower.
        pooled_K: column of each prompt's feature.
        mask_KLL: added to the attention scores, (1, L, L) if all prompts share it; None without a mask.
    """

    def __init__(self, tokens_KL: Tensor, positions_L: Tensor, pooled_K: Tensor, mask_KLL: Tensor | None) -> None:
        super().__init__()
        self.num_prompts, self.length = tokens_KL.shape
        self.num_tokens = tokens_KL.numel()
        self.tokens = nn.Buffer(tokens_KL, persistent=False)
        self.positions = nn.Buffer(positions_L, persistent=False)
        self.pooled = nn.Buffer(pooled_K, persistent=False)
        self.mask = None if mask_KLL is None else nn.Buffer(mask_KLL, persistent=False)
        self.unsort = nn.Buffer(torch.arange(self.num_prompts), persistent=False)

    def _cut(self, max_tokens: int) -> Iterator[PaddedPrompts]:
        size = max(1, max_tokens // self.length)
        for start in range(0, self.num_prompts, size):
            rows = slice(start, start + size)
            mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
            yield PaddedPrompts(self.tokens[rows], self.positions, self.pooled[rows], mask)


class PaddedTower(BlockTower):
    """A frozen open_clip text tower for padded prompts; blocks that are not plain run their own forward pass.

    Args:
        text: as for `BlockTower`.
        padding: how rows are padded.
        reading: what is attended to, and the position of the feature.
    """

    def __init__(self, text: Any, padding: Padding, reading: Reading) -> None:
        super().__init__(text)
        self.padding = padding
        self.reading = reading
        # (D,) vector after the last token of a row, whose position then gives the feature; None without one.
        self.class_token: Tensor | None = getattr(text, "cls_emb", None)
        self.row_length = len(self.positional_embedding) - (self.class_token is not None)  # tokens
        self.context_length = self.row_length - len(padding.closing)

    def pack(self, prompts: Sequence[Prompt], shared: int) -> PaddedPrompts:
        """Prompts at their full length, without positions that are masked in all; nothing is shared."""
        tokens, reading = self.padding.rows(prompts, self.row_length), self.reading
        pooled = reading.position(tokens)
        seen = torch.ones_like(tokens, dtype=torch.bool) if reading.masked_id is None else tokens != reading.masked_id
        if self.class_token is not None:
            tokens, seen = F.pad(tokens, (0, 1)), F.pad(seen, (0, 1), value=True)
            pooled = torch.full_like(pooled, tokens.shape[1] - 1)
        seen = seen.roll(reading.mask_shift, 1)
        kept = seen.any(0).index_fill(0, pooled, True).nonzero().flatten()  # pooled ones even if masked
        mask = None
        if reading.causal or reading.masked_id is not None:
            rows = seen[:1] if reading.masked_id is None else seen  # without padding, one mask for all
            allowed = rows[:, None].expand(-1, tokens.shape[1], -1)
            allowed = allowed.tril() if reading.causal else allowed
            mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))[:, kept][:, :, kept]
        return PaddedPrompts(tokens[:, kept], kept, torch.searchsorted(kept, pooled), mask)

    def _features(self, prompts: PaddedPrompts, slots_BND: Tensor | None) -> Tensor:
        x = self._embed(prompts.tokens, slots_BND)
        if self.class_token is not None:
            x = torch.cat([x[:, :, :-1], self.class_token.expand(*x.shape[:2], 1, -1)], dim=2)
        x = x + self.positional_embedding[prompts.positions]
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            x = self._block(block, x, prompts, read_only=layer == last)
        return self._project(x)

    def _block(self, block: nn.Module, x: Tensor, prompts: PaddedPrompts, read_only: bool) -> Tensor:
        """One layer over (B, K, L, D); with `read_only`, its (B, K, D) output at the pooled positions."""
        mask: Tensor | None = prompts.mask  # (K or 1, L, L)
        if not is_plain(block):
            if mask is not None:
                heads: int = block.attn.num_heads  # type: ignore[union-attr, assignment]
                mask = mask.expand(x.shape[1], -1, -1).repeat(len(x), 1, 1).repeat_interleave(heads, 0)
            whole: Tensor = block(x.flatten(0, 1), attn_mask=mask).view_as(x)
            return self._read(whole, prompts) if read_only else whole
        q, k, v = (part.transpose(2, 3) for part in queries_keys_values(block, x))  # (B, K, H, L, d)
        if read_only:
            q = q.gather(3, prompts.pooled.view(1, -1, 1, 1, 1).expand(*q.shape[:3], 1, q.shape[-1]))
            x = self._read(x, prompts)[:, :, None]
            if mask is not None:
                rows = mask.expand(x.shape[1], -1, -1)
                mask = rows.gather(1, prompts.pooled.view(-1, 1, 1).expand(-1, 1, rows.shape[-1]))
        # Not torch's fused attention: its kernels do not support the batched gradients that tuning needs.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores if mask is None else scores + mask[:, None]
        x = finish(block, x, (scores.softmax(-1) @ v).transpose(2, 3).flatten(-2))
        return x[:, :, 0] if read_only else x

    @staticmethod
    def _read(x: Tensor, prompts: PaddedPrompts) -> Tensor:
        """(B, K, D) vectors at the pooled positions of (B, K, L, D)."""
        return x.gather(2, prompts.pooled.view(1, -1, 1, 1).expand(len(x), -1, 1, x.shape[-1]))[:, :, 0]


def is_plain(block: nn.Module) -> bool:
    """Whether this is open_clip's plain block, whose attention is reimplemented here and in `text_tower`."""
    return type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")
