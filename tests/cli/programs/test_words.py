"""`tpt-words`: the nearest words of learned context vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tpt
from tests.noise_models import noise_clip, weights
from tpt.cli.programs.words import main
from tpt.clip.prompts import ConditionalContext, Context, MetaNet
from tpt.clip.prompts.words import nearest_words, report


def embedding(clip: tpt.CLIP, *words: str) -> torch.Tensor:
    return clip.text.token_embedding(torch.tensor([clip.tokenizer.encode(word)[0] for word in words]))


def test_a_words_own_embedding_is_at_distance_zero() -> None:
    clip = noise_clip()
    words = ["cat", "photo", "balloon"]
    found = nearest_words(clip, embedding(clip, *words), top=3)
    assert [row[0].word for row in found] == words
    assert [row[0].distance for row in found] == [0.0, 0.0, 0.0]
    assert all(len(row) == 3 and row[0].distance < row[1].distance <= row[2].distance for row in found)


def test_distances_are_euclidean() -> None:
    clip = noise_clip()
    shift = torch.zeros(1, 64)
    shift[0, 3] = 0.25
    (row,) = nearest_words(clip, embedding(clip, "cat") + shift, top=2)
    assert row[0].word == "cat"
    assert row[0].distance == pytest.approx(0.25, rel=1e-4)
    table = clip.text.token_embedding.weight
    by_hand = torch.cdist(embedding(clip, "cat") + shift, table, compute_mode="donot_use_mm_for_euclid_dist")[0]
    assert row[1].distance == pytest.approx(float(by_hand.sort().values[1]), rel=1e-5)


def test_untrained_words_and_the_end_token_are_left_out(tmp_path: Path) -> None:
    state = weights.state_dict("vit", 1)
    state["token_embedding.weight"][1000:] = 0  # untrained, as in the bundled model; includes the start and end tokens
    state["token_embedding.weight"][49407] = 1e-4
    save_file(state, tmp_path / "w.safetensors", metadata={"quick_gelu": "true"})
    clip = tpt.load_clip(pretrained=tmp_path / "w.safetensors")
    (row,) = nearest_words(clip, torch.zeros(1, 64), top=5000)
    assert len(row) == 1000
    assert row[0].distance > 1


def test_generic_class_specific_and_conditional_reports() -> None:
    clip = noise_clip()
    words = embedding(clip, "a", "photo", "of")
    generic = report(clip, Context(words, 3, "coop: file"), top=2)
    assert generic[0] == "coop: file: 3 vectors of width 64, 3 before the name"
    assert [line.split()[:3] for line in generic[1:]] == [
        ["1", "a", "(0.0000),"],
        ["2", "photo", "(0.0000),"],
        ["3", "of", "(0.0000),"],
    ]
    own = Context(torch.stack([words, words.flip(0)]), 3, "coop: file", ("cat", "dog"))
    lines = report(clip, own, top=1)
    assert [line for line in lines if line.endswith(":")] == ["cat:", "dog:"]
    assert lines[-3:] == ["   1  of (0.0000)", "   2  photo (0.0000)", "   3  a (0.0000)"]
    assert report(clip, own, num_classes=1)[-1] == "1 more classes; --classes all shows them."
    unnamed = Context(own.vectors, 3, "coop: file")
    assert "class 1:" in report(clip, unnamed)
    conditional = ConditionalContext(Context(words, 3, "cocoop: file"), MetaNet(32, 64))
    assert "vectors that all images share" in report(clip, conditional)[1]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(weights.state_dict("vit", 1), tmp_path / "w.safetensors", metadata={"quick_gelu": "true"})
    path = tpt.save_context(tmp_path / "c.safetensors", Context(embedding(noise_clip(), "a", "cat"), 2, "x"))
    arguments = [str(path), "--pretrained", str(tmp_path / "w.safetensors"), "--top", "1"]
    main(arguments)
    assert capsys.readouterr().out.splitlines()[1:] == ["   1  a (0.0000)", "   2  cat (0.0000)"]
    for wrong in (["nothing.pt"], [str(path), "--top", "0"], [str(path), "--classes", "many"]):
        with pytest.raises(SystemExit) as stop:
            main([*wrong, *arguments[1:3]])
        captured = capsys.readouterr()
        assert captured.out == ""
        if stop.value.code == 1:
            assert captured.err.startswith("Error: ") and captured.err.count("\n") == 1
        else:  # reported by argparse
            assert "expected it to be a whole number of at least 1, got" in captured.err


def test_a_context_of_another_width_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tpt.save_context(tmp_path / "c.safetensors", Context(torch.zeros(4, 48), 4, "x"))
    save_file(weights.state_dict("vit", 1), tmp_path / "w.safetensors", metadata={"quick_gelu": "true"})
    with pytest.raises(SystemExit, match="1"):
        main([str(path), "--pretrained", str(tmp_path / "w.safetensors")])
    assert "width 64" in capsys.readouterr().err
