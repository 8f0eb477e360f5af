"""A frozen CLIP, which maps images and texts to unit vectors in a joint space."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpt.clip.tokens import Tokenizer
from tpt.clip.tower import Tower
from tpt.errors import UserError, checked

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_PIXELS = 8 * 224**2  # per pass on a CPU; the activations of more pixels do not fit into its cache
LARGEST = 10  # no normalised pixel is larger: of SigLIP they are within 1, of CLIP within 2.2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a failed allocation; on a CPU, torch reports that only in the error's message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class CLIP(nn.Module):
    """The image encoder, text tower, tokenizer and temperature of a CLIP, all frozen; create it with `tpt.load_clip`.

    Args:
        name: name of the model, for logs and results.
        visual: image encoder: (N, 3, H, W) normalised images -> (N, E), or a tuple that begins with (N, E).
        text: the text tower.
        tokenizer: the vocabulary of the text tower.
        logit_scale: factor on the cosine (1 / temperature), as `exp(logit_scale)` of the weights.
        image_size: side of the square images, in pixels.
        mean, std: mean and standard deviation per channel, of images in [0, 1].
        precision: "fp32", or "bf16" or "fp16", which run the image encoder under autocast; features are float32.
        max_images: maximum number of images per pass.  None uses 512 on a GPU; on a CPU 8 of 224 x 224 pixels, up to 64
            smaller ones.  It is halved whenever memory runs out.
        channels_last: whether the image encoder uses this memory layout, which can speed up convolutions.
        compile: whether the image encoder runs through `torch.compile`.  If compilation fails, the encoder runs without
            it and a warning is logged.
        resize: how view 0 is made: "shortest" (resize the shorter side and crop the centre) or "squash" (resize to a
            square).
        interpolation: interpolation of the resize, "bicubic" or "bilinear".
        logit_bias: bias on every logit of models trained with a sigmoid loss; it changes no prediction.
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
        self._has_warned = False  # about images that seem not normalised
        self.channels_last = channels_last
        if channels_last:
            self.visual = self.visual.to(memory_format=torch.channels_last)
        # In a list, because as a submodule its weights would be registered twice.
        self._compiled: list[Callable[[Tensor], Any]] = [torch.compile(visual)] if compile else []
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> CLIP:
        """Keeps the model in evaluation mode: the backbone and its normalisation statistics are frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.text.token_embedding.weight.device

    @property
    def width(self) -> int:
        """Token width D of the text tower, which is the length of a context vector."""
        return self.text.width

    @property
    def embed_dim(self) -> int:
        """Length E of a feature."""
        return self.text.embed_dim

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images are prepared for this CLIP: arguments of `tpt.views.Views`."""
        return {key: getattr(self, key) for key in ("image_size", "mean", "std", "resize", "interpolation")}

    @property
    def images_per_pass(self) -> int:
        """Maximum number of images per pass."""
        if self.max_images is not None:
            return self.max_images
        return min(64, max(1, CPU_PIXELS // self.image_size**2)) if self.device.type == "cpu" else 512

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Features of images.

        Args:
            images: (N, 3, H, W), normalised with `mean` and `std`, or uint8 pixels, which are normalised here.
            normalize: whether to scale the features to unit length.

        Returns:
            (N, E) float32.

        Raises:
            UserError: not a tensor of images of the model's size, or floats that are not normalised.
        """
        self._check(images, "images of shape (N, 3, {0}, {0})", (4,))
        features = self._in_passes(images)
        return F.normalize(features, dim=-1) if normalize else features

    @torch.no_grad()
    def _in_passes(self, images: Tensor) -> Tensor:
        """(N, E) features of checked images, not scaled, in passes that fit into memory."""
        size = self.images_per_pass
        try:
            return torch.cat([self._encode(part) for part in images.split(size)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = min(size, len(images)) // 2
            if size < 1:
                raise
            log.warning("Out of memory: continuing with at most %d images per pass.", size)
            self.max_images = size
            return self._in_passes(images)

    def _check(self, images: Tensor, expected: str, dimensions: tuple[int, ...]) -> None:
        """Raises a UserError for what cannot be images for this model; logs a warning for what is probably not."""
        size = (3, self.image_size, self.image_size)
        if not isinstance(images, Tensor) or images.ndim not in dimensions or images.shape[-3:] != size:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise UserError(
                f"Expected {expected.format(size[1])}, got {got}; make them from an image with `tpt.Views`."
            )
        if images.dtype != torch.uint8 and images.numel():
            low, high = (float(x) for x in images.detach().aminmax())
            read = f"floats from {low:.3g} to {high:.3g}"
            if max(-low, high) > LARGEST:
                raise UserError(f"Expected uint8 pixels or normalised floats, got {read}; pass pixels as uint8.")
            if 0 <= low < high <= 1 and not self._has_warned:
                self._has_warned = True
                log.warning("The images are %s: is `Normalize` with the model's mean and std missing?", read)

    def _encode(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            return self._visual(self._normalise(images)).float()

    def _visual(self, images: Tensor) -> Tensor:
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self._compiled:
            try:
                return _pooled(self._compiled[0](images))
            except Exception as error:  # a missing compiler, an unsupported operation, a bug in the compiler
                self._compiled.clear()
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                log.warning("torch.compile failed (%s): continuing without it.", reason[:200])
        return _pooled(self.visual(images))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Differentiable unit-length float32 features (N, E) of pixels (N, 3, H, W) in [0, 255]."""
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
            views: views of one image or of B images.
            return_norm: also returns the length of view 0's feature before scaling, for methods with `needs_norm`.

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
        self._check(views, "views of shape (V, 3, {0}, {0}) or (B, V, 3, {0}, {0})", (4, 5))
        features = self._in_passes(views.flatten(0, -4)).unflatten(0, views.shape[:-3])
        unit = F.normalize(features, dim=-1)
        return (unit, features[..., 0, :].norm(dim=-1)) if return_norm else unit

    @torch.no_grad()
    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        """Unit-length features (N, E) of N whole sentences, or (1, E) of a single one.

        Example:
            >>> import tpt
            >>> text = tpt.load_clip("emoji-mini").encode_text(["a photo of a cat.", "a photo of a dog."])
            >>> text.norm(dim=-1).allclose(torch.ones(2))
            True
        """
        texts = [texts] if isinstance(texts, str) else texts
        prompts = self.tokenizer.wrap_all(texts, self.text.context_length)
        packed = self.text.pack(prompts, shared=len(self.tokenizer.start))
        return self.text(packed.to(self.device))  # type: ignore[no-any-return]

    def about(self) -> dict[str, Any]:
        """The entries that identify this CLIP in results, and the bias that turns its logits into sigmoid scores."""
        bias = {} if self.logit_bias is None else {"logit_bias": self.logit_bias}
        return {"name": self.name, "fingerprint": self.fingerprint(), "precision": self.precision, **bias}

    def encoding(self) -> dict[str, Any]:
        """Everything that image features depend on, and nothing else: the key of a feature cache."""
        return {
            "weights": tensors_digest(self.visual.state_dict()),
            "architecture": structure(self.visual),
            "backbone_precision": self.precision,
            "image_size": self.image_size,
            "normalisation": [self.mean, self.std],
            "max_images": self.images_per_pass,  # affects rounding
            "channels_last": self.channels_last,
            "compile": bool(self._compiled),
        }

    @cached_property
    def weights_digest(self) -> str:
        """Sixteen hexadecimal digits that depend on every bit of the loaded weights, and on nothing else."""
        return tensors_digest(self.state_dict())

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on the weights, the temperature, the precision and the image size."""
        return tensors_digest(self.state_dict(), f"{self.logit_scale!r} {self.precision} {self.image_size}")


LoadedCLIP = Annotated[CLIP, "load one with tpt.load_clip"]


def _pooled(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The feature; some encoders also return the patch tokens."""
    return out[0] if isinstance(out, tuple) else out


def structure(module: nn.Module) -> str:
    """Sixteen hexadecimal digits that depend on a module's parts and their settings, but not on its weights.

    Needed because models with equal weight shapes may differ in an activation or a stride.
    """
    parts = []
    for name, part in module.named_modules():
        settings = {k: repr(v) for k, v in vars(part).items() if isinstance(v, bool | int | float | str | tuple)}
        functions = {k: getattr(v, "__qualname__", "") for k, v in vars(part).items() if callable(v)}
        parts.append(repr((name, type(part).__qualname__, sorted(settings.items()), sorted(functions.items()))))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def tensors_digest(tensors: Mapping[str, Tensor], about: str = "") -> str:
    """Sixteen hexadecimal digits that depend on every bit of the tensors, on their names and on `about`."""
    digest = hashlib.sha256(about.encode())
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
