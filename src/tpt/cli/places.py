"""The installed programs, and the location of their configuration."""

from __future__ import annotations

import sys
from pathlib import Path

# Console program -> (module with its `main`, or with the `run` of a Hydra program; purpose), started by `opening`.
PROGRAMS = {
    "tpt-test": ("tpt.cli.programs.test_time", "test-time prompt tuning and other methods; test_time.py of a checkout"),
    "tpt-train": ("tpt.cli.programs.train_coop", "few-shot training of a context, CoOp and CoCoOp; train_coop.py"),
    "tpt-predict": ("tpt.cli.programs.predict", "predictions for your own pictures, without labels, as a table"),
    "tpt-demo": ("tpt.cli.programs.demo", "a web page: one picture, its views, the answers before and after"),
    "tpt-attack": ("tpt.cli.programs.attack", "writes adversarial copies of a dataset, to test robustness"),
    "tpt-report": ("tpt.cli.programs.report", "tables and figures of runs, next to the published numbers"),
    "tpt-views": ("tpt.cli.programs.views", "the views of one image of a run, with the selected ones framed"),
    "tpt-words": ("tpt.cli.programs.words", "the vocabulary words nearest to a learned context"),
    "tpt-data": ("tpt.cli.programs.data", "checks and downloads the paper's datasets"),
    "tpt-cache": ("tpt.cli.programs.cache", "shows and clears the feature cache"),
}
SEARCHED = "hydra.searchpath"
FLAGS = ("--config-dir", "-cd")  # name a folder of the user's own options, as the list SEARCHED does
FILE = "file://"


def config_dir() -> Path:
    """The folder of the YAML files: inside an installed package, or next to pyproject.toml in a checkout."""
    package = Path(__file__).parents[1]
    installed, checkout = package / "conf", package.parents[1] / "conf"
    return installed if installed.is_dir() else checkout


def command(config_name: str) -> str:
    """The command of a program: `tpt-test` if installed, or `python test_time.py` in a checkout."""
    if Path(sys.argv[0]).suffix == ".py":
        return f"python {config_name}.py"
    return next(name for name, (module, _) in PROGRAMS.items() if module.endswith(f".{config_name}"))
