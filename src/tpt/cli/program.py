"""Command lines: Hydra around a function, and one sentence instead of a stack trace for a user's mistake."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from torch import distributed

from tpt.cli import sweeps
from tpt.cli.errors import NOBODY_READS, Rules, in_words_of, nobody_reads, tell
from tpt.cli.hints import FAMILIES, Settings, explained, items, refuse_unreadable, users_part
from tpt.cli.places import SEARCHED, config_dir, config_dirs
from tpt.cli.places import command as command  # noqa: PLC0414 -- programs call it beside the rest
from tpt.cli.quoting import as_texts, searched
from tpt.cli.resume import continued, keep, own_folders
from tpt.cli.settings import check_sweep, refuse_wrong, refused, values_of
from tpt.cli.settings.help import help_text
from tpt.cli.settings.show import show_settings
from tpt.clip.model import is_out_of_memory
from tpt.engine import stop
from tpt.engine.printing import forgiving_streams, say
from tpt.errors import RunError, UserError

log = logging.getLogger(__name__)

_CONNECTION = ("Connection closed by peer", "Connection reset by peer", "Gloo", "NCCL")
SWEEPING = ("experiment", "search")  # groups whose options may make a sweep
UNCHOSEN = (None, "null", "none")
# Lightning sets these for the processes it starts, and would take them for a cluster's in the next job of a sweep.
_LAUNCHERS = ("MASTER_PORT", "MASTER_ADDR", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", stop.PARENT)


class ToldError(Exception):
    """Ends a job, or a sweep of jobs, of whose error was told already.

    Args:
        exit_code: of the program.
    """

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Program:
    """A script of the project: a function, called with each configuration that a command line makes.

    Args:
        run: the function.
        config_name: of the configuration, `conf/<config_name>.yaml`.
        words: how settings are called in errors, if not as in the configuration.
    """

    def __init__(self, run: Callable[[DictConfig], float | None], config_name: str, words: Rules = ()) -> None:
        self.run = run
        self.words = words
        self.config_name = config_name
        self.directory: Path | None = None  # of the job at hand
        self.failed = 0  # jobs of a sweep
        self.table: str | None = None  # folder of a sweep that has one
        self.first = (
            os.environ.get("LOCAL_RANK", "0") == "0"
        )  # of the processes of a run; a job's end clears the variable

    @stop.listening()
    def main(self) -> None:
        """Does what the command line asks for; exits 1 on a user's mistake or a bug."""
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing and leaving
        forgiving_streams()
        try:
            sys.argv = [sys.argv[0], *continued(sys.argv[1:], self.config_name)]
            flags, settings, multirun = _sorted(sys.argv[1:])
            settings = [*map(as_texts, settings)]
            sys.argv[1:] = [*flags, *settings]  # Hydra reads no flag behind a setting
            refuse_unreadable(settings)
            Settings(config_dirs(sys.argv[1:]), self.config_name).refuse_odd_choices(settings)
            if multirun:
                self._check_sweep(settings)
            if {"--help", "-h"} & {*sys.argv[1:]}:
                self._help(settings)
                return
            decorate = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=self.config_name)
            decorate(self._job())()
        except stop.StopRun as end:
            stop.heard()
            stop.end_loaders()
            self._say(end)
            sys.exit(end.exit_code)
        except ToldError as end:
            self._end_sweep()
            sys.exit(end.exit_code)
        except Exception as error:
            sys.exit(self._tell(error))

    def _help(self, settings: list[str]) -> None:
        """Prints groups, options and settings of what is chosen."""
        folders = config_dirs(sys.argv[1:])
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            plain_settings = [text for text in settings if not text.lstrip("+").startswith(SEARCHED)]
            cfg = hydra.compose(self.config_name, [*searched(folders[:-1]), *plain_settings], return_hydra_config=True)
        groups = Settings(folders, self.config_name).groups
        of_lists = choices(cfg.hydra)
        chosen = {group: of_lists.get(group, "") for group in groups}
        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        plain.pop("hydra")
        say(help_text(self.config_name, command(self.config_name), folders, plain, chosen))

    def _job(self) -> Callable[[DictConfig], float | None]:
        """`run`, saying what went wrong at once: a sweep goes on with its other jobs and raises only at its end."""

        @stop.listening()  # here as well: a launcher may call it in another process
        def job(cfg: DictConfig) -> float | None:
            arguments = sys.argv
            try:
                _quieten()
                _refuse_missing(cfg)
                self._refuse_wrong(cfg)
                self.directory = output_dir()
                keep(cfg)
                _as_one_job()
                show_settings(cfg)
                found = self._call(cfg)
                stop.check()
                return found
            except Exception as error:
                stop.check()  # what a signal leads to in a library, or a loader that it ended as well
                code = self._tell(error)
                if (now := HydraConfig.get()).mode is RunMode.MULTIRUN:
                    self.failed += 1
                    self.table = str(now.sweep.dir) if "table" in now.callbacks else None
                    raise ToldError(code) from None
                raise SystemExit(code) from error  # Hydra would add a line to an error
            finally:
                sys.argv = arguments
                _leave_group()

        job.__module__, job.__qualname__ = self.run.__module__, self.run.__qualname__
        return job

    def _end_sweep(self) -> None:
        """What Hydra leaves out where a job of a sweep failed: the table of the others."""
        if self.table is not None and any(Path(self.table).rglob("results.json")):
            sweeps.print_table(self.table)
            failed = "A job of the sweep" if self.failed == 1 else f"{self.failed} jobs of the sweep"
            say(f"{failed} failed, as said above; resume={self.table} does what is missing.", error=True)

    def _refuse_wrong(self, cfg: DictConfig) -> None:
        """Raises at the first wrong setting, and where one job of a sweep is asked for without saying which."""
        now: Any = HydraConfig.get()
        given = OverridesParser.create().parse_overrides(list(now.overrides.task))
        swept = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in (now.sweeper.params or {}).items()])
        chosen = {o.get_key_element() for o in given}
        open_axes = [k for o in swept if o.is_sweep_override() and (k := o.get_key_element()) not in chosen]
        if now.mode is RunMode.RUN and open_axes:
            made_by = [f"{group}={option}" for group in SWEEPING if (option := choices().get(group)) not in UNCHOSEN]
            settings = shlex.join(made_by)
            raise UserError(
                f"Expected -m with {settings}, a sweep over {', '.join(open_axes)}; write "
                f"{command(self.config_name)} -m {settings}, or choose one job by "
                f"{' '.join(f'{key}=VALUE' for key in open_axes)}."
            )
        refuse_wrong(cfg, self.config_name, given, debug=choices().get("debug") not in UNCHOSEN)

    def _check_sweep(self, settings: list[str]) -> None:
        """Raises at the first wrong value of a sweep, before any job.

        What cannot be composed here is left to Hydra, which says why.
        """
        try:
            with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
                parser = OverridesParser.create(GlobalHydra.instance().config_loader())
                given = parser.parse_overrides(settings)
                one = [
                    f"{text.split('=')[0]}={next(iter(values_of(o, text=True)), '')}" if o.is_sweep_override() else text
                    for o, text in zip(given, settings, strict=True)
                    if not o.is_hydra_override()
                ]
                cfg = hydra.compose(self.config_name, [*searched(config_dirs(sys.argv[1:])[:-1]), *one])
        except (HydraException, OmegaConfBaseException):
            return
        check_sweep(cfg, given)

    def _call(self, cfg: DictConfig) -> float | None:
        """`run`; a setting that a part does not know (`+method.foo=1`) is the user's mistake, not a TypeError."""
        try:
            return self.run(cfg)
        except RuntimeError as error:
            if (outside := self._outside(error)) is None:
                raise
            raise RunError(outside) from error
        except TypeError as error:
            if (mistake := users_part(error, cfg)) is None:
                raise
            raise mistake from error

    def _say(self, end: stop.StopRun) -> None:
        """The end of a run that can be continued; the processes that were started for it say nothing."""
        if self.first:
            where = f"; resume={self.directory} continues" if self.directory else ""
            say(end.said or f"{end}: what was computed is kept{where}.", error=True)

    def _tell(self, error: Exception) -> int:
        """Says what ended the work; gives the exit code."""
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return NOBODY_READS
        in_sweep = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
        job = " ".join(HydraConfig.get().overrides.task) if in_sweep else ""
        kept = f"what was computed is kept, and resume={self.directory} continues when it is mended."
        rules = partial(refused, self.config_name)
        settings = Settings(config_dirs(sys.argv[1:]), self.config_name, sys.argv[1:], rules)
        said = in_words_of(explained(error, settings), self.words)
        return tell(said, FAMILIES, job, kept if self.directory else "")

    def _outside(self, error: RuntimeError) -> str | None:
        """One sentence on what went wrong outside the program; None for a bug."""
        where = f"continue with resume={self.directory}" if self.directory else "run again"
        if found := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)):
            return (
                f"Expected the loading processes to go on, but one ({found.group(1)}) was killed, for want of memory "
                f"perhaps; {where} and a smaller data.num_workers."
            )
        if is_out_of_memory(error):
            return (
                "Expected memory for the smallest parts of the work, but it ran out "
                f"({str(error).splitlines()[0][:200]}); free some and {where}."
            )
        broken = getattr(distributed, "DistError", ())  # where torch is built without, there are no other processes
        if isinstance(error, broken) or any(word in str(error) for word in _CONNECTION):
            said = f"Expected the other processes of the run to go on, but the connection to them ended; {where}."
            if not self.first:
                raise stop.ProcessDied(said)  # the first process tells
            return said
        return None


