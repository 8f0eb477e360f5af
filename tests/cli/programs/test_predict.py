"""`tpt-predict`: turns a folder of pictures into a table of answers."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Done, noise_image
from tpt.cli.errors import in_words_of
from tpt.cli.program import Program
from tpt.cli.programs import opening, predict
from tpt.cli.programs.predict import WORDS
from tpt.cli.quoting import for_hydra
from tpt.data.images import decode_image
from tpt.engine import stop
from tpt.errors import BadImageError, UserError
from tpt.results.runs import read_records
from tpt.results.runs.records import shard_files

CLASSES = "cat,hot air balloon,T-shirt"
Run = Callable[..., Done]


@pytest.fixture
def weights(noise_file: Callable[..., Path]) -> list[str]:
    """Options that select a small CLIP with random weights."""
    quick = [
        "backbone.quick_gelu=true",
        "threads=1",
        "cache=off",
        "data.batch_size=2",
        "callbacks.records.shard_size=2",
    ]
    return ["--backbone", "file", "--pretrained", str(noise_file()), "--views", "10", *_set(quick)]


def _set(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], weights: list[str]) -> Run:
    """Runs the program in this process, with `tmp_path` as the working directory."""

    def call(*args: str, code: int = 0, model: bool = True) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["tpt-predict"])
        capfd.readouterr()
        found = 0
        handlers = {number: signal.getsignal(number) for number in stop.STOPPING}
        try:
            predict.main([*args, *(weights if model else ())])
        except SystemExit as end:
            found = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        finally:
            for number, handler in handlers.items():  # restored, since the program changes them
                signal.signal(number, handler)
            GlobalHydra.instance().clear()
            logging.getLogger().handlers.clear()
        out, err = capfd.readouterr()
        assert found == code and "Traceback" not in err, f"exit code {found}\n{out}\n{err}"
        return Done(found, out, err)

    return call


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_table_of_a_folder_equals_the_records(run: Run, image_tree: Path, tmp_path: Path) -> None:
    """The table equals the records; without labels, no accuracy is reported."""
    done = run("pictures", "--classes", CLASSES, "--out", "answers.csv", "--top", "2")
    rows, records = rows_of(tmp_path / "answers.csv"), read_records(tmp_path / "answers.csv.run").to_pylist()
    names = CLASSES.split(",")
    assert [row["path"] for row in rows] == sorted(
        p.relative_to(tmp_path).as_posix() for p in image_tree.rglob("*.png")
    )
    for row, record in zip(rows, records, strict=True):
        assert record["label"] is record["rank"] is record["class_name"] is None
        assert row["answer"] == record["pred_name"] == names[record["pred"]] and row["path"] == record["path"]
        assert row["answer_before"] == names[record["pred_zero_shot"]]
        assert float(row["probability"]) == pytest.approx(record["confidence"], abs=1e-6)
        assert float(row["probability_before"]) == pytest.approx(record["confidence_zero_shot"], abs=1e-6)
        assert len(record["top"]) == 2 and row["answer_2"] == names[record["top"][1]]
        assert row["views_selected"] == "1" and "problem" not in row
    found = json.loads((tmp_path / "answers.csv.run" / "results.json").read_text())
    about = found["datasets"]["pictures"]
    changed = 100 * sum(r["pred"] != r["pred_zero_shot"] for r in records) / len(records)
    assert about["changed"] == pytest.approx(changed) and about["gain"] is None
    assert not {"acc", "ece", "acc5"} & (about.keys() | found["averages"].keys())
    assert "changed" in done.stderr and "The answers are in answers.csv" in done.stderr
    assert done.stdout == ""  # stdout is for answers


def test_without_out_the_answer_is_printed(run: Run, image_tree: Path, tmp_path: Path) -> None:
    done = run("pictures/cat/0.png", "--classes", CLASSES, "--method", "zero_shot")
    (folder,) = (tmp_path / "runs").iterdir()
    (row,) = rows_of(folder / "predictions.csv")
    assert f"pictures/cat/0.png: {row['answer']} " in done.stdout
    assert row["answer"] == row["answer_before"] and row["probability"] == row["probability_before"]


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_json_and_parquet_tables(suffix: str, run: Run, image_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(CLASSES.replace(",", "\n"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(image_tree / "cat" / "0.png", "0.png")
    run("a.zip", "pictures/T-shirt", "--classes", "names.txt", "--out", f"a{suffix}")
    path = tmp_path / f"a{suffix}"
    found = json.loads(path.read_text()) if suffix == ".json" else pq.read_table(path).to_pylist()
    paths = ["a.zip/0.png", *(f"pictures/T-shirt/{i}.png" for i in range(4))]
    assert [row["path"] for row in found] == paths and all(row["answer"] in CLASSES for row in found)


def test_an_unreadable_picture_gets_a_row_with_its_problem(run: Run, image_tree: Path, tmp_path: Path) -> None:
    """Its row states the problem, the other pictures are answered, and the exit code is 3."""
    (image_tree / "cat" / "0.png").write_bytes(b"no picture")
    done = run("pictures", "--classes", CLASSES, "--out", "a.csv", code=3)
    row, *others = sorted(rows_of(tmp_path / "a.csv"), key=lambda row: row["path"] != "pictures/cat/0.png")
    assert row["answer"] == "" and row["problem"] == "no picture" and all(other["answer"] for other in others)
    assert "Pictures without an answer: 1 of 12, such as pictures/cat/0.png (no picture)" in done.stderr


def test_a_rerun_handles_new_changed_and_deleted_pictures(run: Run, image_tree: Path, tmp_path: Path) -> None:
    """Running the same command again gives the table of a new run and keeps the answers for unchanged pictures."""
    (image_tree / "cat" / "0.png").write_bytes(b"no picture")
    run("pictures", "--classes", CLASSES, "--out", "a.csv", code=3)
    before = {r["path"]: r["seconds"] for r in read_records(tmp_path / "a.csv.run").to_pylist() if not r["problem"]}
    (image_tree / "cat" / "1.png").unlink()
    noise_image(50).save(image_tree / "cat" / "0.png")
    noise_image(51).save(image_tree / "T-shirt" / "a.png")
    noise_image(52).save(image_tree / "T-shirt" / "3.png")
    run("pictures", "--classes", CLASSES, "--out", "a.csv")
    run("pictures", "--classes", CLASSES, "--out", "b.csv")
    rows, fresh = rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv")
    assert [(r["path"], r["answer"]) for r in rows] == [(r["path"], r["answer"]) for r in fresh] and len(rows) == 12
    after = {r["path"]: r["seconds"] for r in read_records(tmp_path / "a.csv.run").to_pylist()}
    assert sum(after.get(path) == seconds for path, seconds in before.items()) >= 6


def test_files_of_the_user_are_not_overwritten(run: Run, image_tree: Path, tmp_path: Path) -> None:
    names, mine = tmp_path / "names.csv", tmp_path / "mine.parquet"
    names.write_text(CLASSES.replace(",", "\n"))
    mine.write_bytes(b"mine")
    for out in ("names.csv", "mine.parquet"):
        said = run("pictures", "--classes", "names.csv", "--out", out, code=1, model=False).stderr
        assert f"{out} exists and was not written by" in said and said.count("\n") == 1
    assert names.read_text() == CLASSES.replace(",", "\n") and mine.read_bytes() == b"mine"
    run("pictures/cat/0.png", "--classes", "names.csv", "--out", "a.csv")
    (tmp_path / "a.csv").write_text("edited")
    run("pictures/cat/0.png", "--classes", "names.csv", "--out", "a.csv", code=1, model=False)
    assert (tmp_path / "a.csv").read_text() == "edited"


def test_config_dir_and_quiet_with_a_stray_local_rank(
    run: Run, image_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    opening.forget_stray_ranks()
    (tmp_path / "own" / "method").mkdir(parents=True)
    (tmp_path / "own" / "method" / "mine.yaml").write_text("_target_: tpt.ZeroShot\n_partial_: true\n")
    asked = ["pictures/cat", "--classes", CLASSES, "--method", "mine", "--config-dir", "own", "--quiet"]
    done = run(*asked)
    assert len(done.stdout.splitlines()) == 4 and done.stderr == ""


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b"", "a.png", "empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a.jpg", "HEIC is not read; convert it, or pip install pillow-heif"),
        (b"\x89PNG\r\n", "a.png", "damaged: its beginning cannot be read"),
        (b"some text", "a.png", "no picture"),
        (b"some bytes", "a.nef", "NEF is not read; convert it to JPEG or PNG"),
    ],
)
def test_problem_texts_of_unreadable_files(content: bytes, name: str, problem: str) -> None:
    with pytest.raises(BadImageError) as caught:
        decode_image(content, name)
    assert caught.value.problem == problem


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_picture_is_reported_as_damaged(kind: str) -> None:
    file = io.BytesIO()
    noise_image(3).resize((200, 200)).save(file, kind)
    with pytest.raises(BadImageError) as caught:
        decode_image(file.getvalue()[: len(file.getvalue()) // 2], "a")
    assert caught.value.problem.startswith("damaged: ")


def test_mistakes_are_found_before_torch_is_loaded(image_tree: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from tpt.cli.programs import predict\n"
        "for wrong in sys.argv[1:]:\n"
        "    try: predict.main([*wrong.split(), '--classes', 'cat,dog'])\n"
        "    except SystemExit as end: assert end.code\n"
        "    assert 'torch' not in sys.modules, wrong"
    )
    wrong = ["nowhere.png", *(f"pictures --{way}" for way in ("method tpd", "out a.xls", "device tpu"))]
    subprocess.run([sys.executable, "-c", code, *wrong], cwd=tmp_path, check=True, capture_output=True)


def test_repeating_the_command_computes_nothing(run: Run, image_tree: Path, tmp_path: Path) -> None:
    run("pictures/cat", "--classes", CLASSES, "--out", "a.csv")
    shards, table = shard_files(tmp_path / "a.csv.run"), (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").unlink()
    run("pictures/cat", "--classes", CLASSES, "--out", "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == table and shard_files(tmp_path / "a.csv.run") == shards


def test_other_classes_need_a_new_run(run: Run, image_tree: Path, tmp_path: Path) -> None:
    run("pictures/cat", "--classes", CLASSES, "--out", "a.csv")
    done = run("pictures/cat", "--classes", "cat,dog", "--out", "a.csv", code=1)
    assert "data.class_names.1 was 'hot air balloon' and is 'dog'" in done.stderr
    assert "start again with --anew, or choose another --out" in done.stderr and "hydra" not in done.stderr
    run("pictures/cat", "--classes", "cat,dog", "--out", "a.csv", "--anew")
    assert {row["answer"] for row in rows_of(tmp_path / "a.csv")} <= {"cat", "dog"}


def test_anew_deletes_only_run_folders(run: Run, image_tree: Path, tmp_path: Path) -> None:
    done = run("pictures", "--classes", CLASSES, "--out", "a.csv", "--run", "pictures", "--anew", code=1, model=False)
    assert "is not the folder of an earlier run" in done.stderr and len(list(image_tree.rglob("*.png"))) == 12


def test_many_paths_are_written_to_a_list(
    run: Run, image_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "LONG", 10)
    paths = [f"pictures/cat/{i}.png" for i in (2, 0)]
    run(*paths, "--classes", CLASSES, "--out", "a.csv")
    assert [row["path"] for row in rows_of(tmp_path / "a.csv")] == paths


def test_a_file_name_that_looks_like_an_interpolation(run: Run, image_tree: Path, tmp_path: Path) -> None:
    (image_tree / "cat" / "0.png").rename(tmp_path / "${seed} =,'\"[a] .png")
    run("${seed} =,'\"[a] .png", "--classes", CLASSES, "--out", "a.csv")
    assert [row["path"] for row in rows_of(tmp_path / "a.csv")] == ["${seed} =,'\"[a] .png"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["nowhere"], "There is no picture, folder, zip archive or pattern 'nowhere'"),
        (
            ["pictures", "--classes", "names.txt"],
            "Expected at least two class names to choose from in --classes, got 1, ['names.txt']",
        ),
        (
            ["pictures", "--classes", "cat"],
            "Expected at least two class names to choose from in --classes, got 1, ['cat']",
        ),
        (["pictures", "--classes", "cat,"], "Expected at least two class names to choose from in --classes, got 1"),
        (["pictures", "--out", "a.xls"], "Expected a file that ends in .csv, .json, .parquet, got 'a.xls'"),
        (["pictures", "--out", "dir.csv"], "dir.csv exists and was not written by an earlier run"),
        (["pictures", "--top", "0"], "--top: expected it to be a whole number of at least 1, got '0'"),
        (["pictures", "--workers", "-1"], "--workers: expected it to be a whole number of at least 0, got '-1'"),
        (["pictures", "--method", "tpd"], "Expected an option of `method`"),
        (["pictures", "--prompt", "a ${x}"], "Expected names without '${', got 'a ${x}'"),
    ],
)
def test_mistakes_give_a_one_line_error_and_no_run_folder(
    wrong: list[str], message: str, run: Run, image_tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "dir.csv").mkdir()
    classes = [] if "--classes" in wrong else ["--classes", CLASSES]
    done = run(*wrong, *classes, code=2 if message.startswith("--") else 1, model=False)
    assert done.stderr.startswith("Error: ") and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.run"))


@pytest.mark.parametrize(
    ("said", "here"),
    [
        (
            "p=0.1 of num_views=4 selects no view. Use num_views=10",
            "p=0.1 of --views 4 selects no view. Use --views 10",
        ),
        ("a.png; remove it, or pass data.on_bad_image=skip", "a.png; remove it, or pass --set data.on_bad_image=skip"),
        ("got 3; use more, or method=view_ensemble.", "got 3; use more, or --method view_ensemble."),
        ("data.class_names.1 was 'a' and is 'b'", "data.class_names.1 was 'a' and is 'b'"),
    ],
)
def test_messages_use_the_names_of_this_command_line(said: str, here: str) -> None:
    assert str(in_words_of(UserError(said), WORDS)) == here
    bug = ValueError(said)
    assert in_words_of(bug, WORDS) is bug


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), min_size=2, unique=True))
def test_any_class_name_survives_the_command_line(names: list[str]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if any(predict.INTERPOLATION in name for name in names):
        return  # refused
    (override,) = OverridesParser.create().parse_overrides([f"data.class_names={for_hydra(names)}"])
    values = override.value()
    assert isinstance(values, list) and [str(v.text if hasattr(v, "text") else v) for v in values] == names


def test_a_stopped_run_resumes(image_tree: Path, tmp_path: Path, run: Run, stop_after: Any) -> None:
    """After an interruption, the same command produces the table of an uninterrupted run, byte for byte."""
    stop_after(2, signal.SIGINT)
    said = run("pictures", "--classes", CLASSES, "--out", "a.csv", code=130).stderr
    stop_after(-1)
    assert re.search(r"(?m)^Stopped after 4 of 12\. Run the same command again to continue\.$", said)
    assert len(rows_of(tmp_path / "a.csv")) == 4
    run("pictures", "--classes", CLASSES, "--out", "a.csv")
    run("pictures", "--classes", CLASSES, "--out", "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_further_processes_of_a_run_get_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get Hydra overrides instead of this program's own options."""
    called: list[list[str]] = []
    for name, value in {"LOCAL_RANK": "1", "WORLD_SIZE": "2", stop.PARENT: "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["tpt-predict", "seed=3"])
    monkeypatch.setattr(Program, "main", lambda self, line: called.append([self.name, *line.settings]))
    predict.main()
    assert called == [["test_time", "seed=3"]]


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"--{name}" in said for name in ("classes", "method", "backbone", "top", "out", "views", "anew", "set"))
