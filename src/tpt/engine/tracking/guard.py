"""Guards loggers: a failing logger never ends a run, because all numbers are in the run's own files."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from tpt.engine.tracking.labels import accepted, config_of, name_of, tags_of
from tpt.errors import UserError
from tpt.results.runs.sweep import Sweep
from tpt.results.runs.version import DISTRIBUTION

log = logging.getLogger(__name__)
LONGEST = 500  # characters of an error's first line
EXTRAS = ("tensorboard", "mlflow")
NOTE_TAG = "mlflow.note.content"  # tag that MLflow shows as the description of a run
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
        logger: any Lightning logger; its `describe` and `finish`, if any, are called
            (`tpt.engine.callbacks.lifecycle`).
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
            sys.unraisablehook = _without_connections(sys.unraisablehook)
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

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Describes the run before its first image: name, tags, notes and every setting."""
        self.safely(lambda logger: _describe(logger, manifest, sweep, self._folder))

    def finish(self) -> None:
        """Closes the logger, after the last values of the run."""
        self.safely(lambda logger: logger.finish() if hasattr(logger, "finish") else logger.finalize("success"))


def guarded(options: Mapping[str, Any], make: Callable[[Any], Logger], folder: str | Path) -> list[Guard]:
    """Builds guarded loggers from name -> configuration, with Hydra's `instantiate`.

    Raises:
        UserError: a package is missing or does not accept its settings, or MLflow's database cannot be opened.
    """
    for option in options.values():
        _refuse_unusable(str(option.get("tracking_uri") or ""))
    return [Guard(name, _made(name, partial(make, option)), folder) for name, option in options.items()]


def _made(name: str, make: Callable[[], Logger]) -> Logger:
    try:
        return make()
    except Exception as error:
        cause = error.__cause__ or error  # wrapped in Hydra's error
        if isinstance(cause, ModuleNotFoundError):
            way_out = f"pip install '{DISTRIBUTION}[{name}]'" if name in EXTRAS else "install it"
            raise UserError(
                f"logger={name} needs a package that is not installed; {way_out}, or choose another logger."
            ) from error
        if type(cause).__module__.split(".")[0] == name:  # for example an error type of MLflow
            raise UserError(f"Expected settings that {name} accepts in logger.{name}: {first_line(cause)}.") from error
        raise


def _refuse_unusable(uri: str) -> None:
    """Raises a UserError for a database file that cannot be opened, which MLflow would retry for minutes."""
    kind, _, name = uri.partition(":///")
    if kind != "sqlite" or not name:
        return
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(name)) as database:
            database.execute("pragma user_version")
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"Cannot open MLflow's database {name} ({first_line(error)}). Choose another logger.mlflow.tracking_uri."
        ) from error


def _describe(logger: Any, manifest: Mapping[str, Any], sweep: Sweep | None, folder: Path) -> None:
    if hasattr(logger, "describe"):
        logger.describe(manifest, sweep)
        return
    tags = ", ".join(accepted([*tags_of(manifest), *(manifest["config"].get("tags") or ())]))
    notes = manifest["config"].get("notes")
    match logger:
        case MLFlowLogger():
            # There is no public way to set the name, which is read when MLflow's run is created.
            logger._run_name = logger._run_name or name_of(manifest, folder, sweep)
            about = {"tags": tags, NOTE_TAG: notes, "sweep": sweep and sweep.folder.name}
            logger.tags = {**{key: value for key, value in about.items() if value}, **(logger.tags or {})}
        case TensorBoardLogger():
            for key, text in {"tags": tags, "notes": notes}.items():
                if text:
                    logger.experiment.add_text(key, text)
    logger.log_hyperparams(config_of(manifest))


def first_line(error: BaseException) -> str:
    """The first line of an error, or its type."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _without_connections(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """Drops the trace that W&B prints at exit if its own process has ended."""

    def quiet(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, ConnectionError):
            hook(unraisable)

    return quiet
