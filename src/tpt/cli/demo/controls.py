"""The settings that the page offers: which of them a method has, their limits, and checks of a request's values.

A request can hold anything, whatever the widgets allow, so every value is checked here: it is plain (a number, a short
text, one of a few words), and is never read as a file, a configuration or a reference to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Le
from pydantic import StringConstraints
from typing_extensions import Doc

from tpt.cli.compose import picture_method
from tpt.cli.options import known_option, values_of
from tpt.errors import Share, refuse

MOST_VIEWS = 128
MOST_STEPS = 20
MOST_WORDS = 200  # characters of context words
MOST_NAMES = 100_000  # characters of class names; the thousand of ImageNet have some 14,000
WORDS_ALONE = "the context words"
TEMPLATES = (WORDS_ALONE, "imagenet_7", "imagenet_80")
Steps = Annotated[int, Ge(0), Le(MOST_STEPS)]
Words = Annotated[str, StringConstraints(max_length=MOST_WORDS), Doc(f"a text of at most {MOST_WORDS} characters")]
Names = Annotated[str, StringConstraints(max_length=MOST_NAMES), Doc(f"a text of at most {MOST_NAMES} characters")]


class Control(NamedTuple):
    """A setting that the page offers."""

    key: str
    hint: Any  # annotation that its values must satisfy
    kind: str  # of the widget, a class of gradio
    label: str
    info: str
    limits: dict[str, Any]  # further arguments of the widget


_NUMBER: dict[str, Any] = {"minimum": 0, "maximum": 1, "placeholder": "the paper's"}
_STEPS = {**_NUMBER, "maximum": MOST_STEPS, "precision": 0}
_SHARE = "fraction of the views, the most confident ones"
_WORDS = "[CLS] marks where the class name goes; the default is the end"
_TEMPLATES = "the context words, or an ensemble of templates"
_OF_TEXT = {"max_lines": 1, "max_length": MOST_WORDS}
CONTROLS = (
    Control("method.steps", Steps, "Number", "Steps", "of the optimizer", _STEPS),
    Control("method.lr", Share, "Number", "Learning rate", "of the optimizer", {**_NUMBER, "step": 0.001}),
    Control("method.selection_p", Share, "Number", "Selected", _SHARE, {**_NUMBER, "step": 0.05}),
    Control("context.ctx_init", Words, "Textbox", "Context words", _WORDS, _OF_TEXT),
    Control("method.templates", Literal[TEMPLATES], "Dropdown", "Prompts", _TEMPLATES, {"choices": list(TEMPLATES)}),
)


def default(control: Control, method: str) -> tuple[bool, Any]:
    """Whether a method has the setting, and its initial value; None if the paper's value varies."""
    section, key = control.key.split(".")
    found = values_of(section, method if section == "method" else "words")
    value = None if found.get(key) == "paper" else found.get(key)
    return key in found, value or WORDS_ALONE if control.kind == "Dropdown" else value


def chosen_method(value: Any) -> str:
    """The value, if it is a method that adapts to each picture alone; otherwise raises a UserError."""
    method = known_option("method", refuse("Method", Words, value))
    picture_method(method, "the page")
    return method


def chosen_names(value: Any) -> list[str]:
    """Class names as typed: one per line, or separated by commas on a single line; never read as a file name."""
    lines = [line.strip() for line in refuse("Class names", Names, value).splitlines() if line.strip()]
    return [part.strip() for part in lines[0].split(",")] if len(lines) == 1 and "," in lines[0] else lines


def chosen_values(method: str, values: Sequence[Any]) -> dict[str, Any]:
    """The settings of the filled-in `CONTROLS` that the method has; a UserError for a value outside its limits."""
    found: dict[str, Any] = {}
    for control, value in zip(CONTROLS, values, strict=True):
        if value is not None and default(control, method)[0]:
            checked = refuse(control.label, control.hint, value)
            found |= {control.key: checked} if checked != WORDS_ALONE else {}
    if "min_selected" in values_of("method", method):
        found["method.min_selected"] = 1  # so that a small share of few views keeps one instead of failing
    return found
