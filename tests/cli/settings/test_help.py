"""`--help` describes every option and every setting."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.conftest import ROOT, Done

Run = Callable[..., Done]


def settings_of(text: str) -> dict[str, str]:
    """The settings listed in a help text, with their descriptions."""
    lines = text[text.index("\nSettings:") :].splitlines()[2:]
    found: dict[str, str] = {}
    for line in lines:
        if match := re.match(r"  ([\w.]+)=(\S*) *(.*)", line):
            key, said = match[1], match[3]
            found[key] = said
        elif line.strip() and found:
            found[key] += f" {line.strip()}"
    return found


@pytest.mark.parametrize(
    ("program", "chosen", "keys"),
    [
        ("test_time", [], ["seed", "threads", "method.steps", "views.num_views", "data.batch_size", "trainer.devices"]),
        ("test_time", ["data=folder", "context=coop"], ["data.root", "data.class_names", "context.path"]),
        ("test_time", ["method=ctpt", "data=catalog"], ["method.penalty_weight", "data.keys", "data.root"]),
        ("train_coop", ["shots=folder"], ["shots.root", "shots.k", "learner.epochs", "batch_size", "resume"]),
        ("test_time", ["logger=[csv,mlflow]", "debug=limit"], ["logger.mlflow.run_name", "trainer.limit_test_batches"]),
        ("test_time", ["debug=fdr"], ["trainer.fast_dev_run", "tags", "notes", "print_config", "optimized_metric"]),
        ("train_coop", ["learner=cocoop"], ["learner.optimizer.lr", "learner.max_tokens"]),
    ],
)
def test_every_setting_has_a_description(program: str, chosen: list[str], keys: list[str], run_script: Run) -> None:
    done = run_script(f"{program}.py", "--help", *chosen)
    said = settings_of(done.stdout)
    assert set(keys) <= set(said)
    silent = [key for key, text in said.items() if not text or text.startswith("(")]
    assert silent == []
    for choice in chosen:
        group, options = choice.split("=")
        for option in options.strip("[]").split(","):
            assert re.search(rf"^{group}:$(?:\n  .*)*\n  \* {option}\b", done.stdout, re.MULTILINE)
    assert f"python {program}.py --help GROUP=OPTION" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_every_option_of_every_group_is_listed(run_script: Run) -> None:
    done = run_script("test_time.py", "--help")
    for group in ("backbone", "context", "method", "views", "data", "cache", "row", "optimizer", "logger", "debug"):
        section = done.stdout.split(f"\n{group}:\n")[1].split("\n\n")[0]
        listed = {line.lstrip(" *").split()[0] for line in section.splitlines() if re.match(r"  [ *] \S", line)}
        assert listed == {path.stem for path in (ROOT / "conf" / group).glob("[!_]*.yaml")}
    assert "\n    smoke_transfer_contexts " not in done.stdout.split("\nexperiment:\n")[1].split("\n\n")[0]


def test_the_help_of_a_sweep_describes_its_first_job(run_script: Run) -> None:
    done = run_script("test_time.py", "-m", "--help", "method=zero_shot,tpt", "seed=1,2")
    said = settings_of(done.stdout)
    assert "method.templates" in said and "method.steps" not in said
    assert "\n  * zero_shot " in done.stdout and "\n  * tpt " not in done.stdout
