"""Models that open_clip knows by name, and those that carry its configuration with their weights."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg
from open_clip.transformer import ResidualAttentionBlock
from safetensors import SafetensorError
from torch import nn

from tpt.clip.tokens import Tokenizer
from tpt.clip.weights.hub import CONFIG_NAME, fetch_from_hub, fetch_tag
from tpt.clip.weights.layouts import WeightsFileError
from tpt.errors import UserError

log = logging.getLogger(__name__)

EMOJI_MINI = "emoji-mini"
VOCABULARY = 49408
HUB, FOLDER = "hf-hub:", "local-dir:"  # in front of a name that carries its weights


def known_width(name: str | None = None, pretrained: str | Path | None = None) -> int | None:
    """Token width D of the CLIP that `load_clip` would load, if that is known without its weights; else None."""
    if name is None or name == EMOJI_MINI or name.startswith(HUB):
        return None
    try:
        config = open_clip.get_model_config(_folder_name(name))
        return None if config is None else int(config["text_cfg"].get("width", CLIPTextCfg.width))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # `load_clip` says what is wrong
        return None


def from_tag(name: str | None, tag: str | None, cache_dir: str | None) -> nn.Module:
    """A model of open_clip with the weights of one of its tags, fetched if they are not on the disk yet."""
    if name is None:
        raise UserError(f"Expected a model name, got none; pass {EMOJI_MINI!r} or an open_clip name and tag.")
    config = known_config(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag is None or tag not in tags:
        listed = ", ".join(map(repr, tags)) or "none"
        raise UserError(
            f"Expected `pretrained` to be a tag of {name!r} or the path of a weights file, got {tag!r}; "
            f"its tags: {listed}."
        )
    known = open_clip.get_pretrained_cfg(name, tag)
    trained_with = bool(known.get("quick_gelu", False))
    configured = bool(config.get("quick_gelu", False))
    if configured and not trained_with:
        raise UserError(
            f"Expected weights trained with QuickGELU for {name!r}, but {tag!r} was trained with GELU; "
            f"use name={name.removesuffix('-quickgelu')!r}."
        )
    if trained_with and not configured:
        log.warning("%s was trained with QuickGELU: using it although %s's configuration says GELU.", tag, name)
    refuse_text_tower(unloaded(name), name)  # an unsuitable model is refused before gigabytes are fetched
    path = fetch_tag(name, tag, cache_dir)
    return _checkpoint(
        f"tag {tag!r} of {name!r}",
        name,
        pretrained=str(path),
        force_quick_gelu=trained_with,
        force_preprocess_cfg={key: known[key] for key in ("mean", "std") if key in known},
    )


def from_folder(name: str, pretrained: str | Path | None, cache_dir: str | None) -> nn.Module:
    """A model of open_clip whose configuration and weights lie together, in a folder or on the hub."""
    if pretrained is not None:
        raise UserError(f"Expected no `pretrained` with {name!r}, which carries its weights, got {str(pretrained)!r}.")
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise UserError(f"Expected {HUB}ORG/NAME, got {name!r}.")
        folder = fetch_from_hub(repository, CONFIG_NAME, cache_dir).parent
    else:
        folder = Path(name.removeprefix(FOLDER)).expanduser()
    try:
        config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))["model_cfg"]
        _refuse_vocabulary(config, name)
    except FileNotFoundError as error:
        raise UserError(
            f"Expected {CONFIG_NAME} in the folder {folder}, found none; for weights without it, pass pretrained=FILE."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"Expected `model_cfg`, as open_clip writes it, in {folder / CONFIG_NAME}.") from error
    if name.startswith(HUB):
        refuse_text_tower(unloaded(f"{FOLDER}{folder}"), name)
        fetch_from_hub(name.removeprefix(HUB), cache_dir=cache_dir)
    return _checkpoint(repr(name), f"{FOLDER}{folder}")


def known_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model that uses CLIP's own vocabulary."""
    config = open_clip.get_model_config(name)
    if config is None:
        close = difflib.get_close_matches(name, [EMOJI_MINI, *open_clip.list_models()], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see open_clip.list_models()."
        raise UserError(f"Expected a model name that open_clip knows or {EMOJI_MINI!r}, got {name!r}; {hint}")
    _refuse_vocabulary(config, name)
    return dict(config)


def unloaded(name: str, **settings: Any) -> nn.Module:
    """The architecture; its weights are yet to be loaded."""
    with _without_random_weights_line():
        model: nn.Module = open_clip.create_model(
            name, pretrained=None, load_weights=False, pretrained_image=False, **settings
        )
    return model


def refuse_text_tower(model: nn.Module, name: str) -> None:
    """Raises unless prompts of this text tower can be encoded exactly."""
    text: Any = getattr(model, "text", model)
    pool = getattr(text, "pool_type", getattr(model, "text_pool_type", None))
    blocks = getattr(getattr(text, "transformer", None), "resblocks", None)
    words = getattr(getattr(text, "token_embedding", None), "num_embeddings", None)
    reason = None
    if blocks is None:
        reason = "is not one of open_clip's own transformers (a Hugging Face encoder, say)"
    elif words != VOCABULARY:
        reason = f"knows {words} words, not the {VOCABULARY} of CLIP's vocabulary"
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


def _refuse_vocabulary(config: Mapping[str, Any], name: str) -> None:
    text = config.get("text_cfg", {})
    foreign = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if foreign:
        raise UserError(
            f"Expected a model that uses CLIP's own vocabulary, but {name!r} uses the Hugging Face tokenizer "
            f"{foreign!r}; choose another model, e.g. 'ViT-B-16-quickgelu'."
        )


@contextlib.contextmanager
def _without_random_weights_line() -> Iterator[None]:
    """Drops open_clip's line that a model is initialized at random, which is false, since weights are loaded next."""

    def keep(record: logging.LogRecord) -> bool:
        return "Model initialized randomly" not in record.getMessage()

    root = logging.getLogger()  # open_clip logs there
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _checkpoint(what: str, name: str, **settings: Any) -> nn.Module:
    """A model with weights that open_clip reads, which knows every layout among its tags."""
    try:
        model: nn.Module = open_clip.create_model(name, weights_only=True, require_pretrained=True, **settings)
    except (RuntimeError, ValueError, OSError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsFileError(
            f"Expected the weights of {what} to fit its architecture, but open_clip cannot load them "
            f"({reason[:300]}); get them again."
        ) from error
    return model


def _folder_name(name: str) -> str:
    """`name`, with `~` in a `local-dir:` spelled out."""
    return f"{FOLDER}{Path(name.removeprefix(FOLDER)).expanduser()}" if name.startswith(FOLDER) else name
