"""Loads a CLIP by open_clip name and tag, from a file, or the bundled one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from torch import Tensor, nn

from tpt.clip.model import CLIP, Precision
from tpt.clip.tokens import Tokenizer
from tpt.clip.towers import check_tower, text_tower
from tpt.clip.weights.files import from_file, from_openai_file
from tpt.clip.weights.named import EMOJI_MINI, FOLDER, HUB, from_folder, from_tag
from tpt.clip.weights.preprocessing import prepare
from tpt.errors import UserError, checked


@checked
def load_clip(
    name: str | None = None,
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    quick_gelu: bool | None = None,
    cache_dir: str | None = None,
    channels_last: bool = False,
    compile: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: Literal["shortest", "squash"] | None = None,
    interpolation: Literal["bicubic", "bilinear"] | None = None,
) -> CLIP:
    """Loads a frozen CLIP, or another dual encoder of open_clip; docs/backbones.md lists them.

    Args:
        name: `"emoji-mini"` (bundled, and the default if nothing is given), an open_clip model name, or a name that
            includes weights: `"hf-hub:ORG/NAME"` for an open_clip model on the Hugging Face hub, `"local-dir:FOLDER"`
            for one in a folder.  Optional for a file with OpenAI's or transformers' key names, whose architecture is
            inferred from the weights.
        pretrained: an open_clip tag (weights are fetched once), or the path of a file: OpenAI's state dict or
            TorchScript archive, transformers' `model.safetensors` next to its `config.json`, or with `name` an
            open_clip checkpoint.  An `open_clip_config.json` or `preprocessor_config.json` next to it sets how images
            are prepared.  Training checkpoints are read too: the usual entries are found, and a prefix of all names
            (`module.`, `model.`, `_orig_mod.`) is dropped.
        device: device of the model.
        precision: precision of the image encoder: "fp32", "bf16" or "fp16" (autocast).  Weights stay float32.
        quick_gelu: whether the weights were trained with QuickGELU, for files that do not say so.
        cache_dir: folder for fetched weights; open_clip's default if None.
        channels_last, compile: see `CLIP`.
        mean, std: mean and standard deviation per channel, of images in [0, 1]; None uses those known for the weights,
            or else OpenAI's.
        resize, interpolation: how view 0 is made, see `CLIP`; None uses those known for the weights.

    Raises:
        UserError: the name or tag is unknown, the text tower is not supported, a file does not fit, or weights cannot
            be fetched.

    Example:
        >>> clip = load_clip("emoji-mini")
        >>> clip.name, clip.image_size, clip.text.context_length
        ('emoji-mini', 64, 77)

        Others: `load_clip("ViT-B-16-quickgelu", "openai")`, the paper's; `load_clip(pretrained="clip.pt")`, a file.
    """
    device = usable_device(device)
    tokenizer: Tokenizer | None = None
    if name is None and pretrained is None:
        name = EMOJI_MINI
    if name == EMOJI_MINI and pretrained in (None, EMOJI_MINI):
        model = from_openai_file(Path(__file__).parents[1] / "emoji_mini" / "emoji-mini.safetensors", quick_gelu)
    elif name is not None and name.startswith((HUB, FOLDER)):
        model, tokenizer = from_folder(name, pretrained, cache_dir)
    elif pretrained is not None and _looks_like_path(pretrained):
        architecture = None if name == EMOJI_MINI else name
        model, tokenizer = from_file(architecture, Path(pretrained).expanduser(), quick_gelu, cache_dir)
    else:
        model, tokenizer = from_tag(name, None if pretrained is None else str(pretrained), cache_dir)
    label = clip_label(name, pretrained)
    given = {"mean": mean, "std": std, "resize_mode": resize, "interpolation": interpolation}
    prepare(model, {key: value for key, value in given.items() if value is not None}, "`backbone`")
    return wrap(model, label, precision, channels_last, compile, tokenizer).to(device)


def clip_label(name: str | None, pretrained: str | Path | None = None) -> str:
    """The label that `load_clip` gives a CLIP: `NAME`, `NAME/TAG` or `NAME/FILE`."""
    if name is None:
        name = Path(str(pretrained)).name
    return name if pretrained is None or name == EMOJI_MINI else f"{name}/{Path(str(pretrained)).name}"


def _looks_like_path(pretrained: str | Path) -> bool:
    text = str(pretrained)
    return isinstance(pretrained, Path) or "/" in text or "." in text or Path(text).is_file()


def usable_device(device: str | torch.device) -> torch.device:
    """`device` as a torch device; raises a UserError if this machine cannot compute on it."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # `meta` has no values
    except (RuntimeError, AssertionError) as error:  # depends on the kind of device
        reason = str(error).partition(". ")[0].partition("\n")[0].rstrip(".")
        given = f"device={str(device)!r} ({reason})"
        raise UserError(f"Expected a device of this machine, got {given}; use 'cpu'.") from error
    return found


def wrap(
    model: nn.Module,
    name: str,
    precision: Precision = "fp32",
    channels_last: bool = False,
    compile: bool = False,
    tokenizer: Tokenizer | None = None,
) -> CLIP:
    """A CLIP from an open_clip model, after a check that its text features equal the model's own."""
    tokenizer = tokenizer or Tokenizer()
    tower = text_tower(model.eval(), tokenizer, name)
    check_tower(model, tower, tokenizer, name)
    visual: Any = model.visual
    known = getattr(visual, "preprocess_cfg", {})
    bias: Tensor | None = getattr(model, "logit_bias", None)
    resize = known.get("resize_mode") or "shortest"
    height, width = visual.image_size if isinstance(visual.image_size, tuple | list) else (visual.image_size,) * 2
    if height != width or resize not in ("shortest", "squash"):
        raise UserError(
            f"Expected square images for {name!r}, resized to the shorter side or squashed, got {height} x {width} "
            f"pixels and {resize!r}; choose another model."
        )
    return CLIP(
        name,
        visual,
        tower,
        tokenizer,
        float(model.logit_scale.detach().float().exp()),  # type: ignore[operator]
        int(height),
        getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN,
        getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD,
        precision,
        channels_last=channels_last,
        compile=compile,
        resize=resize,
        interpolation="bilinear" if known.get("interpolation") == "bilinear" else "bicubic",
        logit_bias=None if bias is None else float(bias.detach()),
    )
