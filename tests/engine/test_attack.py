"""Attacked copies of a dataset: the gradient ascent and its output files."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tpt
from tests.paper_tree import paper_tree
from tpt.cli.programs.attack import main
from tpt.data import emoji_shift
from tpt.data.catalog import read_entry
from tpt.engine.attack import attack_dataset
from tpt.errors import UserError
from tpt.methods.functional.attack import pgd
from tpt.views.maker import whole_picture


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 20), st.floats(0.1, 10), st.integers(1, 4), st.integers(0, 10**6))
def test_rounded_pixels_stay_within_eps(eps, step, steps, seed):
    torch.manual_seed(seed)
    pixels, weight = torch.randint(0, 256, (2, 3, 4, 4)).float(), torch.randn(48, 5)
    start = eps * (2 * torch.rand_like(pixels) - 1)
    out = pgd(pixels, torch.tensor([0, 4]), lambda x: x.flatten(1) @ weight / 99, start, eps, step, steps)
    assert (out - pixels).abs().max() <= eps and out.min() >= 0 and out.max() <= 255 and torch.equal(out, out.round())


def test_two_linear_classes_by_hand():
    """The gradient of the loss always points from the true class's weights to the other's, so the result is known."""
    pixels, weight = torch.full((1, 3, 2, 2), 100.0), torch.linspace(-1, 1, 12)[:, None] * torch.tensor([[1.0, -1.0]])
    out = pgd(pixels, torch.tensor([0]), lambda x: x.flatten(1) @ weight, torch.zeros_like(pixels), 3.5, 1, 9)
    assert torch.equal((out - pixels).flatten(), -math.floor(3.5) * torch.linspace(-1, 1, 12).sign())


@pytest.fixture(scope="module")
def clip():
    return tpt.load_clip("emoji-mini")


def written(folder):
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.*")}


def test_copies_of_a_dataset(clip, tmp_path):
    dataset = emoji_shift("twemoji").subset(12)
    method = tpt.ZeroShot(clip, dataset.class_names, ctx_init="a photo of a")
    wanted = {"eps": 4.0, "steps": 5, "batch_size": 5}
    attack_dataset(dataset, method, tmp_path / "one", **wanted)
    first = written(tmp_path / "one")
    attack_dataset(dataset, method, tmp_path / "two", **wanted)
    assert written(tmp_path / "two") == first
    for sample in dataset.samples[1:4]:  # as if the program had been killed
        (tmp_path / "two" / "twemoji" / sample.path).unlink()
    attack_dataset(dataset, method, tmp_path / "two", **wanted)
    assert written(tmp_path / "two") == first

    copies = emoji_shift("twemoji", root=tmp_path / "one")
    assert copies.class_names == dataset.class_names and copies.samples == dataset.samples
    square, right = whole_picture(clip.image_size), []
    for index, label in enumerate(dataset.labels()):
        clean, attacked = (np.asarray(square(d.image(index)), dtype=int) for d in (dataset, copies))
        assert 0 < abs(clean - attacked).max() <= 4
        views = torch.from_numpy(np.stack([clean, attacked])).permute(0, 3, 1, 2).to(torch.uint8)
        right.append((method(clip.encode_views(views[:, None])).logits.argmax(-1) == label).tolist())
    clean, attacked = np.mean(right, axis=0)
    assert attacked < clean

    with pytest.raises(UserError, match="eps is 4.0, got 5.0"):
        attack_dataset(dataset, method, tmp_path / "one", **{**wanted, "eps": 5.0})


def test_keeps_the_layout_of_a_dataset_with_lists(clip, tmp_path):
    root, copied = paper_tree(tmp_path / "data", keys=["dtd"]), tmp_path / "attacked"
    dataset = read_entry("dtd", root)
    method = tpt.ZeroShot(clip, dataset.class_names, ctx_init="a photo of a")
    attack_dataset(dataset, method, copied, root=root, steps=1)
    copies = read_entry("dtd", copied)
    assert copies.samples == dataset.samples and copies.split == dataset.split
    assert Image.open(copies.store.root / copies.samples[0].path).format == "PNG"


@pytest.mark.parametrize("option", [["--eps", "0.5"], ["--steps", "0"], ["--step", "-1"]])
def test_a_wrong_setting_is_reported(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *option, "data.limit=1"])
    assert f"Expected {option[0]} " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_a_missing_folder_is_reported(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "data=folder", f"data.root={tmp_path}/nowhere"])
    assert capsys.readouterr().err.startswith(f"Error: {tmp_path}/nowhere is no folder or .zip archive. ")


def test_the_program(tmp_path, capsys):
    main(["--out", str(tmp_path), "--steps", "1", "data.limit=2", "data.module.datasets.domains=[fxemoji]"])
    assert len(list((tmp_path / "fxemoji").rglob("*.png"))) == 2 and "fxemoji" in capsys.readouterr().out