def main(run: Callable[[DictConfig], float | None], config_name: str, words: Rules = ()) -> None:
    """Calls `run` with the configuration `conf/<config_name>.yaml`, exits 1 where that fails; `words`: of `Program`."""
    Program(run, config_name, words).main()


def _sorted(arguments: list[str]) -> tuple[list[str], list[str], bool]:
    """The flags of a command line with their values, its settings, and whether they start a sweep.

    Raises:
        UserError: an option that Hydra does not have; it would take the beginning of one for it.
    """
    parser = get_args_parser()
    for argument in arguments:
        name = argument.split("=")[0]
        if name.startswith("--") and name not in parser._option_string_actions:
            following = arguments[arguments.index(argument) + 1 :][:1] or ["VALUE"]
            written = argument.removeprefix("--") + ("" if "=" in argument else f"={following[0]}")
            raise UserError(
                f"Expected an option such as --help or -m, got {argument!r}; settings have no dashes: {written}."
            )
    found = parser.parse_intermixed_args(arguments)
    flags, left = [], list(found.overrides)
    for argument in arguments:
        if left and argument == left[0]:
            left.pop(0)
        else:
            flags.append(argument)
    return flags, found.overrides, bool(found.multirun)


def _quieten() -> None:
    """Leaves out what others say and a user can do nothing about."""
    for name in ("lightning.pytorch", "lightning.fabric", "mlflow.store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # it warns of the first run
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="Total length of `Loader` across ranks is zero.*")  # all is done


