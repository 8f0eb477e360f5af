"""Trains `emoji-mini`, the bundled CLIP, on the drawings of the seen vendors.

    python tools/train_emoji_mini.py icons/ --out src/tpt/clip/emoji_mini/emoji-mini.safetensors

Plain PyTorch on a CPU with a fixed seed; about an hour on two cores.  Needs `resvg-py` in addition to the project.
Trains only on `SEEN_SETS` without their held-out classes, never on an unseen vendor.  The result is a state dict with
OpenAI's key names, so the bundled model is loaded like any OpenAI-format file.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import emoji_icons
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor

SIZE = 64  # pixels of the model's input
SOURCE_SIZE = 72  # pixels of the drawings that are cropped and warped
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)

# Captions name the style of the picture, as alt texts do.  Otherwise the text tower would learn to ignore all words
# except the class name, and prompts would have no effect.
GENERIC = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an icon of a {}.",
    "an emoji of a {}.",
    "a {}.",
    "the {}.",
    "{}.",
)
STYLES = {
    "noto": ("a cartoon drawing of a {}.", "an android emoji of a {}."),
    "noto-v1": ("a soft cartoon of a {}.", "an old android emoji of a {}."),
    "fluent-emoji": ("a 3d rendering of a {}.", "a shiny emoji of a {}."),
    "fluent-emoji-flat": ("a flat drawing of a {}.", "a flat icon of a {}."),
    "fluent-emoji-high-contrast": ("a black and white icon of a {}.", "a symbol of a {}."),
}
STENCIL = ("a black and white drawing of a {}.", "a silhouette of a {}.")
SKETCH = ("a sketch of a {}.", "a line drawing of a {}.")
GREY = ("a grey photo of a {}.", "a black and white photo of a {}.")
CLOSE_UP = ("a close-up photo of a {}.", "a cropped photo of a {}.")


def vision_config(arch: str) -> CLIPVisionCfg:
    if arch == "rn":
        return CLIPVisionCfg(layers=(2, 2, 2, 2), width=24, head_width=64, image_size=SIZE)
    return CLIPVisionCfg(layers=6, width=192, head_width=64, patch_size=8, image_size=SIZE)


def build(arch: str) -> CLIP:
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=128, heads=2, layers=4)
    return CLIP(embed_dim=128, vision_cfg=vision_config(arch), text_cfg=text, quick_gelu=True)


def encode_text(model: CLIP, tokens: Tensor, moved: Tensor | None = None, buckets: int = 4) -> Tensor:
    """Unit-length features of (N, L) tokens; `moved` (N, L, D) is added to the token embeddings.

    Texts run in buckets of similar length, cut to the longest: attention is causal, so padding has no effect.
    """
    ends = tokens.argmax(-1)
    parts = ends.argsort().chunk(buckets)
    features = torch.cat([_encode_cut(model, tokens[p], ends[p], None if moved is None else moved[p]) for p in parts])
    return F.normalize(features[torch.cat(parts).argsort()], dim=-1)


def _encode_cut(model: CLIP, tokens: Tensor, ends: Tensor, moved: Tensor | None) -> Tensor:
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    if moved is not None:
        x = x + moved[:, :length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(x)[torch.arange(len(tokens)), ends] @ model.text_projection


def rand(n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.empty(n, 1, 1, 1).uniform_(low, high)


def compose(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """Puts icons (B, 4, H, W) in [0, 1] on white, one colour or a gradient; returns (B, 3, H, W) and 0, 1 or 2 (B,)."""
    n = len(rgba)
    first, second = torch.rand(n, 3, 1, 1), torch.rand(n, 3, 1, 1)
    ramp = torch.linspace(0, 1, rgba.shape[-1]).view(1, 1, 1, -1)
    ramp = torch.where(rand(n) < 0.5, ramp, ramp.transpose(-1, -2))
    kind = rand(n)
    second = torch.where(kind < 0.8, first, second)
    ground = first * (1 - ramp) + second * ramp
    ground = torch.where(kind < 0.5, torch.ones(()), ground)
    alpha = rgba[:, 3:]
    kinds = (kind >= 0.5).int() + (kind >= 0.8).int()
    return rgba[:, :3] * alpha + ground * (1 - alpha), kinds.flatten()


def warp(images: Tensor, share_tight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Random crops (area 0.08-1 for `share_tight` of them, else 0.5-1.2), rotations and flips.

    (B, C, H, W) -> (B, C, S, S), area (B,), and centre (B, 2) from -1 (left, top) to 1 (right, bottom).
    """
    n = len(images)
    tight = torch.rand(n) < share_tight
    area = torch.where(tight, torch.empty(n).uniform_(0.08, 1.0), torch.empty(n).uniform_(0.5, 1.2))
    ratio = torch.exp(torch.empty(n).uniform_(np.log(3 / 4), np.log(4 / 3)))
    w, h = (area * ratio).sqrt().clamp(max=1.2), (area / ratio).sqrt().clamp(max=1.2)
    cx, cy = (1 - w).abs() * torch.empty(n).uniform_(-1, 1), (1 - h).abs() * torch.empty(n).uniform_(-1, 1)
    turn = torch.empty(n).normal_(0, 0.12)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta = torch.stack([w * turn.cos() * flip, -h * turn.sin(), cx, w * turn.sin() * flip, h * turn.cos(), cy], dim=1)
    grid = F.affine_grid(theta.view(n, 2, 3), [n, 3, SIZE, SIZE], align_corners=False)
    centre = torch.stack([cx, cy], dim=1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False), area, centre


