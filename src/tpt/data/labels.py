"""Interprets labels as class numbers or class names, and refuses ambiguous ones."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpt.data.names import nfc
from tpt.errors import DataError, Filled
from tpt.files import read_bytes, readable
from tpt.files.lists import Names, decode_text, parse_list

ClassNames = Filled | Path | Sequence[str]  # a file, or the names themselves
_WHOLE = re.compile(r"(-?[0-9]{1,18})(\.0*)?")  # pandas writes 1.0 if a column had missing values
_FRACTION = re.compile(r"-?[0-9]*\.[0-9]+(e[-+]?[0-9]+)?", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+|n\d{8})[\s._-]+\S*[^\W\d]")  # a folder's number before its name
_JSON_KEYS = ("label", "cls", "class", "class_name", "target")  # of the label in an object
_NOTHING = {"", "nan", "na", "n/a", "<na>", "none", "null", "nat"}


def number_labels(
    labels: Sequence[Any], class_names: ClassNames | None, path: Path, first: int | None = None
) -> tuple[list[str], list[int]]:
    """The class names, and the class index of each label, which may be a number (3, 3.0, "3", "3.0"), a name or a key.

    Args:
        class_names: as for `read_names`; None uses the sorted labels.  If all labels are keys of it, the keys decide.
        path: source of the labels, for messages.
        first: number of the first class, 0 or 1; with None, labels that fit both are an error.

    Raises:
        DataError: labels are missing, out of range, not among the names, or ambiguous.
    """
    texts = [_text(label) for label in labels]
    if missing := sum(not text for text in texts):
        raise DataError(f"{missing} of the {len(texts)} rows of {path} have no label. Fill them.")
    short = [str(int(match[1])) if (match := _WHOLE.fullmatch(text)) else text for text in texts]  # 1 for 1.0 and 01
    others = sorted({text for text in texts if not _WHOLE.fullmatch(text)})
    names: list[str] | None = None
    if class_names is not None:
        given = read_names(class_names)
        keys, names = given.places(), list(given)
        by_key = [keys.get(text, keys.get(number)) for text, number in zip(texts, short, strict=True)]
        found = [place for place in by_key if place is not None]
        if len(found) == len(texts):
            return names, found
        if keys and (found or not others):
            strange = texts[by_key.index(None)]
            raise DataError(
                f"Expected labels of {path} among the keys in data.class_names, such as "
                f"{next(iter(keys))}, got {strange!r}; add its line."
            )
    if texts and not others:
        return _by_number(texts, short, names, path, first)
    empty = {*others} < {*texts} and all(text.lower() in _NOTHING for text in others)
    if names is None and texts and (empty or all(map(_FRACTION.fullmatch, others))):
        raise DataError(
            f"Expected whole numbers or names as labels in {path}, got {others[0]!r}: no label, a measured value, or a "
            "class; fill it, or set data.class_names to a file of the names if it is one."
        )
    names = sorted(set(texts)) if names is None else names
    place = {name.strip(): k for k, name in enumerate(names)}
    if unknown := [text for text in (*others, *texts) if text not in place]:
        raise DataError(f"Expected labels out of data.class_names in {path}, got {unknown[0]!r}; add it there.")
    return names, [place[text] for text in texts]


def _text(label: Any) -> str:
    """A label as text, with `1.0` and `True` as written; empty for a missing value."""
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    return nfc(str(label)).strip()


def _by_number(
    texts: list[str], short: list[str], names: list[str] | None, path: Path, first: int | None
) -> tuple[list[str], list[int]]:
    if names is None:
        raise DataError(
            f"The labels in {path} are numbers, and there are no class names. Set data.class_names to a text file with "
            "one name per line."
        )
    numbers = [int(number) for number in short]
    low, high, count = min(numbers), max(numbers), len(names)
    place = {name.strip(): k for k, name in enumerate(names)}
    named = [k for text, n in zip(texts, short, strict=True) if (k := place.get(text, place.get(n))) is not None]
    if first is None and len(named) == len(numbers):
        if low >= 0 and high < count and named != numbers:
            raise DataError(
                f"The labels of {path} are ambiguous: they may count classes from 0 or be names of classes. Order "
                "data.class_names so that both agree, or write names."
            )
        return names, named
    if first is None and low >= 1 and high == count - 1:
        raise DataError(
            f"The labels of {path} are ambiguous: {low} to {high} may count {count} classes from 0 ({low} is "
            f"{names[low]!r}) or from 1 ({low} is {names[low - 1]!r}). Set data.first_label=0 or data.first_label=1."
        )
    start = first or 0
    if low < start or high >= count + start:
        from_one = ", or set data.first_label=1 if labels start at 1" if (first, high) == (None, count) and low else ""
        raise DataError(
            f"Expected labels {start} to {count + start - 1} in {path}, got {low if low < start else high}; check "
            f"data.class_names{from_one}."
        )
    return names, [number - start for number in numbers]


def read_names(class_names: ClassNames) -> Names:
    """Class names from a list of texts, or from a file in any form of `parse_list`; raises a DataError."""
    if not isinstance(class_names, str | Path):
        if strange := [name for name in class_names if not isinstance(name, str)]:
            raise DataError(f"Expected class names as texts, got {strange[0]!r}; put it in quotes.")
        pairs = [name.split("\t", 1) for name in map(nfc, class_names) if "\t" in name]
        if pairs and len(pairs) == len(class_names):
            return Names([name.strip() for _, name in pairs], [(key,) for key, _ in pairs])
        return Names(map(nfc, class_names), getattr(class_names, "keys", ()))
    path = Path(class_names).expanduser()
    with readable(f"the class names in {path}", "Check data.class_names"):
        return parse_list(nfc(decode_text(read_bytes(path))), path)


def notes_on_classes(names: Sequence[str], labels: Sequence[int]) -> list[str]:
    """Notes on unusual classes: without images, as many as images, or with numbers before their names."""
    used, notes = Counter(labels), []
    if empty := [name for k, name in enumerate(names) if k not in used]:
        notes.append(
            f"{len(empty)} of {len(names)} classes have no image, such as {empty[0]!r}; they stay among the answers"
        )
    if len(used) == len(labels) > 1:
        notes.append(f"each of the {len(labels)} images has its own class: is the label the name of a class?")
    if all(_NUMBERED.match(name) for name in names):
        notes.append(
            f"the class names begin with numbers, such as {names[0]!r}, which go into the prompts; data.class_names "
            "gives others, one `folder<TAB>name` or `label<TAB>name` per line"
        )
    return notes


def json_label(content: str) -> str:
    """The label in a JSON text: a number, a text, or an object with one; raises a ValueError if it is not clear."""
    value = json.loads(content)
    found = [value[key] for key in _JSON_KEYS if key in value] if isinstance(value, dict) else [value]
    labels = {str(one) for one in found if isinstance(one, int | float | str) and not isinstance(one, bool)}
    if len(labels) != 1:
        raise ValueError(f"JSON that is not one number, text or object with one `label`: {content[:60]}")
    return labels.pop()
