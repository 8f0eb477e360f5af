"""The settings that the page offers: which of them a method has, their limits, and the check of what a request sends.

A request can hold anything, whatever the widgets allow, so that every value is checked here: it is plain (a number, a
short text, one of a few words), and none is ever read as a file, a configuration or a reference to one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Le

from tpt.cli.compose import refuse_stream
from tpt.cli.options import comments_of, known_option, values_of
from tpt.errors import Share, UserError, refuse

MOST_VIEWS = 128
MOST_STEPS = 20
MOST_WORDS = 200  # characters of context words
MOST_NAMES = 100_000  # characters of class names; the thousand of ImageNet have some 14,000
WORDS_ALONE = "the context words"
TEMPLATES = (WORDS_ALONE, "imagenet_7", "imagenet_80")
PLACEHOLDER = "the paper's"


@dataclass(frozen=True)
class Control:
    """A setting of the page.

    Args:
        key: of the setting, such as `method.steps`.
        label, info: of the widget.
        kind: of the widget, a class of gradio.
        limits: of the widget, its arguments.
        check: name and value -> the value, or a UserError; None takes the method's own value.
    """

    key: str
    label: str
    info: str
    kind: str
    limits: Mapping[str, Any]
    check: Callable[[str, Any], Any] = field(repr=False)

    def checked(self, value: Any) -> Any:
        """The value for the configuration; None stands for the method's own."""
        return None if value is None else self.check(self.label, value)


def within(hint: Any) -> Callable[[str, Any], Any]:
    """A check of a value against the limits of an annotation."""
    return lambda name, value: refuse(name, hint, value)


def text(name: str, value: Any, most: int) -> str:
    """The value, a text of at most `most` characters; raises a UserError."""
    if not isinstance(value, str) or len(value) > most or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"Expected `{name}` to be a text of at most {most:,} characters, got {str(value)[:40]!r}.")
    return value


def _templates(name: str, value: Any) -> str | None:
    if value not in TEMPLATES:
        raise UserError(f"Expected `{name}` to be one of {', '.join(TEMPLATES)}, got {str(value)[:40]!r}.")
    return None if value == WORDS_ALONE else str(value)


CONTROLS = (
    Control(
        "method.steps",
        "Steps",
        "of the optimizer",
        "Number",
        {"minimum": 0, "maximum": MOST_STEPS, "precision": 0, "placeholder": PLACEHOLDER},
        within(Annotated[int, Ge(0), Le(MOST_STEPS)]),
    ),
    Control(
        "method.lr",
        "Learning rate",
        "of the optimizer",
        "Number",
        {"minimum": 0, "maximum": 1, "step": 0.001, "placeholder": PLACEHOLDER},
        within(Share),
    ),
    Control(
        "method.selection_p",
        "Selected",
        "share of the views, the surest",
        "Number",
        {"minimum": 0, "maximum": 1, "step": 0.05, "placeholder": PLACEHOLDER},
        within(Share),
    ),
    Control(
        "context.ctx_init",
        "Context words",
        "[CLS] marks the place of the class name; at the end without it",
        "Textbox",
        {"max_lines": 1, "max_length": MOST_WORDS},
        functools.partial(text, most=MOST_WORDS),
    ),
    Control(
        "method.templates",
        "Prompts",
        "the words, or an ensemble of templates",
        "Dropdown",
        {"choices": list(TEMPLATES)},
        _templates,
    ),
)


def default(control: Control, method: str) -> tuple[bool, Any]:
    """Whether a method has the setting, and what its widget shows at first; None where the paper's value varies."""
    section, key = control.key.split(".")
    found = values_of(section, method if section == "method" else "words")
    value = found.get(key)
    if control.kind == "Dropdown":
        return key in found, value or WORDS_ALONE
    return key in found, None if value == "paper" else value


def about(method: str) -> tuple[str, str]:
    """A line on a method and the address of its paper, "" without one: the comments that its options begin with."""
    said = comments_of("method", method)
    paper = next((line for line in said if line.startswith("https://")), "")
    return next((line for line in said if line != paper), ""), paper


def chosen_method(value: Any) -> str:
    """The value, an option of conf/method that looks at each picture alone; raises a UserError for any other."""
    method = known_option("method", text("Method", value, MOST_WORDS))
    refuse_stream(method, "the page")
    return method


def chosen_names(value: Any) -> list[str]:
    """Class names as they were typed, a name a line or with commas on a single line; they are text, never a file."""
    lines = [line.strip() for line in text("Class names", value, MOST_NAMES).splitlines() if line.strip()]
    return [part.strip() for part in lines[0].split(",")] if len(lines) == 1 and "," in lines[0] else lines


def chosen_values(method: str, values: Sequence[Any]) -> dict[str, Any]:
    """Settings by their keys, of those that the method has and whose widgets are not empty.

    Args:
        method: an option of conf/method.
        values: one for each of `CONTROLS`.

    Raises:
        UserError: a value that is not within the limits.
    """
    found: dict[str, Any] = {}
    for control, value in zip(CONTROLS, values, strict=True):
        if default(control, method)[0] and (checked := control.checked(value)) is not None:
            found[control.key] = checked
    if "min_selected" in values_of("method", method):
        found["method.min_selected"] = 1  # a small share of a few views keeps one, since no widget mends an error
    return found
