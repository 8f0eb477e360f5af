"""The plain TPT algorithm of the paper, as a reference for measuring and testing the engine.

It runs one image at a time, pads every prompt to the full context length, builds a graph of the whole text tower at
each step, and encodes the views again at each forward pass.  It is written from the paper with open_clip's modules, and
shares only the model with `tpt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class PlainResult:
    logits: Tensor  # (K,)
    initial_logits: Tensor  # (V, K)
    selected: Tensor  # (S,)
    context: Tensor


class PlainTPT:
    """TPT on an open_clip `model`; `tokens` (K, L) are padded, `context_at[k]` the positions of class k's context."""

    def __init__(self, model: nn.Module, tokens: Tensor, context: Tensor, context_at: list[list[int]]) -> None:
        self.model, self.tokens, self.context0, self.context_at = model, tokens, context, context_at
        with torch.no_grad():
            self.embedded = getattr(model, "text", model).token_embedding(tokens)

    def cut(self, length: int) -> None:
        """Cuts prompts after `length` tokens, which gives the same features but is no longer the plain algorithm."""
        self.tokens, self.embedded = self.tokens[:, :length], self.embedded[:, :length]

    def text_features(self, context: Tensor) -> Tensor:
        m = getattr(self.model, "text", self.model)
        length = self.tokens.shape[1]
        rows = []
        for k, at in enumerate(self.context_at):
            own = context[k] if context.ndim == 3 else context
            row = self.embedded[k].clone()
            row[torch.tensor(at)] = own
            rows.append(row)
        x = torch.stack(rows) + m.positional_embedding[:length]
        x = m.transformer(x, attn_mask=None if m.attn_mask is None else m.attn_mask[:length, :length])
        x = m.ln_final(x)
        x = x[torch.arange(len(x)), self.tokens.argmax(-1)] @ m.text_projection
        return F.normalize(x, dim=-1)

    def image_features(self, views: Tensor) -> Tensor:
        with torch.no_grad():
            return F.normalize(self.model.visual(views), dim=-1)

    def __call__(self, views: Tensor, steps: int, selection_p: float, lr: float) -> PlainResult:
        scale = self.model.logit_scale.detach().exp()
        context = nn.Parameter(self.context0.clone())
        optimizer = torch.optim.AdamW([context], lr=lr)
        first, selected = None, None
        for _ in range(steps):
            logits = scale * self.image_features(views) @ self.text_features(context).T
            if selected is None:
                probs = logits.detach().softmax(-1)
                view_entropy = -(probs * probs.log()).sum(-1)
                selected = view_entropy.argsort()[: int(len(views) * selection_p)]
                first = logits.detach()
            mean = logits[selected].softmax(-1).mean(0)
            loss = -(mean * mean.log()).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            final = scale * self.image_features(views[:1]) @ self.text_features(context).T
        assert first is not None and selected is not None
        return PlainResult(final[0], first, selected, context.detach())


def plain_of(model: nn.Module, method: Any) -> PlainTPT:
    """Returns the plain algorithm with the prompts of a `tpt.TPT`, padded to the full context length."""
    learner, clip = method.learner, method.clip
    tokens = torch.zeros(len(method.class_names), clip.text.context_length, dtype=torch.long)
    context_at = []
    for k in range(len(tokens)):
        sequence = learner._sequence(k)
        tokens[k, : len(sequence)] = torch.tensor([max(t, 0) for t in sequence])
        context_at.append([i for i, t in enumerate(sequence) if t < 0])
    return PlainTPT(model, tokens.to(clip.device), learner.split(learner.slots)[0], context_at)
