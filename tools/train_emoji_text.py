"""Trains the text tower of `emoji-mini` further, so that its features depend on the words around the name.

    python tools/train_emoji_text.py icons/ --start first.safetensors --out text.safetensors

The second of three steps, between `train_emoji_mini.py` and `finish_emoji_text.py`.  The image encoder does not change:
its features of augmented drawings are computed once, together with the facts about each picture.  The text tower learns
three tasks:

- match pictures with captions that describe them, in many wordings and orders.  A batch contains every drawing twice,
  so the tower must distinguish appearances, not only objects;
- find a picture's name among many in the same caption, half of the time with noise on the words before the name;
- find the name among prompts such as "a photo of a {}." whose words were moved by one step of test-time prompt tuning:
  by the sign of the gradient of the marginal entropy over the confident pictures of a drawing.  No gradient flows
  through the step.  Without this task, the tower would never see tuned prompts.

To preserve zero-shot accuracy, the features of "a photo of a {}." are kept near those of the first tower, and with
`--means` near the mean features of the drawings.  Plain PyTorch on a CPU with a fixed seed.  Trains only on `SEEN_SETS`
without their held-out classes.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

import emoji_captions
import emoji_icons
import open_clip
import torch
import torch.nn.functional as F
from emoji_captions import Template, describe, generic
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from train_emoji_mini import (
    MEAN,
    STD,
    Drawings,
    build,
    compose,
    encode_text,
    openai_state_dict,
    recolour,
    stylise,
    warp,
)

KNOWN = frozenset(emoji_captions.FACTS)
PLAIN = "a photo of a {}."
PREFIXES = (PLAIN, PLAIN, PLAIN, "a picture of a {}.", "a drawing of a {}.", "an image of a {}.")
CONFIDENT = 3  # most confident pictures of a drawing; a tuning step lowers their marginal entropy
RIVALS = 44  # candidate names of a tuning step: the most likely ones, including the correct name
FAR_RIVALS = 4  # further random candidates


def mean_colour(x: Tensor, weight: Tensor) -> Tensor:
    """(N, 3) mean colours of pictures (N, 3, H, W); saturated pixels count more."""
    weight = weight * (0.05 + x.amax(1, keepdim=True) - x.amin(1, keepdim=True))
    return (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-6)


def colours(rgb: Tensor) -> list[str]:
    """The colour word nearest to each row of (N, 3)."""
    words = list(emoji_captions.COLOURS)
    nearest = torch.cdist(rgb, torch.tensor([emoji_captions.COLOURS[w] for w in words])).argmin(1)
    return [words[i] for i in nearest.tolist()]


def spoil(x: Tensor, alpha: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Turns some pictures upside-down; blurs some of the `kept` ones and makes others grainy."""
    n = len(x)
    over, u = torch.rand(n) < 0.03, torch.rand(n)
    blurred, grainy = kept & (u < 0.08), kept & (u > 0.94)
    soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    looks = ((blurred, soft), (grainy, (x + 0.12 * torch.randn_like(x)).clamp(0, 1)), (over, x.flip(2, 3)))
    for mask, look in looks:
        x = torch.where(mask.view(-1, 1, 1, 1), look, x)
    alpha = torch.where(over.view(-1, 1, 1, 1), alpha.flip(2, 3), alpha)
    return x, alpha, {"upside-down": over, "blurred": blurred, "grainy": grainy}


