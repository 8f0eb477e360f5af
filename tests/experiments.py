"""The commands in the experiment files, and the jobs that Hydra makes from them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from tests.conftest import ROOT
from tpt.cli.program import method_label
from tpt.cli.settings.check import refuse_wrong

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
    """Returns the sweep that an experiment defines: setting -> values; `composed` checks that Hydra finds the same."""
    found: dict[str, str] = {}
    for name in experiment.strip("[]").split(","):
        content: Any = OmegaConf.load(FOLDER / f"{name}.yaml")
        for base in [base for base in content.get("defaults", ()) if isinstance(base, str) and base != "_self_"]:
            found |= swept_by(base)
        found |= OmegaConf.select(content, "hydra.sweeper.params") or {}
    return {str(key): str(values) for key, values in found.items()}


@cache
def jobs_of(experiment: str) -> list[list[str]]:
    """Returns the overrides of each job of an experiment's own command, as Hydra makes them."""
    _, arguments = commands_of(experiment)[-1]
    swept = swept_by(experiment)
    assert bool(swept) == ("-m" in arguments)
    overrides = [f"{key}={values}" for key, values in swept.items()] + [a for a in arguments if a != "-m"]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
    return batch


@dataclass(frozen=True)
class Composed:
    """A configuration, which tests share and must not change, and the parts of Hydra's own that they look at."""

    cfg: DictConfig
    params: dict[str, str]  # of the sweep
    label: str  # of the method in tables; "" for a training run
    folder: Path | None  # of a training run in the sweep


@cache
def composed(program: str, *overrides: str) -> Composed:
    """Composes and resolves a configuration, after checking that the program accepts its settings."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose(program, list(overrides), return_hydra_config=True)
    OmegaConf.set_readonly(cfg.hydra, False)
    cfg.hydra.runtime.output_dir = "nowhere"
    HydraConfig.instance().set_config(cfg)
    params = {str(key): str(values) for key, values in (cfg.hydra.sweeper.params or {}).items()}
    trains = program == "train_coop"
    folder = Path.cwd() / cfg.hydra.sweep.dir / cfg.hydra.sweep.subdir if trains else None
    label = "" if trains else method_label(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    refuse_wrong(cfg, program, OverridesParser.create().parse_overrides(list(overrides)))
    OmegaConf.resolve(cfg)
    return Composed(cfg, params, label, folder)


def job_of(experiment: str, number: int) -> Composed:
    """Composes a job of an experiment by its number."""
    found = composed(script_of(experiment), *jobs_of(experiment)[number])
    assert found.params == swept_by(experiment)
    return found
