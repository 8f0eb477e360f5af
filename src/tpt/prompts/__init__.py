"""Prompts: class names around context vectors, learned or written."""

from tpt.prompts.context import Context, context_from_words, random_context
from tpt.prompts.learner import PromptLearner

__all__ = ["Context", "PromptLearner", "context_from_words", "random_context"]
