"""`tpt-report`: tables, figures, BibTeX and the site."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.results.tables.made_runs import make_run, rows_of, share
from tpt.cli.programs.report import main
from tpt.data.catalog.entries import CROSS_DATASET, NATURAL_SHIFT
from tpt.results.tables.published import citations

PAPERS = ("imagenet", *NATURAL_SHIFT, *CROSS_DATASET)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for number, method in enumerate(("clip", "tpt")):
        after = share(50 + 20 * number, 30)
        make_run(tmp_path / "sweep" / str(number), {"a": rows_of("a", share(50, 30), after)}, method)
    return tmp_path / "sweep"


def test_tables_are_printed_or_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs), str(runs / "1"), "--against", "clip"])  # a run given twice counts once
    printed = capsys.readouterr().out
    assert printed.count("tpt") == 1 and "70.00" in printed and "over clip" in printed
    main([str(runs), "--out", str(tmp_path / "new" / "table.md"), "--against", str(runs / "0")])
    written = (tmp_path / "new" / "table.md").read_text("utf-8")
    assert written.startswith("**Accuracy**") and "over clip" in written
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["table.md"] and capsys.readouterr().out == ""
    main([str(runs / "1"), "--format", "csv"])
    assert capsys.readouterr().out.startswith("method,backbone,a,")


def test_paths_without_a_run_are_skipped(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A training run and another program's file are skipped, as in `runs/*`; a missing path is an error."""
    (runs / "trained").mkdir()
    (runs / "trained" / "training.json").write_text("{}")
    (runs / "mlflow.db").write_text("")
    main([str(runs / "trained"), str(runs / "1"), str(runs / "mlflow.db")])
    assert f"{runs / 'trained'}, {runs / 'mlflow.db'}" in caplog.text
    for wrong in ([str(runs / "1"), str(runs / "nowhere")], [str(runs / "trained"), str(runs / "mlflow.db")]):
        with pytest.raises(SystemExit):
            main(wrong)


def test_tables_name_missing_images_and_figures_fit_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("a", share(50, 20), share(70, 20))
    for number in range(5):
        about = {"a": {"size": 100, "to_test": 40}}
        make_run(tmp_path / str(number), {"a": rows}, settings={"method.steps": number + 1}, about=about)
    main([str(tmp_path / "0"), "--per-class"])
    said = " ".join(capsys.readouterr().out.split())
    assert "on part of the images: a 40 of 100" in said and "unfinished: a 20 of 40 images done" in said
    main([str(tmp_path), "--figures", str(tmp_path / "few"), "--suffixes", "pdf"])  # too many rows for per-row figures
    assert {p.name for p in (tmp_path / "few").iterdir()} == {"methods.pdf", "accuracy_by_steps.pdf"}
    main([str(tmp_path), "--figures", str(tmp_path / "named"), "--kinds", "entropy"])
    assert len(list((tmp_path / "named").iterdir())) == 10
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--figures", str(tmp_path / "no"), "--kinds", "pie"])


def test_figures(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs), "--figures", str(tmp_path / "figures")])
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        f"{what}.{end}"
        for what in ("methods", "confusions_tpt", "entropy_tpt", "reliability_tpt", "risk_tpt")
        for end in ("png", "svg")
    }


def test_bibtex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {name: rows_of(name, share(50, 30), share(60, 30)) for name in ("dtd", "a")}
    make_run(tmp_path / "run", rows, "tpt", backbone="ViT-B-16-quickgelu/openai")
    main([str(tmp_path / "run"), str(tmp_path), "--bibtex"])
    printed = capsys.readouterr().out
    keys = re.findall(r"^@\w+{(\w+),$", printed, re.MULTILINE)
    assert keys == ["shu2022tpt", "radford2021clip", "cimpoi2014dtd"] and printed.endswith("% no entry for dataset:a\n")
    assert printed.count("{") == printed.count("}")


def test_every_paper_method_and_dataset_has_an_entry() -> None:
    patterns = {pattern for entry in citations() for pattern in entry["cites"]}
    assert {f"dataset:{key}" for key in PAPERS} <= patterns
    assert len({entry["key"] for entry in citations()}) == len(citations())
    assert {p.split(":")[0] for p in patterns} == {"method", "row", "backbone", "dataset"}


def test_site(tmp_path: Path) -> None:
    evil = "<script>alert(1)"
    make_run(tmp_path / "run" / "0", {evil: rows_of(evil, share(50, 30), share(70, 30))}, "tpt")
    make_run(tmp_path / "run" / "1", {evil: rows_of(evil, share(50, 30), share(50, 30))}, "clip")
    main([str(tmp_path / "run"), "--site", str(tmp_path / "site")])
    pages = {path.name: path.read_text("utf-8") for path in (tmp_path / "site").glob("*.html")}
    assert len(pages) == 3 and not any("<script" in page for page in pages.values())
    links = [unquote(link) for page in pages.values() for link in re.findall(r'(?:href|src)="([^"]*)"', page)]
    assert links and all((tmp_path / "site" / link).is_file() for link in links)
    assert "70.00" in pages["index.html"] and "method.selection_p" in pages["settings.html"]
    (dataset,) = pages.keys() - {"index.html", "settings.html"}
    assert "acc_zero_shot" in pages[dataset] and "Classes of" in pages[dataset]


def test_every_table_of_the_site_names_missing_images(tmp_path: Path) -> None:
    rows = rows_of("a", share(50, 30), share(70, 30))
    make_run(tmp_path / "run", {"a": rows[:20]}, about={"a": {"size": 60, "to_test": 30}})
    main([str(tmp_path / "run"), "--site", str(tmp_path / "site")])
    for page in ("index.html", "1_a.html"):
        text = (tmp_path / "site" / page).read_text("utf-8")
        assert "unfinished: a 20 of 30 images done" in text and "on part of the images: a 30 of 60" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "no run.json in it or below it. Check the path"),
        (["{runs}/notes.txt"], "notes.txt: no run.json in it or below it"),  # a file next to runs that belongs to none
        (["{runs}", "--format", "xls"], "Expected --format out of terminal, markdown, latex, csv, html, or a file"),
        (["{runs}", "--out", "table.xls"], "or a file that ends in .txt"),
        (["{runs}", "--against", "coop"], "got 0 for 'coop'; name one of: clip, tpt"),
        (["{runs}", "--transfer"], "None of the runs has a learned context"),
        (["{runs}", "--learned-on", "x"], "--learned-on: expected RUN=DATASET, such as runs/coop=imagenet, got 'x'"),
        (["{runs}", "--out", "{runs}/0/run.json/a.md"], "run.json': File exists"),
    ],
)
def test_a_mistake_gives_a_one_line_error(
    runs: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "notes.txt").write_text("of a person")
    with pytest.raises(SystemExit) as stop:
        main([argument.format(runs=runs) for argument in arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code in (1, 2) and line.startswith("Error: ") and sentence in line
