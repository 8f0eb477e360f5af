"""The settings that the page offers: which of them a method has, their limits, and checks of a request's values.

A request can hold anything, whatever the widgets allow, so every value is checked here: it is plain (a number, a short
text, one of a few words), and is never read as a file, a configuration or a reference to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import StringConstraints
from typing_extensions import Doc

from tpt.cli.compose import method_class
from tpt.cli.options import known_option, refuse_stream, values_of
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


@dataclass(frozen=True)
class Control:
    """A setting that the page offers."""

    key: str
    label: str
    info: str
    kind: str  # of the widget, a class of gradio
    limits: Mapping[str, Any]  # further arguments of the widget
    hint: Any  # annotation that its values must satisfy


def _number(key: str, label: str, info: str, most: float, hint: Any, **limits: float) -> Control:
    """A control for a number from 0 to `most`."""
    return Control(
        key, label, info, "Number", {"minimum": 0, "maximum": most, "placeholder": "the paper's", **limits}, hint
    )


_WORDS = "[CLS] marks where the class name goes; the default is the end"
_TEMPLATES = "the context words, or an ensemble of templates"
CONTROLS = (
    _number("method.steps", "Steps", "of the optimizer", MOST_STEPS, Steps, precision=0),
    _number("method.lr", "Learning rate", "of the optimizer", 1, Share, step=0.001),
    _number("method.selection_p", "Selected", "fraction of the views, the most confident ones", 1, Share, step=0.05),
    Control("context.ctx_init", "Context words", _WORDS, "Textbox", {"max_lines": 1, "max_length": MOST_WORDS}, Words),
    Control("method.templates", "Prompts", _TEMPLATES, "Dropdown", {"choices": list(TEMPLATES)}, Literal[TEMPLATES]),
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
    refuse_stream(method, "the page", method_class(method).kind)
    return method


def chosen_names(value: Any) -> list[str]:
    """Class names as typed: one per line, or separated by commas on a single line; never read as a file name."""
    lines = [line.strip() for line in refuse("Class names", Names, value).splitlines() if line.strip()]
    return [part.strip() for part in lines[0].split(",")] if len(lines) == 1 and "," in lines[0] else lines


def chosen_values(method: str, values: Sequence[Any]) -> dict[str, Any]:
    """The settings of the filled-in `CONTROLS` that the method has; raises a UserError for a value outside its limits.

    None leaves a setting at the method's default.
    """
    found: dict[str, Any] = {}
    for control, value in zip(CONTROLS, values, strict=True):
        if value is not None and default(control, method)[0]:
            checked = refuse(control.label, control.hint, value)
            found |= {control.key: checked} if checked != WORDS_ALONE else {}
    if "min_selected" in values_of("method", method):
        found["method.min_selected"] = 1  # so that a small share of few views keeps one instead of failing
    return found
