"""Chooses the engine for a model's text tower by its structure, and checks that it gives the same features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from torch import nn

from tpt.clip.padded_tower import HuggingFaceTower, PaddedTower
from tpt.clip.text_tower import TextTower
from tpt.clip.tokens import PROBES, Tokenizer
from tpt.clip.tower import Tower
from tpt.errors import UserError

TOLERANCE = 1e-4  # between unit-length features; an engine that pools another position differs by about 1
VOCABULARY_SLACK = 0.1  # embeddings may be padded to round sizes, or omit unused tokens


def text_tower(model: nn.Module, tokenizer: Tokenizer, name: str) -> Tower:
    """The engine for an open_clip model, chosen by what its text tower attends to and which position it pools.

    The model may be without weights, on the device "meta".  Raises a UserError if no engine supports its text tower, or
    the tokenizer belongs to another model.
    """
    text: Any = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):
        tower: Tower = HuggingFaceTower(text, tokenizer)
    elif isinstance(getattr(getattr(text, "transformer", None), "resblocks", None), nn.ModuleList):
        padded = PaddedTower(text, tokenizer)
        tower = TextTower(text) if padded.reads_the_end() else padded
    else:
        raise UserError(f"The text tower of {name!r} is neither open_clip's nor transformers'. Choose another model.")
    words = tower.token_embedding.num_embeddings
    slack = VOCABULARY_SLACK * words if tokenizer.foreign else 0
    if abs(words - tokenizer.size) > slack:
        whose = "its tokenizer" if tokenizer.foreign else "CLIP's vocabulary"
        raise UserError(
            f"The text tower of {name!r} knows {words} words, not the {tokenizer.size} of {whose}. Choose another "
            "model, or one whose configuration names its tokenizer."
        )
    return tower


@torch.no_grad()
def check_tower(model: Any, tower: Tower, tokenizer: Tokenizer, name: str) -> None:
    """Raises a UserError unless the engine reproduces the model's own features of a few sentences.

    This one check covers many: a wrong tokenizer, length, mask, activation or pooled position changes the features.
    """
    length, device = tower.context_length + len(tokenizer.closing), tower.token_embedding.weight.device
    theirs = F.normalize(model.encode_text(tokenizer.rows(PROBES, length).to(device)).float(), dim=-1)
    texts = [tokenizer.wrap(tokenizer.encode(text)) for text in PROBES]
    fitting = [i for i, tokens in enumerate(texts) if len(tokens) <= tower.context_length]
    ours = tower(tower.pack([texts[i] for i in fitting], len(tokenizer.start)).to(device))
    worst = float((ours - theirs[fitting]).abs().max())
    if not worst <= TOLERANCE:  # also catches NaN
        raise UserError(
            f"This program's text features of {name!r} differ from open_clip's by {worst:.1e}, so it cannot encode "
            "this model's prompts. Choose another model, or check that its weights are whole."
        )
