"""Test-time prompt tuning of CLIP-like models.

One picture from its views to the answer, on the bundled model:

    >>> import tpt
    >>> from tpt.data import emoji_shift
    >>> clip = tpt.load_clip("emoji-mini")
    >>> pictures = emoji_shift("twemoji")  # a vendor's drawings that the model never saw
    >>> index = pictures.labels().index(pictures.class_names.index("pizza"))
    >>> views = tpt.Views(clip.image_size, num_views=32)(pictures.image(index), "a pizza")  # drawn with this name
    >>> features = clip.encode_views(views)  # encoded once, however many steps follow
    >>> names = ["pizza", "rocket", "hot air balloon"]
    >>> out = tpt.TPT(clip, names, steps=1, selection_p=0.1)(features)
    >>> names[int(out.logits.argmax())], len(out.selected)
    ('pizza', 3)
    >>> bool(out.entropy < out.initial_entropy)  # of the three most confident views, averaged
    True
"""

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
    "random_context",
    "save_context",
]
