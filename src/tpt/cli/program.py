"""Runs the two Hydra programs: wraps Hydra around a function, reports errors, and logs, which never ends a run."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from tpt.cli.command_line import CommandLine, first_job, run_jobs
from tpt.cli.errors import Rules, tell, told
from tpt.cli.options import is_group, own_options
from tpt.cli.quoting import searched
from tpt.cli.resume import continued, folders_of_job, keep
from tpt.cli.settings.check import WORDS, check_sweep, refuse_wrong
from tpt.cli.settings.help import show_help
from tpt.cli.sweeps import given_settings, overrides
from tpt.engine import stop
from tpt.engine.printing import say, show_yaml
from tpt.errors import RunError, UserError

log = logging.getLogger(__name__)
_CONNECTION = ("Connection closed by peer", "Connection reset by peer", "Gloo", "NCCL")
# Lightning sets these for its processes, and in the next job of a sweep would take them for a cluster's.
_LAUNCHERS = ("MASTER_PORT", "MASTER_ADDR", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class FailedJob(Exception):  # noqa: N818 -- also a job's value
    """A job failed and reported its error: the value of a sweep's job, raised in a search, which needs each value."""

    def __init__(self, exit_code: int, sweep: str) -> None:
        super().__init__(exit_code, sweep)
        self.exit_code, self.sweep = exit_code, sweep


class Program:
    """A script, called with each configuration of a command line; the first job loads PyTorch, once it is composed."""

    def __init__(self, name: str, run: Callable[..., Any] | None = None, words: Rules | None = None) -> None:
        self.name = name  # of the script and its configuration, `conf/<name>.yaml`
        self.run = run  # None for `run` of `tpt.cli.programs.<name>`
        self.words = WORDS.get(name, ()) if words is None else words  # names for settings in error messages
        self.directory: Path | None = None  # of the current job
        # Whether this is the first process of a run; stored because the end of a job clears the variable.
        self.first = os.environ.get("LOCAL_RANK", "0") == "0"

    def read(self, arguments: Sequence[str]) -> Callable[[], None]:
        """Reads a command line; returns what runs it, and loads PyTorch once it has composed.  `--help` exits here."""
        with told(self.words):
            line = CommandLine.read(self.name, continued(arguments, self.name))
            if line.help:
                show_help(self.name, line)
                sys.exit(0)
        return partial(self.main, line)

    @stop.listening()
    def main(self, line: CommandLine) -> None:
        """Runs a command line; exits with 1 on a user's mistake or a bug."""
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # makes Hydra raise instead of printing and exiting
        sys.argv[1:] = [*line.flags, *line.settings]  # read by Lightning for more processes; Hydra needs flags first
        try:
            with told(self.words), own_options(*line.own):
                if line.multirun:
                    check_sweep(first_job(self.name, line), line.overrides)
                try:
                    jobs = run_jobs(self.name, line, self.job)
                except FailedJob as end:  # of a search, which cannot be resumed
                    sys.exit(end.exit_code)
                if failed := [job for job in jobs if isinstance(job, FailedJob)]:
                    some = f"{len(failed)} of {len(jobs)} jobs failed"
                    say(f"{some}; see above. resume={failed[0].sweep} runs what is missing.", error=True)
                    sys.exit(failed[0].exit_code)
        except stop.StopRun as end:
            stop.heard()
            stop.end_loaders()
            if self.first:
                done = f"completed work is kept; {self._again}" if self.directory else "nothing was done yet"
                say(end.said or f"{end}: {done}.", error=True)
            sys.exit(end.exit_code)

    def job(self, cfg: DictConfig) -> float | FailedJob | None:
        """Called by Hydra, perhaps in another process; an error of a sweep's job is reported, and its others go on."""
        with stop.listening():
            arguments, now = sys.argv, HydraConfig.get()
            try:
                with stop.leaving():  # PyTorch is loaded here
                    run = self.run or import_module(f"tpt.cli.programs.{self.name}").run
                _quieten()
                given = overrides(now)
                axes = [f"{key}=VALUE" for key, one in given.items() if one.is_sweep_override()]
                if now.mode is RunMode.RUN and axes:  # of an experiment
                    ways = f"add -m, or choose a job by {' '.join(axes)}"
                    raise UserError(f"Expected -m for a sweep, got a single run; {ways}.")
                debug = choices().get("debug") not in (None, "null", "none")
                refuse_wrong(cfg, self.name, [*given.values()], debug)
                self.directory = output_dir()
                keep(cfg)
                _as_one_job()
                if cfg.print_config and self.first:
                    show_yaml(OmegaConf.to_yaml(cfg, resolve=True))
                found: float | None = run(cfg)
                stop.check()
                return found
            except Exception as error:
                stop.check()  # the error may follow from a signal, in a library or in a worker that it ended
                job = " ".join(given_settings(now)) if now.mode is RunMode.MULTIRUN else ""
                said = self._outside(error) if isinstance(error, RuntimeError) else None
                code = tell(error if said is None else RunError(said), self.words, job, self._again)
                if now.mode is not RunMode.MULTIRUN:
                    raise SystemExit(code) from None
                end = FailedJob(code, now.sweep.dir)
                if now.runtime.choices["hydra/sweeper"] == "basic":
                    return end
                raise end from None
            finally:
                sys.argv = arguments
                _leave_group()

    @property
    def _again(self) -> str:
        """How to continue; empty before there is a directory."""
        return f"continue with resume={self.directory}" if self.directory else ""

    def _outside(self, error: RuntimeError) -> str | None:
        """The message for a cause outside the program; None for a bug."""
        from torch import distributed  # noqa: PLC0415 -- takes seconds to load

        from tpt.clip.model import is_out_of_memory  # noqa: PLC0415 -- likewise

        again = self._again or "run again"
        if found := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)):
            what = f"Data-loading worker {found[1]} was killed, probably by the out-of-memory killer"
            return f"{what}; use fewer workers (num_workers) and {again}."
        if is_out_of_memory(error):
            return f"Out of memory, even for the smallest batch ({str(error).splitlines()[0][:200]}); {again}."
        broken = getattr(distributed, "DistError", ())  # some builds of torch have no distributed package
        if isinstance(error, broken) or any(word in str(error) for word in _CONNECTION):
            said = f"The connection to the other processes of the run ended; {again}."
            if not self.first:
                raise stop.StopRun(f"Error: {said}")  # the first process reports it
            return said
        return None


