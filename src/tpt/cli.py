"""Command lines: Hydra around a function, and one sentence instead of a stack trace for a user's mistake."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

log = logging.getLogger(__name__)

# What a user can cause.  Anything else is a mistake of ours and keeps its trace.
_USER_ERRORS = (
    ValueError,
    OSError,
    HydraException,
    OmegaConfBaseException,
    MisconfigurationException,
    InstantiationException,
)
TRACE = "TPT_TRACE"  # set in the environment, shows the trace of a user's mistake as well


def main(run: Callable[[DictConfig], None], config_name: str) -> None:
    """Calls `run` with the configuration `conf/<config_name>.yaml` beside its script; exits 1 on a user's mistake."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing and leaving
    _quieten()
    config_dir = Path(inspect.getfile(run)).resolve().parent / "conf"
    wrapped = hydra.main(version_base="1.3", config_path=str(config_dir), config_name=config_name)(_job(run))
    try:
        wrapped()
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C into an exit with code 1 once its callbacks have run.
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("Interrupted; what was computed is kept.", file=sys.stderr)
        sys.exit(130)
    except _USER_ERRORS as error:
        if os.environ.get(TRACE):
            raise
        if not getattr(error, "said", False):
            print(f"Error: {explain(error, config_dir)}", file=sys.stderr)
        sys.exit(1)


def _quieten() -> None:
    """Leaves out what others say and a user can do nothing about."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("hydra.core.utils").setLevel(logging.CRITICAL)  # "Error executing job": our sentence says why
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _job(run: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """`run`, saying what went wrong at once: a sweep goes on with its other jobs and raises only at its end."""

    def job(cfg: DictConfig) -> None:
        try:
            _refuse_missing(cfg)
            _call(run, cfg)
        except _USER_ERRORS as error:
            overrides = " ".join(HydraConfig.get().overrides.task) if HydraConfig.initialized() else ""
            where = f" [{overrides}]" if overrides and HydraConfig.get().mode.name == "MULTIRUN" else ""  # type: ignore[union-attr]
            print(f"Error{where}: {explain(error)}", file=sys.stderr)
            error.said = True  # type: ignore[union-attr]
            raise

    job.__module__, job.__qualname__ = run.__module__, run.__qualname__
    return job


def _refuse_missing(cfg: DictConfig) -> None:
    """Names every value that the user must give and did not."""
    missing = [key for key, value in _items(OmegaConf.to_container(cfg, resolve=False)) if value == "???"]
    if missing:
        raise ValueError(f"Expected a value for `{'`, `'.join(missing)}`, got none; add {missing[0]}=VALUE.")


def _call(run: Callable[[DictConfig], None], cfg: DictConfig) -> None:
    """`run`; a setting that a component does not know (`+method.foo=1`) is the user's mistake, not a TypeError."""
    try:
        run(cfg)
    except TypeError as error:
        unknown = re.match(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if not unknown:
            raise
        raise ValueError(
            f"Expected settings that {unknown.group(1)} knows, got {unknown.group(2)!r}; see --help for all settings."
        ) from error


def explain(error: BaseException, config_dir: Path | None = None) -> str:
    """One sentence on a user's mistake."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error.__cause__))
        if not unknown or not isinstance(error.__cause__, TypeError):
            return explain(error.__cause__, config_dir)
        where = re.search(r"full_key: (\S+)", str(error))
        section = f"`{where.group(1)}`" if where else "the configuration"
        return f"Expected known settings in {section}, got {unknown.group(1)!r}; see --help for all settings."
    if found := re.match(r"Could not override '([^']+)'", str(error)):
        return _unknown_key(found.group(1), config_dir)
    return " ".join(str(error).split()) or type(error).__name__


def _unknown_key(key: str, config_dir: Path | None) -> str:
    """Names the unknown key and the closest ones that exist."""
    known: list[str] = []
    if config_dir is not None:
        names = [p.stem for p in config_dir.glob("*.yaml") if p.stem == Path(sys.argv[0]).stem]
        for name in names:
            with hydra.initialize_config_dir(str(config_dir), version_base="1.3"):
                known = [key for key, _ in _items(OmegaConf.to_container(hydra.compose(name), resolve=False))]
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "see --help for all settings."
    return f"Expected a setting that exists, got {key!r}; {hint}"


def _items(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every key of nested dictionaries, dotted, with its value."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}", value
        yield from _items(value, f"{prefix}{key}.")


def choices() -> dict[str, str]:
    """Which option of each config group was chosen."""
    return {
        k: str(v) for k, v in HydraConfig.get().runtime.choices.items() if v is not None and not k.startswith("hydra/")
    }


def method_label(cfg: DictConfig) -> str:
    """The row of the paper's tables a run stands for: clip, ensemble, coop, cocoop, tpt, tpt+coop, tpt+cocoop."""
    chosen = choices()
    learned = None if chosen["context"] in ("words", "random", "dataset") else chosen["context"]
    if chosen["method"] == "zero_shot":
        return learned or ("ensemble" if cfg.method.templates not in (None, "dataset") else "clip")
    return chosen["method"] + (f"+{learned}" if learned else "")


def output_dir() -> Path:
    """The directory of this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}
