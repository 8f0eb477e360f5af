"""Mistakes on a command line are found by comparing it with the configuration."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.conftest import compose_config
from tpt.cli.command_line import CommandLine, composed, first_job
from tpt.cli.options import own_options
from tpt.cli.settings.check import check_sweep, refuse_wrong
from tpt.cli.settings.parts import target_of
from tpt.errors import UserError


def mistake(*arguments: str, program: str = "test_time") -> str:
    """The error message for a command line; empty if it is valid."""
    try:
        line = CommandLine.read(program, arguments)
        with own_options(*line.own):
            swept = [[f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
                     if one.is_sweep_override() else [str(one.input_line)] for one in line.overrides]  # fmt: skip
            for job in product(*swept):
                composed(program, job)
            check_sweep(first_job(program, line), line.overrides)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["learner.n_ctx=2"], "Expected a setting that exists, got 'learner'"),
        (["~method.stepz"], "Could not delete from config. 'method.stepz' does not exist."),
        (["data.rooot=x", "data=folder"], "did you mean data.root"),
        (["trainer.max_epochs=3"], "Expected a setting that exists, got 'trainer.max_epochs'"),
        (["view=crops"], "did you mean views"),
        (["views=crop"], "Expected an option of `views`, got 'crop'; did you mean crops? Choose from "),
        (["hydra/launcher=nothing"], "Expected an option of `hydra/launcher`, got 'nothing'"),
        (["-m", "method=tpt,zero_shot", "method.lr=1,2"], "Expected a setting that exists, got 'method.lr'"),
        (["-m", "method=tpt,zro"], "Expected an option of `method`, got 'zro'; did you mean zero"),
        (["method.optimizer={a: 1"], "Expected KEY=VALUE, got 'method.optimizer={a: 1'; if the value is a text"),
        (["seed=[1"], "write 'seed=\"[1\"'"),
        (["--steps=2"], "got '--steps=2'; write settings as KEY=VALUE, without dashes."),
        (["--steps", "2"], "got '--steps'; write settings as KEY=VALUE, without dashes."),
        (["experiment=table1,smoke"], "write experiment=[table1,smoke] for a list"),
        (["trainer.devices=1,2"], "add -m to try each"),
        (["seed.x=1"], "got 'seed.x'"),
        (["+method.steps=1"], "Could not append to config. An item is already at 'method.steps'."),
        (["-m", "method=glob(zer*)", "method.lr=1"], "Expected a setting that exists, got 'method.lr'"),
    ],
)
def test_a_mistake_is_reported(arguments: list[str], sentence: str) -> None:
    assert sentence in mistake(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["seed=1", "-m", "method=tpt,zero"],
        ["-m", "method.steps=range(1,4)", "data.limit=2"],
        ["+trainer.profiler=simple", "logger=[csv,tensorboard]"],
        ["hydra.run.dir=x", "--cfg", "job"],
        ["-m", "method=glob(z*)"],
        ["data=folder", "data.root='a,b'"],
    ],
)
def test_valid_command_lines_are_composed(arguments: list[str]) -> None:
    assert mistake(*arguments) == ""


def test_another_programs_option_and_setting() -> None:
    assert "In 'experiment/table1': Could not override 'data'" in mistake("experiment=table1", program="train_coop")
    assert "did you mean shots.root" in mistake("shots=folder", "root=x", program="train_coop")


def test_the_users_own_options_are_known(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: tpt.ZeroShot\n_partial_: true\ntemplates: null\n")
    own = ["--config-dir", str(tmp_path)]
    assert mistake(*own, "method=mine") == ""
    assert "got 'mien'; did you mean mine" in mistake(*own, "method=mien")
    assert "got 'method.templats'; did you mean method.templates" in mistake(*own, "method=mine", "method.templats=3")
    assert "Expected a folder of your own options" in mistake("--config-dir", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "+callbacks.x={_target_: nowhere.Thing}",
            "in `callbacks.x._target_`, got nowhere.Thing, which does not exist",
        ),
        ("+callbacks.x={_target_: tpt.methods.Nothing.of}", "got tpt.methods.Nothing.of, which does not exist"),
        ("+callbacks.x={_target_: lightning.pytorch.callbacks.LambdaCallbac}", "which does not exist"),
        ("+callbacks.x={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging}", "add +callbacks.x.swa_lrs="),
        ("notes='see ${nothing}'", "in `notes`, got: Interpolation key 'nothing' not found"),
        (
            "context.ctx_init='a ${name.of.it} x'",
            "in `context.ctx_init`, got: ",
        ),
    ],
)
def test_names_and_references_without_a_target_are_reported(setting: str, sentence: str, tmp_path: Path) -> None:
    cfg = compose_config("test_time", setting, tmp_path=tmp_path)
    with pytest.raises(UserError) as found:
        refuse_wrong(cfg, "test_time")
    assert sentence in str(found.value)


def test_a_module_that_fails_on_import_is_not_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a module exists; its own error is shown when the part is built."""
    (tmp_path / "broken_part.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "faulty_part.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert target_of("broken_part.Part") is None and target_of("faulty_part.Part") is None
    assert target_of("pathlib.Path.cwd") is not None
    for absent in ("broken_parts.Part", "pathlib.Path.nothing", "x"):
        with pytest.raises(UserError, match="which does not exist"):
            target_of(absent)


def test_valid_references_pass(tmp_path: Path) -> None:
    for setting in ("notes='${name}'", "notes='\\${x}'", "notes='${hydra:job.name}'", "data.limit=${seed}"):
        refuse_wrong(compose_config("test_time", setting, "seed=3", tmp_path=tmp_path), "test_time")


def test_composing_leaves_the_callers_hydra_alone() -> None:
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    composed("test_time", ["seed=2"])
    assert GlobalHydra.instance().hydra is before
