"""Models from a weights file, with the architecture from the weights themselves or from an open_clip name."""

from __future__ import annotations

import logging
from pathlib import Path

import open_clip
import open_clip.model
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, convert_to_custom_text_state_dict
from torch import Tensor, nn

from tpt.clip.tokens import Tokenizer
from tpt.clip.weights.archive import read_weights
from tpt.clip.weights.layouts import transformers_reading
from tpt.clip.weights.named import Uninitialized, known_config, preprocessing_of, read_tokenizer, unloaded
from tpt.clip.weights.preprocessing import prepare, preprocessing_beside
from tpt.errors import UserError, WeightsFileError
from tpt.files import readable

log = logging.getLogger(__name__)

# Plain numbers that OpenAI's archives hold in addition to the weights.
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def from_file(
    name: str | None, path: Path, quick_gelu: bool | None, cache_dir: str | None = None
) -> tuple[nn.Module, Tokenizer | None]:
    """The model in a weights file, with the architecture of `name` in open_clip or inferred, and its tokenizer."""
    if not path.is_file():
        raise UserError(
            f"Expected `pretrained` to be an open_clip tag or the path of a weights file, got {path}, which is "
            f"{'a folder' if path.is_dir() else 'neither'}."
        )
    said, tokenizer = preprocessing_beside(path), None
    if name is None:
        model = from_openai_file(path, quick_gelu)
    else:
        config = known_config(name)
        weights, metadata = read_weights(path)
        if metadata.get("format") == "torchscript" and not config.get("quick_gelu", False):
            log.warning("%s is OpenAI's archive, trained with QuickGELU: using it although %s says GELU.", path, name)
            quick_gelu = True
        model = unloaded(
            name,
            force_quick_gelu=bool(quick_gelu),
            force_preprocess_cfg=None if said else preprocessing_of(name),
            force_image_size=said.get("size"),
        )
        if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
            weights = convert_to_custom_text_state_dict(weights)
        _load(model, weights, path)
        tokenizer = read_tokenizer(name, config, cache_dir)
    prepare(model, said, f"the configuration next to {path}")
    return model, tokenizer


def from_openai_file(path: Path, quick_gelu: bool | None) -> nn.Module:
    """A float32 model whose architecture is inferred from weights with OpenAI's or transformers' key names."""
    weights, metadata = read_weights(path)
    heads: tuple[int, int] | None = None
    trained_with = metadata.get("quick_gelu", "true") == "true"
    openai = metadata.get("format") == "torchscript" or _OPENAI_EXTRAS[0] in weights or "quick_gelu" in metadata
    if metadata.get("format") == "transformers":
        heads, trained_with = transformers_reading(path)
    elif quick_gelu is None and not openai:
        log.warning(
            "%s does not say which activation it was trained with: using QuickGELU, as OpenAI's weights do; "
            "pass `quick_gelu=False` or the open_clip `name` if it was trained with GELU.",
            path,
        )
    _expand_token_rows(weights, metadata, path)
    what = f"{path} as weights of a CLIP in the key names of OpenAI or transformers"
    way_out = "Save the CLIP's state dict alone, or pass the open_clip `name` the weights belong to"
    with readable(what, way_out, WeightsFileError):
        vision, text, embed_dim = _read_architecture(weights)
        if heads is None:
            _refuse_other_heads(vision)
        else:
            vision.head_width, text.heads = vision.width // heads[0], heads[1]
    activation = trained_with if quick_gelu is None else quick_gelu
    with Uninitialized():
        model: nn.Module = open_clip.model.CLIP(embed_dim, vision, text, quick_gelu=activation)
    _load(model, weights, path)
    return model


def _load(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    model.float()
    with readable(f"{path} as weights of this architecture", "Pass the `name` they belong to", WeightsFileError):
        model.load_state_dict({key: value for key, value in weights.items() if key not in _OPENAI_EXTRAS})


def _refuse_other_heads(vision: CLIPVisionCfg) -> None:
    """Raises a ValueError for the shapes of large open_clip models whose heads, unlike OpenAI's, are not 64 wide."""
    for name in open_clip.list_models():
        known = open_clip.get_model_config(name)["vision_cfg"]
        shape = (known.get("layers"), known.get("width"), known.get("patch_size"))
        if shape == (vision.layers, vision.width, vision.patch_size) and known.get("head_width", 64) != 64:
            raise ValueError(f"{name!r} has this shape with heads of {known['head_width']}, not of 64 as OpenAI's")


def _expand_token_rows(weights: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Restores the zero rows of the token embedding, which the bundled file omits."""
    if "token_embedding.rows" in weights:
        with readable(f"the rows of the token embedding in {path}", error=WeightsFileError):
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
