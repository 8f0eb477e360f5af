"""Every method in its plain form: one image at a time, with each formula as in its paper.

These are the references for measuring and testing the batched methods.  As in `benchmarks.plain`, prompt-tuning methods
pad prompts to the full context length and build a graph of the whole text tower at each step.  Only the model and the
prompts are shared with `tpt`.  Both sides start from view features, so encoding is not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain import PlainTPT, plain_of
from benchmarks.plain_streams import STREAMS

Plain = Callable[[Tensor], Tensor]  # (V, E) -> (K,) logits


def plain_form(name: str, model: nn.Module, method: Any, reward_text: Tensor | None = None) -> Plain:
    """The plain form of `method`; `reward_text` (K, E) is for RLCF, whose reward model gets the same view features."""
    if name in STREAMS:
        return STREAMS[name](method, method.bank().detach())
    if name in FROM_TEXT:
        text = method.bank(torch.empty(1, method.clip.embed_dim)).detach()
        return lambda features: FROM_TEXT[name](method, features, text)
    plain = plain_of(model, method)
    if name == "use":
        return lambda features: _use(method, plain, features)
    if name == "rlcf":
        return lambda features: _rlcf(method, plain, features, reward_text)
    return lambda features: _prompt_tuned(name, method, plain, features)


def _entropy(logits: Tensor) -> Tensor:
    p = logits.softmax(-1)
    return -(p * p.log()).sum(-1)


def _chosen(logits: Tensor, share: float) -> Tensor:
    return _entropy(logits.detach()).argsort(stable=True)[: int(len(logits) * share)]


def _confident(logits: Tensor, share: float) -> Tensor:
    return logits[_chosen(logits, share)]


def _zero_shot(method: Any, features: Tensor, text: Tensor) -> Tensor:
    return method.clip.logit_scale * features[0] @ text.T


def _view_ensemble(method: Any, features: Tensor, text: Tensor) -> Tensor:
    kept = _confident(method.clip.logit_scale * features @ text.T, method.selection_p)
    return kept.softmax(-1).mean(0).log()


def _zero(method: Any, features: Tensor, text: Tensor) -> Tensor:
    """Votes of the confident views; the next view that predicts one of the tied classes breaks a tie."""
    logits = method.clip.logit_scale * features @ text.T
    order = _entropy(logits).argsort(stable=True)
    asked = logits[order].argmax(-1).tolist()
    voted = int(len(features) * method.gamma)
    votes = torch.bincount(torch.tensor(asked[:voted]), minlength=len(text)).float()
    tied = (votes == votes.max()).nonzero().flatten().tolist()
    if len(tied) > 1:
        rest = [k for k in asked[voted:] if k in tied]
        first = logits[order[min(voted, len(order) - 1)]]
        votes[rest[0] if rest else max(tied, key=lambda k: float(first[k]))] += 1
    return (votes / votes.sum()).clamp(min=torch.finfo(votes.dtype).tiny).log()


def _mta(method: Any, features: Tensor, text: Tensor) -> Tensor:
    """Updates the view weights and the mode in turn, for five rounds of at most five iterations each."""
    scale, views = method.clip.logit_scale, len(features)
    p = (scale * features @ text.T).softmax(-1)
    squared = torch.cdist(features[None], features[None])[0].square()
    others = [torch.cat([row[:v], row[v + 1 :]]).sort().values for v, row in enumerate(squared)]
    bandwidth = torch.stack([0.5 * row[: int(0.3 * (views - 1))].mean() for row in others])
    weights, mode, affinity = torch.full((views,), 1 / views), features[0], p @ p.T
    for _ in range(5):
        density = (-(features - mode).square().sum(-1) / (2 * bandwidth)).exp()
        for _ in range(5):
            before = weights
            weights = ((density + method.lambda_q * affinity @ weights) / method.lambda_y).softmax(0)
            if (weights - before).norm() < 1e-6:
                break
        for _ in range(5):
            before = mode
            pull = weights * (-(features - mode).square().sum(-1) / (2 * bandwidth)).exp()
            mode = F.normalize((pull / pull.sum()) @ features, dim=-1)
            if (mode - before).norm() < 1e-6:
                break
    return scale * mode @ text.T


def _se(method: Any, features: Tensor, text: Tensor) -> Tensor:
    logits = method.clip.logit_scale * features @ text.T
    values = _entropy(logits)
    off = (values[1:] > values[0]).float().mean() - 0.5
    weight = 0.5 + method.scale * off.sign() * off**2
    confident = logits[1:][values[1:].argsort(stable=True)[:6]]
    return (weight * logits[0].softmax(-1) + (1 - weight) * confident.softmax(-1).mean(0)).log()


def _awt(method: Any, features: Tensor, text: Tensor) -> Tensor:
    """Weights by entropy, then one transport plan per class; the plans of all classes stop in the same round."""
    scale = method.clip.logit_scale
    texts = [own[own.any(-1)] for own in method.bank.sets(text.new_empty(1, text.shape[-1]))]
    mean = torch.stack([scale * (features @ own.T).mean(-1) for own in texts], -1)  # (V, K)
    rows = (-_entropy(mean) / method.view_temperature).softmax(0)
    columns, kernels = [], []
    for k, own in enumerate(texts):
        entropies = []
        for each in own:
            changed = mean[0].clone()
            changed[k] = scale * features[0] @ each
            entropies.append(-(changed.softmax(0) * changed.log_softmax(0)).sum())
        columns.append((-torch.stack(entropies) / method.text_temperature).softmax(0))
        kernels.append((-(1 - features @ own.T) / 0.1).exp())
    left = [torch.ones(len(features)) for _ in texts]
    right = [torch.ones(len(own)) for own in texts]
    for _ in range(100):
        before = left
        left = [rows / (kernel @ r) for kernel, r in zip(kernels, right, strict=True)]
        right = [weight / (kernel.T @ r) for kernel, r, weight in zip(kernels, left, columns, strict=True)]
        if (torch.stack(left) - torch.stack(before)).abs().mean() < 0.01:
            break
    plans = [a[:, None] * kernel * b for a, kernel, b in zip(left, kernels, right, strict=True)]
    return torch.stack([scale * (plan * (features @ own.T)).sum() for plan, own in zip(plans, texts, strict=True)])


def _tps(method: Any, features: Tensor, text: Tensor) -> Tensor:
    scale = method.clip.logit_scale
    shift = nn.Parameter(torch.zeros_like(text if method.per_class else text[:1]))
    optimizer = torch.optim.AdamW([shift], lr=method.lr)
    for _ in range(method.steps):
        loss = _marginal(_confident(scale * features @ F.normalize(text + shift, dim=-1).T, method.selection_p))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (scale * features[0] @ F.normalize(text + shift, dim=-1).T).detach()


def _marginal(logits: Tensor) -> Tensor:
    mean = logits.softmax(-1).mean(0)
    return -(mean * mean.log()).sum()


def _loss(name: str, method: Any, kept: Tensor, text: Tensor) -> Tensor:
    if name == "rtpt":
        return _entropy(kept).mean()
    loss, others = _marginal(kept), text @ text.T
    if name == "ctpt":
        loss = loss - method.penalty_weight * (text - text.mean(0)).norm(dim=-1).mean()
    if name == "otpt":  # the official reflections hold K x K x K numbers; see docs/differences.md
        loss = loss + method.penalty_weight * (others.norm(dim=-1).mean() - 1)
    if name == "atpt":
        nearest = (others - 2 * torch.eye(len(text))).max(-1).values
        loss = loss - method.penalty_weight * nearest.clamp(-method.tau, method.tau).acos().mean()
    return loss


def _prompt_tuned(name: str, method: Any, plain: PlainTPT, features: Tensor) -> Tensor:
    scale, chosen = method.clip.logit_scale, None

    def loss(text: Tensor) -> Tensor:
        nonlocal chosen
        logits = scale * features @ text.T
        if chosen is None:  # selected once, for all steps
            chosen = _chosen(logits, method.selection_p)
        return _loss(name, method, logits[chosen], text)

    text = _final_text(method, plain, loss)
    if name != "rtpt":
        return scale * features[0] @ text.T
    cosines = features @ features.T - 2 * torch.eye(len(features))
    weights = (cosines.topk(20).values.mean(-1) / 0.01).softmax(0)
    return weights @ (scale * features @ text.T)


def _use(method: Any, plain: PlainTPT, features: Tensor) -> Tensor:
    scale = method.clip.logit_scale
    with torch.no_grad():
        logits = scale * features @ plain.text_features(plain.context0).T
    values = _entropy(logits)
    weight = 0.5 + method.scale * ((values[1:] > values[0]).float().mean() - 0.5)
    count = max(1, int((len(features) - 1) * method.selection_p))
    chosen = torch.cat([torch.zeros(1, dtype=torch.long), 1 + values[1:].argsort(stable=True)[:count]])

    def mixture(own: Tensor) -> Tensor:
        return weight * own[0].softmax(-1) + (1 - weight) * own[1:].softmax(-1).mean(0)

    final = logits[chosen]
    if (final.argmax(-1) != final[0].argmax()).any():
        target = mixture(final)

        def loss(text: Tensor) -> Tensor:
            return -((scale * features[chosen] @ text.T).softmax(-1).mean(0) * target.log()).sum()

        final = scale * features[chosen] @ _final_text(method, plain, loss).T
    return mixture(final).log()


def _rlcf(method: Any, plain: PlainTPT, features: Tensor, reward_text: Tensor | None) -> Tensor:
    scale = method.clip.logit_scale
    assert reward_text is not None
    scores = (2.5 * features @ reward_text.T).clamp(min=0)
    chosen: Tensor | None = None

    def loss(text: Tensor) -> Tensor:
        nonlocal chosen
        logits = scale * features @ text.T
        if chosen is None:
            chosen = _chosen(logits, method.selection_p)
        kept = logits[chosen]
        top = kept.detach().topk(method.sample_k).indices
        rewards = scores[chosen].gather(-1, top)
        rewards = rewards - rewards.mean(-1, keepdim=True)
        return -(rewards * kept.log_softmax(-1).gather(-1, top)).mean()

    return scale * features[0] @ _final_text(method, plain, loss).T


def _final_text(method: Any, plain: PlainTPT, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """(K, E) text features after tuning."""
    context = nn.Parameter(plain.context0.clone())
    optimizer = method.tuner.optimizer([context], lr=method.tuner.lr)
    for _ in range(method.tuner.steps):
        value = loss(plain.text_features(context))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        return plain.text_features(context)


# Methods that use fixed text features and never run the text tower again.
FROM_TEXT: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "zero_shot": _zero_shot,
    "view_ensemble": _view_ensemble,
    "zero": _zero,
    "mta": _mta,
    "se": _se,
    "awt": _awt,
    "tps": _tps,
}
