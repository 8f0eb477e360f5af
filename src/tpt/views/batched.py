"""Makes views with tensors on any device; the pixels equal those of PIL up to rounding.

The random numbers are drawn where the image is loaded, by the same code as on the PIL path, so both paths make the same
views.  Two steps remain, which are fast with tensors.  Resampling is two matrix products over all views of an image: a
filter along x, rounding, and a filter along y, as in PIL.  (Since version 13, PIL filters along y first for some
shapes, which changes single pixels by a few levels.)  AugMix's operations run over all views of all images; four are
look-up tables and five are affine maps.

Shape letters: `V` views, `N` views of all images, `S` side of a view, `H`, `W` of the original.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tpt.views.augmix import AFFINE, Mixture

MAX_FLOATS = 2**25  # in an intermediate result: 256 MiB in double precision
FIXED_POINT = 2**22  # Pillow's weights are multiples of 1 / FIXED_POINT, which are exact in float32


@dataclass
class PlannedViews:
    """An image and the random numbers of its views."""

    pixels: Tensor  # (3, H, W) uint8, the original
    boxes: Tensor  # (V - 1, 4) top, left, height and width of the random crops
    flips: Tensor  # (V - 1,) whether each random crop is flipped
    mixtures: list[Mixture] | None  # AugMix's mixture for each random crop; None without AugMix

    def to(self, device: torch.device, non_blocking: bool = False) -> PlannedViews:
        """A copy with the pixels on another device; the random numbers stay on the CPU."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PlannedViews:
        """A copy with the pixels in page-locked memory."""
        return replace(self, pixels=self.pixels.pin_memory())


def crop_views(plan: PlannedViews, size: int, resize: str = "shortest", interpolation: str = "bicubic") -> Tensor:
    """(V, 3, S, S) uint8: the whole picture, as `tpt.views.whole_picture` makes it, and random crops, before AugMix."""
    centre = _whole_picture(plan.pixels, size, resize == "squash", interpolation)
    if not len(plan.boxes):
        return centre
    in_height, in_width = plan.pixels.shape[1:]
    views = max(1, MAX_FLOATS // (size * max(3 * in_height, in_width)))
    boxes, flips = (given.to(_device_of_weights(plan.pixels)).split(views) for given in (plan.boxes, plan.flips))
    return torch.cat([centre, *(_crop(plan.pixels, *some, size) for some in zip(boxes, flips, strict=True))])


def _crop(pixels: Tensor, boxes: Tensor, flips: Tensor, size: int) -> Tensor:
    """(V, 3, S, S): the crops of some boxes (V, 4) and flips (V,)."""
    top, left, height, width = boxes.double().unbind(1)
    outputs = torch.arange(size, device=boxes.device).expand(len(boxes), -1)
    across = torch.where(flips[:, None], outputs.flip(1), outputs)
    along_x = filter_weights(pixels.shape[2], left, width, size, across, "bilinear")
    along_y = filter_weights(pixels.shape[1], top, height, size, outputs, "bilinear")
    return resample(pixels, along_y, along_x)


def _whole_picture(pixels: Tensor, size: int, squash: bool, interpolation: str) -> Tensor:
    """(1, 3, S, S): torchvision's Resize to a square, or to the shorter side with CenterCrop."""
    along, device = [], _device_of_weights(pixels)
    short = min(pixels.shape[1:])
    for length in pixels.shape[1:]:
        resized = size if squash else int(size * length / short)
        first = round((resized - size) / 2.0)
        outputs = torch.arange(first, first + size, device=device)[None]
        start, whole = (torch.full((1,), edge, dtype=torch.float64, device=device) for edge in (0, length))
        along.append(filter_weights(length, start, whole, resized, outputs, interpolation))
    return resample(pixels, *along)


def _device_of_weights(pixels: Tensor) -> torch.device:
    """The device of the pixels; the CPU for Apple's GPUs, which have no double precision."""
    return torch.device("cpu") if pixels.device.type == "mps" else pixels.device


def filter_weights(
    size: int, start: Tensor, length: Tensor, resized: int, outputs: Tensor, interpolation: str
) -> Tensor:
    """(V, S, size) resampling weights along an axis of `size` pixels, as in Pillow's `precompute_coeffs`.

    Crops with `start` and `length` (V,) are resized to `resized` pixels, of which `outputs` (V, S) are computed.
    """
    kernel, support = _FILTERS[interpolation]
    scale = (length / resized)[:, None, None]
    stretch = scale.clamp(min=1.0)  # for shrinking, the filter covers more pixels
    centre = (outputs[..., None] + 0.5) * scale
    first = (centre - support * stretch + 0.5).floor().clamp(min=0)
    last = torch.minimum((centre + support * stretch + 0.5).floor(), length[:, None, None])
    # Only the pixels in a window around each output have weights; all windows are as wide as the widest.
    window = min(size, int((last - first).max()))
    begin = (first + start[:, None, None]).clamp(max=size - window)
    at = begin + torch.arange(window, device=start.device)  # (V, S, window)
    near = at - start[:, None, None]
    weights = kernel((near + 0.5 - centre) / stretch) * ((near >= first) & (near < last))
    weights = weights / weights.sum(-1, keepdim=True)
    fixed = ((weights * FIXED_POINT).round() / FIXED_POINT).float()
    return fixed.new_zeros(*outputs.shape, size).scatter_(2, at.long(), fixed)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


_FILTERS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}


