"""Mistakes on a command line are found by comparing it with the configuration."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.conftest import compose_config
from tpt.cli.command_line import CommandLine, composed, first_job, written
from tpt.cli.mistakes import COMPOSING, in_a_sentence, refuse_odd_choices
from tpt.cli.options import own_options
from tpt.cli.settings.check import check_sweep, refuse_wrong
from tpt.cli.settings.parts import is_absent
from tpt.errors import UserError


def mistake(*arguments: str, program: str = "test_time") -> str:
    """The error message for a command line; empty if it is valid."""
    try:
        line = CommandLine.read(program, arguments)
        with own_options(*line.own):
            refuse_odd_choices(line.overrides, program, line.multirun)
            try:
                for job in product(*map(written, line.overrides)) if line.multirun else [line.settings]:
                    composed(program, job)
                cfg = first_job(program, line)
            except COMPOSING as error:
                raise in_a_sentence(error, program, line.overrides) from error
            check_sweep(cfg, line.overrides)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["learner.n_ctx=2"], "Expected a setting that exists, got 'learner.n_ctx'"),
        (["~method.stepz"], "got 'method.stepz'; did you mean method.steps"),
        (["data.rooot=x", "data=folder"], "did you mean data.root"),
        (["trainer.max_epochs=3"], "it has no effect on a test"),
        (["view=crops"], "did you mean views"),
        (["views=crop"], "Expected an option of `views`, got 'crop'; did you mean crops? Choose from "),
        (["hydra/launcher=nothing"], "Expected an option of `hydra/launcher`, got 'nothing'"),
        (
            ["-m", "method=tpt,zero_shot", "method.lr=1,2"],
            "of method=zero_shot, got 'method.lr', which belongs to meth",
        ),
        (["-m", "method=tpt,zro"], "Expected an option of `method`, got 'zro'; did you mean zero"),
        (["method.optimizer={a: 1"], "Expected a value for `method.optimizer` that needs no quotes"),
        (["seed=[1"], "write 'seed=\"[1\"'"),
        (["--steps=2"], "write settings without dashes: steps=2."),
        (["--steps"], "write settings without dashes: steps=VALUE."),
        (["experiment=table1,smoke"], "write experiment=[table1,smoke] for a list"),
        (["trainer.devices=1,2"], "add -m to try each"),
        (["seed.x=1"], "got 'seed.x'"),
        (["+method.steps=1"], "got +method.steps=1; write method.steps=1."),
        (["-m", "method=glob(zer*)", "method.lr=1"], "of method=zero, got 'method.lr', which belongs to method="),
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
    assert "for train_coop.py, got 'table1', which belongs to test_time.py" in mistake(
        "experiment=table1", program="train_coop"
    )
    assert "did you mean shots.root" in mistake("shots=folder", "root=x", program="train_coop")


def test_the_users_own_options_are_known(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: tpt.ZeroShot\n_partial_: true\nweight: 3\n")
    own = ["--config-dir", str(tmp_path)]
    assert mistake(*own, "method=mine") == ""
    assert "got 'mien'; did you mean mine" in mistake(*own, "method=mien")
    assert "got 'method.wieght'; did you mean method.weight" in mistake(*own, "method=mine", "method.wieght=3")
    assert "which belongs to method=mine" in mistake(*own, "method.weight=3")
    assert "should hold your own options" in mistake("--config-dir", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("+callbacks.x={_target_: nowhere.Thing}", "`callbacks.x` names nowhere.Thing, which does not exist"),
        ("+callbacks.x={_target_: tpt.methods.Nothing.of}", "names tpt.methods.Nothing.of"),
        ("+callbacks.x={_target_: lightning.pytorch.callbacks.LambdaCallbac}", "which does not exist"),
        ("+callbacks.x={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging}", "add callbacks.x.swa_lrs="),
        ("notes='see ${nothing}'", "there is no 'nothing' for ${nothing}"),
        ("context.ctx_init='a ${name.of.it} x'", "there is no 'name.of.it'"),
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
    assert not is_absent("broken_part.Part") and not is_absent("faulty_part.Part") and not is_absent("pathlib.Path.cwd")
    assert is_absent("broken_parts.Part") and is_absent("pathlib.Path.nothing") and is_absent("x")


def test_valid_references_pass(tmp_path: Path) -> None:
    for setting in ("notes='${name}'", "notes='\\${x}'", "notes='${hydra:job.name}'", "data.limit=${seed}"):
        refuse_wrong(compose_config("test_time", setting, "seed=3", tmp_path=tmp_path), "test_time")


def test_composing_leaves_the_callers_hydra_alone() -> None:
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    composed("test_time", ["seed=2"])
    assert GlobalHydra.instance().hydra is before
