"""TensorBoard and MLflow: Lightning's loggers, told which run this is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger

from tpt.engine.tracking.labels import config_of, name_of, tags_of
from tpt.engine.tracking.safe import SafeLogger, first_line
from tpt.errors import UserError
from tpt.results.runs.sweep import Sweep
from tpt.results.runs.version import DISTRIBUTION

NOTE_TAG = "mlflow.note.content"  # what MLflow's page shows as the description of a run

SQLITE = "sqlite:///"


class RunTensorBoard(SafeLogger, TensorBoardLogger):
    """TensorBoard's files in the run's directory, with every setting as a hyperparameter, the run's tags and notes.

    Args:
        notes: shown as a text.
        settings: as for Lightning's `TensorBoardLogger`.

    Raises:
        UserError: the package is missing.
    """

    service = "TensorBoard"

    def __init__(self, notes: str | None = None, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ModuleNotFoundError as error:
            raise _missing("tensorboard") from error
        self._notes = notes

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Receives the manifest of the run, before its first image."""
        self.safely(lambda _: self.log_hyperparams(config_of(manifest)))
        self.safely(lambda writer: writer.add_text("tags", ", ".join(_all_tags(manifest))))
        if self._notes:
            self.safely(lambda writer: writer.add_text("notes", self._notes))

    def finish(self) -> None:
        """Closes the files."""
        self.safely(lambda writer: writer.close())


class RunMLFlow(SafeLogger, MLFlowLogger):
    """A run of MLflow, with every setting as a parameter; if MLflow cannot be reached, the run goes on without it.

    Args:
        folder: of the run, which gives it its name.
        tracking_uri: of a server or a database; every run of an experiment goes to the same.
        notes: the description of the run.
        settings: as for Lightning's `MLFlowLogger`.

    Raises:
        UserError: the package is missing, or MLflow does not know such a `tracking_uri`.
    """

    service = "MLflow"

    def __init__(self, folder: str | Path, tracking_uri: str, notes: str | None = None, **settings: Any) -> None:
        if tracking_uri.startswith(SQLITE):
            Path(tracking_uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        try:
            super().__init__(tracking_uri=tracking_uri, **settings)
        except ModuleNotFoundError as error:
            raise _missing("mlflow") from error
        except Exception as error:  # of MLflow's own kinds, which are known only if it is installed
            raise UserError(
                f"Expected a place for MLflow's runs in logger.mlflow.tracking_uri, such as sqlite:///FILE or the "
                f"address of a server, got {tracking_uri!r} ({first_line(error)})."
            ) from error
        self._folder = Path(folder)
        self._notes = notes

    @property
    def name(self) -> str | None:
        """The experiment; asks no server, which Lightning's would."""
        return self._experiment_name

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Receives the manifest of the run, before its first image; a sweep's name is the tag `sweep` of its jobs."""
        self._run_name = self._run_name or name_of(manifest, self._folder, sweep)
        about = {"tags": ", ".join(_all_tags(manifest)), NOTE_TAG: self._notes, "sweep": sweep and sweep.name}
        self.tags = {**{key: value for key, value in about.items() if value}, **(self.tags or {})}
        self.safely(lambda _: self.log_hyperparams(config_of(manifest)))


def _all_tags(manifest: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*tags_of(manifest), *map(str, manifest["config"].get("tags") or ())]))


def _missing(package: str) -> UserError:
    return UserError(
        f"Expected the package `{package}` for logger={package}, found none; "
        f"pip install '{DISTRIBUTION}[{package}]', or choose another logger."
    )