def resample(pixels: Tensor, along_y: Tensor, along_x: Tensor) -> Tensor:
    """(V, 3, S, S) uint8 from (3, H, W) uint8, rounded after each axis as in Pillow."""
    channels, height, width = pixels.shape
    rows = pixels.float().reshape(channels * height, width)
    squeezed = _round(rows @ along_x.to(pixels.device).mT).unflatten(1, (channels, height))  # (V, 3, H, S)
    return _round(along_y.to(pixels.device)[:, None] @ squeezed).byte()


def _round(x: Tensor) -> Tensor:
    return (x + 0.5).floor_().clamp_(0, 255)


def mix(crops: Tensor, mixtures: Sequence[Mixture], normalise: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, 3, S, S) floats: AugMix applied to uint8 crops."""
    weights = torch.tensor([[float(w) for w in m.weights] for m in mixtures], device=crops.device)
    keep = torch.tensor([float(m.keep) for m in mixtures], device=crops.device).view(-1, 1, 1, 1)
    mixed = torch.zeros_like(crops, dtype=torch.float32)
    for c in range(weights.shape[1]):
        changed = crops
        for depth in range(max(len(m.chains[c]) for m in mixtures)):
            todo = [m.chains[c][depth] if depth < len(m.chains[c]) else None for m in mixtures]
            changed = _apply(changed, todo)
        mixed += weights[:, c].view(-1, 1, 1, 1) * normalise(changed)
    return keep * normalise(crops) + (1 - keep) * mixed


def _apply(images: Tensor, todo: Sequence[tuple[str, float] | None]) -> Tensor:
    """Each image after its operation, if it has one."""
    out = images.clone()
    for run, is_table in ((_look_up, True), (_map, False)):
        chosen = {n: one for n, one in enumerate(todo) if one is not None and (one[0] in TABLES) == is_table}
        if chosen:
            rows = torch.tensor(list(chosen), device=images.device)
            out[rows] = run(images[rows], list(chosen.values()))
    return out


def _look_up(images: Tensor, operations: Sequence[tuple[str, float]]) -> Tensor:
    """Applies operations that are a table of 256 entries per channel."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    levels = torch.arange(256, device=images.device)
    tables = torch.empty_like(counts)
    for name, table in TABLES.items():
        rows = [n for n, (other, _) in enumerate(operations) if other == name]
        if rows:
            values = torch.tensor([operations[n][1] for n in rows], device=images.device).view(-1, 1, 1)
            tables[rows] = table(levels, counts[rows], values.long())
    return tables.gather(2, flat).to(torch.uint8).view_as(images)


def _autocontrast(levels: Tensor, counts: Tensor, _: Tensor) -> Tensor:
    found = counts > 0
    low = found.int().argmax(-1, keepdim=True).double()
    high = 255.0 - found.flip(-1).int().argmax(-1, keepdim=True).double()
    scale = 255.0 / (high - low)
    stretched = (levels * scale - low * scale).trunc().clamp(0, 255).long()
    return torch.where(high <= low, levels, stretched)


def _equalize(levels: Tensor, counts: Tensor, _: Tensor) -> Tensor:
    last = 255 - (counts > 0).flip(-1).int().argmax(-1, keepdim=True)
    step = (counts.sum(-1, keepdim=True) - counts.gather(-1, last)) // 255
    before = counts.cumsum(-1) - counts
    table = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step == 0, levels, table)


# Operation -> its table of new levels, from the 256 levels, their counts in a channel and the magnitude.
TABLES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": lambda levels, _, bits: levels >> (8 - bits) << (8 - bits),
    "solarize": lambda levels, _, threshold: torch.where(levels < threshold, levels, 255 - levels),
}


def _matrix(operation: str, magnitude: float, size: int) -> tuple[float, ...]:
    """Pillow's inverse map of an operation; `rotate` is about the centre."""
    if operation in AFFINE:
        return AFFINE[operation](magnitude)
    angle = -math.radians(magnitude % 360.0)
    cos, sin, half = round(math.cos(angle), 15), round(math.sin(angle), 15), size / 2
    return (cos, sin, half - cos * half - sin * half, -sin, cos, half + sin * half - cos * half)


def _map(images: Tensor, operations: Sequence[tuple[str, float]]) -> Tensor:
    """Applies affine maps, bilinear and black outside the image; fractions are truncated, as in Pillow."""
    size = images.shape[-1]
    matrices = [_matrix(name, value, size) for name, value in operations]
    a, b, c, d, e, f = torch.tensor(matrices, dtype=torch.float64).T[..., None, None].to(images.device)
    at = torch.arange(size, device=images.device, dtype=torch.float64) + 0.5
    x, y = a * at + b * at[:, None] + c, d * at + e * at[:, None] + f  # (N, S, S)
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    x, y = x - 0.5, y - 0.5
    left, top = x.floor(), y.floor()
    dx, dy = ((t - u)[:, None] for t, u in ((x, left), (y, top)))
    flat = images.flatten(2)

    def pick(row: Tensor, column: Tensor) -> Tensor:
        index = row.clamp(0, size - 1).long() * size + column.clamp(0, size - 1).long()
        picked = flat.gather(2, index.flatten(1)[:, None].expand(-1, flat.shape[1], -1))
        values: Tensor = picked.view_as(images).double()
        return values

    # Interpolate in Pillow's form, which leaves flat areas unchanged.
    upper = torch.lerp(pick(top, left), pick(top, left + 1), dx)
    lower = torch.lerp(pick(top + 1, left), pick(top + 1, left + 1), dx)
    mixed = torch.lerp(upper, lower, dy)
    out: Tensor = (mixed * inside[:, None]).to(torch.uint8)
    return out