def tones(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Which pictures `recolour` made dark, bright, faded or vivid."""
    light = after.mean((1, 2, 3)) - before.mean((1, 2, 3))
    colour = [(x.amax(1) - x.amin(1)).mean((1, 2)) for x in (before, after)]
    ratio = colour[1] / colour[0].clamp(min=1e-3)
    return {"dark": light < -0.1, "bright": light > 0.1, "faded": ratio < 0.5, "vivid": ratio > 1.25}


def placing(area: Tensor, centre: Tensor) -> dict[str, Tensor]:
    """Which crops show a detail, a close-up, the whole or a small drawing, and which sides of it."""
    part = area < 0.45
    (x, y) = centre.unbind(1)
    sizes = {"detail": area < 0.2, "close": (area >= 0.2) & part, "whole": (area > 0.8) & (area < 1.1)}
    sides = {"left": x < -0.2, "right": x > 0.2, "top": y < -0.2, "bottom": y > 0.2}
    return {**sizes, "small": area > 1.1, **{side: part & mask for side, mask in sides.items()}}


def augment(rgba_u8: Tensor, share_tight: float) -> tuple[Tensor, list[set[str]]]:
    """uint8 (B, 4, H, W) icons -> normalised (B, 3, S, S), and the facts about each."""
    rgba = rgba_u8.float() / 255
    picture, ground = compose(rgba)
    warped, area, centre = warp(torch.cat([picture, rgba[:, 3:]], dim=1), share_tight)
    coloured = recolour(warped[:, :3])
    x, kind = stylise(coloured)
    x, alpha, spoiled = spoil(x, warped[:, 3:], kind == 0)
    masks = {**placing(area, centre), **tones(warped[:, :3], coloured), **spoiled}
    masks |= {name: kind == k for k, name in ((1, "grey"), (2, "stencil"), (3, "sketch"))}
    facts = [{name for name, mask in masks.items() if mask[i]} for i in range(len(x))]
    things, grounds = colours(mean_colour(x, alpha)), colours(mean_colour(x, 1 - alpha))
    seen = alpha.mean((1, 2, 3)) > 0.05
    for i in (kind == 0).nonzero().flatten().tolist():
        facts[i] |= {f"in {things[i]}"} if seen[i] else set()
        facts[i] |= {("white ground", f"{grounds[i]} ground", "shaded ground")[int(ground[i])]}
    return (x - MEAN) / STD, facts


@dataclass
class Pictures:
    """The (N, R, E) features of R augmented pictures of N drawings, the facts about each picture, and the names."""

    features: Tensor
    facts: list[list[frozenset[str]]]
    labels: Tensor
    words: list[str]
    held_back: Tensor
    held_back_labels: Tensor


@torch.no_grad()
def look(model: CLIP, icons: Path, pictures: int, tight: float) -> Pictures:
    """Encodes every drawing `pictures` times with different augmentations, and the held-out ones once without."""
    data = Drawings(icons)
    groups = emoji_icons.categories(icons)
    always = [{by, groups[data.names[y]]} for by, y in zip(data.drawn_by, data.labels.tolist(), strict=True)]
    features: list[Tensor] = []
    facts: list[list[frozenset[str]]] = [[] for _ in always]
    model.eval()
    model.visual = model.visual.to(memory_format=torch.channels_last)
    for _ in range(pictures):
        parts = []
        for index in torch.arange(len(always)).split(128):
            x, true = augment(data.images[index], tight)
            parts.append(model.encode_image(x.contiguous(memory_format=torch.channels_last)))
            for i, own in zip(index.tolist(), true, strict=True):
                facts[i].append(frozenset(own | always[i]) & KNOWN)
        features.append(F.normalize(torch.cat(parts), dim=-1))
    held_back = torch.cat([F.normalize(model.encode_image(x), dim=-1) for x in data.val_images.split(128)])
    return Pictures(torch.stack(features, dim=1), facts, data.labels, data.words, held_back, data.val_labels)


class Lesson:
    """Computes the losses of one training step.

    Args:
        model: its text tower and temperature are trained.
        data: the training data.
        args: the command-line arguments.
        trained: (vocabulary,) which rows of the token embedding are trained; updated as captions use more tokens.
    """

    def __init__(self, model: CLIP, data: Pictures, args: argparse.Namespace, trained: Tensor) -> None:
        self.model, self.data, self.args = model, data, args
        self.tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self.trained = trained
        self.plain = self.tokenizer([PLAIN.format(w) for w in data.words])
        self.trained[self.plain.unique()] = True
        self.target = self.plain_target()

    @torch.no_grad()
    def plain_target(self) -> Tensor:
        """(K, E) targets of the plain prompts: first features, mean of `GENERIC`, plus `--means` x drawings' mean."""
        means = torch.zeros(len(self.plain), self.data.features.shape[-1])
        means.index_add_(0, self.data.labels, self.data.features.mean(1))
        templates = [[t.format(w) for w in self.data.words] for t in emoji_captions.GENERIC]
        first = torch.stack([encode_text(self.model, self.tokenizer(texts)) for texts in templates]).mean(0)
        return F.normalize(F.normalize(first, dim=-1) + self.args.means * F.normalize(means, dim=-1), dim=-1)

    def blend(self, features: Tensor) -> Tensor:
        """(n, R, E) features mixed with another drawing's, because training drawings are too easy to recognise."""
        other = self.data.features[torch.randint(len(self.data.labels), (len(features),))].mean(1, keepdim=True)
        return F.normalize(features + self.args.blend * torch.rand(len(features), 1, 1) * other, dim=-1)

    @property
    def scale(self) -> Tensor:
        """The factor that multiplies cosines to give logits."""
        return self.model.logit_scale.exp().clamp(max=100)

    def leading(self, template: str) -> int:
        """Number of tokens before the name."""
        return int(self.tokenizer([template.split("{}", maxsplit=1)[0]]).argmax(-1)) - 1

    def spread(self) -> float:
        """Standard deviation of the coordinates of the trained token embeddings."""
        return float(self.model.token_embedding.weight[self.trained].detach().std())

    def noise(self, template: Template, tokens: Tensor, own: int) -> Tensor | None:
        """Half of the time, noise for the words before the name; the same for all rows, zero for the first `own`."""
        if random.random() < 0.5:
            return None
        words = self.leading(template.text)
        noise = torch.zeros(*tokens.shape, self.model.token_embedding.embedding_dim)
        size = self.spread() * self.args.noise * random.random()
        noise[own:, 1 : 1 + words] = size * torch.randn(words, noise.shape[-1])
        return noise

    def captions(self) -> tuple[Tensor, Tensor]:
        """Losses of pictures <-> captions in the batch, and of pictures -> names in one shared caption.

        A caption matches every picture of its object for which all its facts are true.
        """
        data, half = self.data, self.args.batch // 2
        drawing = torch.randint(len(data.labels), (half,)).repeat(2)
        look = torch.randint(data.features.shape[1], (2 * half,))
        image, labels = self.blend(data.features[drawing, look][:, None])[:, 0], data.labels[drawing]
        known = [data.facts[i][r] for i, r in zip(drawing.tolist(), look.tolist(), strict=True)]
        said = [generic() if random.random() < 0.2 else describe(own) for own in known]
        shared = generic() if random.random() < 0.6 else describe(random.choice(known))
        fits = torch.tensor([shared.facts <= own for own in known])
        names = torch.cat([labels.unique(), torch.randperm(len(data.words))[: self.args.names]]).unique()
        texts = [c.text.format(data.words[y]) for c, y in zip(said, labels.tolist(), strict=True)]
        tokens = self.tokenizer(texts + [shared.text.format(data.words[y]) for y in names.tolist()])
        self.trained[tokens.unique()] = True
        text = encode_text(self.model, tokens, self.noise(shared, tokens, len(texts)))
        true = torch.tensor([[caption.facts <= own for caption in said] for own in known])
        target = (true & (labels[:, None] == labels[None])).float()
        logits = self.scale * image @ text[: len(texts)].T
        forth = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
        back = F.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True))
        to_names = self.scale * image[fits] @ text[len(texts) :].T
        return 0.5 * forth + 0.25 * back, F.cross_entropy(to_names, torch.searchsorted(names, labels[fits]))

    def anchor(self) -> Tensor:
        """Mean distance (1 - cosine) of the plain prompts from their targets, over 64 random names."""
        some = torch.randint(len(self.plain), (64,))
        return (1 - (encode_text(self.model, self.plain[some], buckets=2) * self.target[some]).sum(-1)).mean()

    def moved(self) -> Tensor:
        """Loss of pictures -> names, with prompts moved by one tuning step on the pictures' marginal entropy."""
        data, n = self.data, self.args.drawings
        drawing = torch.randint(len(data.labels), (n,))
        features, labels = self.blend(data.features[drawing]), data.labels[drawing]
        with torch.no_grad():  # choose confident pictures and candidate names; the correct name comes first
            chances = (self.model.logit_scale.exp() * features @ self.target.T).softmax(-1)
            entropy = -torch.xlogy(chances, chances).sum(-1)
            keep = entropy[:, 1:].argsort(1)[:, :CONFIDENT] + 1
            confident = features.gather(1, keep[..., None].expand(-1, -1, features.shape[-1]))
            likely = chances.amax(1).scatter(1, labels[:, None], 2.0).topk(RIVALS, 1).indices
            rivals = torch.cat([likely, torch.randint(len(data.words), (n, FAR_RIVALS))], dim=1)
        template = random.choice(PREFIXES)
        words = self.leading(template)
        tokens = self.tokenizer([template.format(data.words[y]) for y in rivals.flatten().tolist()])

        def text(step: Tensor) -> Tensor:
            padded = F.pad(step, (0, 0, 1, tokens.shape[1] - 1 - words))[:, None]
            every = padded.expand(-1, rivals.shape[1], -1, -1).flatten(0, 1)
            return encode_text(self.model, tokens, every, buckets=3).unflatten(0, rivals.shape)

        start = torch.zeros(n, words, self.model.token_embedding.embedding_dim, requires_grad=True)
        logs = (self.scale * confident @ text(start).mT).log_softmax(-1)
        mean = logs.logsumexp(1) - torch.tensor(float(CONFIDENT)).log()
        (gradient,) = torch.autograd.grad(-(mean * mean.exp()).sum(), start)
        step = -random.uniform(*self.args.step) * self.spread() * gradient.sign()
        seen = torch.cat([features[:, :1], confident], dim=1)
        logits = self.scale * seen @ text(step).mT
        return F.cross_entropy(logits.flatten(0, 1), torch.zeros(n * (1 + CONFIDENT), dtype=torch.long))

    def losses(self) -> Tensor:
        """The weighted losses: captions, names, anchor, names in moved prompts."""
        captions, names = self.captions()
        weights = torch.tensor([self.args.captions, self.args.within, self.args.anchor, self.args.moved])
        moved = self.moved() if self.args.moved else torch.zeros(())
        return torch.stack([captions, names, self.anchor(), moved]) * weights


