"""The commands in the experiment files, and the jobs that Hydra makes from them."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "experiment"
# The files `smoke*` are added after an experiment; they shorten it and use the bundled data.
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("smoke"))
SHORTENING = sorted(path.stem for path in FOLDER.glob("smoke*.yaml"))
_OWN = {
    "table_contexts": "smoke_contexts",
    "transfer": "smoke_transfer",
    "transfer_contexts": "smoke_transfer_contexts",
    "base_to_new": "smoke_base_to_new",
}
# Has no short version: the short version of base_to_new reads bundled contexts.
_NONE = ("base_to_new_contexts",)
SHORT = {
    name: f"[{name},{_OWN.get(name, 'smoke')}]" for name in EXPERIMENTS if name not in _NONE
}  # experiment -> `experiment=` value of its short version
SHORT_TESTS = [form for name, form in SHORT.items() if "contexts" not in name]


def last_of(experiment: str) -> str:
    """Returns the last name in a list such as `[table1,smoke]`, or a single name unchanged."""
    return experiment.strip("[]").split(",")[-1]


def commands_of(experiment: str) -> list[tuple[str, list[str]]]:
    """Returns (script, arguments) of each command in the experiment's first comment; the last one runs the experiment.

    A short version takes the commands of its `smoke` file, with `experiment` instead of the file's example.
    """
    package, command, *_ = (FOLDER / f"{last_of(experiment)}.yaml").read_text().splitlines()
    assert package == "# @package _global_" and command.startswith("# ")
    found = []
    for part in command.removeprefix("# ").split(" && "):
        python, script, *arguments = shlex.split(part)
        assert python == "python" and (ROOT / script).is_file()
        found.append((script, arguments))
    script, arguments = found[-1]
    own = [f"experiment={experiment}" if a.startswith("experiment=") else a for a in arguments]
    return [*found[:-1], (script, own)]


def script_of(experiment: str) -> str:
    """Returns the name, without suffix, of the script that an experiment configures."""
    return Path(commands_of(experiment)[-1][0]).stem


@cache
def swept_by(experiment: str) -> dict[str, str]:
    """Returns the sweep that an experiment defines: setting -> values."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose(script_of(experiment), [f"experiment={experiment}"], return_hydra_config=True)
    return {str(key): str(values) for key, values in (cfg.hydra.sweeper.params or {}).items()}


def jobs_of(experiment: str) -> list[list[str]]:
    """Returns the overrides of each job of an experiment's own command, as Hydra makes them."""
    _, arguments = commands_of(experiment)[-1]
    swept = swept_by(experiment)
    assert bool(swept) == ("-m" in arguments)
    overrides = [f"{key}={values}" for key, values in swept.items()] + [a for a in arguments if a != "-m"]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
    return batch
