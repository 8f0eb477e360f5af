"""Shrinks every architecture of open_clip: the same structure, small sizes, and a small vocabulary."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg
from safetensors.torch import save_file
from torch import nn

from tests.clip import vocabularies
from tpt.clip.tokens import Tokenizer
from tpt.clip.weights.pretrained import wrap
from tpt.errors import UserError

DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"
BEGIN, END = "<!-- made by python -m tests.clip.families -->", "<!-- end -->"
VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
TEXT = {"width": 32, "heads": 2, "layers": 2}

# Part of a tokenizer's name in a configuration -> the kind of test vocabulary that replaces it.
STAND_INS = {
    "SigLIP2": "gemma",
    "SigLIP": "t5",
    "xlm": "xlm",
    "roberta": "roberta",
    "bert": "bert",
    "mt5": "mt5",
    "nllb": "nllb",
}


def stand_in(config: dict[str, Any]) -> str | None:
    """The kind of test vocabulary for a configuration; None for CLIP's own vocabulary."""
    named = config["text_cfg"].get("hf_tokenizer_name")
    return next(kind for part, kind in STAND_INS.items() if part in named) if named else None


def shrunk(name: str, folder: Path) -> dict[str, Any]:
    """Returns a small configuration with the same structure, and writes its vocabulary to `folder`."""
    config = copy.deepcopy(open_clip.get_model_config(name))
    text, vision, kind = config["text_cfg"], config["vision_cfg"], stand_in(config)
    text.update(TEXT)
    text["context_length"] = min(text.get("context_length", 77), 24)
    config["vision_cfg"] = {**VISION, "output_tokens": vision.get("output_tokens", False)}
    config["embed_dim"] = 32 if text.get("proj_type") == "none" else 24
    if "multimodal_cfg" in config:
        size = {"context_length": text["context_length"], "vocab_size": 64}
        config["multimodal_cfg"] = {**config["multimodal_cfg"], **TEXT, **size}
    if kind is not None:
        text["vocab_size"] = vocabularies.write(kind, folder)
        text["hf_tokenizer_name"] = str(folder)
        if text.get("eos_id") is not None:
            text["eos_id"] = vocabularies.KINDS[kind].specials.index(vocabularies.KINDS[kind].eos)
    if text.get("hf_model_name"):
        _write_encoder(text["hf_model_name"], text["vocab_size"], folder)
        text["hf_model_name"] = str(folder)
    return config


def _write_encoder(name: str, words: int, folder: Path) -> None:
    """Writes the configuration of a small transformers encoder of the same kind."""
    from transformers import M2M100Config, MT5Config, RobertaConfig, XLMRobertaConfig

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    pads = {"vocab_size": words, "pad_token_id": 1, "max_position_embeddings": 64}
    m2m = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
    if "mt5" in name:
        made: Any = MT5Config(vocab_size=words, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, pad_token_id=0)
    elif "nllb" in name:
        decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 48}
        made = M2M100Config(**pads, **m2m, **decoder)
    else:
        made = (XLMRobertaConfig if "xlm" in name else RobertaConfig)(**size, **pads)
    made.save_pretrained(folder)


def build(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """Builds open_clip's model, with random weights large enough that every part affects the features."""
    config = copy.deepcopy(config)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    config["text_cfg"].update({"hf_model_pretrained": False} if "hf_model_name" in config["text_cfg"] else {})
    kind = open_clip.model.CLIP
    if custom:
        kind = open_clip.coca_model.CoCa if "multimodal_cfg" in config else open_clip.model.CustomTextCLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = kind(**config).eval()
        for key, value in model.named_parameters():
            if "logit" not in key:
                value.data += 0.1 * torch.randn_like(value)
    return model.requires_grad_(False)


def tokenizer_of(config: dict[str, Any]) -> Tokenizer:
    """The tokenizer that open_clip makes for a configuration."""
    open_clip.factory._MODEL_CONFIGS["shrunk"] = config
    try:
        return Tokenizer(open_clip.get_tokenizer("shrunk"))
    finally:
        del open_clip.factory._MODEL_CONFIGS["shrunk"]


def save(name: str, folder: Path, **preprocessing: Any) -> str:
    """Saves a shrunk model to a folder; returns its name for `load_clip`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = shrunk(name, folder)
    model = build(config)
    content = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file({k: v.clone() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@cache
def structure(name: str) -> str:
    """A key for the structure of a text tower: equal for models that differ only in size."""
    config = open_clip.get_model_config(name)
    size = (*TEXT, "vocab_size", "mlp_ratio", "context_length", "hf_tokenizer_name", "hf_model_name")
    text = {k: v for k, v in config["text_cfg"].items() if k not in size}
    own = [config.get("custom_text", False), "multimodal_cfg" in config, config.get("quick_gelu", False)]
    words = config["text_cfg"].get("vocab_size") if stand_in(config) is None else stand_in(config)
    return json.dumps([text, own, words, "hf_model_name" in config["text_cfg"]], sort_keys=True)


@cache
def outcome(of_structure: str) -> tuple[str, str]:
    """(engine, "") for a structure that works, otherwise ("", reason)."""
    name = next(name for name in open_clip.list_models() if structure(name) == of_structure)
    with tempfile.TemporaryDirectory() as folder:
        config = shrunk(name, Path(folder))
        try:
            clip = wrap(build(config), name, tokenizer=tokenizer_of(config))
        except UserError as error:
            return "", str(error)
        return type(clip.text).__name__, ""


ENGINES = {
    "TextTower": "packed: no padding, shared start once",
    "PaddedTower": "padded",
    "HuggingFaceTower": "transformers, cut to the longest prompt",
    "": "refused",
}


POOLS = {"mean_pooler": "mean", "cls_pooler": "first", "last": "last", "eos": "end token", "argmax": "end token"}


def _pool(text: dict[str, Any]) -> str:
    transformers = CLIPTextCfg.hf_pooler_type if "hf_model_name" in text else CLIPTextCfg.pool_type
    return POOLS[text.get("hf_pooler_type", text.get("pool_type", transformers))]


def _vocabulary(text: dict[str, Any]) -> str:
    """The tokenizer's name without the model's size, which does not change the vocabulary."""
    words = text.get("hf_tokenizer_name", "CLIP").split("/")[-1]
    return re.sub(r"^ViT-\w+-\d+-|-\d{3}$|-base(-uncased)?$|-large$|-xl$|-distilled-[\d.]+[MB]$", "", words)


def table() -> str:
    """The table of docs/backbones.md, one row per kind of model: how its prompts are computed, and the names."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(open_clip.list_models(), key=str.lower):
        config = open_clip.get_model_config(name)
        text, (engine, reason) = config["text_cfg"], outcome(structure(name))
        words, pool = _vocabulary(text), "class token" if text.get("embed_cls") else _pool(text)
        length = str(text.get("context_length", 77))
        rows.setdefault((ENGINES[engine] if engine else f"refused: {reason}", words, length, pool), []).append(name)
    lines = ["| prompts | vocabulary | length | read at | names |", "|---|---|---|---|---|"]
    for (how, words, length, pool), names in sorted(rows.items(), key=lambda row: -len(row[1])):
        lines.append(f"| {how} | {words} | {length} | {pool} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines)


def write_docs() -> None:
    """Updates the table of docs/backbones.md: `python -m tests.clip.families`."""
    head, _, rest = DOCS.read_text("utf-8").partition(BEGIN)
    DOCS.write_text(f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    write_docs()
