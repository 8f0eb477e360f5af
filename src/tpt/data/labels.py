"""What a label is: the number of a class, or its name; refused if it may be either."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpt.data.names import composed
from tpt.errors import DataError

_WHOLE = re.compile(r"(-?[0-9]{1,18})(\.0*)?")  # pandas writes 1.0 where a column once had a gap
_FRACTION = re.compile(r"-?[0-9]*\.[0-9]+(e[-+]?[0-9]+)?", re.IGNORECASE)
_NOTHING = {"", "nan", "na", "n/a", "<na>", "none", "null", "nat"}
_JSON_KEYS = ("label", "cls", "class", "class_name", "target")  # of a label in a JSON object, in this order


def number_labels(labels: Sequence[Any], names: list[str] | None, path: Path) -> tuple[list[str], list[int]]:
    """Class names and the number of each label among them.

    Args:
        labels: whole numbers (`3`, `3.0`, "3", "3.0") that count into `names` from 0, or names.
        names: of the classes; None takes the sorted labels.
        path: named in errors.

    Raises:
        DataError: labels that are missing, out of range or not among the names, or that can be read in two ways.
    """
    texts = [_text(label) for label in labels]
    missing = sum(not text for text in texts)
    if missing:
        raise DataError(f"Expected a label in every row of {path}, but {missing} are empty; fill them.")
    numbers = [int(found[1]) if (found := _WHOLE.fullmatch(text)) else None for text in texts]
    if names is not None:
        names = [composed(name) for name in names]
    whole = [k for k in numbers if k is not None]
    if len(whole) == len(texts) and texts:
        return _by_number(texts, whole, names, path)
    _refuse_half_numbers(texts, bool(whole), names, path)
    return _by_name(texts, names, path)


def _text(label: Any) -> str:
    """A label as text: `1.0` and `True` as they are written, nothing for what stands for no value."""
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    return composed(str(label)).strip()


def _by_number(
    texts: list[str], numbers: list[int], names: list[str] | None, path: Path
) -> tuple[list[str], list[int]]:
    if names is None:
        raise DataError(
            f"Expected class names for the numbered labels of {path}, got none; set data.class_names to a text "
            "file with a name a line."
        )
    strange = [k for k in numbers if not 0 <= k < len(names)]
    place = {name.strip(): k for k, name in enumerate(names)}
    named = [place.get(text, place.get(str(k))) for text, k in zip(texts, numbers, strict=True)]
    found = [k for k in named if k is not None]
    if len(found) < len(named):
        if strange:
            raise DataError(
                f"Expected labels 0 to {len(names) - 1} in {path}, got {strange[0]}; check data.class_names."
            )
        return names, numbers
    differing = [(text, k, by_name) for text, k, by_name in zip(texts, numbers, found, strict=True) if k != by_name]
    if differing and not strange:
        text, k, by_name = differing[0]
        raise DataError(
            f"Expected labels of one meaning in {path}, but {text} may be class {k}, {names[k]!r}, or the class named "
            f"{text!r}, {by_name}; order data.class_names so that both agree, or write names."
        )
    return names, found


def _refuse_half_numbers(texts: list[str], some_whole: bool, names: list[str] | None, path: Path) -> None:
    """Raises a DataError if labels look like numbers, but not all are whole ones."""
    others = sorted({text for text in texts if not _WHOLE.fullmatch(text)})
    if names is not None and all(text in {name.strip() for name in names} for text in others):
        return
    if some_whole and all(text.lower() in _NOTHING for text in others):
        raise DataError(
            f"Expected a label in every row of {path}, but {others[0]!r} stands among the numbers: no label, or a "
            "class of that name; fill it, or write names."
        )
    if others and all(_FRACTION.fullmatch(text) for text in others):
        raise DataError(
            f"Expected whole numbers or names as labels in {path}, got {others[0]!r}: a measured value, or a class of "
            "that name; set data.class_names to a file of the names if they are."
        )


def _by_name(texts: list[str], names: list[str] | None, path: Path) -> tuple[list[str], list[int]]:
    names = sorted(set(texts)) if names is None else names
    place = {name.strip(): k for k, name in enumerate(names)}
    strange = sorted(set(texts) - set(place))
    if strange:
        raise DataError(f"Expected labels out of data.class_names in {path}, got {strange[0]!r}; add it there.")
    return names, [place[text] for text in texts]


def json_label(content: str) -> str:
    """The label in a JSON text: a number, a text, or an object that holds one.

    Raises:
        ValueError: it is no JSON, or holds none or several.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    if isinstance(value, dict):
        found = {key: value[key] for key in _JSON_KEYS if isinstance(value.get(key), int | float | str)}
        if len({str(v) for v in found.values()}) > 1:
            shown = " or ".join(f"{key}={v!r}" for key, v in found.items())
            raise ValueError(f"its label may be {shown}; leave one of them")
        if not found:
            raise ValueError(f"a JSON object without {', '.join(_JSON_KEYS)}: {', '.join(map(str, value))[:100]}")
        value = next(iter(found.values()))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"JSON that is neither a number nor a text: {content[:60]}")
    return str(value)
