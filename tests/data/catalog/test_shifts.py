"""Corrupted datasets, CIFAR, and datasets with several domains."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.results.tables.made_runs import make_run, rows_of, share
from tests.shift_tree import CIFAR_C_EACH, CLASSES, shift_tree, write_pickle
from tpt.cli.programs.data import main
from tpt.data.catalog import catalog_datasets, read_entry
from tpt.data.catalog.entries import CORRUPTED, CORRUPTIONS, DOMAINS, group_of, keys_of
from tpt.data.catalog.names import imagenet_classes
from tpt.errors import DataError, UserError
from tpt.results.tables.formats import render
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import load_runs


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shift_tree(tmp_path_factory.mktemp("shifts"))


@pytest.fixture
def damaged(tree: Path, tmp_path: Path) -> Path:
    for folder in ("cifar-10-batches-py", "CIFAR-10-C", "PACS", "DomainNet"):
        shutil.copytree(tree / folder, tmp_path / folder)
    return tmp_path


def test_corruptions_of_imagenet(tree: Path) -> None:
    found = catalog_datasets("imagenet_c", tree, corruption=["fog", "snow"], severity=1)
    assert [d.name for d in found] == ["imagenet_c_fog_1", "imagenet_c_snow_1"]
    assert found[0].class_names == list(imagenet_classes().values()) and found[0].store.root.parts[-2:] == ("fog", "1")
    assert len(keys_of("imagenet_c")) == 15 and keys_of("imagenet_c", "spatter", 2) == ["imagenet_c_spatter_2"]


def test_corruptions_in_folders_named_after_archives(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "ImageNet-C/fog/5", tmp_path / "ImageNet-C/weather/fog/5", copy_function=os.link)
    assert len(read_entry("imagenet_c_fog_5", tmp_path)) == 1000


def test_wrong_corruptions_and_severities(tree: Path) -> None:
    with pytest.raises(DataError, match=r"Expected corruptions out of gaussian_noise, .* or all, got fogg; set data"):
        catalog_datasets("imagenet_c", tree, corruption="fogg")
    for severity in (0, 6):
        with pytest.raises(UserError, match=rf"Expected `severity` to be .* 1 to 5, got {severity}"):
            catalog_datasets("imagenet_c", tree, severity=severity)
    with pytest.raises(
        DataError, match=r"No class folders of ImageNet-C, gaussian_noise 5, such as .* in .*gaussian_noise/5\."
    ):
        catalog_datasets("imagenet_c", tree)
    with pytest.raises(DataError, match=r"frost\.npy of CIFAR-10-C.* is missing"):
        read_entry("cifar10_c_frost_5", tree)
    with pytest.raises(DataError, match="Expected a dataset out of imagenet,.* pacs,.* got 'imagenet_c_fog_6'"):
        read_entry("imagenet_c_fog_6", tree)
    with pytest.raises(DataError, match="test set alone"):
        read_entry("imagenet_c_fog_5", tree, "train")


@pytest.mark.parametrize(("key", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar(tree: Path, key: str, classes: int) -> None:
    dataset = read_entry(key, tree)
    assert len(dataset.class_names) == classes and dataset.labels() == [0, 1, classes - 1]
    assert dataset.class_names[0] == ("airplane" if classes == 10 else "apple") and dataset.class_names == sorted(
        dataset.class_names
    )
    for number in range(3):  # red, green, blue planes of 32 x 32
        assert (np.asarray(dataset.image(number)) == [number, 0, 0]).all()
    train = read_entry(key, tree, "train")
    assert len(train) == (15 if classes == 10 else 3)
    assert np.asarray(train.image(len(train) - 1))[0, 0, 2] == (5 if classes == 10 else 1)
    with pytest.raises(DataError, match="has train and test"):
        read_entry(key, tree, "val")


@pytest.mark.parametrize("key", ["cifar10_c", "cifar100_c"])
def test_cifar_files_hold_severities_in_order(tree: Path, key: str) -> None:
    for severity in (1, 5):
        (dataset,) = catalog_datasets(key, tree, corruption="fog", severity=severity)
        dataset = pickle.loads(pickle.dumps(dataset))  # as sent to a worker
        assert dataset.labels() == list(range(CIFAR_C_EACH))
        pixels = [np.asarray(dataset.image(n))[0, 0, 0] for n in range(CIFAR_C_EACH)]
        assert pixels == list(range((severity - 1) * CIFAR_C_EACH, severity * CIFAR_C_EACH))


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harmed",)


def test_a_pickle_that_would_run_code_is_refused(
    damaged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = damaged / "cifar-10-batches-py" / "test_batch"
    write_pickle(file, {"data": _Harmful(), "labels": [0]})
    with pytest.raises(DataError, match=r"it names \w+\.mkdir, but only arrays"):
        read_entry("cifar10", damaged)
    assert not Path("harmed").exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1]), pickle.dumps({"data": 3, "labels": [1]})])
def test_damaged_pickles(damaged: Path, content: bytes) -> None:
    (damaged / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot read .*test_batch \("):
        read_entry("cifar10", damaged)


def test_damaged_arrays(damaged: Path) -> None:
    folder = damaged / "CIFAR-10-C"
    np.save(folder / "labels.npy", np.full(5 * CIFAR_C_EACH, 10))
    with pytest.raises(DataError, match="The 20 labels .*, from 10 to 10, do not fit its 20 pictures of 10 classes"):
        read_entry("cifar10_c_fog_1", damaged)
    np.save(folder / "fog.npy", np.zeros((20, 32, 32), np.uint8))
    with pytest.raises(DataError, match="Expected pictures of 32 x 32 x 3 bytes in .*fog.npy"):
        read_entry("cifar10_c_fog_1", damaged)
    (folder / "fog.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="Cannot read .*fog.npy"):
        read_entry("cifar10_c_fog_1", damaged)


@pytest.mark.parametrize("key", list(CLASSES))
def test_domains_of_class_folders(tree: Path, key: str) -> None:
    found = catalog_datasets(key, tree)
    assert [d.name for d in found] == [entry.key for entry in DOMAINS[key]]
    for dataset in found:
        assert dataset.class_names == list(CLASSES[key]) and dataset.labels() == list(range(len(CLASSES[key])))
        assert dataset.image(0).mode == "RGB"
    with pytest.raises(DataError, match="The list .* is missing"):
        read_entry(found[0].name, tree, "train")


def test_domainnet_uses_lists(tree: Path, damaged: Path) -> None:
    found = catalog_datasets("domainnet", tree)
    assert len(found) == 6 and all(d.class_names == ["The_Eiffel_Tower", "axe"] for d in found)
    assert found[0].split == "clipart_test.txt" and read_entry("domainnet_real", tree, "train").labels() == [0, 1]
    (damaged / "DomainNet" / "clipart_test.txt").write_text("clipart/axe/clipart_001_000001.jpg\n")
    with pytest.raises(DataError, match="Cannot read the lines `path label`"):
        read_entry("domainnet_clipart", damaged)
    (damaged / "DomainNet" / "clipart_test.txt").unlink()  # then its folders are used, which have two classes here
    with pytest.raises(DataError, match="hold 2 class folders, not 345"):
        read_entry("domainnet_clipart", damaged)


def test_a_domain_without_a_class_keeps_the_labels(damaged: Path) -> None:
    shutil.rmtree(damaged / "PACS/kfold/photo/dog")
    photo = read_entry("pacs_photo", damaged)
    assert photo.class_names == list(CLASSES["pacs"]) and photo.labels() == [1, 2, 3, 4, 5, 6]
    (damaged / "PACS/kfold/photo/cat").mkdir()
    with pytest.raises(DataError, match="kfold hold 8 class folders, not 7"):
        read_entry("pacs_sketch", damaged)


def test_image_counts_of_the_real_test_sets() -> None:
    """The papers of the datasets and of DomainBed print the same totals, except for Terra Incognita."""
    total = {key: sum(entry.images for entry in entries) for key, entries in DOMAINS.items()}
    assert total["pacs"] == 9991 and total["vlcs"] == 10729 and total["office_home"] == 15588
    assert total["terra_incognita"] == 24330  # with the annotations of 2021; DomainBed's paper has 24,788
    assert total["domainnet"] == 176743 and total["visda"] == 55388
    assert len(CORRUPTIONS) == 15 and {entry.images for entry in CORRUPTED.values()} == {50000, 10000}


def test_check(tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["check", "pacs", "cifar10", "--root", str(tree)]) == 0
    assert "pacs_photo" in (out := capsys.readouterr().out) and "3 / 10000" in out
    assert main(["check", "cifar10_c", "--root", str(tree)]) == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert (
        "4 / 10000" in lines["cifar10_c_fog_3"]
        and "frost.npy of CIFAR-10-C, frost 3 is missing" in lines["cifar10_c_frost_3"]
    )
    assert main(["check", "imagenet_c", "--root", str(tree / "PACS")]) == 1
    assert "there is no folder" in capsys.readouterr().out


def test_one_table_per_severity_with_its_mean(tmp_path: Path) -> None:
    """A sweep over severities is one row; each severity has a table with a column per corruption and their mean."""
    for severity, accuracies in ((1, (80, 60)), (5, (40, 20))):
        records = {
            f"imagenet_c_{name}_{severity}": rows_of(
                f"imagenet_c_{name}_{severity}", share(50, 10), share(accuracy, 10)
            )
            for name, accuracy in zip(("fog", "snow"), accuracies, strict=True)
        }
        make_run(tmp_path / str(severity), records)
    records = {f"pacs_{name}": rows_of(f"pacs_{name}", share(50, 10), share(90, 10)) for name in ("photo", "sketch")}
    make_run(tmp_path / "pacs", records)
    report = make_report(load_runs([tmp_path]))
    assert [table.caption for table in report.tables] == ["ImageNet-C, severity 1", "ImageNet-C, severity 5", "PACS"]
    assert [cells["average"].accuracy for table in report.tables for _, cells in table.rows] == [70, 30, 90]
    text = render(report, "terminal")
    assert "fog" in text and "imagenet_c_fog" not in text and "sketch" in text
    assert group_of("dtd") == ("", "dtd") and group_of("visda_validation")[0] == ""
