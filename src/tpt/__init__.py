"""Test-time prompt tuning of CLIP-like models."""

from importlib.metadata import PackageNotFoundError, version

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
from tpt.views import AugMix, Views

try:
    __version__ = version("tpt")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0.0.0"

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
    "context_from_file",
    "context_from_words",
    "export_public",
    "load_clip",
    "load_context",
    "random_context",
    "save_context",
]
