"""Make the text tower of `emoji-mini` answer more, or less, to one step of tuning, without changing any feature.

    python tools/scale_emoji_stream.py text.safetensors --factor 0.25 --out emoji-mini.safetensors

The last of three steps.  Every layer of the tower reads the residual stream through a normalisation, so the stream's
size is free: with token and position embeddings and all that layers add to it scaled by one factor, every feature stays
(but for the normalisation's epsilon and half precision).  AdamW's first step moves each coordinate of a context by the
learning rate, whatever the gradient: relative to a stream of a quarter of the size, by four times as much.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

EMBEDDINGS = ("token_embedding.rows", "positional_embedding")
ADDING = (".attn.out_proj.", ".mlp.c_proj.")  # what a layer of the text tower adds to the stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    weights = load_file(args.weights)
    with safe_open(args.weights, "pt") as file:
        metadata = file.metadata()
    for name, value in weights.items():
        if name in EMBEDDINGS or (name.startswith("transformer.") and any(part in name for part in ADDING)):
            weights[name] = (value.float() * args.factor).to(value.dtype)
    save_file(weights, args.out, metadata)


if __name__ == "__main__":
    main()
