"""Command lines: Hydra around a function, and one sentence instead of a stack trace for a user's mistake."""

from __future__ import annotations

import difflib
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
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from torch import distributed

from tpt import stop
from tpt.backbones.clip import is_out_of_memory
from tpt.errors import RunError, UserError
from tpt.programs import PROGRAMS, config_dir

log = logging.getLogger(__name__)

# What a user can cause.  Anything else is a mistake of ours and keeps its trace.
_USER_ERRORS = (
    ValueError,
    OSError,
    HydraException,
    OmegaConfBaseException,
    MisconfigurationException,
    InstantiationException,
    RunError,
)
# Lightning sets these for the processes it starts, and would take them for a cluster's in the next job of a sweep.
_LAUNCHERS = ("MASTER_PORT", "MASTER_ADDR", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_directory: list[str] = []  # of the run at hand
TRACE = "TPT_TRACE"  # set in the environment, shows the trace of a user's mistake as well


def main(run: Callable[[DictConfig], float | None], config_name: str) -> None:
    """Calls `run` with the configuration `conf/<config_name>.yaml`; exits 1 on a user's mistake."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing and leaving
    wrapped = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(_job(run))
    try:
        sys.argv = [sys.argv[0], *continued(sys.argv[1:])]
        wrapped()
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning turns Ctrl-C into an exit with code 1 once its callbacks have run.
        if isinstance(end, SystemExit) and not isinstance(end.__context__, KeyboardInterrupt):
            raise
        _say("Interrupted")
        sys.exit(130)
    except stop.StopRun as end:
        _say("Terminated" if isinstance(end, stop.Terminated) else f"Error: {end}")
        sys.exit(end.exit_code)
    except _USER_ERRORS as error:
        if os.environ.get(TRACE):
            raise
        if not getattr(error, "said", False):
            print(f"Error: {explain(error, config_name)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


def _say(what: str) -> None:
    """The end of a run that can be continued; the processes that were started for it say nothing."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        where = f"; resume={_directory[-1]} continues" if _directory else ""
        print(f"{what}: what was computed is kept{where}.", file=sys.stderr)


def _quieten() -> None:
    """Leaves out what others say and a user can do nothing about."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="Total length of `DataLoader` across ranks is zero.*")  # all is done


def _job(run: Callable[[DictConfig], float | None]) -> Callable[[DictConfig], float | None]:
    """`run`, saying what went wrong at once: a sweep goes on with its other jobs and raises only at its end."""

    def job(cfg: DictConfig) -> float | None:
        arguments = sys.argv
        try:
            _quieten()
            _refuse_missing(cfg)
            _as_one_job()
            stop.listen()
            return _call(run, cfg)
        except _USER_ERRORS as error:
            in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
            where = f" [{' '.join(HydraConfig.get().overrides.task)}]" if in_sweep else ""
            print(f"Error{where}: {explain(error)}", file=sys.stderr)
            error.said = True  # type: ignore[union-attr]
            if in_sweep or os.environ.get(TRACE):
                raise
            raise SystemExit(getattr(error, "exit_code", 1)) from error  # Hydra would add a line to an error
        finally:
            sys.argv = arguments
            stop.ignore()
            _leave_group()

    job.__module__, job.__qualname__ = run.__module__, run.__qualname__
    return job


def _as_one_job() -> None:
    """Makes the command line that of this job alone, in this directory: Lightning starts further processes with it."""
    _directory[:] = [str(output_dir())]
    config: Any = HydraConfig.instance().cfg
    with read_write(config.hydra):
        config.hydra.run.dir = str(output_dir())
    sys.argv = [sys.argv[0], *HydraConfig.get().overrides.task]


def _leave_group() -> None:
    """Ends the process group, if there is one, so that the next job of a sweep can start its own."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        for name in _LAUNCHERS:
            os.environ.pop(name, None)


def _refuse_missing(cfg: DictConfig) -> None:
    """Names every value that the user must give and did not."""
    missing = [key for key, value in _items(OmegaConf.to_container(cfg, resolve=False)) if value == "???"]
    if missing:
        raise UserError(f"Expected a value for `{'`, `'.join(missing)}`, got none; add {missing[0]}=VALUE.")


def _call(run: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """`run`; a setting that a component does not know (`+method.foo=1`) is the user's mistake, not a TypeError."""
    try:
        return run(cfg)
    except RuntimeError as error:
        if (outside := _outside(error)) is None:
            raise
        raise RunError(outside) from error
    except TypeError as error:
        unknown = re.match(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if not unknown:
            raise
        raise UserError(
            f"Expected settings that {unknown.group(1)} knows, got {unknown.group(2)!r}; see --help for all settings."
        ) from error


def _outside(error: RuntimeError) -> str | None:
    """One sentence on what went wrong outside the program; None for a mistake of ours."""
    where = f"continue with resume={_directory[-1]}" if _directory else "run again"
    if found := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)):
        return (
            f"Expected the loading processes to go on, but one ({found.group(1)}) was killed, for want of memory "
            f"perhaps; {where} and a smaller data.num_workers."
        )
    if is_out_of_memory(error):
        return (
            f"Expected memory for the smallest parts of the work, but it ran out ({str(error).splitlines()[0][:200]}); "
            f"free some and {where}."
        )
    if any(word in str(error) for word in ("Connection closed by peer", "Connection reset by peer", "Gloo", "NCCL")):
        return f"Expected the other processes of the run to go on, but the connection to them ended; {where}."
    return None


def explain(error: BaseException, config_name: str | None = None) -> str:
    """One sentence on a user's mistake."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error.__cause__))
        if not unknown or not isinstance(error.__cause__, TypeError):
            return explain(error.__cause__, config_name)
        where = re.search(r"full_key: (\S+)", str(error))
        section = f"`{where.group(1)}`" if where else "the configuration"
        return f"Expected known settings in {section}, got {unknown.group(1)!r}; see --help for all settings."
    if found := re.match(r"Could not override '([^']+)'", str(error)):
        return _unknown_key(found.group(1), config_name)
    return " ".join(str(error).split()) or type(error).__name__


def _unknown_key(key: str, config_name: str | None) -> str:
    """Names the unknown key and the closest ones that exist."""
    known: list[str] = []
    if config_name is not None:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            known = [key for key, _ in _items(OmegaConf.to_container(hydra.compose(config_name), resolve=False))]
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "see --help for all settings."
    return f"Expected a setting that exists, got {key!r}; {hint}"


def continued(arguments: list[str]) -> list[str]:
    """The command line with which a run or sweep that is to be continued was started, and what was added now.

    Args:
        arguments: of the command line; without `resume=DIRECTORY` they are given back as they are (a `.ckpt` is a
            checkpoint of training, which Lightning continues).

    Raises:
        UserError: there is no run in that directory.
    """
    given = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if not given or given[-1] in ("auto", "null", "") or given[-1].endswith(".ckpt"):
        return arguments
    folder, added = Path(given[-1].strip("'\"")), [a for a in arguments if not a.startswith("resume=")]
    quoted = str(folder.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    sweep, one = folder / "multirun.yaml", folder / ".hydra" / "overrides.yaml"
    if sweep.is_file():
        started = OmegaConf.load(sweep)
        if not str(OmegaConf.select(started, "hydra.sweeper._target_")).endswith(".BasicSweeper"):
            raise UserError(
                f"Expected in `resume` a sweep whose jobs are known beforehand, got {folder}, whose sweeper chooses "
                f"them on the way; its study goes on in a new sweep with hydra.sweeper.storage=sqlite:///{folder}/study.db."
            )
        saved = OmegaConf.select(started, "hydra.overrides.task", default=[])
        return ["--multirun", *saved, *added, f"hydra.sweep.dir='{quoted}'", "resume=auto"]
    if not one.is_file():
        raise UserError(
            f"Expected the directory of a run or sweep of test_time.py in `resume`, found none at {folder}; "
            "resume=auto continues what is in the directory of this run, if anything."
        )
    return [*OmegaConf.to_container(OmegaConf.load(one)), *added, f"hydra.run.dir='{quoted}'", "resume=auto"]


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


def command(config_name: str) -> str:
    """How a program is called where this one was: `tpt-test`, or `python test_time.py` in a checkout."""
    if Path(sys.argv[0]).suffix == ".py":
        return f"python {config_name}.py"
    return next(name for name, (module, _) in PROGRAMS.items() if module.endswith(f".{config_name}"))


def output_dir() -> Path:
    """The directory of this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}
