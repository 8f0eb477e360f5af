"""Prompt templates for ensembles: the sets that open_clip ships, and a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from tpt.errors import UserError
from tpt.files import is_file, read_bytes, readable
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
