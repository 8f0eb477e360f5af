"""Training of contexts on a few labelled shots: CoOp (Zhou et al., IJCV 2022) and CoCoOp (CVPR 2022)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from tpt.clip.model import CLIP
from tpt.clip.prompts.checkpoint import LearnedContext, file_metadata
from tpt.clip.prompts.conditional import ConditionalContext, conditional_logits, initial_conditional
from tpt.clip.prompts.context import Context, Position, context_from_words, random_context
from tpt.clip.prompts.learner import PromptLearner, check_class_names
from tpt.data.shots import LabelledBatch
from tpt.errors import Count, Natural, Positive, Seed, UserError, checked, refuse

OptimizerFactory = Callable[..., torch.optim.Optimizer]
PAPER_SGD: OptimizerFactory = partial(torch.optim.SGD, lr=0.002, momentum=0.9, weight_decay=5e-4)


class _Percent(MulticlassAccuracy):
    """Accuracy in %, as everywhere in this project."""

    def compute(self) -> Tensor:
        share: Tensor = super().compute()
        return 100 * share


def epochs_for(shots: Count | None, dataset: str | None = None) -> int:
    """CoOp's number of epochs (section 4.1): 50 for one shot, 100 for two or four, 200 for more; 50 on ImageNet."""
    if dataset == "imagenet":
        return 50
    if shots is None or shots > 4:
        return 200
    return 50 if shots == 1 else 100


def learning_rate(
    epoch: int, epochs: int, base: float = 0.002, warmup_epochs: int = 1, warmup_rate: float = 1e-5
) -> float:
    """The rate of an epoch (from 0): constant in the warm-up, then a cosine over `epochs` that starts at `base`.

    As in the official programs, the length of the cosine includes the warm-up epochs, so the last epoch's rate is small
    but not zero.
    """
    if epoch < warmup_epochs:
        return warmup_rate
    return base * (1 + math.cos(math.pi * (epoch - warmup_epochs) / epochs)) / 2


