"""Runs on small copies of the paper's datasets, and on a user's own data in other formats."""

from __future__ import annotations

import gc
import gzip
import json
import re
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tpt
from tests.conftest import Done
from tests.own_data import save_huggingface, write_shard
from tests.own_lists import remove_splits, write_own_lists
from tests.paper_tree import SPLITS, paper_tree
from tpt.clip.texts import load_templates
from tpt.data.catalog import CROSS_DATASET, NATURAL_SHIFT
from tpt.errors import UserError
from tpt.results.runs import read_records

Run = Callable[..., Done]
CLASSES = {"imagenet": 1000, "imagenet_a": 200, "imagenet_v2": 1000, "imagenet_r": 200, "imagenet_sketch": 1000}
ZERO_SHOT = ("method=zero_shot", "views.num_views=1", "logger=none")
TPT = ("method=tpt", "views.num_views=4", "method.selection_p=0.5", "logger=none")


@pytest.fixture(autouse=True)
def backbone(noise_clip: Callable[..., tpt.CLIP], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replaces the bundled CLIP by a smaller one with random weights: these tests are about data and prompts.

    Sets one thread: on a busy machine, threads lose time by waiting for each other at every small operation.
    """
    clip, threads = noise_clip(), torch.get_num_threads()
    monkeypatch.setattr(tpt, "load_clip", lambda **_: clip)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_tree(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def found(run_script: Run, tmp_path: Path, paper: Path) -> Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Arguments -> results and records of a run."""
    count = 0

    def run(*arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        nonlocal count
        folder, count = tmp_path / f"run{count}", count + 1
        run_script("test_time.py", f"hydra.run.dir={folder}", *arguments)
        results = json.loads((folder / "results.json").read_text())
        return results, read_records(folder).to_pylist()

    return run


def test_natural_shift(run_script: Run, tmp_path: Path, paper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five datasets with their own classes, one text bank in memory at a time, and both averages of the paper."""
    banks: weakref.WeakSet[tpt.ZeroShot] = weakref.WeakSet()
    classes, make = [], tpt.ZeroShot.__init__

    def counted(self: tpt.ZeroShot, *args: Any, **kwargs: Any) -> None:
        gc.collect()
        assert not banks, "the bank before is gone"
        make(self, *args, **kwargs)
        banks.add(self)
        classes.append(len(kwargs["class_names"]))

    monkeypatch.setattr(tpt.ZeroShot, "__init__", counted)
    done = run_script("test_time.py", "data=natural_shift", f"data.root={paper}", "data.limit=2", *ZERO_SHOT)
    results = json.loads(next(tmp_path.glob("runs/*/results.json")).read_text())
    datasets = results["datasets"]
    # Before images are encoded, each text bank is made once as a check; V2 and Sketch share ImageNet's.
    checked, tested = classes[:-5], classes[-5:]
    assert list(datasets) == list(NATURAL_SHIFT) and tested == list(CLASSES.values())
    assert checked == [1000, 200, 200]
    accuracies = [datasets[key]["acc"] for key in NATURAL_SHIFT]
    assert results["averages"]["acc"] == pytest.approx(sum(accuracies) / 5)
    assert results["averages"]["shifted"]["acc"] == pytest.approx(sum(accuracies[1:]) / 4)
    assert "where the paper's test set has 7500 of 200" in datasets["imagenet_a"]["notes"][0]
    assert (
        "two classes are called 'missile' and two 'sunglasses', so their answers tie" in datasets["imagenet"]["notes"]
    )
    assert "shifted" in done.stdout


@pytest.mark.slow
def test_cross_dataset(found: Any, paper: Path) -> None:
    results, records = found("data=cross_dataset", f"data.root={paper}", "data.limit=1", "views=paper", *TPT)
    assert list(results["datasets"]) == list(CROSS_DATASET) and len(records) == 10
    assert results["datasets"]["dtd"]["split"] == "split_zhou_DescribableTextures.json"
    assert "shifted" not in results["averages"]
    assert results["method"] == "tpt"


def test_paper_views_use_augmix_only_on_fine_grained_datasets(found: Any, paper: Path) -> None:
    data = ("data=catalog", "data.keys=[imagenet_a,eurosat]", f"data.root={paper}", "data.limit=1")
    entropies = {
        views: [row["entropy"] for row in found(*data, f"views={views}", *TPT)[1]]
        for views in ("crops", "augmix", "paper")
    }
    assert entropies["crops"] != entropies["augmix"]
    assert entropies["paper"] == [entropies["crops"][0], entropies["augmix"][1]]


@pytest.mark.parametrize(
    ("key", "own", "note"),
    [
        ("dtd", "labels/test1.txt", "the dataset's own split labels/test1.txt, not the paper's " + SPLITS["dtd"].file),
        ("oxford_pets", "annotations/test.txt", "6 images of 3 classes, where the paper's test set has 3669 of 37"),
    ],
)
def test_results_name_a_datasets_own_list(found: Any, tmp_path: Path, key: str, own: str, note: str) -> None:
    """The list of Oxford Pets needs no note on its split, because the paper's split was made from it."""
    paper_tree(tmp_path / "data", keys=[key])
    remove_splits(tmp_path / "data")
    write_own_lists(key, tmp_path / "data")
    results, _ = found(f"data={key}", f"data.root={tmp_path / 'data'}", *ZERO_SHOT)
    about = results["datasets"][key]
    assert about["split"] == own and about["images"] == 6 and about["notes"][0] == note


def probabilities(records: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["pred"], pytest.approx(row["entropy"], abs=1e-4)) for row in records]


def test_prompts(found: Any, paper: Path, tmp_path: Path) -> None:
    """The single prompt, a list of 80 templates, a user's file, and CoOp's template per dataset."""
    (tmp_path / "textures.txt").write_text("\ufeff{} texture.\n\n")
    data = ("data=dtd", f"data.root={paper}", *ZERO_SHOT)
    one, plain = found(*data)
    assert one["method"] == "clip" and one["context"] == "words: a photo of a"
    ensemble, eighty = found(*data, "method.templates=imagenet_80")
    assert ensemble["method"] == "ensemble" and probabilities(eighty) != probabilities(plain)
    _, textures = found(*data, f"method.templates={tmp_path / 'textures.txt'}")
    for setting in ("method.templates=dataset", "context=dataset"):
        results, own = found(*data, setting)
        assert results["method"] == "clip" and probabilities(own) == probabilities(textures) != probabilities(plain)


def test_tuning_starts_from_each_datasets_own_prompt(found: Any, paper: Path) -> None:
    data = ("data=catalog", "data.keys=[dtd,oxford_pets]", f"data.root={paper}", "data.limit=1")
    results, records = found(*data, "context=dataset", *TPT)
    assert results["method"] == "tpt" and results["context"] == "words: each dataset's own" and len(records) == 2
    _, plain = found(*data, "method=zero_shot", "method.templates=dataset", "views.num_views=1", "logger=none")
    assert [row["pred"] for row in plain] == [row["pred_zero_shot"] for row in records]


def test_bad_template_files_are_refused(run_script: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"a \xff {}\n")
    done = run_script("test_time.py", "data.limit=1", *ZERO_SHOT, f"method.templates={tmp_path}/mine.txt", ok=False)
    assert "byte 2 is not in UTF-8; save it as UTF-8" in done.stderr
    for content, sentence in (
        ("a photo\n", "Expected one `{}` for the class name in every template, got 'a photo'"),
        ("\n", "There is no template in"),
    ):
        (tmp_path / "mine.txt").write_text(content)
        with pytest.raises(UserError, match=re.escape(sentence)):
            load_templates(str(tmp_path / "mine.txt"))
    with pytest.raises(UserError, match="one of imagenet_80, imagenet_7, a list or an existing text file, got"):
        load_templates(str(tmp_path / "absent.txt"))


def test_own_data_in_other_formats(found: Any, tmp_path: Path) -> None:
    save_huggingface(tmp_path / "saved")
    for n in range(2):
        write_shard(tmp_path / f"test-{n}.tar", [(f"{n}a", "cat"), (f"{n}b", "dog")])
    for form, setting, workers in (("huggingface", f"data.path={tmp_path}/saved", 0),
                                   ("webdataset", f"data.shards='{tmp_path}/test-{{0..1}}.tar'", 1)):  # fmt: skip
        results, records = found(f"data={form}", setting, *ZERO_SHOT, f"data.num_workers={workers}")
        assert [d["images"] for d in results["datasets"].values()] == [4] and len(records) == 4
        assert len({row["path"] for row in records}) == 4


def test_mistakes_in_data_give_one_sentence(run_script: Run, tmp_path: Path, image_tree: Path) -> None:
    (tmp_path / "around").mkdir()
    image_tree = image_tree.rename(tmp_path / "around" / "pictures")
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress(b"x" * 1000))
    (tmp_path / "t.csv").write_text("file;class\ncat/0.png;cat\n")
    for arguments, sentence in (
        (f"data=webdataset data.shards={tmp_path}/t.tar.gz", "t.tar.gz as an uncompressed tar archive"),
        (f"data=webdataset data.shards={tmp_path}/absent.tar", "1 of the 1 shards are missing"),
        (f"data=huggingface data.path={image_tree}", "as a directory that `save_to_disk` wrote"),
        (f"data=list data.path={tmp_path}/t.csv", "needs one column 'path'"),
        (f"data=folder data.root={image_tree.parent}", "seem to hold the folders of classes"),
        ("data=dtd", "Expected the folder of all datasets, got none; set data.root or the variable TPT_DATA"),
        ("data=catalog data.keys=[cifar] data.root=.", "Expected a dataset out of imagenet"),
        ("data=catalog data.root=.", "Expected a value for `data.keys`, got none"),
    ):  # fmt: skip
        done = run_script("test_time.py", *arguments.split(" "), *TPT, ok=False)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
        assert sentence in line
