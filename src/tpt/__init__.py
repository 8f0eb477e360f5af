"""Test-time prompt tuning of CLIP-like models."""

from tpt.backbones import CLIP, load_clip
from tpt.methods import TPT, Adaptation, Method, ZeroShot
from tpt.prompts import (
    ConditionalContext,
    Context,
    PromptLearner,
    context_from_file,
    context_from_words,
    export_public,
    load_context,
    random_context,
    save_context,
)
from tpt.version import __version__
from tpt.views import AugMix, Views

__all__ = [
    "CLIP",
    "TPT",
    "Adaptation",
    "AugMix",
    "ConditionalContext",
    "Context",
    "Method",
    "PromptLearner",
    "Views",
    "ZeroShot",
    "__version__",
    "context_from_file",
    "context_from_words",
    "export_public",
    "load_clip",
    "load_context",
    "random_context",
    "save_context",
]
