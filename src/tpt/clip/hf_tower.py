"""Text towers of transformers, as wrapped by open_clip: padding is masked, so rows are cut to the longest prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tpt.clip.padded_tower import PaddedPrompts, Padding
from tpt.clip.tower import Prompt, Tower


class HuggingFaceTower(Tower):
    """A frozen encoder of transformers with open_clip's pooling and projection.

    Args:
        text: open_clip's `HFTextEncoder`.
        padding: how the tokenizer fills its rows.
        row_length: tokens of a row.
    """

    def __init__(self, text: Any, padding: Padding, row_length: int) -> None:
        super().__init__()
        self.encoder: Any = text.transformer
        self.pooler = text.pooler
        self.projection = text.proj
        self.token_embedding = self.encoder.get_input_embeddings()
        self.masked_id = int(text.config.pad_token_id)
        self.padding = padding
        self.row_length = row_length
        self.embed_dim = int(text.output_dim)
        self.depth = int(self.encoder.config.num_hidden_layers)
        self.context_length = row_length - len(padding.closing)
        # Not fused attention: its kernels do not support the batched gradients that tuning needs.
        self.encoder.set_attn_implementation("eager")

    def pack(self, prompts: Sequence[Prompt], shared: int) -> PaddedPrompts:
        """Prompts cut after the last token that is not masked; nothing is shared."""
        tokens = self.padding.rows(prompts, self.row_length)
        length = int((tokens != self.masked_id).any(0).nonzero().max()) + 1
        return PaddedPrompts(tokens[:, :length], torch.arange(length), torch.zeros(len(tokens), dtype=torch.long), None)

    def _features(self, prompts: PaddedPrompts, slots_BND: Tensor | None) -> Tensor:
        x = self._embed(prompts.tokens, slots_BND)
        seen = (prompts.tokens != self.masked_id).long().repeat(len(x), 1)
        out = self.encoder(inputs_embeds=x.flatten(0, 1), attention_mask=seen)
        features: Tensor = self.projection(self.pooler(out, seen)).unflatten(0, x.shape[:2])
        return features
