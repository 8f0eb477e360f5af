"""Load a CLIP: by open_clip name and tag, from a file, or the bundled one."""

from __future__ import annotations

import difflib
import logging
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
import open_clip.model
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, convert_to_custom_text_state_dict
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from tpt.backbones.archive import WeightsFileError, read_weights
from tpt.backbones.clip import CLIP
from tpt.backbones.text_tower import TextTower
from tpt.backbones.tokens import Tokenizer
from tpt.errors import UserError

log = logging.getLogger(__name__)

EMOJI_MINI = "emoji-mini"
# Saved into OpenAI's archives beside the weights, as plain numbers.
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def load_clip(
    name: str | None = None,
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    quick_gelu: bool | None = None,
    cache_dir: str | None = None,
    channels_last: bool = False,
    compile: bool = False,
) -> CLIP:
    """A frozen CLIP.

    Args:
        name: `"emoji-mini"` (bundled), or a model name of open_clip.  May be left out for an OpenAI-format
            file, whose architecture is read from the weights.
        pretrained: a tag of open_clip (weights are fetched), or the path of a file: OpenAI's state dict or
            TorchScript archive, or with `name` an open_clip checkpoint.
        device: where the model goes.
        precision: of the image encoder: "fp32", "bf16" or "fp16" (autocast).  Weights stay float32.
        quick_gelu: the activation the weights were trained with, where a file cannot tell.
        cache_dir: where fetched weights are kept; open_clip's default if None.
        channels_last: the image encoder's memory layout, which convolutions may prefer.
        compile: runs the image encoder through `torch.compile`; where that fails, goes on without, with a warning.

    Raises:
        UserError: unknown name or tag, unsuitable text tower, or a file that does not fit.
        OSError: the weights cannot be fetched.
    """
    if name == EMOJI_MINI and pretrained in (None, EMOJI_MINI):
        bundled = resources.files("tpt.backbones") / "emoji_mini" / "emoji-mini.safetensors"
        with resources.as_file(bundled) as path:
            model = _from_openai_file(path, quick_gelu)
    elif pretrained is not None and _looks_like_path(pretrained):
        model = _from_file(name, Path(pretrained), quick_gelu)
    else:
        model = _from_tag(name, None if pretrained is None else str(pretrained), cache_dir)
    if name is None:
        name = Path(str(pretrained)).name
    label = name if pretrained is None or name == EMOJI_MINI else f"{name}/{Path(str(pretrained)).name}"
    return wrap(model, label, precision, channels_last, compile).to(usable_device(device))


def usable_device(device: str | torch.device) -> torch.device:
    """`device`, or a ValueError where this machine has no such device."""
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"Expected a machine with a CUDA GPU for device={str(device)!r}, found none; use 'cpu'.")
    return device


def wrap(
    model: nn.Module, name: str, precision: str = "fp32", channels_last: bool = False, compile: bool = False
) -> CLIP:
    """The CLIP of an open_clip model (or one of that shape), its text tower checked."""
    _refuse_text_tower(model, name)
    text: Any = getattr(model, "text", model)
    tower = TextTower(
        text.token_embedding,
        text.positional_embedding,
        text.transformer.resblocks,
        text.ln_final,
        text.text_projection,
    )
    visual: Any = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean = getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
    std = getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
    scale = float(model.logit_scale.detach().float().exp())  # type: ignore[operator]
    return CLIP(
        name,
        visual,
        tower,
        Tokenizer(),
        scale,
        int(size),
        mean,
        std,
        precision,
        channels_last=channels_last,
        compile=compile,
    )