def recolour(x: Tensor) -> Tensor:
    """Changes brightness, contrast and saturation, hue (YIQ) for half of the images, and swaps channels for a few."""
    n = len(x)
    grey = x.mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    x = grey + (x - grey) * rand(n, 0.3, 1.6)
    x = (x - 0.5) * rand(n, 0.5, 1.4) + 0.5 + rand(n, -0.15, 0.15)
    angle = torch.where(rand(n) < 0.5, torch.zeros(()), rand(n, -0.6, 0.6)).flatten()
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    turn = torch.eye(3).repeat(n, 1, 1)
    turn[:, 1, 1], turn[:, 1, 2] = angle.cos(), -angle.sin()
    turn[:, 2, 1], turn[:, 2, 2] = angle.sin(), angle.cos()
    x = torch.einsum("nij,njhw->nihw", torch.linalg.inv(to_yiq) @ turn @ to_yiq, x)
    return torch.where(rand(n) < 0.08, x[:, torch.randperm(3)], x).clamp(0, 1)


def stylise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Makes some images grey, stencils or sketches; returns all, and 0 unchanged, 1 grey, 2 stencil, 3 sketch (B,)."""
    n = len(x)
    grey = x.mean(1, keepdim=True).expand_as(x)
    low, high = grey.amin((2, 3), keepdim=True), grey.amax((2, 3), keepdim=True)
    stencil = torch.sigmoid((grey - low - (high - low) * rand(n, 0.3, 0.8)) * 25)
    dx = F.pad(x[..., 1:] - x[..., :-1], (0, 1)).abs().amax(1, keepdim=True)
    dy = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1)).abs().amax(1, keepdim=True)
    sketch = (1 - F.max_pool2d(dx + dy, 3, 1, 1) * rand(n, 1.5, 4.0)).clamp(0, 1).expand_as(x)
    u = torch.rand(n)
    kind = torch.where(u < 0.10, torch.tensor(3), torch.where(u < 0.22, 2, torch.where(u < 0.32, 1, 0)))
    k = kind.view(-1, 1, 1, 1)
    out = torch.where(k == 1, grey, torch.where(k == 2, stencil, torch.where(k == 3, sketch, x)))
    return torch.where((rand(n) < 0.25) & (k >= 2), 1 - out, out), kind


def augment(rgba_u8: Tensor, share_tight: float) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 (B, 4, H, W) icons -> normalised (B, 3, S, S), style (B,) as in `stylise`, area of the crop (B,)."""
    x, area, _ = warp(compose(rgba_u8.float() / 255)[0], share_tight)
    x, kind = stylise(recolour(x))
    return (x - MEAN) / STD, kind, area


def caption(name: str, drawn_by: str, kind: int, area: float) -> str:
    """A caption, generic half of the time; otherwise it describes what the augmented picture looks like."""
    if random.random() < 0.5:
        return random.choice(GENERIC).format(name)
    options = {0: STYLES[drawn_by], 1: GREY, 2: STENCIL, 3: SKETCH}[kind]
    if area < 0.3 and kind == 0:
        options = CLOSE_UP
    return random.choice(options).format(name)


def plain(rgba: np.ndarray) -> Tensor:
    """Icons on white, resized as at test time (bicubic) and normalised."""
    pictures = [emoji_icons.on_white(picture).resize((SIZE, SIZE), 3) for picture in rgba]
    x = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / STD


