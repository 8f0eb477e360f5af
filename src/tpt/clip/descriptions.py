"""Sentences that describe each class, as language models write them (CuPL: Pratt et al., ICCV 2023)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tpt.errors import UserError, text_key
from tpt.files import at_home, read_bytes, readable


def load_descriptions(
    source: str | Path | Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> tuple[list[list[str]], str]:
    """Loads the sentences of each class, and a note on sentences of other classes, which is empty if there are none.

    The source is a JSON file `{"class": ["sentence", ...]}` as for CuPL, a CSV file with columns `class` and
    `sentence`, or such a dictionary.  Names match without regard to case, and with spaces equal to underscores.
    Raises a UserError if the source has another content, or a class has no sentence.
    """
    given = list(source.items()) if isinstance(source, Mapping) else _read(source)
    found: dict[str, list[str]] = {}
    for name, sentences in given:
        found.setdefault(text_key(name), []).extend(text.strip() for text in sentences if text.strip())
    if missing := [name for name in class_names if not found.get(text_key(name))]:
        where = "`descriptions`" if isinstance(source, Mapping) else str(source)
        raise UserError(
            f"{where} lacks sentences for {len(missing)} of the {len(class_names)} classes, such as {missing[0]!r}. "
            "Add them."
        )
    tested = {text_key(name) for name in class_names}
    surplus = list(dict.fromkeys(name for name, _ in given if text_key(name) not in tested))
    note = f"descriptions of {len(surplus)} classes that are not tested, such as {surplus[0]!r}" if surplus else ""
    return [found[text_key(name)] for name in class_names], note


def _read(source: str | Path) -> list[tuple[str, Sequence[str]]]:
    """Class names, each with some of its sentences."""
    path = at_home(source)
    what = f'`descriptions` {path} as {{"class": ["sentence", ...]}} or as a CSV file with columns class and sentence'
    with readable(what, "Correct it", UserError):
        text = read_bytes(path).decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            return [(row["class"], [row["sentence"] or ""]) for row in csv.DictReader(io.StringIO(text, newline=""))]
        found = list(dict(json.loads(text)).items())
        for name, sentences in found:
            if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
                raise TypeError(f"{name!r} has no list of sentences")
        return found