def _refuse_text_tower(model: nn.Module, name: str) -> None:
    """Raises unless prompts of this text tower can be encoded exactly."""
    text: Any = getattr(model, "text", model)
    pool = getattr(text, "pool_type", getattr(model, "text_pool_type", None))
    blocks = getattr(getattr(text, "transformer", None), "resblocks", None)
    reason = None
    if blocks is None:
        reason = "is not one of open_clip's own transformers (a Hugging Face encoder, say)"
    elif getattr(text, "attn_mask", None) is None:
        reason = "is not causal"
    elif getattr(text, "cls_emb", None) is not None:
        reason = "reads its feature at an appended class token"
    elif pool not in ("argmax", "eos"):
        reason = f"reads its feature at the position {pool!r}, not at the end token"
    elif pool == "eos" and getattr(text, "eos_id", getattr(model, "text_eos_id", None)) != Tokenizer().end:
        reason = "reads its feature at a token other than the end token of CLIP's vocabulary"
    elif any(type(b) is not ResidualAttentionBlock or hasattr(b, "ln_1_kv") for b in blocks):
        reason = "uses attention blocks other than open_clip's plain ones"
    elif getattr(model, "logit_bias", None) is not None:
        reason = "comes with a logit bias (a sigmoid loss), so its softmax entropies mean nothing"
    if reason is not None:
        raise UserError(
            f"Expected a model with a causal text tower that is read at the end token, but the one of {name!r} "
            f"{reason}; choose another model, e.g. 'ViT-B-16-quickgelu' with pretrained='openai'."
        )


def _looks_like_path(pretrained: str | Path) -> bool:
    text = str(pretrained)
    return isinstance(pretrained, Path) or "/" in text or "." in text or Path(text).is_file()


