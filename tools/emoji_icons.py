"""Reads the Iconify JSON packages of nine emoji sets and draws their icons.

Shared by `make_emoji_shift.py` (the bundled data) and `train_emoji_mini.py` (the bundled model).
Download the packages first, each into a folder named after the set::

    mkdir icons && cd icons
    for set in noto noto-v1 fluent-emoji fluent-emoji-flat fluent-emoji-high-contrast \
               twemoji emojione emojione-monotone fxemoji; do
        npm pack "@iconify-json/$set"
        mkdir "$set" && tar xzf iconify-json-"$set"-[0-9]*.tgz -C "$set" --strip-components=1
    done
"""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

# The sets of a vendor share drawings, so seen and unseen are split by vendor, not by set.
SEEN = {
    "noto": ("noto", "noto-v1"),
    "fluent": ("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast"),
}
UNSEEN = ("twemoji", "emojione", "emojione-monotone", "fxemoji")
SEEN_SETS = tuple(name for sets in SEEN.values() for name in sets)

# Excluded: icons that differ in text, colour or count (clocks, arrows, signs, ...) instead of shape, and people and
# faces, whose names are whole sentences.
NOT_THINGS = re.compile(
    r"oclock|thirty|arrow|button|square|circle|face|flag|sign|mark|keycap|suit|person|man|woman|heart|hand"
    r"|symbol|moon|japanese|letter|busts|family|kiss|couple|people|skin|hearts|asterisk|star|red|blue|green"
    r"|white|black|medal|number|finger|id-|globe|chart|mailbox|notebook|book|page|folder|calendar|index"
    r"|paperclip|pencil"
)

# Share of classes that each seen vendor holds out from training, to choose settings.  The vendors hold out different
# classes, so training still sees each class in the other vendor's drawings.
HELD_BACK_SHARE = 0.125
HELD_BACK_SEED = 0


def load_sets(root: Path) -> dict[str, dict[str, Any]]:
    """Reads the nine `icons.json` files below `root`, by set name."""
    return {name: json.loads((root / name / "icons.json").read_text()) for name in (*SEEN_SETS, *UNSEEN)}


def categories(root: Path) -> dict[str, str]:
    """Returns the group of each icon in Noto's package, such as "Food & Drink"."""
    groups: dict[str, list[str]] = json.loads((root / "noto" / "metadata.json").read_text())["categories"]
    return {name: group for group, names in groups.items() for name in names}


def class_names(sets: dict[str, dict[str, Any]]) -> list[str]:
    """Sorted hyphenated names in every set except fxemoji (which names icons differently), without `NOT_THINGS`."""
    common = set.intersection(*(set(sets[s]["icons"]) for s in sets if s != "fxemoji"))
    return sorted(name for name in common if not NOT_THINGS.search(name))


def held_back(names: list[str]) -> dict[str, set[str]]:
    """Returns the held-out class names of each seen vendor; no class is held out for two vendors."""
    shuffled = random.Random(HELD_BACK_SEED).sample(names, len(names))
    n = round(len(names) * HELD_BACK_SHARE)
    return {vendor: set(shuffled[i * n : (i + 1) * n]) for i, vendor in enumerate(SEEN)}


def icon(icon_set: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Finds an icon by name; fxemoji writes `beer-mug` as `beermug`."""
    icons: dict[str, Any] = icon_set["icons"]
    return icons.get(name) or icons.get(name.replace("-", ""))


def render(icon_set: dict[str, Any], name: str, size: int) -> np.ndarray | None:
    """Draws the icon as (size, size, 4) RGBA in uint8; None if the set does not have it."""
    entry = icon(icon_set, name)
    if entry is None:
        return None
    width = entry.get("width", icon_set.get("width", 16))
    height = entry.get("height", icon_set.get("height", 16))
    body = entry["body"].replace("currentColor", "#222")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{entry.get("left", 0)} {entry.get("top", 0)} {width} {height}" '
        f'width="{size}" height="{size}">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def on_white(rgba: np.ndarray) -> Image.Image:
    """Draws the icon on a white background."""
    ground = Image.new("RGBA", rgba.shape[1::-1], (255, 255, 255, 255))
    ground.alpha_composite(Image.fromarray(rgba, "RGBA"))
    return ground.convert("RGB")