def _quieten() -> None:
    """Silences library messages that a user can do nothing about."""
    for name in ("lightning.pytorch", "lightning.fabric", "mlflow.store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # it warns on the first run
    some = (".*LeafSpec.*", ".*does not have many workers.*", r"Found \d+ module\(s\) in eval mode")
    more = ("Total length of .* across ranks is zero", "Checkpoint directory .* exists and is not empty")
    for message in (*some, *more):
        warnings.filterwarnings("ignore", message=message)


def _as_one_job() -> None:
    """Sets the command line to this job's alone, in this directory: Lightning starts more processes with it."""
    config: Any = HydraConfig.instance().cfg
    with read_write(config.hydra):
        config.hydra.run.dir = str(output_dir())
    if config.hydra.mode is RunMode.MULTIRUN:
        sys.argv = [sys.argv[0], *searched(folders_of_job()), *given_settings(HydraConfig.get())]


def _leave_group() -> None:
    """Ends the process group, if any, so that what starts next, such as a sweep's next job, can have its own."""
    from torch import distributed  # noqa: PLC0415 -- takes seconds to load

    os.environ.pop(stop.PARENT, None)
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        for name in _LAUNCHERS:
            os.environ.pop(name, None)


def choices() -> dict[str, str]:
    """The chosen option of each config group; for several, such as `[table1,smoke]`, the list as given."""
    now = HydraConfig.get()
    chosen = {k: str(v) for k, v in now.runtime.choices.items() if v is not None and not k.startswith("hydra/")}
    given = [override.partition("=") for override in given_settings(now)]
    lists = {group: value for group, _, value in given if value.startswith("[") and is_group(group)}
    return chosen | lists  # Hydra omits these


def method_label(cfg: DictConfig) -> str:
    """The table row of a run: clip, ensemble, descriptions, coop, cocoop, or the method, such as tpt+coop."""
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
    found: Any = OmegaConf.to_container(cfg, resolve=True)
    return dict(found)
