"""`print_config=true`: all settings of a run, as YAML, before it starts."""

from __future__ import annotations

import os
import sys

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.syntax import Syntax

from tpt.engine.printing import printable, say


def show_settings(cfg: DictConfig) -> None:
    """Prints all settings if `print_config` is set, in colours on a terminal; the first process alone."""
    if not cfg.print_config or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    text = OmegaConf.to_yaml(cfg, resolve=True)
    if sys.stdout.isatty():
        Console().print(Syntax(printable(text), "yaml", theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        say(text)
