"""Test-time prompt tuning of CLIP-like models.

One picture from its views to the answer, on the bundled model:

    >>> import tpt
    >>> from tpt.data import emoji_shift
    >>> clip = tpt.load_clip("emoji-mini")
    >>> pictures = emoji_shift("twemoji")  # a vendor's drawings that the model never saw
    >>> index = pictures.labels().index(pictures.class_names.index("pizza"))
    >>> views = tpt.Views(**clip.preprocessing, num_views=32)(pictures.image(index), "a pizza")  # drawn with this name
    >>> features = clip.encode_views(views)  # encoded once, however many steps follow
    >>> names = ["pizza", "rocket", "hot air balloon"]
    >>> out = tpt.TPT(clip, names, steps=1, selection_p=0.1)(features)
    >>> names[int(out.logits.argmax())], len(out.selected)
    ('pizza', 3)
    >>> bool(out.entropy < out.initial_entropy)  # of the three most confident views, averaged
    True

What is public stands in `__init__.pyi`.  A name is imported where it is first used, since torch takes seconds to load.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
