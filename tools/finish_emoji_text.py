"""Finishes the text tower of `emoji-mini`: restores its zero-shot answers and rescales it for one tuning step.

    python tools/finish_emoji_text.py text.safetensors --start first.safetensors --factor 0.2 --out last.safetensors

The last of three steps, after `train_emoji_mini.py` and `train_emoji_text.py`.  It uses no pictures.

It solves the final projection again in closed form, so that "a photo of a {}." gives nearly the same features as before
`train_emoji_text.py`: least squares over the 634 names, with `--ridge` keeping it close to the trained matrix.

Every layer of the tower reads the residual stream through a layer norm, so the stream's scale is free.  If token and
position embeddings and all layer outputs are scaled by one factor, every feature stays the same (up to the epsilon of
the layer norms and half precision).  AdamW's first step moves each coordinate of a context by the learning rate,
whatever the gradient.  If the stream is scaled to a fifth, this step is five times as large relative to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import tpt
from tpt.clip.weights.archive import sealed
from tpt.data.bundled import class_names

EMBEDDINGS = ("token_embedding.rows", "positional_embedding")
ADDING = (".attn.out_proj.", ".mlp.c_proj.")  # a layer adds the outputs of these modules to the stream
PROJECTION = "text_projection"


@torch.no_grad()
def projection(trained: tpt.CLIP, first: tpt.CLIP, ridge: float) -> Tensor:
    """Returns the (D, E) matrix that best maps the trained tower's plain prompts to the features of the first tower.

    Args:
        trained: the trained model; its projection is overwritten.
        first: the model before training.
        ridge: weight of the distance to the trained matrix, relative to the mean diagonal of the Gram matrix.
    """
    prompts = [f"a photo of a {name}." for name in class_names()]
    target, old = first.encode_text(prompts), trained.text.projection.detach().clone()
    trained.text.projection.copy_(torch.eye(len(old)))
    before = trained.encode_text(prompts)  # normalised inputs of the projection; `wanted` has their old outputs' length
    wanted = target * (before @ old).norm(dim=-1, keepdim=True)
    square = before.T @ before
    weight = ridge * square.diagonal().mean()
    return torch.linalg.solve(square + weight * torch.eye(len(square)), before.T @ wanted + weight * old)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="of train_emoji_text.py")
    parser.add_argument("--start", type=Path, required=True, help="of train_emoji_mini.py")
    parser.add_argument("--ridge", type=float, default=0.01)
    parser.add_argument("--factor", type=float, required=True, help="of the residual stream")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    weights = load_file(args.weights)
    with safe_open(args.weights, "pt") as file:
        metadata = file.metadata()
    new = projection(tpt.load_clip(pretrained=args.weights), tpt.load_clip(pretrained=args.start), args.ridge)
    weights[PROJECTION] = new.to(weights[PROJECTION].dtype).contiguous()
    for name, value in weights.items():
        if name in EMBEDDINGS or (name.startswith("transformer.") and any(part in name for part in ADDING)):
            weights[name] = (value.float() * args.factor).to(value.dtype)
    args.out.write_bytes(sealed(weights, metadata))


if __name__ == "__main__":
    main()
