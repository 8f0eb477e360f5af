"""The settings of the page: which a method has, and what becomes of their values."""

from __future__ import annotations

import pytest

from tpt.cli.compose import compose
from tpt.cli.demo.controls import CONTROLS, TEMPLATES, about, chosen_names, chosen_values, default
from tpt.cli.options import options
from tpt.errors import UserError

EMPTY = [None] * len(CONTROLS)
GIVEN = [2, 0.01, 0.5, "a drawing of a", TEMPLATES[1]]


@pytest.mark.parametrize("method", options("method"))
def test_the_values_of_a_method_are_settings_that_it_has(method: str) -> None:
    """What the widgets show at first changes nothing, and what they are given is in the configuration."""
    chosen = chosen_values(method, GIVEN)
    compose([("method", method)], chosen.items())  # raises for a setting that is none
    has = {control.key for control in CONTROLS if default(control, method)[0]}
    assert "context.ctx_init" in has and has == set(chosen) - {"method.min_selected"}
    plain = compose([("method", method)])
    shown = [default(control, method)[1] for control in CONTROLS]
    same = {key: value for key, value in chosen_values(method, shown).items() if key != "method.min_selected"}
    assert set(chosen_values(method, EMPTY)) <= {"method.min_selected"}
    assert compose([("method", method)], same.items()) == plain


def test_each_method_shows_the_widgets_of_its_settings_alone() -> None:
    shown = {
        method: [control.label for control in CONTROLS if default(control, method)[0]] for method in options("method")
    }
    assert shown["tpt"] == ["Steps", "Learning rate", "Selected", "Context words"]
    assert shown["zero_shot"] == ["Context words", "Prompts"] and len(shown["tps"]) == 5


@pytest.mark.parametrize("method", options("method"))
def test_each_method_has_a_line_and_a_paper(method: str) -> None:
    said, paper = about(method)
    assert len(said) > 10 and not said.startswith("http") and paper.startswith("https://")


def test_names_are_one_a_line_or_between_commas_on_a_single_line() -> None:
    assert chosen_names("a, b ,c") == ["a", "b", "c"]
    assert chosen_names("a, b\n\n c \n") == ["a, b", "c"]
    with pytest.raises(UserError, match="Expected `Class names` to be a text"):
        chosen_names(["a", "b"])
