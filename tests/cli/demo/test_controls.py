"""The page's widgets: which settings each method has, and how their values reach the configuration."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from tpt.cli.compose import compose
from tpt.cli.demo.app import CONTROLS, TEMPLATES, chosen_names, chosen_values, default
from tpt.cli.demo.page import about_html
from tpt.cli.options import options
from tpt.cli.settings.parts import leaves
from tpt.errors import UserError

EMPTY = [None] * len(CONTROLS)
GIVEN = [2, 0.01, 0.5, "a drawing of a", TEMPLATES[1]]


QUICK = ("tpt", "zero_shot", "mta", "tps", "rlcf")


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=() if m in QUICK else pytest.mark.slow) for m in options("method")]
)
def test_widget_values_become_settings_of_the_method(method: str) -> None:
    """The initial values leave the configuration unchanged, and every given value belongs to a setting."""
    cfg = compose([("method", method)])
    chosen = chosen_values(method, GIVEN)
    assert set(chosen) <= {*dict(leaves(OmegaConf.to_container(cfg)))}
    has = {control.key for control in CONTROLS if default(control, method)[0]}
    assert "context.ctx_init" in has and has == set(chosen) - {"method.min_selected"}
    shown = [default(control, method)[1] for control in CONTROLS]
    for key, value in chosen_values(method, shown).items():
        assert key == "method.min_selected" or OmegaConf.select(cfg, key) == value
    assert set(chosen_values(method, EMPTY)) <= {"method.min_selected"}


def test_each_method_shows_only_its_own_widgets() -> None:
    shown = {
        method: [control.label for control in CONTROLS if default(control, method)[0]] for method in options("method")
    }
    assert shown["tpt"] == ["Steps", "Learning rate", "Selected", "Context words"]
    assert shown["zero_shot"] == ["Context words", "Prompts"] and len(shown["tps"]) == 5


@pytest.mark.parametrize("method", options("method"))
def test_each_method_has_a_description_and_a_paper(method: str) -> None:
    assert re.search(r'">\w[^<]{10,}\. <a href="https://', about_html(method))


def test_class_names_one_per_line_or_comma_separated() -> None:
    assert chosen_names("a, b ,c") == ["a", "b", "c"]
    assert chosen_names("a, b\n\n c \n") == ["a, b", "c"]
    with pytest.raises(UserError, match="Expected `Class names` to be a text"):
        chosen_names(["a", "b"])
