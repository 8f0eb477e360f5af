"""Training tasks from flat settings: what a configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpt.clip.model import CLIP
from tpt.clip.prompts.conditional import initial_conditional
from tpt.clip.prompts.context import Context, context_from_words, random_context
from tpt.engine.tasks.coop import PAPER_SGD, CoCoOpTask, CoOpTask, OptimizerFactory, epochs_for


def coop_task(
    clip: CLIP,
    class_names: Sequence[str],
    shots: int | None = 16,
    dataset: str | None = None,
    ctx_init: str | None = None,
    n_ctx: int = 16,
    class_token_position: str = "end",
    class_specific: bool = False,
    epochs: int | None = None,
    optimizer: OptimizerFactory = PAPER_SGD,
    warmup_epochs: int = 1,
    warmup_rate: float = 1e-5,
    seed: int = 1,
) -> CoOpTask:
    """A CoOp run.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        shots: images per class; decides the number of epochs if `epochs` is None.
        dataset: what is learned on, by the catalogue's key, which decides as well.
        ctx_init: words to start from; None starts from `n_ctx` random vectors.
        n_ctx: number of random vectors.
        class_token_position: "end", "middle" or "front".
        class_specific: learns a context for every class.
        epochs: of the run; None takes the paper's 50, 100 or 200 by shots, 50 on ImageNet.
        optimizer: takes the parameters; its `lr` is the rate after warming up.
        warmup_epochs: epochs at `warmup_rate`.
        warmup_rate: the paper's 1e-5.
        seed: of random vectors.
    """
    start = _start(clip, len(class_names), ctx_init, n_ctx, class_token_position, class_specific, seed)
    epochs = epochs_for(shots, dataset) if epochs is None else epochs
    return CoOpTask(clip, class_names, start, epochs, optimizer, warmup_epochs, warmup_rate)


def cocoop_task(
    clip: CLIP,
    class_names: Sequence[str],
    shots: int | None = 16,
    dataset: str | None = None,
    ctx_init: str | None = "a photo of a",
    n_ctx: int = 4,
    class_token_position: str = "end",
    epochs: int | None = 10,
    optimizer: OptimizerFactory = PAPER_SGD,
    warmup_epochs: int = 1,
    warmup_rate: float = 1e-5,
    max_tokens: int = 16384,
    seed: int = 1,
) -> CoCoOpTask:
    """A CoCoOp run; settings as for `coop_task`, `max_tokens` as for `CoCoOpTask`."""
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
    clip: CLIP, num_classes: int, ctx_init: str | None, n_ctx: int, position: str, class_specific: bool, seed: int
) -> Context:
    """The context before training."""
    if ctx_init is None:
        return random_context(clip, n_ctx, position, seed, num_classes if class_specific else None)
    words = context_from_words(clip, ctx_init, position)
    if not class_specific:
        return words
    return replace(words, vectors=words.vectors.expand(num_classes, -1, -1).clone())
