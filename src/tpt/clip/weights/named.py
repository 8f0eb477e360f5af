"""Models that open_clip knows by name, and models with an open_clip configuration next to their weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg
from torch import nn
from torch.overrides import TorchFunctionMode

from tpt.clip.tokens import Tokenizer
from tpt.clip.towers import text_tower
from tpt.clip.weights.hub import CONFIG_NAME, fetch_from_hub, fetch_tag, fetch_tokenizer
from tpt.clip.weights.preprocessing import PREPROCESSING
from tpt.errors import UserError, WeightsFileError, did_you_mean
from tpt.files import read_bytes, readable

log = logging.getLogger(__name__)

EMOJI_MINI = "emoji-mini"
HUB, FOLDER = "hf-hub:", "local-dir:"  # prefixes of names that include weights


def known_width(name: str | None = None, pretrained: str | Path | None = None) -> int | None:
    """Token width D of the CLIP that `load_clip` would load; None if it is unknown without the weights."""
    if name is None or name == EMOJI_MINI or name.startswith(HUB):
        return None
    try:
        folder = Path(name.removeprefix(FOLDER)).expanduser()
        config = open_clip.get_model_config(f"{FOLDER}{folder}" if name.startswith(FOLDER) else name)
        if config is None or config["text_cfg"].get("hf_model_name"):
            return None
        return int(config["text_cfg"].get("width", CLIPTextCfg.width))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # `load_clip` reports the error
        return None


def from_tag(name: str | None, tag: str | None, cache_dir: str | None) -> tuple[nn.Module, Tokenizer]:
    """Loads an open_clip model with the weights of a tag (fetched if not on the disk yet), and its tokenizer."""
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
    if trained_with and not config.get("quick_gelu", False):
        log.warning("%s was trained with QuickGELU: using it although %s's configuration says GELU.", tag, name)
    tokenizer = read_tokenizer(name, config, cache_dir)
    text_tower(unloaded(name, device="meta"), tokenizer, name)  # raises before gigabytes are fetched
    model = _checkpoint(
        name,
        pretrained=str(fetch_tag(name, tag, cache_dir)),
        force_quick_gelu=trained_with,
        force_preprocess_cfg={key: known[key] for key in PREPROCESSING if key in known},
    )
    return model, tokenizer


def from_folder(name: str, pretrained: str | Path | None, cache_dir: str | None) -> tuple[nn.Module, Tokenizer]:
    """Loads an open_clip model whose configuration and weights are in one folder or hub repository, and its tokenizer.

    The tokenizer's files are in that folder too, or in the hub repository that the configuration names.
    """
    if pretrained is not None:
        raise UserError(f"Expected no `pretrained` with {name!r}, which carries its weights, got {str(pretrained)!r}.")
    hub, place = name.startswith(HUB), name.removeprefix(HUB).removeprefix(FOLDER)
    folder = fetch_from_hub(place, CONFIG_NAME, cache_dir).parent if hub else Path(place).expanduser()
    local, file = f"{FOLDER}{folder}", folder / CONFIG_NAME
    what = f"`model_cfg`, as open_clip writes it, in {file}"
    with readable(what, "For weights alone, pass pretrained=FILE", UserError):
        config = json.loads(read_bytes(file))["model_cfg"]
        tokenizer = read_tokenizer(name if hub else local, config, cache_dir)
    if hub:
        text_tower(unloaded(local, device="meta"), tokenizer, name)
        fetch_from_hub(place, cache_dir=cache_dir)
    return _checkpoint(local), tokenizer


def known_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model; raises a UserError for an unknown name."""
    config = open_clip.get_model_config(name)
    if config is None:
        close = did_you_mean(name, [EMOJI_MINI, *open_clip.list_models()], "see open_clip.list_models().")
        raise UserError(f"Expected {EMOJI_MINI!r} or a model name of open_clip, got {name!r}; {close}")
    return dict(config)


def read_tokenizer(name: str, config: Mapping[str, Any], cache_dir: str | None) -> Tokenizer:
    """The tokenizer that open_clip's `model_cfg` names, from the model's folder, the hub's cache, or the hub."""
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name"):
        return Tokenizer(fetch_tokenizer(name, str(text["hf_tokenizer_name"]), cache_dir))
    return Tokenizer(open_clip.get_tokenizer(name) if text.get("tokenizer_kwargs") else None)


def preprocessing_of(name: str) -> dict[str, Any]:
    """The preprocessing that all tags of a model have in common; empty if they differ or there are none."""
    said = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    known = [{key: tag[key] for key in PREPROCESSING if key in tag} for tag in said]
    if known and any(each != known[0] for each in known):
        log.warning(
            "The weights that open_clip lists for %s differ in how images are prepared: using CLIP's own mean, "
            "standard deviation and crop; open_clip_config.json next to the file, or the settings mean, std, resize "
            "and interpolation, can override this.",
            name,
        )
        return {}
    return known[0] if known else {}


def _is_true(record: logging.LogRecord) -> bool:
    """Whether a line of open_clip's is true: a model that is "initialized randomly" gets its weights next."""
    return "Model initialized randomly" not in record.getMessage()


class Uninitialized(TorchFunctionMode):
    """Skips the random initialization of new parameters, which takes longer than reading the weights that follow."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each function; those of `torch.nn.init` pass their tensor by name."""
        kwargs = kwargs or {}
        is_init = getattr(func, "__module__", None) == "torch.nn.init" and "tensor" in kwargs
        return kwargs["tensor"] if is_init else func(*args, **kwargs)


def unloaded(name: str, device: str = "cpu", **settings: Any) -> nn.Module:
    """The architecture, before all its weights are loaded; on the device "meta" it takes almost no time and memory."""
    root = logging.getLogger()  # open_clip logs there
    root.addFilter(_is_true)
    way_out = "Without a network, put the model's files in the hub's cache first"
    try:
        with (
            readable(f"the architecture of {name!r} with open_clip", way_out, UserError),
            torch.device(device),
            Uninitialized(),
        ):
            model: nn.Module = open_clip.create_model(
                name, None, False, device=device, pretrained_image=False, pretrained_text=False, **settings
            )
    finally:
        root.removeFilter(_is_true)
    return model


def _checkpoint(name: str, **settings: Any) -> nn.Module:
    """A model with weights loaded by open_clip, which knows the layouts of all its tags."""
    with readable(f"the weights of {name!r} with open_clip", error=WeightsFileError):
        model: nn.Module = open_clip.create_model(name, weights_only=True, require_pretrained=True, **settings)
    return model
