"""Writes learned contexts in CoOp's public layout, so that the official programs can load them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tpt.clip.model import CLIP, LoadedCLIP
from tpt.clip.prompts.checkpoint import LearnedContext, learned_tensors
from tpt.clip.prompts.learner import PromptLearner
from tpt.errors import UserError, checked
from tpt.files import write_bytes, write_text

PLACEHOLDER = "X"  # one token; the official prompts have it in place of each context vector


@checked
def export_public(
    directory: str | Path,
    context: LearnedContext,
    clip: LoadedCLIP,
    class_names: Sequence[str],
    epoch: int = 50,
    best: bool = False,
    half: bool = False,
) -> Path:
    """Writes `<directory>/prompt_learner/model.pth.tar-<epoch>` and the text file `checkpoint` that names it.

    This is the layout of Dassl's trainer: a pickled dictionary of `state_dict`, `epoch`, `optimizer`, `scheduler`
    and `val_result`.  The official programs can evaluate it.  They cannot resume training from it, since `optimizer`
    and `scheduler` are None.  The layout does not record the position of the class name: set
    `TRAINER.COOP.CLASS_TOKEN_POSITION` there if it is not "end".

    Args:
        directory: `--model-dir` of the official programs.
        context: a context of CoOp or CoCoOp.
        clip: the backbone that the context was learned with; it determines `token_prefix` and `token_suffix`.
        class_names: K names for these two tensors, which loaders ignore.
        epoch: number in the file's name, from 1; `--load-epoch` of the official programs.
        best: whether the file is named `model-best.pth.tar` instead.
        half: whether tensors are rounded to half precision, as after the official training in fp16.

    Returns:
        Path of the written file.

    Raises:
        UserError: the backbone's prompts do not have CLIP's form, which the layout assumes.
    """
    if len(clip.tokenizer.start) != 1 or clip.tokenizer.closing:
        raise UserError(
            f"Expected a backbone with one start token, as in CoOp's layout, got {clip.name}; save its contexts with "
            "`save_context`."
        )
    base = context.base
    PromptLearner(clip, class_names, base)  # raises a UserError if widths, classes or lengths do not fit
    state = learned_tensors(context) | _official_buffers(clip, class_names, base.n_ctx)
    if half:
        state = {name: value.half() for name, value in state.items()}
    folder = Path(directory) / "prompt_learner"
    path = folder / ("model-best.pth.tar" if best else f"model.pth.tar-{epoch}")
    saved = {"state_dict": state, "epoch": epoch, "optimizer": None, "scheduler": None, "val_result": None}
    content = io.BytesIO()  # torch.save to a path would store the file's name
    torch.save(saved, content)
    write_bytes(content.getvalue(), path)
    write_text(f"{path.name}\n", folder / "checkpoint")
    return path


@torch.no_grad()
def _official_buffers(clip: CLIP, class_names: Sequence[str], n_ctx: int) -> dict[str, Tensor]:
    """`token_prefix` (K, 1, D), the start token, and `token_suffix` (K, length - 1 - n_ctx, D), name to padding."""
    length = clip.text.context_length
    placeholders = " ".join([PLACEHOLDER] * n_ctx)
    prompts = [f"{placeholders} {name.replace('_', ' ')}." for name in class_names]
    tokens = torch.tensor(clip.tokenizer.padded(clip.tokenizer.wrap_all(prompts, length), length))
    embedded = clip.text.token_embedding(tokens.to(clip.device)).cpu()
    return {"token_prefix": embedded[:, :1].clone(), "token_suffix": embedded[:, 1 + n_ctx :].clone()}