def _known_config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    if config is None:
        close = difflib.get_close_matches(name, [EMOJI_MINI, *open_clip.list_models()], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see open_clip.list_models()."
        raise UserError(f"Expected a model name that open_clip knows or {EMOJI_MINI!r}, got {name!r}; {hint}")
    if "hf_tokenizer_name" in config["text_cfg"]:
        raise UserError(
            f"Expected a model that uses CLIP's own vocabulary, but {name!r} uses the Hugging Face tokenizer "
            f"{config['text_cfg']['hf_tokenizer_name']!r}; choose another model, e.g. 'ViT-B-16-quickgelu'."
        )
    return dict(config)


def _from_tag(name: str | None, tag: str | None, cache_dir: str | None) -> nn.Module:
    if name is None:
        raise UserError(f"Expected a model name, got none; pass {EMOJI_MINI!r} or an open_clip name and tag.")
    config = _known_config(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag is None or tag not in tags:
        listed = ", ".join(map(repr, tags)) or "none"
        raise UserError(
            f"Expected `pretrained` to be a tag of {name!r} or the path of a weights file, got {tag!r}; "
            f"its tags: {listed}."
        )
    trained_with = bool((open_clip.get_pretrained_cfg(name, tag) or {}).get("quick_gelu", False))
    configured = bool(config.get("quick_gelu", False))
    if configured and not trained_with:
        raise UserError(
            f"Expected weights trained with QuickGELU for {name!r}, but {tag!r} was trained with GELU; "
            f"use name={name.removesuffix('-quickgelu')!r}."
        )
    if trained_with and not configured:
        log.warning("%s was trained with QuickGELU: using it although %s's configuration says GELU.", tag, name)
    # Build without weights first: an unsuitable model is refused before gigabytes are fetched.
    _refuse_text_tower(open_clip.create_model(name, pretrained=None, load_weights=False), name)
    try:
        model: nn.Module = open_clip.create_model(
            name, pretrained=tag, force_quick_gelu=trained_with, cache_dir=cache_dir, weights_only=True
        )
        return model
    except Exception as error:  # open_clip wraps whatever the hub client raised in a RuntimeError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(
            f"Could not get the weights {tag!r} of {name!r} ({reason[:200]}); without a network, pass "
            f"pretrained=/path/to/the/file, or use the bundled {EMOJI_MINI!r}."
        ) from error


def _from_file(name: str | None, path: Path, quick_gelu: bool | None) -> nn.Module:
    if not path.is_file():
        raise UserError(f"Expected a weights file or an open_clip tag, but there is no file {path}; check the path.")
    if name is None or name == EMOJI_MINI:
        return _from_openai_file(path, quick_gelu)
    config = _known_config(name)
    weights, metadata = read_weights(path)
    for extra in _OPENAI_EXTRAS:
        weights.pop(extra, None)
    if metadata.get("format") == "torchscript" and not config.get("quick_gelu", False):
        log.warning("%s is OpenAI's archive, trained with QuickGELU: using it although %s says GELU.", path, name)
        quick_gelu = True
    model: nn.Module = open_clip.create_model(
        name, pretrained=None, load_weights=False, force_quick_gelu=bool(quick_gelu), pretrained_image=False
    )
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    _load(model, weights, path)
    return model


def _load(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    model.float()
    try:
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise WeightsFileError(
            f"Expected {path} to fit the architecture, but it does not ({'; '.join(lines)[:300]}); "
            "pass the `name` the weights belong to."
        ) from error


def _from_openai_file(path: Path, quick_gelu: bool | None) -> nn.Module:
    """A model whose architecture is read from weights in OpenAI's key names, as float32, bit for bit."""
    weights, metadata = read_weights(path)
    if quick_gelu is None:
        quick_gelu = metadata.get("quick_gelu", "true") == "true"
        openai = metadata.get("format") == "torchscript" or _OPENAI_EXTRAS[0] in weights or "quick_gelu" in metadata
        if not openai:
            log.warning(
                "%s does not say which activation it was trained with: using QuickGELU, as OpenAI's weights do; "
                "pass `quick_gelu=False` or the open_clip `name` if it was trained with GELU.",
                path,
            )
    for extra in _OPENAI_EXTRAS:
        weights.pop(extra, None)
    _expand_token_rows(weights, metadata)
    try:
        vision, text, embed_dim = _read_architecture(weights)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise WeightsFileError(
            f"Expected weights of a CLIP in OpenAI's key names in {path}, but {error} is missing; "
            "pass the open_clip `name` the weights belong to."
        ) from error
    model: nn.Module = open_clip.model.CLIP(embed_dim, vision, text, quick_gelu=quick_gelu)
    _load(model, weights, path)
    return model


def _expand_token_rows(weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Puts back the token embedding's rows of zeros, which the bundled file leaves out."""
    if "token_embedding.rows" in weights:
        rows, index = weights.pop("token_embedding.rows"), weights.pop("token_embedding.index")
        table = rows.new_zeros(int(metadata["vocab_size"]), rows.shape[1])
        table[index] = rows
        weights["token_embedding.weight"] = table


def _read_architecture(weights: dict[str, Tensor]) -> tuple[CLIPVisionCfg, CLIPTextCfg, int]:
    def count(prefix: str) -> int:
        depth = prefix.count(".") + 1
        return len({key.split(".")[depth] for key in weights if key.startswith(prefix + ".")})

    if "visual.proj" in weights:
        conv = weights["visual.conv1.weight"]
        grid = round((weights["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        vision = CLIPVisionCfg(
            layers=count("visual.transformer.resblocks"),
            width=conv.shape[0],
            patch_size=conv.shape[-1],
            image_size=conv.shape[-1] * grid,
        )
    else:
        grid = round((weights["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        vision = CLIPVisionCfg(
            layers=tuple(count(f"visual.layer{stage}") for stage in (1, 2, 3, 4)),
            width=weights["visual.layer1.0.conv1.weight"].shape[0],
            image_size=grid * 32,
        )
    width = weights["ln_final.weight"].shape[0]
    text = CLIPTextCfg(
        context_length=weights["positional_embedding"].shape[0],
        vocab_size=weights["token_embedding.weight"].shape[0],
        width=width,
        heads=width // 64,
        layers=count("transformer.resblocks"),
    )
    return vision, text, weights["text_projection"].shape[1]
