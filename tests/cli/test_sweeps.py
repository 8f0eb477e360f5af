"""What Hydra's callbacks do before and after a sweep."""

import logging
import pickle
import warnings
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from tests.conftest import ROOT
from tpt.cli.sweeps import SweepErrors, SweepFolder


def test_a_search_leaves_optuna_its_warnings_and_errors(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings(record=True) as told:
        SweepFolder().on_multirun_start(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "new")}}}))
        warnings.warn("new", optuna.exceptions.ExperimentalWarning, stacklevel=1)
        warnings.warn("seen", UserWarning, stacklevel=1)
    assert [str(each.message) for each in told] == ["seen"] and (tmp_path / "new" / "multirun.yaml").is_file()
    log = logging.getLogger("optuna.study")
    assert not log.isEnabledFor(logging.INFO) and log.isEnabledFor(logging.WARNING)


@pytest.mark.parametrize("script", ["test_time", "train_coop"])
def test_a_failed_job_prints_its_own_message_only(script: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Also if a launcher pickles what the job returned, as joblib does."""
    callbacks = OmegaConf.load(ROOT / "conf" / f"{script}.yaml").hydra.callbacks
    assert "tpt.SweepErrors" in [each["_target_"] for each in callbacks.values()]
    for status, value in ((JobStatus.FAILED, KeyError("x")), (JobStatus.COMPLETED, 1.5)):
        returned = JobReturn(overrides=["a=1"], status=status)
        returned.return_value = value
        SweepErrors().on_job_end(OmegaConf.create(), returned)
        again: JobReturn = pickle.loads(pickle.dumps(returned))
        if status is JobStatus.FAILED:
            with pytest.raises(KeyError, match="x"):
                _ = again.return_value
        else:
            assert again.return_value == value
    assert capfd.readouterr().err == ""
