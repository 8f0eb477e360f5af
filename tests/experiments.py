"""The commands that experiments name, and the jobs that Hydra makes of them."""

from __future__ import annotations

import shlex
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SMOKE = [name for name in EXPERIMENTS if name.endswith("_smoke") and "contexts" not in name]


def commands_of(experiment: str) -> list[tuple[str, list[str]]]:
    """(script, arguments) of each command on the experiment's first line of words; the last one is its own."""
    package, command, *_ = (FOLDER / f"{experiment}.yaml").read_text().splitlines()
    assert package == "# @package _global_" and command.startswith("# ")
    found = []
    for part in command.removeprefix("# ").split(" && "):
        python, script, *arguments = shlex.split(part)
        assert python == "python" and (ROOT / script).is_file()
        found.append((script, arguments))
    return found


def script_of(experiment: str) -> str:
    """The script whose settings an experiment has, without its ending."""
    return Path(commands_of(experiment)[-1][0]).stem


def jobs_of(experiment: str) -> list[list[str]]:
    """The overrides of every job of an experiment's own command, as Hydra makes them."""
    _, arguments = commands_of(experiment)[-1]
    content = OmegaConf.load(FOLDER / f"{experiment}.yaml")
    swept = OmegaConf.select(content, "hydra.sweeper.params", default=None) or {}
    assert bool(swept) == ("-m" in arguments)
    overrides = [f"{key}={values}" for key, values in swept.items()] + [a for a in arguments if a != "-m"]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
    return batch
