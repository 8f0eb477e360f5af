"""What makes two classes one: names that the model reads alike."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Hashable, Sequence

from tpt.errors import UserError

# Published lists that call two classes alike: number of classes -> their places and the name.  Their answers tie in
# the papers as here.
_PUBLISHED = {
    1000: {(657, 744): "missile", (836, 837): "sunglasses"},  # ImageNet, in OpenAI's names
    500: {(157, 244): "missile", (336, 337): "sunglasses"},  # the second half of its classes
}


def text_key(name: str) -> str:
    """A class name as the model reads it: CLIP's tokenizer ignores case, and reads `&amp;` as `&`."""
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(name)))
    return " ".join(text.replace("_", " ").split()).lower()


def ties(keys: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places of equal keys: (the first one's, a later one's)."""
    first: dict[Hashable, int] = {}
    return [(first[key], place) for place, key in enumerate(keys) if first.setdefault(key, place) != place]


def published_ties(class_names: Sequence[str]) -> list[str]:
    """The names that occur twice in a list of classes, if it is a published list known for that."""
    known = _PUBLISHED.get(len(class_names), {})
    return [name for pair, name in known.items() if all(class_names[place] == name for place in pair)]


def refuse_one_prompt(
    class_names: Sequence[str], keys: Sequence[Hashable], where: str = "", error: type[UserError] = UserError
) -> None:
    """Raises an error that shows two classes of one prompt: their logits would tie for every image.

    Args:
        class_names: K names.
        keys: of the same classes, equal if the model reads the same.
        where: they come from, for the message.
        error: to raise.
    """
    known = _PUBLISHED.get(len(class_names), {})
    found = [
        (one, other)
        for one, other in ties(keys)
        if not class_names[one] == class_names[other] == known.get((one, other))
    ]
    if not found:
        return
    one, other = found[0]
    more = f" ({len(found) - 1} more such pairs)" if len(found) > 1 else ""
    place = f" {where}" if where else ""
    raise error(
        f"Expected different classes{place}, but {_shown(class_names[one], class_names[other])} (classes {one} and "
        f"{other}) are the same prompt to the model{more}; rename one, or make them one class."
    )


def _shown(one: str, other: str) -> str:
    """Both names, so that they can be told apart if there is a difference."""
    if one == other:
        return f"{one!r} and {other!r}"
    alike = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return f"{one!a} and {other!a}" if alike else f"{one!r} and {other!r}"
