"""Texts in place of a context: templates, from open_clip or a user, and sentences that describe each class."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from tpt.errors import UserError, text_key
from tpt.files import at_home, is_file, read_bytes, readable
from tpt.files.lists import decode_text, parse_list

_SETS = {"imagenet_80": OPENAI_IMAGENET_TEMPLATES, "imagenet_7": SIMPLE_IMAGENET_TEMPLATES}


def load_templates(source: str | Sequence[str]) -> list[str]:
    """Loads templates with one `{}` at the position of the class name; `{c}`, as in CLIP_benchmark, means the same.

    The source is "imagenet_80" (the 80 of OpenAI's notebook), "imagenet_7" (its best seven), a text file with one
    template per line or a list in Python, JSON or YAML, or the templates themselves.
    """
    if not isinstance(source, str):
        templates = [str(template) for template in source]
    elif source in _SETS:
        templates = [template("{}") for template in _SETS[source]]
    elif is_file(source):
        path = Path(source).expanduser()
        with readable(f"the templates in {path}", "Correct it"):
            templates = parse_list(decode_text(read_bytes(path)), path, prose=True)
    else:
        raise UserError(
            f"Expected `templates` to be one of {', '.join(_SETS)}, a list or an existing text file, got {source!r}."
        )
    templates = [template.replace("{c}", "{}") for template in templates]
    if not templates:
        raise UserError(f"There is no template in {source!r}. Write one per line.")
    for template in templates:
        if template.count("{}") != 1:
            raise UserError(f"Expected one `{{}}` for the class name in every template, got {template!r}.")
    return templates


def load_descriptions(
    source: str | Path | Mapping[str, str | Sequence[str]], class_names: Sequence[str]
) -> tuple[list[list[str]], str]:
    """Loads the sentences of each class, and a note on sentences of other classes, which is empty if there are none.

    Language models write such sentences (CuPL: Pratt et al., ICCV 2023).  The source is a JSON file
    `{"class": ["sentence", ...]}`, a CSV file with columns `class` and `sentence`, or such a dictionary; a single
    sentence needs no list.  Names match without regard to case, and with spaces equal to underscores.  Raises a
    UserError for another content, or if a class has no sentence.
    """
    given = list(source.items()) if isinstance(source, Mapping) else _read(source)
    found: dict[str, list[str]] = {}
    given = [(name, [texts] if isinstance(texts, str) else texts) for name, texts in given]
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


def _read(source: str | Path) -> list[tuple[str, str | Sequence[str]]]:
    """Class names, each with some of its sentences."""
    path = at_home(source)
    what = f'`descriptions` {path} as {{"class": ["sentence", ...]}} or as a CSV file with columns class and sentence'
    with readable(what, "Correct it", UserError):
        text = read_bytes(path).decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            return [(row["class"], [row["sentence"] or ""]) for row in csv.DictReader(io.StringIO(text, newline=""))]
        found = list(dict(json.loads(text)).items())
        for name, sentences in found:
            listed = [sentences] if isinstance(sentences, str) else sentences
            if not isinstance(listed, list) or not all(isinstance(sentence, str) for sentence in listed):
                raise TypeError(f"{name!r} has no list of sentences")
        return found