def _as_one_job() -> None:
    """Makes the command line that of this job alone, in this directory: Lightning starts further processes with it."""
    config: Any = HydraConfig.instance().cfg
    with read_write(config.hydra):
        config.hydra.run.dir = str(output_dir())
    if config.hydra.mode is RunMode.MULTIRUN:
        sys.argv = [sys.argv[0], *searched(own_folders()), *HydraConfig.get().overrides.task]


def _leave_group() -> None:
    """Ends the process group, if there is one, so that the next job of a sweep can start its own."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        for name in _LAUNCHERS:
            os.environ.pop(name, None)


def _refuse_missing(cfg: DictConfig) -> None:
    """Names every value that the user must give and did not."""
    missing = [key for key, value in items(OmegaConf.to_container(cfg, resolve=False)) if value == "???"]
    if missing:
        raise UserError(f"Expected a value for `{'`, `'.join(missing)}`, got none; add {missing[0]}=VALUE.")


def choices(now: Any = None) -> dict[str, str]:
    """Which option of each config group was chosen; of a group with several, as `[table1,smoke]`, the list as given.

    Args:
        now: Hydra's part of a configuration; None takes that of the job at hand.
    """
    now = HydraConfig.get() if now is None else now
    chosen = {k: str(v) for k, v in now.runtime.choices.items() if v is not None and not k.startswith("hydra/")}
    given = [override.partition("=") for override in now.overrides.task]
    lists = {group: value for group, _, value in given if value.startswith("[") and (config_dir() / group).is_dir()}
    return chosen | lists  # Hydra leaves these out


def method_label(cfg: DictConfig) -> str:
    """The row of a table a run stands for: clip, ensemble, descriptions, coop, cocoop, or the method, as tpt+coop."""
    chosen = choices()
    text = None if chosen["context"] in ("words", "random", "dataset") else chosen["context"]
    if text is None and cfg.method.get("templates") not in (None, "dataset"):
        text = "ensemble"
    if text in (None, "ensemble") and cfg.method.get("descriptions"):
        text = "descriptions"
    if chosen["method"] == "zero_shot":
        return text or "clip"
    return chosen["method"] + (f"+{text}" if text else "")


def output_dir() -> Path:
    """The directory of this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}
