"""Text towers in which prompts cannot share their start: attention is bidirectional, or padding is part of the input.

SigLIP, CLIPA and MobileCLIP-S attend to the padding and pool the last position or the end token, so every prompt is
computed at the length of training.  CoCa appends a class token and masks the padding, so positions that are masked in
all prompts are left out.  In the last layer, only the pooled position has a query.  Encoders of transformers mask the
padding, so rows are cut to the longest prompt.

Shape letters: `B` contexts (one per image), `K` classes, `L` positions, `D` token width, `H` heads, `E` embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, text_global_pool
from torch import Tensor, nn

from tpt.clip.tokens import Tokenizer
from tpt.clip.tower import BlockTower, Prompt, Prompts, Tower, finish, queries_keys_values


class PaddedPrompts(Prompts):
    """K prompts at one length; a mask (K, L, L), or (1, L, L) shared by all, is added to the attention scores."""

    def __init__(self, tokens_KL: Tensor, positions_L: Tensor, pooled_K: Tensor, mask_KLL: Tensor | None) -> None:
        super().__init__()
        self.num_prompts, self.length = tokens_KL.shape
        self.num_tokens = tokens_KL.numel()
        self.tokens = nn.Buffer(tokens_KL, persistent=False)
        self.positions = nn.Buffer(positions_L, persistent=False)  # of each column in the tower
        self.pooled = nn.Buffer(pooled_K, persistent=False)  # column of each prompt's feature
        self.mask = None if mask_KLL is None else nn.Buffer(mask_KLL, persistent=False)
        self.unsort = nn.Buffer(torch.arange(self.num_prompts), persistent=False)

    def _cut(self, max_tokens: int) -> Iterator[PaddedPrompts]:
        size = max(1, max_tokens // self.length)
        for start in range(0, self.num_prompts, size):
            rows = slice(start, start + size)
            mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
            yield PaddedPrompts(self.tokens[rows], self.positions, self.pooled[rows], mask)


class PaddedTower(BlockTower):
    """A frozen open_clip text tower for padded prompts; blocks that are not plain run their own forward pass."""

    def __init__(self, text: Any, tokenizer: Tokenizer) -> None:
        super().__init__(text)
        self.tokenizer = tokenizer
        self.pool = getattr(text, "pool_type", getattr(text, "text_pool_type", "argmax"))
        self.eos_id: int | None = getattr(text, "eos_id", getattr(text, "text_eos_id", None))
        self.causal = getattr(text, "attn_mask", None) is not None
        # (D,) vector after the last token of a row, whose position then gives the feature; None without one.
        self.class_token: Tensor | None = getattr(text, "cls_emb", None)
        classed = self.class_token is not None
        masked = classed or getattr(text, "use_pad_mask", False)
        self.masked_id: int | None = text.pad_id if masked else None  # None if padding is attended to
        self.mask_shift = int(classed and not text.correct_cls_mask)  # 1 for CoCa, as in its training
        self.row_length = len(self.positional_embedding) - classed  # tokens
        self.context_length = self.row_length - len(tokenizer.closing)

    def reads_the_end(self) -> bool:
        """Whether blocks are plain and causal and the feature is the end token's, so that nothing after it matters."""
        end = {"argmax": self.token_embedding.num_embeddings - 1, "eos": self.eos_id}.get(self.pool)
        plain = self.causal and self.masked_id is None and all(map(is_plain_block, self.blocks))
        return plain and self.tokenizer.end == (end,) and not self.tokenizer.closing

    def pack(self, prompts: Sequence[Prompt], shared: int) -> PaddedPrompts:
        """Prompts at their full length, without positions that are masked in all; nothing is shared."""
        tokens = torch.tensor(self.tokenizer.padded(prompts, self.row_length))
        columns = torch.arange(self.row_length).expand_as(tokens)
        pooled = text_global_pool(columns, tokens, self.pool, self.eos_id).contiguous()
        seen = torch.ones_like(tokens, dtype=torch.bool) if self.masked_id is None else tokens != self.masked_id
        if self.class_token is not None:
            tokens, seen = F.pad(tokens, (0, 1)), F.pad(seen, (0, 1), value=True)
            pooled = torch.full_like(pooled, tokens.shape[1] - 1)
        seen = seen.roll(self.mask_shift, 1)
        kept = seen.any(0).index_fill(0, pooled, True).nonzero().flatten()  # pooled ones even if masked
        mask = None
        if self.causal or self.masked_id is not None:
            rows = seen[:1] if self.masked_id is None else seen  # without padding, one mask for all
            allowed = rows[:, None].expand(-1, tokens.shape[1], -1)
            allowed = allowed.tril() if self.causal else allowed
            mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))[:, kept][:, :, kept]
        return PaddedPrompts(tokens[:, kept], kept, torch.searchsorted(kept, pooled), mask)

    def _features(self, prompts: PaddedPrompts, slots_BND: Tensor | None) -> Tensor:
        x = self._embed(prompts.tokens, slots_BND)
        if self.class_token is not None:
            x = torch.cat([x[:, :, :-1], self.class_token.expand(*x.shape[:2], 1, -1)], dim=2)
        x = x + self.positional_embedding[prompts.positions]
        for block in self.blocks:
            x = self._block(block, x, prompts, read_only=block is self.blocks[-1])
        return self._project(x)

    def _block(self, block: nn.Module, x: Tensor, prompts: PaddedPrompts, read_only: bool) -> Tensor:
        """One layer over (B, K, L, D); with `read_only`, its (B, K, D) output at the pooled positions."""
        mask: Tensor | None = prompts.mask  # (K or 1, L, L)
        if not is_plain_block(block):
            if mask is not None:
                heads: int = block.attn.num_heads  # type: ignore[union-attr, assignment]
                mask = mask.expand(x.shape[1], -1, -1).repeat(len(x), 1, 1).repeat_interleave(heads, 0)
            whole: Tensor = block(x.flatten(0, 1), attn_mask=mask).view_as(x)
            return self._read(whole, prompts) if read_only else whole
        q, k, v = queries_keys_values(block, x)  # (B, K, L, H, d)
        if read_only:
            q, x = (self._read(each, prompts)[:, :, None] for each in (q, x))
            mask = None if mask is None else self._read(mask.expand(x.shape[1], -1, -1)[None], prompts)[0, :, None]
        q, k, v = (part.transpose(2, 3) for part in (q, k, v))
        # Not torch's fused attention: its kernels do not support the batched gradients that tuning needs.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores if mask is None else scores + mask[:, None]
        x = finish(block, x, (scores.softmax(-1) @ v).transpose(2, 3).flatten(-2))
        return x[:, :, 0] if read_only else x

    @staticmethod
    def _read(x: Tensor, prompts: PaddedPrompts) -> Tensor:
        """(B, K, ...) values at the pooled positions of (B, K, L, ...)."""
        return x[:, torch.arange(x.shape[1], device=x.device), prompts.pooled]


