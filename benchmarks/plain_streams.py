"""Every stream method in its plain form: Python lists that grow, and each formula as in its paper.

These are the references for measuring and testing the methods.  A plain form is created once per stream and called with
the views of one image after another.  It shares no code with `tpt`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Plain = Callable[[Tensor], Tensor]  # (V, E) -> (K,) logits


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp(min=1e-30).log()).sum(-1)


def _surest(method: Any, views: Tensor, text: Tensor, least: int) -> Tensor:
    """Indices of the views of lowest entropy."""
    values = _entropy((method.clip.logit_scale * views @ text.T).softmax(-1))
    return values.argsort(stable=True)[: max(least, int(len(views) * method.selection_p))]


def _chosen(method: Any, views: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits of the views that represent the image."""
    kept = views[_surest(method, views, text, 1)] if method.feature == "confident" else views[:1]
    return kept, method.clip.logit_scale * kept @ text.T


def _add(entries: list[Any], entry: tuple[float, Tensor, Tensor], room: int, fifo: bool = False) -> None:
    """Adds an entry (entropy, feature, probabilities); a full cache drops its oldest or least confident entry."""
    if fifo:
        entries.append(entry)
        del entries[: max(0, len(entries) - room)]
        return
    if len(entries) < room:
        entries.append(entry)
    elif entry[0] < entries[-1][0]:
        entries[-1] = entry
    entries.sort(key=lambda e: e[0])


def _tda(method: Any, text: Tensor, delta: int | None = None) -> Plain:
    positive: dict[int, list[Any]] = {}
    negative: dict[int, list[Any]] = {}

    def answer(views: Tensor) -> Tensor:
        kept, logits = _chosen(method, views, text)
        x, z, p = kept.mean(0), logits.mean(0), logits.softmax(-1).mean(0)
        h, label = float(_entropy(p)), int(z.argmax())
        if method.positive:
            _add(positive.setdefault(label, []), (h, x, p), method.positive_shots)
        low, high = method.entropy_low, method.entropy_high
        if method.negative and low < h / torch.log2(torch.tensor(float(len(text)))) < high:
            _add(negative.setdefault(label, []), (h, x, p), method.negative_shots, fifo=delta is not None)
        used = {k: list(entries) for k, entries in positive.items()}
        if delta is not None and method.positive:
            for v in _surest(method, views, text, 0):
                own = (method.clip.logit_scale * views[v] @ text.T).softmax(-1)
                entries = used.setdefault(int(own.argmax()), [])
                _add(entries, (float(_entropy(own)), views[v], own), method.positive_shots + delta)
        for k, entries in used.items():
            for _, key, _ in entries:
                z = z + method.positive_alpha * (-method.positive_beta * (1 - x @ key)).exp() * _one(k, z)
        low, high = method.mask_low, method.mask_high
        for entries in negative.values():
            for _, key, q in entries:
                mask = ((q > low) & (q < high)).float()
                z = z - method.negative_alpha * (-method.negative_beta * (1 - x @ key)).exp() * mask
        return z

    return answer


def _one(k: int, like: Tensor) -> Tensor:
    return F.one_hot(torch.tensor(k), len(like)).float()


def _onzeta(method: Any, text: Tensor) -> Plain:
    w, rho, seen = text.clone(), torch.zeros(len(text)), 0

    def answer(views: Tensor) -> Tensor:
        nonlocal w, rho, seen
        seen, x = seen + 1, views[0]
        t = (text @ x / method.tau_text).softmax(0) * rho.exp()
        t = t / t.sum()
        rho = (rho - method.label_lr / seen**0.5 * (t - method.alpha / len(text))).clamp(min=0)
        v = (w @ x / method.tau_image).softmax(0)
        w = w - method.proxy_lr / seen**0.5 / method.tau_image * torch.outer(v - t, x)
        w = w / w.norm(dim=-1, keepdim=True)
        share = method.beta * min(1.0, seen / method.stream_length) ** 0.5
        return (share * v + (1 - share) * t).log()

    return answer