def start_from(path: Path, model: CLIP) -> Tensor:
    """Loads weights of `train_emoji_mini.py`; returns (vocabulary,) which rows of the token embedding were trained."""
    weights = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    index, rows = weights.pop("token_embedding.index"), weights.pop("token_embedding.rows")
    weights["token_embedding.weight"] = model.token_embedding.weight.detach().index_copy(0, index, rows)
    model.load_state_dict(weights, strict=False)
    return torch.zeros(model.vocab_size, dtype=torch.bool).index_fill(0, index, True)


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    model = build("rn")
    trained = start_from(args.start, model)
    data = look(model, args.icons, args.pictures, args.tight)
    print(f"{data.features.shape[0]} drawings, {data.features.shape[1]} pictures of each", flush=True)
    model.visual.requires_grad_(False)
    lesson = Lesson(model, data, args, trained)
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed, others = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.1)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.average))
    start, total = time.time(), torch.zeros(4)
    for step in range(1, args.steps + 1):
        losses = lesson.losses()
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(model)
        total += losses.detach() / args.report
        if step % args.report == 0 or step == args.steps:
            with torch.no_grad():
                text = encode_text(averaged.module, lesson.plain)
            accuracy = float(((data.held_back @ text.T).argmax(1) == data.held_back_labels).float().mean())
            parts = "captions {:.3f}  names {:.3f}  anchor {:.3f}  moved {:.3f}".format(*total.tolist())
            print(f"step {step:5d}  {parts}  held back {accuracy:.3f}  {time.time() - start:.0f} s", flush=True)
            total.zero_()
            metadata = {"quick_gelu": "true", "vocab_size": str(model.vocab_size)}
            save_file(openai_state_dict(averaged.module, trained.nonzero().flatten()), args.out, metadata)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("icons", type=Path, help="folder of the unpacked Iconify packages")
    parser.add_argument("--start", type=Path, required=True, help="weights of `train_emoji_mini.py`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--pictures", type=int, default=12, help="augmented pictures of each drawing")
    parser.add_argument("--tight", type=float, default=0.75, help="share of crops as tight as the test-time views")
    parser.add_argument("--names", type=int, default=128, help="names drawn as rivals of those in the batch")
    parser.add_argument("--noise", type=float, default=0.7, help="most noise on context words, in spreads of the words")
    parser.add_argument("--drawings", type=int, default=6, help="drawings a step of tuning is taken for")
    parser.add_argument("--step", type=float, nargs=2, default=(0.4, 1.1), help="size of that step, in spreads")
    parser.add_argument("--captions", type=float, default=0.2, help="weight of the captions")
    parser.add_argument("--within", type=float, default=0.5, help="weight of the names within one caption")
    parser.add_argument("--anchor", type=float, default=40.0, help="weight of holding the plain prompts")
    parser.add_argument("--means", type=float, default=0.0, help="of the drawings' mean in what these are held to")
    parser.add_argument("--blend", type=float, default=0.8, help="most of another drawing's feature in a drawing's")
    parser.add_argument("--moved", type=float, default=1.5, help="weight of the loss within moved prompts")
    parser.add_argument("--average", type=float, default=0.99, help="decay of the moving average that is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=int, default=25, help="steps between two lines of the log")
    train(parser.parse_args())
