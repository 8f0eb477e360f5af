"""Test-time prompt tuning of CLIP-like models."""

from typing import TYPE_CHECKING, Any

from tpt.backbones import CLIP, load_clip
from tpt.methods import (
    ATPT,
    CTPT,
    MTA,
    OTPT,
    RLCF,
    RTPT,
    SE,
    TPS,
    TPT,
    USE,
    ZERO,
    Adaptation,
    Method,
    ViewEnsemble,
    ZeroShot,
)
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

if TYPE_CHECKING:
    from tpt.predictions import Prediction, Predictions, predict

__all__ = [
    "ATPT",
    "CLIP",
    "CTPT",
    "MTA",
    "OTPT",
    "RLCF",
    "RTPT",
    "SE",
    "TPS",
    "TPT",
    "USE",
    "ZERO",
    "Adaptation",
    "AugMix",
    "ConditionalContext",
    "Context",
    "Method",
    "Prediction",
    "Predictions",
    "PromptLearner",
    "ViewEnsemble",
    "Views",
    "ZeroShot",
    "__version__",
    "context_from_file",
    "context_from_words",
    "export_public",
    "load_clip",
    "load_context",
    "predict",
    "random_context",
    "save_context",
]


def __getattr__(name: str) -> Any:
    """What needs Lightning and Hydra, which take seconds to load, is loaded when it is used."""
    if name not in ("Prediction", "Predictions", "predict"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tpt import predictions  # noqa: PLC0415 -- see above

    return getattr(predictions, name)
