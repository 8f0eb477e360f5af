"""Class prompts with a learnable context."""

from __future__ import annotations

from collections.abc import Sequence, Set

import torch
from torch import Tensor, nn

from tpt.clip.model import LoadedCLIP
from tpt.clip.prompts.context import Context
from tpt.clip.tokens import refuse_too_long
from tpt.clip.tower import slot
from tpt.errors import Count, Seed, UserError, refuse_one_prompt

CPU_TOKENS = 2048  # per pass: more do not fit into a CPU's cache, which takes 15 % longer


def clean_name(class_name: str) -> str:
    """A class name as in a prompt, with spaces for underscores."""
    return class_name.replace("_", " ").strip()


def check_class_names(class_names: Sequence[str]) -> list[str]:
    """The names as a list; raises a UserError for no names, an empty name, a name that is not text, or a set."""
    names = [] if isinstance(class_names, str | bytes | Set) else list(class_names)  # a set has no order
    if not names:
        raise UserError(f"Expected a list of at least one class name, got {str(class_names)[:60]!r}; pass a list.")
    for k, name in enumerate(names):
        if not isinstance(name, str) or not clean_name(name):
            raise UserError(f"Expected class name {k} to be text that is not empty, got {name!r}.")
    return names


class PromptLearner(nn.Module):
    """K prompts `start | context before | class name | context after | "." end` with learnable vectors.

    All learnable vectors are in one tensor, the *slots*: the n_ctx context vectors (or K x n_ctx class-specific ones),
    then K class tokens if these are learned too.  A method tunes the slots, as (n_slots, D) for one image or as
    (B, n_slots, D) for many.

    The full stop follows the class name or the context after it.  If a name ends in a bracket, ")." is one token of
    CLIP's vocabulary, so the full stop stays with the name, as in the official code.  Models that remove punctuation
    get no full stop, and some vocabularies have no start token.

    Args:
        clip: the frozen backbone.
        class_names: K names; underscores are read as spaces.
        context: the initial context.
        learned_class_token: whether each class name is replaced by one vector that is tuned with the context (the
            official code's option for classes without names), drawn with standard deviation 0.02.
        seed: seed of these vectors.

    Raises:
        UserError: a prompt is longer than the text tower's context length, two classes have the same prompt, or a
            class-specific context has another number of classes.
    """

    def __init__(
        self,
        clip: LoadedCLIP,
        class_names: Sequence[str],
        context: Context,
        learned_class_token: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.class_names = check_class_names(class_names)
        self.context = context
        self.learned_class_token = learned_class_token
        self._check_context(context)
        slots = context.vectors.reshape(-1, clip.width).float()
        if learned_class_token:
            generator = torch.Generator().manual_seed(seed)
            tokens = torch.empty(len(self.class_names), clip.width).normal_(std=0.02, generator=generator)
            slots = torch.cat([slots, tokens.to(slots.device)])
        self.slots = nn.Buffer(slots.detach().clone().to(clip.device), persistent=False)
        sequences = [self._sequence(k) for k in range(len(self.class_names))]
        lengths = {name: len(s) for name, s in zip(self.class_names, sequences, strict=True)}
        refuse_too_long(lengths, clip.text.context_length)
        refuse_one_prompt(self.class_names, [tuple(sequence) for sequence in sequences])
        shared = len(clip.tokenizer.start) + (0 if context.class_specific else context.n_before)
        self.prompts = clip.text.pack(sequences, shared).to(clip.device)

    def _check_context(self, context: Context) -> None:
        context.check(self.clip)
        if context.class_specific and len(context.vectors) != len(self.class_names):
            raise UserError(
                f"Expected a class-specific context of {len(self.class_names)} classes, got {len(context.vectors)} "
                f"({context.source}); use the classes it was trained on, or a generic context."
            )
        if context.class_specific and context.class_names not in (None, tuple(self.class_names)):
            raise UserError(
                f"The class-specific context was learned for other classes: {str(context.class_names)[:200]} "
                f"({context.source}). Use its classes in its order, or a generic context."
            )

    def _sequence(self, k: int) -> list[int]:
        """Token ids of prompt `k` from start to end, with slots for learnable vectors."""
        encode, n_ctx, before = self.clip.tokenizer.encode, self.context.n_ctx, self.context.n_before
        first = k * n_ctx if self.context.class_specific else 0
        context = [slot(first + i) for i in range(n_ctx)]
        if self.learned_class_token:
            num_context = self.context.vectors.shape[:-1].numel()
            word = encode("a", inside=True)
            named, tail = [slot(num_context + k)], encode("a.", inside=True)[len(word) :]
        else:
            name = clean_name(self.class_names[k])
            tokens, length = encode(name + ".", inside=before > 0), len(encode(name, inside=before > 0))
            named, tail = tokens[:length], tokens[length:]
        return self.clip.tokenizer.wrap([*context[:before], *named, *context[before:], *tail])

    def forward(self, slots: Tensor | None = None) -> Tensor:
        """Unit-length text features (K, E) of the initial slots or of (n_slots, D); (B, K, E) of (B, n_slots, D)."""
        return self.clip.text(self.prompts, self.slots if slots is None else slots)  # type: ignore[no-any-return]

    def encode(self, slots: Tensor, max_tokens: Count) -> Tensor:
        """As `forward`, but without gradients and in passes of at most `max_tokens` prompt tokens, fewer on a CPU."""
        if slots.device.type == "cpu":
            max_tokens = min(max_tokens, CPU_TOKENS)
            together = max(1, max_tokens // self.prompts.num_tokens)
            if slots.ndim == 3 and len(slots) > together:
                return torch.cat([self.encode(some, max_tokens) for some in slots.split(together)])
        with torch.no_grad():
            if self.prompts.num_tokens <= max_tokens:
                return self(slots)  # type: ignore[no-any-return]
            parts = [self.clip.text(part, slots) for part in self.prompts.split(max_tokens)]
            return torch.cat(parts, dim=-2)[..., self.prompts.unsort, :]

    def split(self, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """The context (..., n_ctx, D) or (..., K, n_ctx, D) in `slots`, and the class tokens (..., K, D) or None."""
        shape = self.context.vectors.shape
        number = shape[:-1].numel()
        context = slots[..., :number, :].reshape(*slots.shape[:-2], *shape)
        return context, slots[..., number:, :] if self.learned_class_token else None
