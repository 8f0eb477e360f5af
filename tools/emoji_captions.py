"""Captions that describe an augmented picture: its look, its background, the visible part, and the object's name.

Used by `train_emoji_text.py`.  CLIP learned from descriptive captions.  A text tower that only reads "a photo of a {}."
learns to ignore the words around the name, so prompts would have no effect.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NOUNS = ("photo", "picture", "drawing", "icon", "emoji", "image", "rendering", "view", "illustration")
GENERIC = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an icon of a {}.",
    "an emoji of a {}.",
    "an image of a {}.",
    "a {}.",
    "the {}.",
    "{}.",
)

# The wordings of each fact about a picture: before the noun or name (FRONT), and after it (BEHIND).
FRONT: dict[str, tuple[str, ...]] = {
    "noto": ("cartoon", "android", "google"),
    "noto-v1": ("soft cartoon", "old android"),
    "fluent-emoji": ("3d", "shiny", "glossy"),
    "fluent-emoji-flat": ("flat", "simple", "microsoft"),
    "fluent-emoji-high-contrast": ("high contrast", "bold"),
    "grey": ("grey", "black and white", "colourless"),
    "stencil": ("stencil", "silhouette", "black and white"),
    "sketch": ("sketch", "outline", "line"),
    "negative": ("negative", "inverted"),
    "detail": ("cropped", "close-up", "partial", "zoomed"),
    "close": ("close-up", "cropped", "close"),
    "whole": ("whole", "full", "complete"),
    "small": ("small", "tiny", "distant"),
    "upside-down": ("upside-down", "inverted", "turned"),
    "dark": ("dark", "dim", "shadowy"),
    "bright": ("bright", "light", "overexposed"),
    "faded": ("faded", "pale", "low contrast"),
    "vivid": ("vivid", "colourful", "bright coloured"),
    "blurred": ("blurry", "blurred", "low resolution"),
    "grainy": ("grainy", "noisy", "bad"),
    "Activities": ("sport", "party", "game"),
    "Animals & Nature": ("nature", "animal", "wildlife"),
    "Food & Drink": ("food", "kitchen", "tasty"),
    "Objects": ("object", "household", "tool"),
    "Travel & Places": ("travel", "outdoor", "city"),
}
BEHIND: dict[str, tuple[str, ...]] = {
    "detail": ("seen from very near", "cut off", "of which a detail is seen"),
    "close": ("seen from near", "partly seen"),
    "whole": ("seen whole", "in full"),
    "small": ("seen from afar", "in the distance"),
    "left": ("from the left", "on the left side", "the left part"),
    "right": ("from the right", "on the right side", "the right part"),
    "top": ("from above", "at the top", "the upper part"),
    "bottom": ("from below", "at the bottom", "the lower part"),
    "upside-down": ("upside-down", "on its head"),
    "dark": ("in the dark", "at night"),
    "bright": ("in bright light", "in the sun"),
    "blurred": ("out of focus",),
    "sketch": ("drawn with lines", "in pencil"),
    "stencil": ("in black and white", "cut out of paper"),
    "grey": ("in shades of grey", "in black and white"),
    "white ground": ("on white", "on a white ground"),
    "shaded ground": ("on two colours", "on a shaded ground"),
    "fluent-emoji": ("in 3d", "made of plastic"),
    "noto": ("by google",),
    "Activities": ("for fun", "at play"),
    "Animals & Nature": ("in nature", "in the wild"),
    "Food & Drink": ("to eat", "on a table"),
    "Objects": ("at home", "to use"),
    "Travel & Places": ("on the way", "in town"),
}
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.15),
    "yellow": (0.95, 0.85, 0.2),
    "green": (0.25, 0.65, 0.25),
    "blue": (0.2, 0.4, 0.85),
    "purple": (0.55, 0.25, 0.75),
    "pink": (0.95, 0.6, 0.75),
    "brown": (0.5, 0.3, 0.15),
    "grey": (0.5, 0.5, 0.5),
    "black": (0.1, 0.1, 0.1),
    "white": (0.95, 0.95, 0.95),
}
for _colour in COLOURS:
    FRONT[f"in {_colour}"] = (_colour,)
    BEHIND[f"in {_colour}"] = (f"in {_colour}", f"of {_colour} colour")
    BEHIND[f"{_colour} ground"] = (f"on {_colour}", f"on a {_colour} ground", f"with a {_colour} background")
FACTS = tuple({**FRONT, **BEHIND})


@dataclass(frozen=True)
class Template:
    """A caption with `{}` for the name, and the facts that it states; it fits every picture with these facts."""

    text: str
    facts: frozenset[str] = frozenset()


def generic() -> Template:
    """A caption that states no fact, so it fits every picture of the object."""
    return Template(random.choice(GENERIC))


def describe(facts: frozenset[str]) -> Template:
    """A caption that states one to three of the facts, in one of many orders."""
    said = random.sample(sorted(facts), min(len(facts), random.choice((1, 1, 2, 2, 3))))
    front = [random.choice(FRONT[f]) for f in said if f in FRONT and (f not in BEHIND or random.random() < 0.5)]
    behind = [random.choice(BEHIND[f]) for f in said if f in BEHIND and not any(w in FRONT.get(f, ()) for w in front)]
    noun = random.choice(NOUNS)
    lead, tail = " ".join(front), ", ".join(behind)
    orders = [
        f"a {lead} {noun} of a {{}} {tail}",
        f"a {noun} of a {lead} {{}} {tail}",
        f"a {lead} {{}} {tail}",
        f"{{}}, {lead} {noun} {tail}",
        f"{tail} {lead} {noun}, a {{}}",
        f"{lead} {noun} {tail} of the {{}}",
        f"the {{}} {tail} in a {lead} {noun}",
        f"{tail}, a {lead} {{}}",
    ]
    text = " ".join(random.choice(orders).split()).strip(" ,")
    return Template(text.replace(" ,", ",") + ".", frozenset(said))
