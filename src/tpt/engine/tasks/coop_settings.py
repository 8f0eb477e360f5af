"""Builds training tasks from flat settings, for the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpt.clip.model import CLIP
from tpt.clip.prompts.conditional import initial_conditional
from tpt.clip.prompts.context import Context, Position, context_from_words, random_context
from tpt.engine.tasks.coop import PAPER_SGD, CoCoOpTask, CoOpTask, OptimizerFactory, epochs_for
from tpt.errors import Count, Natural, Positive, Seed, checked


@checked
def coop_task(
    clip: CLIP,
    class_names: Sequence[str],
    shots: Count | None = 16,
    dataset: str | None = None,
    ctx_init: str | None = None,
    n_ctx: Count = 16,
    class_token_position: Position = "end",
    class_specific: bool = False,
    epochs: Count | None = None,
    optimizer: OptimizerFactory = PAPER_SGD,
    warmup_epochs: Natural = 1,
    warmup_rate: Positive = 1e-5,
    seed: Seed = 1,
) -> CoOpTask:
    """Builds the task of a CoOp run.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        shots: images per class; determines the number of epochs if `epochs` is None.
        dataset: the catalogue's key of the training dataset, which also determines it.
        ctx_init: words to start from; None starts from `n_ctx` random vectors.
        n_ctx: number of random vectors.
        class_token_position: "end", "middle" or "front".
        class_specific: learns one context per class.
        epochs: number of epochs; None takes the paper's 50, 100 or 200 by shots, 50 on ImageNet.
        optimizer: parameters -> optimizer; its `lr` is the rate after the warm-up.
        warmup_epochs: number of epochs at `warmup_rate`.
        warmup_rate: learning rate of the warm-up; the paper uses 1e-5.
        seed: of the random vectors.
    """
    start = _start(clip, len(class_names), ctx_init, n_ctx, class_token_position, class_specific, seed)
    epochs = epochs_for(shots, dataset) if epochs is None else epochs
    return CoOpTask(clip, class_names, start, epochs, optimizer, warmup_epochs, warmup_rate)


@checked
def cocoop_task(
    clip: CLIP,
    class_names: Sequence[str],
    shots: Count | None = 16,
    dataset: str | None = None,
    ctx_init: str | None = "a photo of a",
    n_ctx: Count = 4,
    class_token_position: Position = "end",
    epochs: Count | None = 10,
    optimizer: OptimizerFactory = PAPER_SGD,
    warmup_epochs: Natural = 1,
    warmup_rate: Positive = 1e-5,
    max_tokens: Count = 16384,
    seed: Seed = 1,
) -> CoCoOpTask:
    """Builds the task of a CoCoOp run; settings as for `coop_task`, `max_tokens` as for `CoCoOpTask`."""
    base = _start(clip, len(class_names), ctx_init, n_ctx, class_token_position, False, seed)
    return CoCoOpTask(
        clip,
        class_names,
        initial_conditional(clip, base, seed),
        max_tokens,
        epochs=epochs_for(shots, dataset) if epochs is None else epochs,
        optimizer=optimizer,
        warmup_epochs=warmup_epochs,
        warmup_rate=warmup_rate,
    )


def _start(
    clip: CLIP, num_classes: int, ctx_init: str | None, n_ctx: int, position: Position, class_specific: bool, seed: int
) -> Context:
    """The context before training."""
    if ctx_init is None:
        return random_context(clip, n_ctx, position, seed, num_classes if class_specific else None)
    words = context_from_words(clip, ctx_init, position)
    if not class_specific:
        return words
    return replace(words, vectors=words.vectors.expand(num_classes, -1, -1).clone())
