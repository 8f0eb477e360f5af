"""A context works only with the backbone it was learned with, and files with unused tensors are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tpt
from tests.noise_models import noise_clip, weights
from tpt.clip.prompts import Context, context_from_file, refuse_misfit
from tpt.clip.prompts.context import Origin
from tpt.errors import ContextFileError, UserError

NAMES = ["cat", "hot air balloon"]
WIDTH = 64
CTX = weights.context(11, 4, WIDTH)
ours, other = partial(noise_clip, "vit", 1), partial(noise_clip, "vit", 2)  # of equal width


def of_name(folder: Path) -> Path:
    return tpt.save_context(folder / "c.safetensors", Context(CTX, 4, "x"), "RN50-quickgelu/openai")


def of_weights(folder: Path) -> Path:
    return tpt.save_context(folder / "c.safetensors", Context(CTX, 4, "x"), other())


def published(folder: Path) -> Path:
    """CoOp's own layout in half precision, which names no backbone."""
    return tpt.export_public(folder, Context(CTX, 4, "x"), other(), NAMES, half=True)


def training(folder: Path) -> Path:
    """A checkpoint of train_coop.py."""
    notes = {"format": "tpt-context-1", "kind": "coop", "backbone": "RN50-quickgelu/openai", "n_before": "4"}
    torch.save({"state_dict": {"ctx": CTX}, "context": notes}, folder / "last.ckpt")
    return folder / "last.ckpt"


