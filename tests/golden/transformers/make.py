"""Makes golden.json beside it: features of noise weights by transformers' own CLIPModel (5.24.0, torch 2.15, a CPU).

    python tests/golden/transformers/make.py

`layout` also serves the tests, which write files in transformers' layout and have no transformers.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SENTENCES = ["a photo of a cat.", "hot air balloon", "T-shirt"]
# name -> heads of vision and text, activation
CASES: dict[str, tuple[int, int, str]] = {"openai": (1, 1, "quick_gelu"), "other": (2, 4, "gelu")}


def config(vision_heads: int, text_heads: int, activation: str) -> dict[str, Any]:
    """The config.json of the noise CLIP."""
    shared = {"hidden_act": activation, "hidden_size": 64, "intermediate_size": 256, "projection_dim": 32}
    text = {"num_attention_heads": text_heads, "num_hidden_layers": 3, "eos_token_id": 49407, "bos_token_id": 49406}
    vision = {"num_attention_heads": vision_heads, "num_hidden_layers": 2, "image_size": 32, "patch_size": 16}
    return {"model_type": "clip", "projection_dim": 32, "text_config": shared | text, "vision_config": shared | vision}


def layout(weights: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's state dict of a ViT under transformers' names."""
    out = {
        "logit_scale": weights["logit_scale"],
        "text_projection.weight": weights["text_projection"].T.contiguous(),
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "vision_model.embeddings.class_embedding": weights["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": weights["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": weights["visual.positional_embedding"],
    }
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre",
             "vision_model.post_layernorm": "visual.ln_post"}  # fmt: skip
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    for kind in ("weight", "bias"):
        out |= {f"{theirs}.{kind}": weights[f"{ours}.{kind}"] for theirs, ours in norms.items()}
        for tower, ours in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
            for i in range({"text_model": 3, "vision_model": 2}[tower]):
                there, here = f"{tower}.encoder.layers.{i}", f"{ours}.resblocks.{i}"
                out |= {f"{there}.{a}.{kind}": weights[f"{here}.{b}.{kind}"] for a, b in parts.items()}
                three = weights[f"{here}.attn.in_proj_{kind}"].chunk(3)
                for name, value in zip("qkv", three, strict=True):
                    out[f"{there}.self_attn.{name}_proj.{kind}"] = value.contiguous()
    return out


def main() -> None:
    """Writes golden.json."""
    import torch
    import transformers

    spec = importlib.util.spec_from_file_location("weights", HERE.parent / "parity" / "weights.py")
    noise = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(noise)  # type: ignore[union-attr]
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer()
    texts = [[bpe.sot_token_id, *bpe.encode(text), bpe.eot_token_id] for text in SENTENCES]
    tokens = torch.tensor([row + [49407] * (77 - len(row)) for row in texts])
    golden = {}
    for name, case in CASES.items():
        model = transformers.CLIPModel(transformers.CLIPConfig(**config(*case))).eval()
        model.load_state_dict(layout(noise.state_dict("vit", 1)))
        with torch.no_grad():
            out = model(input_ids=tokens, pixel_values=noise.views("vit", 1, 2))
        golden[name] = {"image": out.image_embeds.tolist(), "text": out.text_embeds.tolist()}
    (HERE / "golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
