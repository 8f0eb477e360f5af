"""One command per table of the papers: its rows, its sweep, and the published numbers next to ours."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import tpt
from tests.conftest import ROOT
from tests.experiments import (
    EXPERIMENTS,
    SHORT,
    SHORT_TESTS,
    SHORTENING,
    Composed,
    commands_of,
    composed,
    job_of,
    jobs_of,
    last_of,
)
from tests.results.tables.made_runs import make_run, rows_of, share
from tpt.cli import program as cli
from tpt.data.catalog.entries import CATALOG
from tpt.errors import UserError
from tpt.files import bundled
from tpt.results.tables.comparability import NAMES_SWAPPED
from tpt.results.tables.formats import render
from tpt.results.tables.pivots import transfer_matrices
from tpt.results.tables.published import content, paper_backbone
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import load_runs

ROWS = {
    "clip": ("zero_shot", "words"),
    "clip_own": ("zero_shot", "dataset"),
    "ensemble": ("zero_shot", "words"),
    "coop": ("zero_shot", "coop"),
    "cocoop": ("zero_shot", "cocoop"),
    "tpt": ("tpt", "words"),
    "tpt_all_views": ("tpt", "words"),
    "tpt_coop": ("tpt", "coop"),
    "tpt_cocoop": ("tpt", "cocoop"),
}
TABLES = {"table1": "natural_shift", "table2": "cross_dataset", "table3": "confidence_selection"}
VENDORS = ("twemoji", "emojione", "emojione_monotone", "fxemoji")
# Settings that shorten the commands of a short version to seconds.
TRAINING = ["learner.epochs=1", "++shots.draw.limit=24", "logger=none"]
TESTING = ["data.limit=3", "data.module.datasets.domains=[source_val,twemoji]", "logger=none"]
TRANSFER = ["data.limit=6", "logger=none"]  # six images, since a target without correct answers has no cell
# Experiments whose short version encodes images; the others use the features of earlier ones.
ENCODING = {"ablation_percentile", "ablation_views", "base_to_new", "calibration", "transfer"}


def test_every_row_has_a_file() -> None:
    assert {p.stem for p in (ROOT / "conf" / "row").glob("*.yaml")} == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_rows_choose_method_and_context(row: str) -> None:
    cfg = composed("test_time", f"row={row}", "learned.coop=A", "learned.cocoop=B").cfg
    method, context = ROWS[row]
    assert cfg.method._target_ == {"zero_shot": "tpt.ZeroShot", "tpt": "tpt.TPT"}[method]
    assert cfg.context.get("path") == {"words": None, "dataset": None, "coop": "A", "cocoop": "B"}[context]
    assert bool(cfg.method.get("templates")) == (row == "ensemble")
    assert (cfg.method.get("selection_p") == 1) == (row == "tpt_all_views")


def check_commands(experiment: str) -> None:
    """Checks the commands in an experiment's file; those to run first are experiments too."""
    *before, (_, arguments) = commands_of(experiment)
    assert f"experiment={experiment}" in arguments
    for other, its_arguments in before:
        (name,) = [a.removeprefix("experiment=") for a in its_arguments if a.startswith("experiment=")]
        assert commands_of(name) == [(other, its_arguments)]