class Drawings:
    """All drawings of the seen vendors, split into training and held-out drawings."""

    def __init__(self, icons: Path) -> None:
        sets = emoji_icons.load_sets(icons)
        self.names = emoji_icons.class_names(sets)
        held = emoji_icons.held_back(self.names)
        train: list[tuple[np.ndarray, int, str]] = []
        val: list[tuple[np.ndarray, int, str]] = []
        for vendor, members in emoji_icons.SEEN.items():
            for member in members:
                for label, name in enumerate(self.names):
                    rgba = emoji_icons.render(sets[member], name, SOURCE_SIZE)
                    if rgba is not None:
                        (val if name in held[vendor] else train).append((rgba, label, member))
        self.images = torch.from_numpy(np.stack([r for r, _, _ in train])).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.tensor([label for _, label, _ in train])
        self.drawn_by = [member for _, _, member in train]
        self.val_images = plain(np.stack([r for r, _, _ in val]))
        self.val_labels = torch.tensor([label for _, label, _ in val])
        self.words = [name.replace("-", " ") for name in self.names]


@torch.no_grad()
def evaluate(model: CLIP, data: Drawings, tokenizer: open_clip.SimpleTokenizer) -> float:
    model.eval()
    text = encode_text(model, tokenizer([GENERIC[0].format(w) for w in data.words]))
    features = torch.cat([model.encode_image(x) for x in data.val_images.split(128)])
    model.train()
    return float(((features @ text.T).argmax(1) == data.val_labels).float().mean())


def openai_state_dict(model: CLIP, trained_tokens: Tensor) -> dict[str, Tensor]:
    """Half-precision weights with OpenAI's key names, with only the trained rows of the token embedding."""
    weights = {k: v for k, v in model.state_dict().items() if k != "attn_mask"}
    weights["token_embedding.rows"] = weights.pop("token_embedding.weight")[trained_tokens]
    weights["token_embedding.index"] = trained_tokens
    return {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in weights.items()}


def loss_of(model: CLIP, data: Drawings, index: Tensor, tokenizer: open_clip.SimpleTokenizer, tight: float) -> Tensor:
    """Cross-entropy between images and captions in the batch (both ways), and from images to all class names."""
    x, kind, area = augment(data.images[index], tight)
    labels = data.labels[index]
    captions = [
        caption(data.words[int(y)], data.drawn_by[int(i)], int(k), float(a))
        for i, y, k, a in zip(index, labels, kind, area, strict=True)
    ]
    unique = sorted(set(captions))
    template = random.choice(GENERIC)
    tokens = tokenizer(unique + [template.format(w) for w in data.words])
    with torch.autocast("cpu", torch.bfloat16):
        image = F.normalize(model.encode_image(x.contiguous(memory_format=torch.channels_last)), dim=-1)
        text = encode_text(model, tokens)
    scale = model.logit_scale.exp().clamp(max=100)
    own, names = text[: len(unique)].float(), text[len(unique) :].float()
    logits = scale * image.float() @ own.T
    target = torch.tensor([unique.index(c) for c in captions])
    back = F.one_hot(target, len(unique)).float().T
    back = back / back.sum(1, keepdim=True)
    to_names = scale * image.float() @ names.T
    return (
        0.5 * F.cross_entropy(logits, target)
        + 0.25 * F.cross_entropy(logits.T, back)
        + 1.0 * F.cross_entropy(to_names, labels)
    )


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    data = Drawings(args.icons)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    model = build(args.arch)
    if args.arch == "rn":
        model.visual = model.visual.to(memory_format=torch.channels_last)
    templates = [t for group in (GENERIC, *STYLES.values(), STENCIL, SKETCH, GREY, CLOSE_UP) for t in group]
    trained_tokens = torch.cat([tokenizer([t.format(w) for w in data.words]).unique() for t in templates]).unique()
    print(
        f"{len(data.labels)} drawings, {len(data.names)} names, {sum(p.numel() for p in model.parameters())} parameters"
    )
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
    per_epoch = len(data.labels) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * per_epoch, pct_start=0.08
    )
    start = time.time()
    for epoch in range(args.epochs):
        order = torch.randperm(len(data.labels))[: per_epoch * args.batch].view(per_epoch, args.batch)
        total = 0.0
        for index in order:
            loss = loss_of(model, data, index, tokenizer, args.tight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() / per_epoch
        if epoch % args.report == args.report - 1 or epoch == args.epochs - 1:
            accuracy = evaluate(model, data, tokenizer)
            scale = model.logit_scale.detach().exp().item()
            print(
                f"epoch {epoch + 1:4d}  loss {total:.3f}  scale {scale:.1f}  held back {accuracy:.3f}  "
                f"{time.time() - start:.0f} s",
                flush=True,
            )
            args.out.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"quick_gelu": "true", "vocab_size": str(model.vocab_size)}
            save_file(openai_state_dict(model, trained_tokens), args.out, metadata)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("icons", type=Path, help="folder of the unpacked Iconify packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arch", choices=("rn", "vit"), default="rn")
    parser.add_argument("--epochs", type=int, default=320)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--tight", type=float, default=0.5, help="share of crops as tight as the test-time views")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=int, default=5, help="epochs between two evaluations")
    train(parser.parse_args())
