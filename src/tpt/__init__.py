"""Test-time prompt tuning of CLIP-like models."""

from importlib.metadata import PackageNotFoundError, version

from tpt.backbones import CLIP, load_clip
from tpt.methods import TPT, Adaptation, Method, ZeroShot
from tpt.prompts import Context, PromptLearner, context_from_words, random_context

try:
    __version__ = version("tpt")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0.0.0"

__all__ = [
    "CLIP",
    "TPT",
    "Adaptation",
    "Context",
    "Method",
    "PromptLearner",
    "ZeroShot",
    "context_from_words",
    "load_clip",
    "random_context",
]
