"""Configurations of strangers: naming is calling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.conftest import compose_config
from tests.untrusted import FUZZ, JSON
from tpt.cli.trust import StrangeConfigError, known_parts, refuse_strangers

STRANGE = (
    "os.system",
    "builtins.exec",
    "pandas.read_pickle",
    "torch.load",
    "joblib.load",
    "tpt.cli.os.system",
    "tpt.files.write_text",
    "tpt.results.runs.write_json",
    "tpt.cli.program.main",
    "tpt.cli.programs.report.main",
    "tpt.clip.weights.archive.torch.load",
    "tpt.nothing.at_all",
    "torch.optim.swa_utils.torch.load",
    "torch.optim.lr_scheduler.LambdaLR",
    "lightning.pytorch.loggers.CSVLogger.log_metrics",
    7,
    None,
    ["tpt.load_clip"],
)


def refuse(config: Any, run_dir: Path | None = None) -> None:
    refuse_strangers(config, "run", "pass --trust", run_dir)


@pytest.mark.parametrize("target", STRANGE)
def test_a_configuration_may_not_name_just_anything(target: Any) -> None:
    part = {"_target_": target, "x": "touch /tmp/x"}
    for config in (
        {"backbone": part},
        {"method": {"_target_": "tpt.TPT", "_partial_": True, "optimizer": part}},
        {"method": {"_target_": "tpt.TPT", "_partial_": True, "steps": [1, {"deep": [part]}]}},
    ):
        with pytest.raises(
            StrangeConfigError, match=r"Expected parts of tpt in the settings of run, got .*; pass --tr"
        ):
            refuse(config)


@pytest.mark.parametrize(
    ("part", "phrase"),
    [
        ({"_target_": "tpt.load_clip", "_args_": ["a", "b"]}, "the setting backbone._args_"),
        ({"_args_": ["a"]}, "'None' for backbone._target_"),
        (
            {"_target_": "tpt.load_clip", "nothing": 1},
            "the setting backbone.nothing, which tpt.load_clip does not have",
        ),
        ({"_target_": "tpt.load_clip", "name": "${oc.decode:${a}${b}}"}, "the interpolation"),
        ({"_target_": "tpt.load_clip", "name": b"x"}, "a bytes for backbone.name"),
    ],
)
def test_known_parts_have_known_settings_and_plain_values(part: dict[str, Any], phrase: str) -> None:
    with pytest.raises(StrangeConfigError, match=phrase.replace("$", r"\$")):
        refuse({"backbone": part})


@pytest.mark.parametrize("script", ["test_time", "train_coop"])
def test_whatever_the_project_composes_is_known(script: str, tmp_path: Path) -> None:
    more = ["logger=wandb", "data=natural_shift", "method=rlcf"] if script == "test_time" else ["learner=cocoop"]
    for overrides in ([], more):
        config = OmegaConf.to_container(compose_config(script, *overrides, tmp_path=tmp_path), resolve=True)
        assert isinstance(config, dict)
        refuse(config, tmp_path)
    assert {"tpt.TPT", "tpt.load_clip", "torch.optim.SGD", "lightning.Trainer"} <= known_parts()


@pytest.mark.parametrize("folder", ["/etc", "../other", "a/../../b", "~/x"])
def test_loggers_and_callbacks_stay_in_the_runs_directory(folder: str, tmp_path: Path) -> None:
    known = {"_target_": "tpt.RecordWriter", "folder": f"{tmp_path}/records"}
    refuse({"callbacks": {"records": known}}, tmp_path)
    with pytest.raises(StrangeConfigError, match="outside the run's directory, for callbacks.records.folder"):
        refuse({"callbacks": {"records": {**known, "folder": folder}}}, tmp_path)


@pytest.mark.parametrize(
    "address", ["http://elsewhere.invalid", "sqlite:////tmp/mine.db", "sqlite:///../mine.db", "file:/tmp/mine"]
)
def test_loggers_tell_nobody_else(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    known = {"_target_": "tpt.RunMLFlow", "notes": "as in ../paper, https://example.org/"}
    for own in ("sqlite:///runs/mlflow.db", f"sqlite:///{tmp_path}/run/mlflow.db", "sqlite:///run/mlflow.db"):
        refuse({"logger": {"mlflow": {**known, "tracking_uri": own}}}, tmp_path / "run")
    with pytest.raises(StrangeConfigError, match="outside the run's directory, for logger.mlflow.tracking_uri"):
        refuse({"logger": {"mlflow": {**known, "tracking_uri": address}}}, tmp_path / "run")


@FUZZ
@given(config=st.dictionaries(st.text(max_size=4) | st.just("_target_"), JSON, max_size=4))
def test_any_configuration(config: dict[str, Any]) -> None:
    try:
        refuse(config)
    except StrangeConfigError as error:
        assert "Expected parts of tpt" in str(error)
    else:
        assert '"_target_"' not in json.dumps(config)
