"""Prompts: class names with context vectors, which are learned or come from words."""

from tpt.clip.prompts.checkpoint import (
    LearnedContext,
    context_from_file,
    load_context,
    refuse_misfit,
    save_context,
)
from tpt.clip.prompts.conditional import ConditionalContext, MetaNet, conditional_logits, initial_conditional
from tpt.clip.prompts.context import Context, context_from_words, random_context
from tpt.clip.prompts.export import export_public
from tpt.clip.prompts.learner import PromptLearner

__all__ = [
    "ConditionalContext",
    "Context",
    "LearnedContext",
    "MetaNet",
    "PromptLearner",
    "conditional_logits",
    "context_from_file",
    "context_from_words",
    "export_public",
    "initial_conditional",
    "load_context",
    "random_context",
    "refuse_misfit",
    "save_context",
]
