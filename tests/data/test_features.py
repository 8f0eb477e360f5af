"""Exported features give the same records without the images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tpt
from tests.own_data import write_features
from tpt.cli.programs.cache import main
from tpt.data.features import FeatureRows, refuse_other_encoder
from tpt.errors import BadImageError, DataError
from tpt.results.tables.runs import load_runs

SETTINGS = ("method.min_selected=1", "views.num_views=8", "logger=none")
DOMAINS = ("data.limit=3", "data.module.datasets.domains=[twemoji,fxemoji]")


def model(noise_file: Callable[..., Path]) -> list[str]:
    """Settings of a small CLIP with random weights."""
    return ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true"]


@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".npz", marks=pytest.mark.slow)])
def test_the_same_records_without_the_images(
    suffix: str, run_script: Callable[..., Any], tmp_path: Path, noise_file: Callable[..., Path]
) -> None:
    file = (tmp_path / "features").with_suffix(suffix)
    backbone = model(noise_file)
    run_script("test_time.py", *SETTINGS, *backbone, *DOMAINS, f"hydra.run.dir={tmp_path}/images")
    assert main(["export", str(tmp_path / "images"), "--to", str(file)]) == 0
    tensors = load_file(file) if suffix == ".safetensors" else np.load(file)
    assert tensors["1.features"].shape == (3, 8, tensors["0.text_features"].shape[1])
    stored = ("data=features", f"data.path={file}", f"hydra.run.dir={tmp_path}/features")
    run_script("test_time.py", *SETTINGS, *backbone, *stored)
    one, two = (load_runs([tmp_path / name])[0] for name in ("images", "features"))
    assert one.records.drop_columns(["seconds"]).equals(two.records.drop_columns(["seconds"]))
    assert one.records.num_rows == 6 and list(one.to_test) == list(two.to_test)


def test_only_view_0(
    run_script: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], noise_file: Callable[..., Path]
) -> None:
    """Stream methods run on view 0 alone; TPT and RLCF are refused, with one error each."""
    file = tmp_path / "view0.safetensors"
    backbone = model(noise_file)
    assert main(["export", "emoji_shift", *backbone, *DOMAINS, "views.num_views=1", "--to", str(file)]) == 0
    assert "features of 6 images" in capfd.readouterr().out
    given = (*backbone, "data=features", f"data.path={file}", "logger=none")
    run_script("test_time.py", *given, "method=tda", f"hydra.run.dir={tmp_path}/tda")
    assert load_runs([tmp_path / "tda"])[0].records.num_rows == 6
    rlcf = ("method=rlcf", "backbone@method.reward=emoji_mini")
    for method, message in (
        (("method=tpt",), "got 1; set views.num_views=1, choose a method that needs no views"),
        (rlcf, "with reward"),
    ):
        refused = run_script("test_time.py", *given, *method, f"hydra.run.dir={tmp_path}/refused", ok=False)
        assert message in refused.stderr and refused.stderr.count("Expected") == 1


def test_a_dataset_of_features(tmp_path: Path, clip: tpt.CLIP) -> None:
    (dataset,) = tpt.feature_file(write_features(tmp_path / "f.safetensors", views=3))
    assert isinstance(dataset.store, FeatureRows) and dataset.labels() == [0, 1] and dataset.digest(1) == "2"
    found = dataset.store.features("b", 2)
    assert found["image_features"].shape == (2, 4) and float(found["image_norm"]) == 1
    with pytest.raises(BadImageError, match="holds only the features"):
        dataset.image(0)
    with pytest.raises(DataError, match="got those of other, .*; choose that one"):
        refuse_other_encoder([dataset], clip)
    (own,) = tpt.feature_file(write_features(tmp_path / "g.safetensors", weights=clip.encoding()["weights"]))
    refuse_other_encoder([own], clip)


def test_too_few_views(tmp_path: Path, clip: tpt.CLIP) -> None:
    for views, message in ((3, "set views.num_views=3"), (1, "choose a method that needs no views")):
        data = tpt.EpisodeDataModule(tpt.feature_file(write_features(tmp_path / f"{views}.safetensors", views=views)))
        data.use_views(tpt.Views(clip.image_size, num_views=8))
        with pytest.raises(DataError, match=message):
            data.num_views()
    assert [count for _, count in data.num_views(view_0_serves=True)] == [1]


def test_files_that_hold_no_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.safetensors"
    with pytest.raises(DataError, match="No such file.*Check data.path"):
        tpt.feature_file(file)
    file.write_bytes(b"no tensors")
    with pytest.raises(DataError, match="Cannot read "):
        tpt.feature_file(file)
    save_file({"0.features": torch.zeros(2, 1, 4), "0.norms": torch.zeros(2)}, file)
    with pytest.raises(DataError, match="Cannot read "):
        tpt.feature_file(file)
    save_file(
        {"0.features": torch.zeros(2, 1, 4), "0.norms": torch.zeros(2)},
        file,
        {"tpt": json.dumps({"encoder": {}, "datasets": [{"paths": ["a"], "labels": [0], "contents": ["1"],
                                                         "class_names": ["cat"]}]})},
    )  # fmt: skip
    with pytest.raises(DataError, match="do not belong together"):
        tpt.feature_file(file)
    for source, to, message in (
        ("emoji_shift", "f.pt", "ends in .safetensors, .npz"),
        ("folder", "f.safetensors", "a value for `data.root`"),
        ("no_run", "f.safetensors", "got 'no_run'"),
    ):
        with pytest.raises(SystemExit):
            main(["export", source, "--to", str(tmp_path / to)])
        assert message in capsys.readouterr().err


ROWS_NE, LABELS = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]]), torch.tensor([0, 1, 0])
THEIRS: dict[str, Callable[[Path], Path]] = {
    "entries": lambda at: saved(at / "d.pt", {"image_features": ROWS_NE.half(), "labels": LABELS}),
    "a view axis": lambda at: saved(at / "d.pth", {"features": torch.stack([ROWS_NE, -ROWS_NE], 1), "targets": LABELS}),
    "a pair": lambda at: saved(at / "d.pt", (ROWS_NE, LABELS[:, None])),
    "two files": lambda at: saved(saved(at / "d_l.pt", LABELS).with_name("d_f.pt"), ROWS_NE),
    "numpy": lambda at: saved(at / "d.npz", {"Features": ROWS_NE.numpy(), "label": LABELS.numpy()}),
}


def saved(file: Path, content: Any) -> Path:
    """Writes the file with torch or NumPy, and returns it."""
    np.savez(file, **content) if file.suffix == ".npz" else torch.save(content, file)
    return file


@pytest.mark.parametrize("layout", THEIRS)
def test_files_of_other_programs(layout: str, tmp_path: Path, clip: tpt.CLIP) -> None:
    (dataset,) = tpt.feature_file(THEIRS[layout](tmp_path), class_names=["cat", "dog"])
    assert (dataset.name, dataset.class_names, dataset.labels()) == ("d", ["cat", "dog"], [0, 1, 0])
    assert isinstance(dataset.store, FeatureRows) and dataset.store.num_views == 1
    found = dataset.store.features("00000000", 4)
    assert found["image_features"].tolist() == [pytest.approx([0.6, 0.8])] and float(found["image_norm"]) == 5
    assert "another program" in dataset.notes[0] and len({dataset.digest(row) for row in range(3)}) == 3
    with pytest.raises(DataError, match=r"of length \d+, in .* got those of another, of length 2; choose"):
        refuse_other_encoder([dataset], clip)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features": ROWS_NE}, "KeyError: .no features and labels among features"),
        ({"features": ROWS_NE, "labels": LABELS[:2]}, "3 features, 2 labels and 3 paths"),
        ({"features": ROWS_NE * 0, "labels": LABELS}, "features that are zero"),
        ({"features": ROWS_NE, "labels": LABELS}, "are numbers, and there are no class names"),
        (ROWS_NE, "a Tensor"),
        (pytest.approx, "Weights only load failed"),  # no code in a file is run
    ],
)
def test_unusable_files_of_other_programs(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        tpt.feature_file(saved(tmp_path / "d.pt", content))


def test_streams_run_on_a_file_of_another_program(
    run_script: Callable[..., Any], tmp_path: Path, noise_file: Callable[..., Path]
) -> None:
    names, features = ["cat", "dog"], torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    file = saved(tmp_path / "d.npz", {"features": features.numpy(), "labels": [0, 1, 1, 0], "classnames": names})
    given = (*model(noise_file), "data=features", f"data.path={file}", "logger=none")
    run_script("test_time.py", *given, "method=dota", f"hydra.run.dir={tmp_path}/dota")
    assert load_runs([tmp_path / "dota"])[0].records.num_rows == 4
    refused = run_script("test_time.py", *given, "method=tpt", f"hydra.run.dir={tmp_path}/tpt", ok=False)
    assert "got 1; set views.num_views=1, choose a method that needs no views" in refused.stderr