def is_plain_block(block: nn.Module) -> bool:
    """Whether this is open_clip's plain block, whose attention is reimplemented here and in `text_tower`."""
    return type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")


class HuggingFaceTower(Tower):
    """A frozen encoder of transformers with open_clip's pooling and projection, from its `HFTextEncoder`."""

    def __init__(self, text: Any, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.encoder: Any = text.transformer
        self.pooler = text.pooler
        self.projection = text.proj
        self.token_embedding = self.encoder.get_input_embeddings()
        self.masked_id = int(text.config.pad_token_id)
        self.tokenizer = tokenizer
        self.embed_dim = int(text.output_dim)
        self.depth = int(self.encoder.config.num_hidden_layers)
        self.context_length = tokenizer.row_length - len(tokenizer.closing)
        # Not fused attention: its kernels do not support the batched gradients that tuning needs.
        self.encoder.set_attn_implementation("eager")

    def pack(self, prompts: Sequence[Prompt], shared: int) -> PaddedPrompts:
        """Prompts cut after the last token that is not masked; nothing is shared."""
        tokens = torch.tensor(self.tokenizer.padded(prompts, self.tokenizer.row_length))
        length = int((tokens != self.masked_id).any(0).nonzero().max()) + 1
        return PaddedPrompts(tokens[:, :length], torch.arange(length), torch.zeros(len(tokens), dtype=torch.long), None)

    def _features(self, prompts: PaddedPrompts, slots_BND: Tensor | None) -> Tensor:
        x = self._embed(prompts.tokens, slots_BND)
        seen = (prompts.tokens != self.masked_id).long().repeat(len(x), 1)
        out = self.encoder(inputs_embeds=x.flatten(0, 1), attention_mask=seen)
        features: Tensor = self.projection(self.pooler(out, seen)).unflatten(0, x.shape[:2])
        return features
