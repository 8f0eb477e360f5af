"""A frozen CLIP: pictures and words to unit vectors of one space."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpt.clip.tokens import Tokenizer
from tpt.clip.tower import Tower
from tpt.errors import UserError, checked

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_PIXELS = 8 * 224**2  # of the images that a CPU encodes in one pass


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; on a CPU, only the words of torch's error tell."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class CLIP(nn.Module):
    """Image encoder, text tower, tokenizer and temperature of one CLIP, all frozen.

    Made by `tpt.load_clip`; nothing in here is ever trained.

    Args:
        name: what was loaded, for logs and results.
        visual: (N, 3, H, W) normalised images -> (N, E), or a tuple that begins with it.
        text: the text tower.
        tokenizer: its vocabulary.
        logit_scale: factor on the cosine (1 / temperature), as `exp(logit_scale)` of the weights.
        image_size: side of the square images, in pixels.
        mean, std: per channel, of images in [0, 1].
        precision: "fp32", or "bf16"/"fp16": the image encoder runs under autocast; features come back float32.
        max_images: most images encoded in one pass; more are encoded in turns.  None takes 512 on a GPU and
            on a CPU 8 of 224 x 224 pixels, up to 64 of smaller ones: larger passes do not stay in its cache.  Halved,
            again and again, if memory runs out.
        channels_last: the image encoder's memory layout, which convolutions may prefer.
        compile: runs the image encoder through `torch.compile`; if that fails, goes on without, with a warning.
        resize: how the model's whole picture is made, "shortest" (the shorter side fits, the rest is cropped) or
            "squash" (to a square).
        interpolation: of that, "bicubic" or "bilinear".
        logit_bias: added to every logit by a model that was trained with a sigmoid; it moves no answer.
    """

    @checked
    def __init__(
        self,
        name: str,
        visual: nn.Module,
        text: Tower,
        tokenizer: Tokenizer,
        logit_scale: float,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        precision: Precision = "fp32",
        max_images: int | None = None,
        channels_last: bool = False,
        compile: bool = False,
        resize: str = "shortest",
        interpolation: str = "bicubic",
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.visual = visual
        self.text = text
        self.tokenizer = tokenizer
        self.logit_scale = logit_scale
        self.image_size = image_size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.precision = precision
        self.max_images = max_images
        self.resize = resize
        self.interpolation = interpolation
        self.logit_bias = logit_bias
        self.channels_last = channels_last
        if channels_last:
            self.visual = self.visual.to(memory_format=torch.channels_last)
        # In a list, since as a module its weights would count twice.
        self._compiled: list[Callable[[Tensor], Any]] = [torch.compile(visual)] if compile else []
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> CLIP:
        """Stays in evaluation mode: the backbone is frozen, its normalisation statistics too."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text.token_embedding.weight.device

    @property
    def width(self) -> int:
        """Token width D of the text tower: the length of a context vector."""
        return self.text.width

    @property
    def embed_dim(self) -> int:
        """Length E of a feature."""
        return self.text.embed_dim

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What a maker of views must know about the images this CLIP takes: arguments of `tpt.views.Views`."""
        return {
            "image_size": self.image_size,
            "mean": self.mean,
            "std": self.std,
            "resize": self.resize,
            "interpolation": self.interpolation,
        }

    @torch.no_grad()
    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Features of images.

        Args:
            images: (N, 3, H, W), normalised with `mean` and `std`, or uint8 pixels, which are normalised here.
            normalize: whether to scale the features to unit length.

        Returns:
            (N, E) float32.
        """
        fitting = min(64, max(1, CPU_PIXELS // images.shape[-2:].numel())) if images.device.type == "cpu" else 512
        size = self.max_images or fitting
        try:
            features = torch.cat([self._encode(part) for part in images.split(size)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = min(size, len(images)) // 2
            if size < 1:
                raise
            log.warning("Out of memory: going on with at most %d images a pass.", size)
            self.max_images = size
            return self.encode_image(images, normalize)
        return F.normalize(features, dim=-1) if normalize else features

    def _encode(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            return self._visual(self._normalise(images)).float()

    def _visual(self, images: Tensor) -> Tensor:
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self._compiled:
            try:
                return _pooled(self._compiled[0](images))
            except Exception as error:  # a missing compiler, an operation it does not know, a bug in it
                self._compiled.clear()
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                log.warning("torch.compile failed (%s): going on without it.", reason[:200])
        return _pooled(self.visual(images))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Unit-length features (N, E) of pixels (N, 3, H, W) in [0, 255], in float32 and with their gradient."""
        return F.normalize(_pooled(self.visual(self._standard(pixels))), dim=-1)

    def _normalise(self, images: Tensor) -> Tensor:
        return images if images.dtype != torch.uint8 else self._standard(images.float())

    def _standard(self, pixels: Tensor) -> Tensor:
        mean, std = (pixels.new_tensor(x).view(3, 1, 1) for x in (self.mean, self.std))
        return (pixels / 255 - mean) / std

    @overload
    def encode_views(self, views: Tensor, return_norm: Literal[False] = False) -> Tensor: ...

    @overload
    def encode_views(self, views: Tensor, return_norm: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def encode_views(self, views: Tensor, return_norm: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Unit-length view features: (V, 3, H, W) -> (V, E), or (B, V, 3, H, W) -> (B, V, E).

        Args:
            views: of one image or of B images.
            return_norm: also gives the length that view 0's feature had, () or (B,), for methods with `needs_norm`.

        Example:
            >>> import tpt
            >>> clip = tpt.load_clip("emoji-mini")
            >>> views = torch.zeros(8, 3, clip.image_size, clip.image_size, dtype=torch.uint8)  # pixels, V = 8
            >>> features = clip.encode_views(views)
            >>> features.shape == (8, clip.embed_dim)
            True
            >>> clip.encode_views(views[None]).shape == (1, 8, clip.embed_dim)
            True
        """
        if views.ndim not in (4, 5) or views.shape[-3] != 3:
            raise UserError(
                f"Expected views of shape (V, 3, H, W) or (B, V, 3, H, W), got {tuple(views.shape)}; "
                "`tpt.views` makes them from an image."
            )
        features = self.encode_image(views.flatten(0, -4), normalize=False).unflatten(0, views.shape[:-3])
        unit = F.normalize(features, dim=-1)
        return (unit, features[..., 0, :].norm(dim=-1)) if return_norm else unit

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit-length features (N, E) of whole sentences.

        Example:
            >>> import tpt
            >>> text = tpt.load_clip("emoji-mini").encode_text(["a photo of a cat.", "a photo of a dog."])
            >>> text.norm(dim=-1).allclose(torch.ones(2))
            True
        """
        prompts = self.tokenizer.wrap_all(texts, self.text.context_length)
        packed = self.text.pack(prompts, shared=len(self.tokenizer.start))
        return self.text(packed.to(self.device))  # type: ignore[no-any-return]

    def about(self) -> dict[str, Any]:
        """What identifies this CLIP, for results, and the bias that makes sigmoid scores of its logits."""
        bias = {} if self.logit_bias is None else {"logit_bias": self.logit_bias}
        return {"name": self.name, "fingerprint": self.fingerprint(), "precision": self.precision, **bias}

    def encoding(self) -> dict[str, Any]:
        """All that image features depend on, and nothing else: what a cache of them must be kept under."""
        return {
            "weights": tensors_digest(self.visual.state_dict()),
            "architecture": structure(self.visual),
            "backbone_precision": self.precision,
            "image_size": self.image_size,
            "normalisation": [self.mean, self.std],
            "max_images": self.max_images,  # how many views share a pass moves last bits
            "channels_last": self.channels_last,
            "compile": bool(self._compiled),
        }

    @cached_property
    def weights_digest(self) -> str:
        """Sixteen hexadecimal digits that change with any bit of any weight as it was loaded, and with nothing else."""
        return tensors_digest(self.state_dict())

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any bit of any weight, with its temperature or precision."""
        return tensors_digest(self.state_dict(), f"{self.logit_scale!r} {self.precision} {self.image_size}")


def _pooled(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The feature; some encoders give their patches' tokens beside it."""
    return out[0] if isinstance(out, tuple) else out


def structure(module: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with what a module does beside its weights: its parts and their settings.

    Two checkpoints of the same shapes may differ in an activation or a stride alone.
    """
    parts = []
    for name, part in module.named_modules():
        settings = {k: repr(v) for k, v in vars(part).items() if isinstance(v, bool | int | float | str | tuple)}
        functions = {k: getattr(v, "__qualname__", "") for k, v in vars(part).items() if callable(v)}
        parts.append(repr((name, type(part).__qualname__, sorted(settings.items()), sorted(functions.items()))))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def tensors_digest(tensors: Mapping[str, Tensor], about: str = "") -> str:
    """Sixteen hexadecimal digits that change with any bit of any tensor, with a tensor's name, or with `about`."""
    digest = hashlib.sha256(about.encode())
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
