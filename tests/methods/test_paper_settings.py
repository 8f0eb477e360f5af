"""Settings of the methods' papers: the defaults in Python equal `paper` in a configuration."""

import inspect
from typing import Any

import pytest

import tpt
from tpt.methods import Method

METHODS = [kind for name in tpt.__all__ if isinstance(kind := getattr(tpt, name), type) and issubclass(kind, Method)]


def defaults(kind: type[Method]) -> dict[str, Any]:
    """Defaults of the constructor and of its base classes' constructors."""
    made = [inspect.signature(base.__init__).parameters.values() for base in reversed(kind.__mro__)]
    return {each.name: each.default for parameters in made for each in parameters}


@pytest.mark.parametrize("kind", METHODS)
def test_defaults_are_the_papers(kind: type[Method]) -> None:
    own = defaults(kind)
    assert {name: own[name] for name in kind.paper_settings()} == kind.paper_settings()


def test_enough_methods_have_paper_settings() -> None:
    assert sum(bool(kind.paper_settings()) for kind in METHODS) >= 10