USES: dict[str, Callable[..., Any]] = {
    "program": context_from_file,
    "TPT": lambda clip, path, **k: tpt.TPT(clip, NAMES, context=tpt.load_context(path, **k)),
    "ZeroShot": lambda clip, path, **k: tpt.ZeroShot(clip, NAMES, context=tpt.load_context(path, **k)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("write", "learned"),
    [
        (of_name, "learned with RN50-quickgelu/openai"),
        (training, "learned with RN50-quickgelu/openai"),
        (of_weights, "learned with noise-vit-2.safetensors"),
        (published, "learned with another backbone, by the start token in its file"),
    ],
)
def test_another_backbone_is_refused(write: Callable[[Path], Path], learned: str, use: str, tmp_path: Path) -> None:
    """The text widths are equal, so only the recorded backbone differs."""
    path = write(tmp_path)
    with pytest.raises(UserError, match=rf"{learned}.*, not with noise-vit-1.*context.backbone=any") as caught:
        USES[use](ours(), path)
    assert "\n" not in str(caught.value)
    assert USES[use](ours(), path, backbone="any") is not None
    if write in (of_weights, published):
        assert USES[use](other(), path) is not None


def test_known_weights_decide_instead_of_names(tmp_path: Path) -> None:
    """Equal weights under another name are accepted; other weights under the same name are refused."""
    for name, weight, right in (("renamed", 1, True), ("noise-vit-1.safetensors/noise-vit-1.safetensors", 2, False)):
        origin = Origin(name, noise_clip("vit", weight).weights_digest)
        if right:
            origin.check(ours(), "x")
        else:
            with pytest.raises(UserError, match=r"learned with noise-vit-1.* of other weights, .* \(x\)"):
                origin.check(ours(), "x")


def test_files_without_an_origin_are_accepted(tmp_path: Path) -> None:
    save_file({"ctx": CTX}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    torch.save({"state_dict": {"module.ctx": CTX}}, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        loaded = tpt.load_context(tmp_path / name)
        assert isinstance(loaded, Context) and loaded.origin is None and torch.equal(loaded.vectors, CTX)
    with pytest.raises(UserError, match="Expected `backbone` to be any or null, got 'RN50'"):
        tpt.load_context(tmp_path / "a.safetensors", backbone="RN50")


def test_saving_again_keeps_the_origin(tmp_path: Path) -> None:
    first = tpt.load_context(of_weights(tmp_path))
    again = tpt.load_context(tpt.save_context(tmp_path / "again.safetensors", first))
    assert isinstance(again, Context) and again.origin == Origin.of(other())


MORE: dict[str, dict[str, Tensor]] = {
    "MaPLe": {"compound_prompts_text.0": torch.zeros(2, WIDTH), "proj.weight": torch.zeros(768, WIDTH)},
    "visual prompts": {"image_encoder.VPT": torch.zeros(4, 768)},
    "a whole model": {"image_encoder.conv1.weight": torch.zeros(3, 3)},
    "a deeper network": {
        f"meta_net.linear{i}.{kind}": torch.zeros(2) for i in (1, 2, 3) for kind in ("weight", "bias")
    },
}


@pytest.mark.parametrize("kind", ["coop", None])
@pytest.mark.parametrize("prefix", ["", "module.", "prompt_learner.", "_orig_mod.prompt_learner."])
@pytest.mark.parametrize("more", MORE)
def test_files_with_unused_tensors_are_refused(more: str, prefix: str, kind: str | None, tmp_path: Path) -> None:
    tensors = {prefix + key: value for key, value in {"ctx": CTX, **MORE[more]}.items()}
    torch.save({"state_dict": tensors}, tmp_path / "a.pt")
    shown = next(key for key in MORE[more] if "linear1" not in key and "linear2" not in key)
    with pytest.raises(ContextFileError, match=rf"learned by another method .*, such as {shown}"):
        tpt.load_context(tmp_path / "a.pt", kind=kind)


@pytest.mark.parametrize(
    ("notes", "tensors", "sentence"),
    [
        ({"format": "tpt-context-2"}, {}, "format tpt-context-1 .* got tpt-context-2 and coop"),
        ({"kind": "cocoop"}, {}, "kind coop for the tensors ctx in .* and cocoop"),
        ({"kind": "coop"}, weights.meta_net(21), "kind cocoop for the tensors ctx, meta_net.* and coop"),
        ({"kind": "maple"}, {}, "and maple"),
    ],
)
def test_a_wrong_format_or_kind_is_refused(
    notes: dict[str, str], tensors: dict[str, Tensor], sentence: str, tmp_path: Path
) -> None:
    save_file({"ctx": CTX, **tensors}, tmp_path / "a.safetensors", metadata=notes)
    with pytest.raises(ContextFileError, match=sentence):
        tpt.load_context(tmp_path / "a.safetensors")


def test_a_misfit_is_refused_before_weights_are_loaded(tmp_path: Path) -> None:
    named = partial(context_from_file, path=of_name(tmp_path))
    with pytest.raises(ContextFileError, match="width 512 for ViT-B-16-quickgelu/openai, got 64"):
        refuse_misfit(named, "ViT-B-16-quickgelu", "openai")
    with pytest.raises(UserError, match="learned with RN50-quickgelu/openai, not with w.pt/w.pt"):
        refuse_misfit(named, None, "w.pt")
    refuse_misfit(partial(named, backbone="any"), None, "w.pt")
    refuse_misfit(partial(tpt.context_from_words, ctx_init="a"), "ViT-B-16-quickgelu", "openai")
    by_weights = partial(context_from_file, path=of_weights(tmp_path))
    refuse_misfit(by_weights, None, "w.pt")  # could be the same weights under another name


def test_the_program_refuses_a_misfit_before_loading_weights(run_script: Callable[..., Any], tmp_path: Path) -> None:
    path = of_name(tmp_path)
    done = run_script(
        "test_time.py", "backbone=vit_b16", "context=coop", f"context.path={path}", "logger=none", ok=False
    )
    assert "width 512 for ViT-B-16-quickgelu/openai, got 64" in done.stderr
    save_file({"ctx": torch.zeros(4, 128)}, tmp_path / "rn.safetensors", metadata={"backbone": "RN50-quickgelu/openai"})
    arguments = ("test_time.py", "context=coop", f"context.path={tmp_path}/rn.safetensors", "data.limit=1",
                 "data.module.datasets.domains=[twemoji]", "views.num_views=1", "method=zero_shot",
                 "logger=none")  # fmt: skip
    done = run_script(*arguments, ok=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert "learned with RN50-quickgelu/openai, not with emoji-mini" in line
    run_script(*arguments, "context.backbone=any")
