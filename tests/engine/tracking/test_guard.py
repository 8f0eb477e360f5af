"""No failure of a logger ends a run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, Logger

from tests.conftest import ROOT
from tpt.engine.tracking.guard import Guard, guarded
from tpt.errors import UserError

MANIFEST: dict[str, Any] = {
    "method": "tpt", "backbone": {"name": "tiny"}, "choices": {"data": "folder"}, "config": {"seed": 0, "notes": "n"},
}  # fmt: skip


class Failing(Logger):
    """Fails in every call, and in every attribute that Lightning reads."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return super().__getattribute__(name)
        raise ConnectionError("unplugged")

    name = version = log_metrics = log_hyperparams = None


@pytest.fixture(autouse=True)
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # restored after the test


def test_a_run_with_a_logger_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other logger gets everything."""
    loggers = [Guard("broken", Failing(), tmp_path), Guard("csv", CSVLogger(tmp_path, "csv", ""), tmp_path)]
    settings: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(logger=loggers, default_root_dir=tmp_path, fast_dev_run=False, limit_train_batches=2,
                      max_epochs=1, log_every_n_steps=1, enable_checkpointing=False, **settings)  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="tpt"):
        for guard in loggers:
            guard.begin(trainer, MANIFEST, None, None)
        trainer.fit(BoringModel())
        assert loggers[0].experiment.anything(1) is None and loggers[0].save_dir is None
        for guard in loggers:
            guard.log_metrics({"test/a": 1.0}, step=3)
        for guard in loggers:
            guard.close(trainer, None)
    assert caplog.text.count("The logger broken failed (unplugged)") == 1 and "csv failed" not in caplog.text
    assert "test/a" in (tmp_path / "csv" / "metrics.csv").read_text()
    assert yaml.safe_load((tmp_path / "csv" / "hparams.yaml").read_text())["choices.data"] == "folder"


def test_unusable_settings_are_refused_before_a_run(tmp_path: Path) -> None:
    def without(_: Any) -> Logger:
        raise ModuleNotFoundError("No module named 'neptune'")

    with pytest.raises(UserError, match="Cannot use logger=neptune .No module named .neptune.*correct logger.neptune"):
        guarded({"neptune": {}}, without, tmp_path)
    with pytest.raises(TypeError):  # a bug is not reworded
        guarded({"csv": {}}, lambda _: CSVLogger(1, 2, 3, 4, 5, 6, 7), tmp_path)  # type: ignore[call-arg,arg-type]


@pytest.mark.parametrize("name", ["/proc/x/y.db", "{here}", "{here}/text.db"])
def test_mlflow_databases_that_cannot_be_opened_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 99)
    option = {"tracking_uri": f"sqlite:///{name.format(here=tmp_path)}"}
    with pytest.raises(UserError, match="Cannot use logger=mlflow .*correct logger.mlflow"):
        guarded({"mlflow": option}, lambda _: pytest.fail(), tmp_path)


def test_the_cause_of_a_refusal_is_not_cut(tmp_path: Path) -> None:
    class MlflowError(Exception): ...

    MlflowError.__module__ = "mlflow.exceptions"

    def refusing(_: Any) -> Logger:
        raise MlflowError(f"schemes are {'a' * 300}, the last one\nmore")

    with pytest.raises(UserError, match=r"a{300}, the last one\)"):
        guarded({"mlflow": {}}, refusing, tmp_path)


@pytest.mark.parametrize("file", sorted((ROOT / "conf" / "logger").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_configuration_names_public_names(file: Path) -> None:
    text = file.read_text("utf-8")
    named = [line.split("_target_:")[1].strip() for line in text.splitlines() if "_target_:" in line]
    assert all(
        n.startswith("lightning.pytorch.loggers.") or (n.count(".") == 1 and n.startswith("tpt.")) for n in named
    )
