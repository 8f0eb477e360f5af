"""A fake CLIP with given text features, for methods that use nothing else of CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import tpt


class GivenText(tpt.CLIP):
    """A fake CLIP whose text tower encodes only the class names `class 0`, `class 1` and so on.

    Args:
        text_KE: features of these classes, of unit length.
        logit_scale: factor on the cosine.
    """

    def __init__(self, text_KE: Tensor, logit_scale: float = 100.0) -> None:
        nn.Module.__init__(self)
        self.text_KE, self.logit_scale = text_KE, logit_scale
        self.tokenizer = SimpleNamespace(encode=lambda words: list(words.encode()))
        self.class_names = [f"class {k}" for k in range(len(text_KE))]

    @property
    def embed_dim(self) -> int:
        return self.text_KE.shape[1]

    @property
    def device(self) -> torch.device:
        return self.text_KE.device

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        return torch.stack([self.text_KE[self.class_names.index(text)] for text in texts])

    def make(self, kind: Any, **settings: Any) -> Any:
        """Returns a method of class `kind` with these classes and text features."""
        return kind(self, self.class_names, templates=["{}"], **settings)
