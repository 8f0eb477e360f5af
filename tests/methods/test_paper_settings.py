"""The settings of a method's paper: the defaults in Python are what a configuration calls `paper`."""

import inspect
from typing import Any

import pytest

import tpt
from tpt.methods import Method

METHODS = [kind for name in tpt.__all__ if isinstance(kind := getattr(tpt, name), type) and issubclass(kind, Method)]


def defaults(kind: type[Method]) -> dict[str, Any]:
    """Of the constructor, and of those that it hands its other settings on to."""
    made = [inspect.signature(base.__init__).parameters.values() for base in reversed(kind.__mro__)]
    return {each.name: each.default for parameters in made for each in parameters}


@pytest.mark.parametrize("kind", METHODS)
def test_defaults_are_the_papers(kind: type[Method]) -> None:
    own = defaults(kind)
    assert {name: own[name] for name in kind.paper_settings()} == kind.paper_settings()


def test_there_are_papers_to_compare_with() -> None:
    assert sum(bool(kind.paper_settings()) for kind in METHODS) >= 10
