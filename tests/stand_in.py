"""A CLIP whose text features are given, for methods that look at no more of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class GivenText(nn.Module):
    """Stands for a CLIP: its text tower knows the given classes alone, `class 0`, `class 1` and so on.

    Args:
        text_KE: their features, of unit length.
        logit_scale: factor on the cosine.
    """

    def __init__(self, text_KE: Tensor, logit_scale: float = 100.0) -> None:
        super().__init__()
        self.text_KE, self.logit_scale, self.embed_dim = text_KE, logit_scale, text_KE.shape[1]
        self.device = text_KE.device
        self.tokenizer = SimpleNamespace(encode=lambda words: list(words.encode()))
        self.class_names = [f"class {k}" for k in range(len(text_KE))]

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.stack([self.text_KE[self.class_names.index(prompt)] for prompt in prompts])

    def make(self, kind: Any, **settings: Any) -> Any:
        """A method with these classes and text features."""
        return kind(self, self.class_names, templates=["{}"], **settings)
