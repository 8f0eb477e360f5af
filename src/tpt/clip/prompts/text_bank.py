"""Text features, from words, templates, descriptions, or a context learned with CoOp or CoCoOp."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tpt.clip.model import LoadedCLIP
from tpt.clip.prompts.checkpoint import LearnedContext
from tpt.clip.prompts.conditional import ConditionalContext, MetaInput
from tpt.clip.prompts.context import Position, context_from_words, random_context
from tpt.clip.prompts.learner import PromptLearner, check_class_names, clean_name
from tpt.clip.texts import load_descriptions, load_templates
from tpt.errors import Count, Seed, UserError, checked, refuse_one_prompt

MAX_TOKENS = 16384
VECTORS = 4  # of a random context
WORDS = "a photo of a"  # the paper's context
PROMPT = "a photo of a {}."  # before descriptions if there are no templates


Templates = str | Sequence[str] | None
Descriptions = str | Mapping[str, str | Sequence[str]] | None


@dataclass(kw_only=True, eq=False)
class TextSettings:
    """The settings of `TextBank`, which every method has: where text features come from."""

    ctx_init: str | None = WORDS
    n_ctx: Count | None = None
    class_token_position: Position = "end"
    context: LearnedContext | None = None
    templates: Templates = None
    descriptions: Descriptions = None
    after_prompt: bool = False
    normalize: bool = True
    learned_class_token: bool = False
    seed: Seed = 0
    meta_input: MetaInput | None = None
    max_tokens: Count = MAX_TOKENS


class TextBank(nn.Module):
    """Text features (K, E) of all classes, or (B, K, E) if the context depends on the image.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        ctx_init: context in words, with `[CLS]` at the position of the class name; None for `n_ctx` random vectors.
        n_ctx: number of random vectors, by default 4; with `ctx_init`, the number that its words must give.
        class_token_position: "end", "middle" or "front".
        context: a context instead of words, such as one learned with CoOp.  With a CoCoOp context, every image has its
            own, `base + meta_net(feature of view 0)`.
        templates: an ensemble instead of a context: "imagenet_80", "imagenet_7", a text file, or a list of templates
            with `{}`.  The unit-length features of a class are averaged.
        descriptions: sentences for each class, instead of a context or in addition to `templates`: a JSON or CSV file,
            see `load_descriptions`.  Each sentence and each template has the same weight in a class's average.
        after_prompt: whether each sentence follows the class's prompt in the first template, by default "a photo of a
            {}."; the prompt alone is then also a text of the class.
        normalize: whether that average is scaled to unit length.
        learned_class_token: whether a vector replaces each class name, see `PromptLearner`.
        seed: seed of the random vectors.
        meta_input: overrides the `meta_input` of a conditional context, which is then not noted.
        max_tokens: maximum prompt tokens per forward pass; it bounds memory and changes results only by rounding.

    Raises:
        UserError: a prompt or a context does not fit the backbone, or the text has several sources.
    """

    @checked
    def __init__(
        self,
        clip: LoadedCLIP,
        class_names: Sequence[str],
        ctx_init: str | None = WORDS,
        n_ctx: Count | None = None,
        class_token_position: Position = "end",
        context: LearnedContext | None = None,
        templates: Templates = None,
        descriptions: Descriptions = None,
        after_prompt: bool = False,
        normalize: bool = True,
        learned_class_token: bool = False,
        seed: Seed = 0,
        meta_input: MetaInput | None = None,
        max_tokens: Count = MAX_TOKENS,
    ) -> None:
        super().__init__()
        sources = {
            f"`ctx_init` {ctx_init!r}": ctx_init not in (None, WORDS),
            f"`context` ({'' if context is None else context.base.source})": context is not None,
            "`templates` or `descriptions`": templates is not None or descriptions is not None,
        }
        if len(given := [name for name, is_given in sources.items() if is_given]) > 1:  # only one would be used
            raise UserError(f"Expected one source of the classes' texts, got {' and '.join(given)}; leave one out.")
        self.clip = clip
        self.class_names = check_class_names(class_names)
        self.max_tokens = max_tokens
        self.learner: PromptLearner | None = None  # its slots may be tuned; None for templates and descriptions
        self.conditional: ConditionalContext | None = None  # CoCoOp's context; None if all images share one
        self.notes: tuple[str, ...] = ()  # what results must state about the context
        self._fixed: Tensor | None = None  # (K, E), computed on first use
        self._sets: Tensor | None = None  # (K, M, E), likewise
        self._templates: list[str] = []
        self._sentences: list[list[str]] | None = None
        self._normalize = normalize
        if templates is not None or descriptions is not None:
            self._load_texts(templates, descriptions, after_prompt)
            return
        if context is None and ctx_init is not None:
            context = context_from_words(clip, ctx_init, class_token_position)
        elif context is None:
            context = random_context(clip, n_ctx or VECTORS, class_token_position, seed)
        if n_ctx not in (None, context.base.n_ctx):
            raise UserError(
                f"Expected a context of n_ctx={n_ctx} vectors, got {context.base.n_ctx} ({context.base.source}); leave "
                "n_ctx out, or use ctx_init=None for random vectors."
            )
        if isinstance(context, ConditionalContext):
            self.conditional = context if meta_input is None else replace(context, meta_input=meta_input)
            context = context.base
        self.notes = (context.note,) if context.note else ()
        self.learner = PromptLearner(clip, self.class_names, context, learned_class_token, seed)
        if self.conditional is not None:
            self.conditional.check(clip)
            self.meta_net = copy.deepcopy(self.conditional.meta_net).float().to(clip.device).requires_grad_(False)
            if meta_input is None:
                self.notes = (*self.notes, self.conditional.note)

    def _load_texts(self, templates: Templates, descriptions: Descriptions, after_prompt: bool) -> None:
        """Loads the texts that replace a context."""
        if templates is not None:
            self._templates = load_templates(templates)
        if descriptions is not None:
            self._sentences, note = load_descriptions(descriptions, self.class_names)
            self.notes = (note,) if note else ()
            if after_prompt:
                self._templates = self._templates or [PROMPT]
                leads = [self._templates[0].replace("{}", clean_name(name)) for name in self.class_names]
                self._sentences = [
                    [f"{lead} {text}" for text in own] for lead, own in zip(leads, self._sentences, strict=True)
                ]
        tokens = [tuple(self.clip.tokenizer.encode(clean_name(name))) for name in self.class_names]
        refuse_one_prompt(self.class_names, tokens)

    @property
    def needs_norm(self) -> bool:
        """Whether `image_norm_B` is needed, because CoCoOp's network takes the feature before scaling."""
        return self.conditional is not None and self.conditional.meta_input == "raw"

    @torch.no_grad()
    def own_slots(self, image_BE: Tensor, image_norm_B: Tensor | None = None) -> Tensor | None:
        """(B, n_slots, D) slots if every image has its own; None if all share the learner's.

        They depend on view 0's features of unit length and, with `needs_norm`, on their lengths before scaling.
        """
        if self.conditional is None or self.learner is None:
            return None
        fed = image_BE
        if self.needs_norm and image_norm_B is not None:
            fed = image_BE * image_norm_B.to(image_BE)[:, None]
        slots = self.learner.slots.repeat(len(image_BE), 1, 1)
        slots[:, : self.learner.context.n_ctx] += self.meta_net(fed)[:, None]
        return slots

    @torch.no_grad()
    def forward(self, image_BE: Tensor | None = None, image_norm_B: Tensor | None = None) -> Tensor:
        """Text features: (K, E), or (B, K, E) with a conditional context, which needs view 0's feature."""
        learner = self.learner
        if self.conditional is not None and learner is not None:
            assert image_BE is not None, "a conditional context needs view 0's features"
            slots = self.own_slots(image_BE, image_norm_B)
            assert slots is not None
            size = max(1, self.max_tokens // learner.prompts.num_tokens)
            return torch.cat([learner.encode(some, self.max_tokens) for some in slots.split(size)])
        if self._fixed is None or self._fixed.device != self.clip.device:
            self._fixed = (
                self._mean(self._each()) if learner is None else learner.encode(learner.slots, self.max_tokens)
            )
        return self._fixed

    @torch.no_grad()
    def sets(self, image_BE: Tensor | None = None, image_norm_B: Tensor | None = None) -> Tensor:
        """Features of each text of each class, of unit length: (K, M, E), padded with zeros to the most texts.

        Without templates and descriptions, a class has one text, and the rest is as for `forward`.
        """
        if self.learner is not None:
            text: Tensor = self(image_BE, image_norm_B)
            return text[..., None, :]
        if self._sets is None or self._sets.device != self.clip.device:
            each = self._each()
            self._sets, self._fixed = pad_sequence(each, batch_first=True), self._mean(each)
        return self._sets

    def _each(self) -> list[Tensor]:
        """K tensors (M, E): the features of the class in each template, then those of its sentences."""
        names = [clean_name(name) for name in self.class_names]
        features = [self.clip.encode_text([t.replace("{}", name) for name in names]) for t in self._templates]
        if self._sentences is None:
            return list(torch.stack(features, 1))
        described = map(self.clip.encode_text, self._sentences)
        return [torch.cat([*(f[k, None] for f in features), d]) for k, d in enumerate(described)]

    def _mean(self, each: list[Tensor]) -> Tensor:
        mean = torch.stack([own.mean(0) for own in each])
        return F.normalize(mean, dim=-1) if self._normalize else mean
