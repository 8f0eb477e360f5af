"""Converts state dicts from other programs to the tensor names of OpenAI and open_clip."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpt.errors import WeightsFileError
from tpt.files import read_bytes, readable

# Keys of the state dict in training checkpoints: Lightning and Dassl, most custom loops, timm and torchvision.
ENTRIES = ("state_dict", "model_state_dict", "model")
# Parts that torch.compile, FSDP and activation checkpointing insert into names.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

# Names in transformers' CLIPModel -> OpenAI's.  `_PARTS` are the parts of a tower and of its layers; queries, keys and
# values, which become one tensor, are not among them.
_WHOLE = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
}
_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_PARTS = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "final_layer_norm": "ln_final",
    "pre_layrnorm": "ln_pre",  # transformers' own spelling
    "post_layernorm": "ln_post",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_KEY = re.compile(r"(text|vision)_model\.(?:encoder\.layers\.(\d+)\.)?(.+?)(\.weight|\.bias)?")
_LN_EPS = 1e-5


def state_dict_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of the only state dict in a file's content, which may be nested in `ENTRIES`; empty without one.

    Raises a WeightsFileError if there are several.
    """
    inside = [entry for entry in ENTRIES if isinstance(content.get(entry), Mapping)]
    if not inside:
        return plain_names({k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}, path)
    taken = content[inside[0]]
    twins = [str(k) for k, v in content.items() if k != inside[0] and isinstance(v, Mapping) and set(v) == set(taken)]
    if len(inside) > 1 or (taken and twins):
        names = " and ".join(f"`{name}`" for name in [*inside, *(t for t in twins if t not in inside)])
        raise WeightsFileError(
            f"{path} holds several state dicts, {names}. Save the one you mean alone, with "
            "`safetensors.torch.save_file`."
        )
    return state_dict_of(taken, path)


def plain_names(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under names without the parts that wrappers add, and without a prefix that all names share.

    Such prefixes are `module.` (DataParallel), `model.` (Lightning) and `_orig_mod.` (torch.compile), in any order.
    """
    names = {key: [part for part in key.split(".") if part not in _WRAPPERS] for key in weights}
    while names and all(len(parts) > 1 for parts in names.values()) and len({p[0] for p in names.values()}) == 1:
        names = {key: parts[1:] for key, parts in names.items()}
    out = {".".join(parts): weights[key] for key, parts in names.items()}
    if len(out) != len(weights):
        raise WeightsFileError(
            f"{path} holds tensors of the same name with and without a wrapper. Save one of them alone."
        )
    return out


def from_transformers(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights of transformers' CLIPModel under OpenAI's names, with unchanged values.

    Both programs compute the same, but transformers stores queries, keys and values separately, and projections
    transposed.  Raises a WeightsFileError if there is a tensor that CLIP does not have, or one of a layer is missing.
    """
    out: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        if key in _PROJECTIONS:
            out[_PROJECTIONS[key]] = value.T.contiguous()
        elif key in _WHOLE:
            out[_WHOLE[key]] = value
        elif not key.endswith(".position_ids"):  # 0, 1, 2, ...; saved by older versions
            found = _KEY.fullmatch(key)
            tower, number, part, kind = found.groups("") if found else [""] * 4
            inside = ("visual." if tower == "vision" else "") + (f"transformer.resblocks.{number}." if number else "")
            if part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
                apart.setdefault(f"{inside}attn.in_proj_{kind[1:]}", {})[part[10]] = value
            elif part in _PARTS:
                out[f"{inside}{_PARTS[part]}{kind}"] = value
            else:
                raise WeightsFileError(
                    f"{path} holds {key!r} in addition to the weights of transformers' CLIPModel. Save the CLIP alone."
                )
    for key, parts in apart.items():
        if set(parts) != set("qkv"):
            raise WeightsFileError(f"{path} holds {sorted(parts)} of {key}, not query, key and value.")
        out[key] = torch.cat([parts[name] for name in "qkv"])
    return out


def transformers_reading(path: Path) -> tuple[tuple[int, int], bool]:
    """The heads per layer of the image and text encoder, and whether the activation is QuickGELU instead of GELU.

    They are read from the `config.json` next to a transformers file; missing settings have transformers' defaults.
    Raises a WeightsFileError if there is none, or OpenAI's architecture does not cover the model.
    """
    file = path.with_name("config.json")
    way_out = "Put the configuration of the weights there, or pass the open_clip `name`"
    with readable(f"the configuration of a CLIP in {file}", way_out, WeightsFileError):
        content = json.loads(read_bytes(file))
        text, vision = (dict(content.get(part) or {}) for part in ("text_config", "vision_config"))
        heads = int(vision.get("num_attention_heads", 12)), int(text.get("num_attention_heads", 8))
        activations = {part.get("hidden_act", "quick_gelu") for part in (text, vision)}
        epsilons = {float(part.get("layer_norm_eps", _LN_EPS)) for part in (text, vision)}
        if len(activations) > 1 or not activations <= {"gelu", "quick_gelu"} or epsilons != {_LN_EPS}:
            raise ValueError(
                f"expected one activation, gelu or quick_gelu, and layer_norm_eps {_LN_EPS}, got "
                f"{sorted(activations)} and {sorted(epsilons)}"
            )
    return heads, activations == {"quick_gelu"}
