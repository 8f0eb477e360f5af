"""Hydra callbacks that run before a sweep."""

import logging
import warnings
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tpt.cli.sweeps import SweepFolder


def test_a_search_shows_only_warnings_and_errors_of_optuna(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings(record=True) as told:
        SweepFolder().on_multirun_start(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "new")}}}))
        warnings.warn("new", optuna.exceptions.ExperimentalWarning, stacklevel=1)
        warnings.warn("seen", UserWarning, stacklevel=1)
    assert [str(each.message) for each in told] == ["seen"] and (tmp_path / "new" / "multirun.yaml").is_file()
    log = logging.getLogger("optuna.study")
    assert not log.isEnabledFor(logging.INFO) and log.isEnabledFor(logging.WARNING)