def _pta(method: Any, text: Tensor) -> Plain:
    means, refined = [torch.zeros_like(t) for t in text], list(text)

    def answer(views: Tensor) -> Tensor:
        kept, logits = _chosen(method, views, text)
        x, z = kept.mean(0), logits.mean(0)
        for k, p in enumerate(z.softmax(0).tolist()):
            if p >= 0.1:
                w = 1 - torch.tensor(-p / method.temperature).double().exp().float()
                means[k] = (1 - w) * means[k] + w * x
            mixed = method.text_share * refined[k] + (1 - method.text_share) * means[k]
            refined[k] = mixed / mixed.norm()
        return z + method.clip.logit_scale * torch.stack(refined) @ x

    return answer


def _dota(method: Any, text: Tensor) -> Plain:
    classes, width = text.shape
    means, counts = [torch.full((width,), 0.001)] * classes, [1.0] * classes
    covariances = [method.sigma * torch.eye(width)] * classes
    inverse = torch.eye(width) / method.sigma

    def answer(views: Tensor) -> Tensor:
        nonlocal inverse
        kept, logits = _chosen(method, views, text)
        x, z, p = kept.mean(0), logits.mean(0), logits.softmax(-1)
        found = torch.stack([x @ inverse @ m - m @ inverse @ m / 2 for m in means])
        weight = min(method.rho * sum(counts) / classes / len(kept), method.eta)
        for k in range(classes):
            n = float(p[:, k].sum())
            spread = sum(q * torch.outer(y - means[k], y - means[k]) for q, y in zip(p[:, k], kept, strict=True))
            covariances[k] = (counts[k] * covariances[k] + spread) / (counts[k] + n)
            means[k] = (counts[k] * means[k] + p[:, k] @ kept) / (counts[k] + n)
            counts[k] += n
        mean = sum(covariances, torch.zeros(width, width)) / classes
        inverse = ((1 - method.epsilon) * mean + method.epsilon * torch.eye(width)).double().inverse().float()
        return z + weight * found

    return answer


def _ecalp(method: Any, text: Tensor) -> Plain:
    """Rebuilds the whole dense graph for each image."""
    images: list[Tensor] = []
    start: list[Tensor] = []
    u = F.normalize(text.var(0), dim=0)
    classes = len(text)

    def answer(views: Tensor) -> Tensor:
        images.append(views[0])
        nodes = [*images, views[0]]
        total = classes + len(nodes)
        graph = torch.zeros(total, total)
        for a, x in enumerate(nodes):
            olders = [F.normalize(u * nodes[min(a, b)], dim=0) @ nodes[max(a, b)] for b in range(len(nodes))]
            for row, room, offset in (
                (olders, method.image_neighbours, classes),
                (text @ x, method.text_neighbours, 0),
            ):
                near = torch.as_tensor(row).sort(descending=True, stable=True)
                for value, b in zip(near.values[:room], near.indices[:room].tolist(), strict=True):
                    graph[classes + a, offset + b] = value**method.gamma
        graph = graph + graph.T
        scale = 1 / (graph.sum(1).sqrt() + 1e-6)
        graph = (scale[:, None] * graph * scale)[classes:]
        first = torch.stack([*start, torch.zeros(classes), torch.zeros(classes)])
        scores = first
        for _ in range(method.rounds):
            scores = method.alpha * graph @ torch.cat([torch.eye(classes), scores]) + (1 - method.alpha) * first
        start[:] = [_one(int(row.argmax()), row) * row.max() / 5 for row in scores[:-1]]
        return 10_000 * scores[-1]

    return answer


STREAMS: dict[str, Callable[[Any, Tensor], Plain]] = {
    "tda": _tda,
    "boostadapter": lambda method, text: _tda(method, text, method.delta),
    "onzeta": _onzeta,
    "pta": _pta,
    "dota": _dota,
    "ecalp": _ecalp,
}