@pytest.mark.parametrize("number", [-1, pytest.param(0, marks=pytest.mark.slow)], ids=["last", "first"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_name_their_command_and_compose(experiment: str, number: int) -> None:
    check_commands(experiment)
    assert job_of(experiment, number).cfg


@pytest.mark.parametrize("form", SHORT.values())
def test_short_versions_use_only_bundled_data(form: str) -> None:
    """Their jobs use the bundled model and drawings, whatever the full experiment uses."""
    check_commands(form)
    for setting in {setting for job in jobs_of(form) for setting in job}:  # so that one job stands for all
        assert not setting.startswith(("backbone=", "data=", "shots=")) or setting == "backbone=emoji_mini"
    cfg = job_of(form, -1).cfg
    assert cfg.backbone.name == "emoji-mini"
    if "shots" in cfg:
        assert (cfg.shots.draw.train._target_, cfg.learner.optimizer.lr) == ("tpt.emoji_shift", 0.02)
    else:
        assert (cfg.data.module.datasets._target_, cfg.data.limit) == ("tpt.emoji_shift_domains", 24)
        assert set(cfg.data.module.datasets.domains) <= {"source_val", *VENDORS}


def test_short_versions_sweep_over_the_same_rows() -> None:
    for name, form in SHORT.items():
        classes = [{part for part in job if part.startswith("data.classes")} for job in jobs_of(form)]
        assert len({frozenset(part) for part in classes}) == (2 if name == "base_to_new" else 1)
        rows = [{part for part in job if part.startswith(("row=", "learner=", "method", "views."))}
                for job in jobs_of(name) if not any(part == "backbone=rn50" for part in job)]  # fmt: skip
        short = [
            {part for part in job if part.startswith(("row=", "learner=", "method", "views."))} for job in jobs_of(form)
        ]
        assert {frozenset(row) for row in rows} == {frozenset(row) for row in short}
    cfg = job_of("[table2,smoke]", -1).cfg
    assert cfg.views.augmix is not None and cfg.views.num_views == 64
    assert job_of("[ablation_views,smoke]", -1).cfg.method.min_selected == 1


def test_every_experiment_has_a_short_version() -> None:
    assert {last_of(form) for form in SHORT.values()} == set(SHORTENING)
    assert set(EXPERIMENTS) - set(SHORT) == {"base_to_new_contexts"} and len(SHORT) == 17


@pytest.mark.parametrize(
    ("experiment", "backbone"),
    [
        ("table3", "rn50"),
        *(
            pytest.param(table, backbone, marks=pytest.mark.slow)
            for table, backbone in product(("table1", "table2"), ("rn50", "vit_b16"))
        ),
    ],
)
def test_tables_have_the_rows_and_numbers_of_the_paper(experiment: str, backbone: str, tmp_path: Path) -> None:
    """Every published row of a table is a job, has no mark for its settings, and shows the published numbers."""
    printed = content()[TABLES[experiment]]
    jobs = [job for job in jobs_of(experiment) if f"backbone={backbone}" in job or not job[0].startswith("backbone")]
    for number, job in enumerate(jobs):
        found = composed("test_time", *job)
        cfg = found.cfg
        assert list(cfg.data.module.datasets["keys"]) == printed["datasets"]
        make_paper_run(tmp_path / "sweep" / str(number), found, printed["datasets"])
    (table,) = make_report(load_runs([tmp_path / "sweep"])).tables
    rows = [row for row in printed["rows"] if row["backbone"] == paper_backbone(backbone_name(cfg))]
    of_paper = [(row["method"], row["cells"]) for row in rows]
    here = [(row.label, [cells[name].printed for name in printed["datasets"]]) for row, cells in table.rows]
    assert here == of_paper
    why = {mark.why for _, cells in table.rows for cell in cells.values() for mark in cell.marks}
    assert why <= {
        "another test set than the paper's",  # it has two images
        NAMES_SWAPPED["food101"],  # applies to every Food-101 cell
        "learned_on=unknown, in the paper 16 shots of imagenet",
    }


def backbone_name(cfg: DictConfig) -> str:
    return f"{cfg.backbone.name}/{cfg.backbone.pretrained}"


def make_paper_run(folder: Path, found: Composed, datasets: list[str]) -> None:
    """Writes a run with these settings and two images per dataset."""
    records = {name: rows_of(name, share(50, 2), share(100, 2)) for name in datasets}
    about = {name: {"classes": CATALOG[name].classes} for name in datasets}
    make_run(folder, records, found.label, backbone_name(found.cfg), about=about)
    manifest = json.loads((folder / "run.json").read_text())
    config = {**cli.resolved(found.cfg), "trainer": {"precision": "32-true"}}
    (folder / "run.json").write_text(json.dumps({**manifest, "config": config}))


@pytest.mark.parametrize(
    ("experiment", "contexts"),
    [
        ("table1", "table_contexts"),
        ("table2", "table_contexts"),
        ("transfer", "transfer_contexts"),
        ("base_to_new", "base_to_new_contexts"),
    ],
)
@pytest.mark.parametrize("short", [False, True])
def test_tables_read_the_contexts_that_training_writes(experiment: str, contexts: str, short: bool) -> None:
    """The last row with a learned context reads the output of the last training job, or a bundled context."""
    test, train = (SHORT.get(name, SHORT["table_contexts"]) if short else name for name in (experiment, contexts))
    number = max(number for number, job in enumerate(jobs_of(test)) if any("cocoop" in part for part in job))
    path, trained = job_of(test, number).cfg.context.path, job_of(train, -1)
    if not short or experiment == "transfer":
        assert path == str(trained.folder)
        return
    assert path == "emoji-mini/cocoop"
    about = json.loads((bundled(path) / "training.json").read_text("utf-8"))["config"]
    assert about["learner"] == OmegaConf.to_container(trained.cfg.learner)
    assert (about["seed"], about["batch_size"]) == (trained.cfg.seed, trained.cfg.batch_size)


def test_bundled_contexts_fit_the_bundled_model() -> None:
    clip = tpt.load_clip("emoji-mini")
    for kind in ("coop", "cocoop"):
        learned = tpt.context_from_file(clip, f"emoji-mini/{kind}", kind=kind)
        assert (learned.base if isinstance(learned, tpt.ConditionalContext) else learned).n_ctx == 4
    with pytest.raises(UserError, match="no learned context at"):
        tpt.load_context("emoji-mini/maple")


def test_training_uses_the_papers_settings() -> None:
    for number in range(2, len(jobs_of("table_contexts"))):
        cfg = job_of("table_contexts", number).cfg
        assert (cfg.shots.draw.train.key, cfg.shots.k, cfg.learner.n_ctx) == ("imagenet", 16, 4)
        assert (cfg.name, cfg.learner.epochs, cfg.batch_size) in [("coop", None, 32), ("cocoop", 10, 1)]
    cfg = job_of("transfer_contexts", 0).cfg
    assert (cfg.shots.k, cfg.learner.n_ctx, cfg.backbone.name) == (16, 4, "RN50-quickgelu")


def test_base_to_new_uses_cocoops_settings() -> None:
    """CoCoOp, section 4.1: 11 datasets, 16 shots of the base classes, ViT-B/16, four vectors from "a photo of a"."""
    jobs = jobs_of("base_to_new")
    assert len(jobs) == 3 * 11 * 2
    first, last = job_of("base_to_new", 0).cfg, job_of("base_to_new", -1).cfg
    assert (first.context.ctx_init, first.data.classes, list(first.data["keys"])) == ("dataset", "base", ["imagenet"])
    assert (last.data.classes, list(last.data["keys"])) == ("new", ["ucf101"])  # the swept source becomes the key
    keys = {part.removeprefix("learned.source=") for job in jobs for part in job if part.startswith("learned.source=")}
    assert keys == {"imagenet", *content()["cross_dataset"]["datasets"]}
    for number in (0, -1):
        cfg = job_of("base_to_new_contexts", number).cfg
        assert (cfg.shots.classes, cfg.shots.k, cfg.learner.ctx_init) == ("base", 16, "a photo of a")
        assert cfg.backbone.name == "ViT-B-16-quickgelu"


def test_transfer_tests_zero_shot_once_on_each_target() -> None:
    """The written prompt has no source dataset, so each of its ten jobs tests one target."""
    jobs = jobs_of("transfer")
    assert len(jobs) == 30 and all("row=clip" in job for job in jobs[:10])
    first, last, all_of_them = (list(job_of("transfer", number).cfg.data["keys"]) for number in (0, 9, -1))
    assert (first, last) == (["flowers102"], ["eurosat"])
    assert all_of_them == list(content()["cross_dataset"]["datasets"])


def results_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(folder.rglob("results.json"))]


def check_whole(sweep: Path) -> None:
    """Checks that every cell of the report has a value, including averages."""
    runs = load_runs([sweep])
    (table,) = make_report(runs).tables
    whole = [cells for row, cells in table.rows if set(row.first.to_test) == set(table.datasets)]
    assert whole and all(cell.accuracy is not None for cells in whole for cell in cells.values())
    assert "unfinished" not in render(make_report(runs), "terminal")


def check_transfer(sweep: Path) -> None:
    """Checks that both transfer matrices are complete."""
    matrices = transfer_matrices(load_runs([sweep]))
    assert [(m.method, len(m.sources), len(m.targets), len(m.cells)) for m in matrices] == [
        ("coop", 4, 4, 16),
        ("cocoop", 4, 4, 16),
    ]
    assert all(matrix.cells[name, name].improvement is not None for matrix in matrices for name in matrix.sources)


@pytest.mark.slow
def test_a_repeated_sweep_encodes_nothing(run_script: Callable[..., Any], tmp_path: Path) -> None:
    sweep = ("test_time.py", "-m", "experiment=[ablation_views,smoke]", "views.num_views=1,16", "data.limit=2",
             "data.module.datasets.domains=[twemoji]", "logger=none")  # fmt: skip
    for name in ("first", "second"):
        run_script(*sweep, f"hydra.sweep.dir={tmp_path / name}")
        found = results_of(tmp_path / name)
        assert [run["config"]["views"]["num_views"] for run in found] == [1, 16]
        assert {run["choices"]["experiment"] for run in found} == {"[ablation_views,smoke]"}
        assert [run["datasets"]["twemoji"]["selected_views"] for run in found] == [1, 1]
        assert [run["cache"]["encoded"] for run in found] == ([2, 0] if name == "first" else [0, 0])
        check_whole(tmp_path / name)


@pytest.mark.slow
def test_short_versions_run_twice(run_script: Callable[..., Any], tmp_path: Path) -> None:
    """Each short version trains where needed and makes its table, which a second run makes from the cache."""
    done: list[str] = []
    encoding = set()
    for form in SHORT_TESTS:
        experiment = form.strip("[]").split(",")[0]
        for script, arguments in commands_of(form):
            needed = experiment in ("table1", "table2", "transfer")
            if script == "train_coop.py" and needed and str(arguments) not in done:
                done.append(str(arguments))
                run_script(script, *arguments, *TRAINING)
        for name in (experiment, f"{experiment}_again"):
            shrunk = TRANSFER if experiment == "transfer" else TESTING
            run_script("test_time.py", *commands_of(form)[-1][1], *shrunk, f"hydra.sweep.dir={tmp_path / name}")
            found = results_of(tmp_path / name)
            assert len(found) == len(jobs_of(form))
            encoding |= {name for run in found if run["cache"]["encoded"]}
            (check_transfer if "transfer" in name else check_whole)(tmp_path / name)
    assert encoding == ENCODING


def test_a_row_without_its_context_names_the_setting(run_script: Callable[..., Any]) -> None:
    done = run_script("test_time.py", "row=tpt_coop", "data.limit=2", "logger=none", ok=False)
    assert "set context.path, or learned.coop and learned.cocoop" in done.stderr
