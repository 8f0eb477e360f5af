"""Guards loggers: a failing logger never ends a run, because all numbers are in the run's own files."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from lightning import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from tpt.errors import UserError
from tpt.files import dotted_values
from tpt.results.runs.sweep import Sweep
from tpt.results.runs.version import DISTRIBUTION

log = logging.getLogger(__name__)
LONGEST = 500  # characters of an error's first line
NOTE_TAG = "mlflow.note.content"  # tag that MLflow shows as the description of a run
TAGGED = ("data", "shots", "row", "experiment")  # groups whose chosen option is a tag
WIRING = ("_target_", "_partial_", "_convert_")
TAG_LENGTH = 64  # longest tag that W&B accepts
T = TypeVar("T")


def _passed_on(name: str) -> Any:
    """A method that calls the logger's method of this name, unless the logger has failed."""

    def call(guard: Guard, *args: Any, **kwargs: Any) -> None:
        guard.safely(lambda logger: getattr(logger, name)(*args, **kwargs))

    return call


class Guard(Logger):
    """Wraps a logger: if it fails, logs one warning and stops using it.

    Args:
        name: the logger's name in the configuration.
        logger: any Lightning logger; its `describe` and `finish`, if any, are called.
        folder: the run's directory.
    """

    def __init__(self, name: str, logger: Logger, folder: str | Path) -> None:
        super().__init__()
        self.logger = logger
        self._name, self._folder, self._lost = name, Path(folder), False

    def safely(self, do: Callable[[Any], T]) -> T | None:
        """Calls `do` with the logger, and stops using the logger if that fails."""
        if self._lost:
            return None
        try:
            return do(self.logger)
        except Exception as error:  # whatever the cause (network, account, disk space), the run continues
            self._lost = True
            log.warning(
                "The logger %s failed (%s). The run continues without it; all numbers are in the run's files.",
                self._name, first_line(error),
            )  # fmt: skip
            _quiet_connections()
            return None

    @property
    def name(self) -> str:
        """The name in the configuration; MLflow's own would need a request to its server."""
        return self._name

    version = None  # a run is identified by its directory

    @property
    def save_dir(self) -> str | None:
        """The logger's own directory."""
        return self.safely(lambda logger: logger.save_dir)

    @property
    def experiment(self) -> Any:
        """The object that the logger writes to; if the logger failed, an object that accepts any call."""
        found = self.safely(lambda logger: logger.experiment)
        return DummyLogger().experiment if found is None else found

    log_metrics = _passed_on("log_metrics")
    log_hyperparams = _passed_on("log_hyperparams")
    log_graph = _passed_on("log_graph")
    after_save_checkpoint = _passed_on("after_save_checkpoint")
    save = _passed_on("save")
    finalize = _passed_on("finalize")

    def begin(self, trainer: Trainer, manifest: Mapping[str, Any], sweep: Sweep | None, records: object) -> None:
        """Describes the run before its first image: name, tags, notes and every setting."""
        self.safely(lambda logger: _describe(logger, manifest, sweep, self._folder))

    def close(self, trainer: Trainer, found: object) -> None:
        """Writes the last values of the run, and closes the logger."""
        self.save()
        self.safely(lambda logger: logger.finish() if hasattr(logger, "finish") else logger.finalize("success"))


def guarded(options: Mapping[str, Any], make: Callable[[Any], Logger], folder: str | Path) -> list[Guard]:
    """Builds guarded loggers from name -> configuration, with Hydra's `instantiate`.

    Raises:
        UserError: a package is missing or does not accept its settings, or MLflow's database cannot be opened.
    """
    guards = []
    for name, option in options.items():
        try:
            _open_database(str(option.get("tracking_uri") or ""))
            guards.append(Guard(name, make(option), folder))
        except Exception as error:
            cause = error.__cause__ or error  # wrapped in Hydra's error
            of_package = type(cause).__module__.split(".")[0] == name  # for example an error type of MLflow
            if not of_package and not isinstance(cause, ModuleNotFoundError | OSError | sqlite3.Error):
                raise
            raise UserError(
                f"Cannot use logger={name} ({first_line(cause)}). Install its package, for example with "
                f"pip install '{DISTRIBUTION}[{name}]', correct logger.{name}, or choose another logger."
            ) from error
    return guards


def _open_database(uri: str) -> None:
    """Raises an error for a database file that cannot be opened, which MLflow would retry for minutes."""
    kind, _, name = uri.partition(":///")
    if kind == "sqlite" and name:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(name)) as database:
            database.execute("pragma user_version")


def _describe(logger: Any, manifest: Mapping[str, Any], sweep: Sweep | None, folder: Path) -> None:
    name, tags, config = name_of(manifest, folder, sweep), tags_of(manifest), config_of(manifest)
    if hasattr(logger, "describe"):
        logger.describe(name, tags, config, None if sweep is None else sweep.folder.name)
        return
    text = ", ".join(accepted([*tags, *(manifest["config"].get("tags") or ())]))
    notes = manifest["config"].get("notes")
    match logger:
        case MLFlowLogger():
            # There is no public way to set the name, which is read when MLflow's run is created.
            logger._run_name = logger._run_name or name
            about = {"tags": text, NOTE_TAG: notes, "sweep": sweep and sweep.folder.name}
            logger.tags = {**{key: value for key, value in about.items() if value}, **(logger.tags or {})}
        case TensorBoardLogger():
            for key, value in {"tags": text, "notes": notes}.items():
                if value:
                    logger.experiment.add_text(key, value)
    logger.log_hyperparams(config)


def name_of(manifest: Mapping[str, Any], folder: str | Path, sweep: Sweep | None) -> str:
    """The name of the run's directory; in a sweep, the method and the settings that differ."""
    if sweep is None:
        return Path(folder).name
    settings = (setting.partition("=") for setting in sweep.settings)  # `steps=2` of `method.steps=2`
    return " ".join([manifest["method"], *(f"{key.split('.')[-1]}={value}" for key, _, value in settings)])


def tags_of(manifest: Mapping[str, Any]) -> list[str]:
    """Method, backbone, and the chosen options of the groups in `TAGGED`."""
    chosen = manifest["choices"]
    found = [manifest["method"], manifest["backbone"]["name"], *(chosen.get(group) for group in TAGGED)]
    return accepted(tag for tag in found if tag not in (None, "null"))


def accepted(tags: Iterable[object]) -> list[str]:
    """Tags as W&B accepts them: unique, not empty, long ones truncated."""
    return list(dict.fromkeys(text for tag in tags if (text := str(tag).strip()[:TAG_LENGTH])))


def config_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting under its dotted key, the chosen option of each group, and the method.

    The classes of the parts are left out, because they follow from the options.
    """
    chosen = {f"choices.{group}": option for group, option in manifest["choices"].items()}
    settings = {key: value for key, value in dotted_values(manifest["config"]) if not key.endswith(WIRING)}
    return {**settings, **chosen, "label": manifest["method"]}


def first_line(error: BaseException) -> str:
    """The first line of an error, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:LONGEST]


def _quiet_connections() -> None:
    """Drops the trace that W&B prints at exit if its own process has ended."""
    before = sys.unraisablehook

    def quiet(left: sys.UnraisableHookArgs) -> None:
        if not isinstance(left.exc_value, ConnectionError):
            before(left)

    sys.unraisablehook = quiet