class ContextTask(LightningModule):
    """Learns a context: CoOp's, the same for all images (or one per class), or CoCoOp's, which a network shifts.

    Its parameters have the names of the public checkpoints: `ctx`, and for CoCoOp `meta_net.*`.

    Args:
        clip, class_names, optimizer, warmup_epochs, warmup_rate, max_tokens: as for `coop_task` and `cocoop_task`.
        context: initial context; for CoCoOp with an untrained meta-net.
        epochs: epochs of the whole run; sets the schedule, and should equal the Trainer's `max_epochs`.
    """

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        context: LearnedContext,
        epochs: int,
        optimizer: OptimizerFactory = PAPER_SGD,
        warmup_epochs: int = 1,
        warmup_rate: float = 1e-5,
        max_tokens: int = 16384,
    ) -> None:
        super().__init__()
        context.check(clip)
        names = check_class_names(class_names)
        self.run_text = "{}"  # how checkpoints describe their run
        self.strict_loading = False  # checkpoints hold only the learned part, without the backbone
        self.clip = clip
        self.learner = PromptLearner(clip, names, context.base)
        self.ctx = nn.Parameter(context.base.vectors.detach().float().clone())
        self.meta_net = copy.deepcopy(context.meta_net) if isinstance(context, ConditionalContext) else None
        self.max_tokens = max_tokens
        self.epochs = epochs
        self.schedule = partial(learning_rate, epochs=epochs, warmup_epochs=warmup_epochs, warmup_rate=warmup_rate)
        self._optimizer = optimizer
        self.accuracy = nn.ModuleDict(
            {f"{split}_split": _Percent(len(names), average="micro") for split in ("train", "val")}
        )

    def logits(self, image_BE: Tensor) -> Tensor:
        """(B, K) cosines of unit-length features with the class prompts, times the logit scale; float32."""
        if self.meta_net is not None:
            return conditional_logits(self.learner, self.ctx, self.meta_net, image_BE, self.max_tokens)
        text_KE = self.learner(self.ctx.flatten(0, -2))
        with torch.autocast(image_BE.device.type, enabled=False):  # scores near 100 need more than half precision
            logits: Tensor = self.clip.logit_scale * image_BE.float() @ text_KE.float().T
        return logits

    def context(self) -> LearnedContext:
        """A copy of what has been learned so far."""
        start, kind = self.learner.context, "coop" if self.meta_net is None else "cocoop"
        names = tuple(self.learner.class_names) if start.class_specific else None
        source = f"{kind} from {start.source}"
        base = replace(start, vectors=self.ctx.detach().clone(), source=source, class_names=names)
        if self.meta_net is None:
            return base
        return ConditionalContext(base, copy.deepcopy(self.meta_net).requires_grad_(False))

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch; raises a UserError that names the batch if it is not finite."""
        loss = self._loss(batch, "train")
        if not loss.isfinite():
            shown = ", ".join(batch.paths[:4]) + (", ..." if len(batch.paths) > 4 else "")
            raise UserError(
                f"Expected a finite loss, got {loss.item()} in epoch {self.current_epoch}, batch {batch_idx} "
                f"({shown}); lower the learning rate, or use trainer.precision=32-true and backbone.precision=fp32."
            )
        return loss

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Logs loss and accuracy."""
        self._loss(batch, "val")

    def _loss(self, batch: LabelledBatch, split: str) -> Tensor:
        logits = self.logits(self.clip.encode_image(batch.images))
        loss = F.cross_entropy(logits, batch.labels)
        accuracy: _Percent = self.accuracy[f"{split}_split"]  # type: ignore[assignment]
        accuracy.update(logits.detach(), batch.labels)
        log = partial(self.log, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.paths))
        log(f"{split}/loss", loss.detach(), sync_dist=True)
        log(f"{split}/accuracy", accuracy)
        return loss

    def on_train_epoch_start(self) -> None:
        """Logs the learning rate of this epoch."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/lr", rate, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimizer of the learned part, and its learning rate per epoch."""
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        base = refuse("lr", Positive, float(optimizer.param_groups[0]["lr"]))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: self.schedule(e, base=base) / base)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def learned(self) -> dict[str, Tensor]:
        """The learned tensors under their public names."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the learned part and what `tpt.load_context` needs; leaves out the frozen backbone."""
        checkpoint["state_dict"] = {name: value.cpu().clone() for name, value in self.learned().items()}
        checkpoint["context"] = file_metadata(self.context(), self.clip)
        checkpoint["run"] = self.run_text


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
) -> ContextTask:
    """Builds the task of a CoOp run: one context for all images, or one per class.

    The paper: cross-entropy over all classes, batches of 32, SGD at 0.002, and the last epoch's context is used.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        shots: images per class; determines the number of epochs if `epochs` is None.
        dataset: catalogue key of the training dataset, which also determines the number of epochs.
        ctx_init: words to start from; None starts from `n_ctx` random vectors.
        n_ctx: number of random vectors; with `ctx_init`, it is not used, and a note says so if it differs.
        class_token_position: "end", "middle" or "front".
        class_specific: learns one context per class.
        epochs: number of epochs; None uses the paper's 50, 100 or 200 by shots, 50 on ImageNet.
        optimizer: parameters -> optimizer; its `lr` is the rate after the warm-up.
        warmup_epochs: number of epochs at `warmup_rate`.
        warmup_rate: learning rate of the warm-up; the paper uses 1e-5.
        seed: seed of the random vectors.
    """
    start = _start(clip, len(class_names), ctx_init, n_ctx, class_token_position, class_specific, seed)
    return ContextTask(
        clip, class_names, start, epochs or epochs_for(shots, dataset), optimizer, warmup_epochs, warmup_rate
    )


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
) -> ContextTask:
    """Builds the task of a CoCoOp run: a context and a network that shifts it for every image; settings as for CoOp.

    The paper: batches of one, 10 epochs, from "a photo of a".  A larger batch gives the mean of its images' gradients.
    `max_tokens` is the maximum number of prompt tokens computed at once; it limits memory and does not affect results.
    """
    base = _start(clip, len(class_names), ctx_init, n_ctx, class_token_position, False, seed)
    start, epochs = initial_conditional(clip, base, seed), epochs or epochs_for(shots, dataset)
    return ContextTask(clip, class_names, start, epochs, optimizer, warmup_epochs, warmup_rate, max_tokens)


def _start(
    clip: CLIP, num_classes: int, ctx_init: str | None, n_ctx: int, position: Position, class_specific: bool, seed: int
) -> Context:
    """The context before training."""
    if ctx_init is None:
        return random_context(clip, n_ctx, position, seed, num_classes if class_specific else None)
    words = context_from_words(clip, ctx_init, position)
    if n_ctx != words.n_ctx:
        unused = f"n_ctx={n_ctx} was not used, because ctx_init gives {words.n_ctx} vectors"
        words = replace(words, note="; ".join(filter(None, (words.note, unused))))
    if not class_specific:
        return words
    return replace(words, vectors=words.vectors.expand(num_classes, -1, -1).clone())
