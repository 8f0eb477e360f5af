"""A fake CLIP with given text features, for methods that use nothing else of CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class GivenText(nn.Module):
    """A fake CLIP whose text tower encodes only the class names `class 0`, `class 1` and so on.

    Args:
        text_KE: features of these classes, of unit length.
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
        """Returns a method of class `kind` with these classes and text features."""
        return kind(self, self.class_names, templates=["{}"], **settings)
