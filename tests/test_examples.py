"""Examples in docstrings run: `testpaths` names every module that has some."""

import tomllib

from tests.conftest import ROOT


def test_testpaths_name_every_module_with_examples() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "--doctest-modules" in settings["addopts"]
    run = [ROOT / path for path in settings["testpaths"]]
    with_examples = [path for path in (ROOT / "src").rglob("*.py") if ">>> " in path.read_text()]
    assert len(with_examples) >= 8
    missed = [path for path in with_examples if not any(path.is_relative_to(place) for place in run)]
    assert not missed, "add them to testpaths"
    assert all(path.exists() for path in run)
