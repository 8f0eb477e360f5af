"""Reads and writes learned contexts."""

from __future__ import annotations

import math
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import tpt
from tests.noise_models import conditional, noise_clip, weights
from tpt.clip.prompts import ConditionalContext, Context
from tpt.clip.prompts.context import Position, vectors_before
from tpt.clip.weights.archive import DIGEST, read_safetensors
from tpt.errors import ContextFileError

NAMES = ["airplane", "hot air balloon", "golden_retriever", "tram"]
WIDTH = 64


class WarmupThenCosine(torch.optim.lr_scheduler.LRScheduler):
    """Holds another scheduler, like the one that Dassl pickles, which `weights_only` refuses."""

    def __init__(self, optimizer: torch.optim.Optimizer, successor: Any) -> None:
        self.successor = successor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [1e-5 for _ in self.base_lrs]


def published(ctx: Tensor, meta_net: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """A checkpoint as the official training saves it, including optimizer and scheduler objects."""
    parameter = nn.Parameter(ctx.clone())
    optimizer = torch.optim.SGD([parameter], lr=0.002, momentum=0.9)
    parameter.sum().backward()
    optimizer.step()
    scheduler = WarmupThenCosine(optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50))
    classes, n_ctx = len(NAMES), ctx.shape[-2]
    state = OrderedDict(
        ctx=ctx,
        token_prefix=noise_clip().text.token_embedding.weight[49406].expand(classes, 1, WIDTH),
        token_suffix=torch.ones(classes, 76 - n_ctx, WIDTH),
        **(meta_net or {}),
    )
    state = OrderedDict((k, v.half()) for k, v in state.items())
    kept = {k: v for k, v in scheduler.__dict__.items() if k != "optimizer"}
    others = {"epoch": 50, "optimizer": optimizer.state_dict(), "scheduler": kept, "val_result": None}
    return {"state_dict": state, **others}


def write_public(folder: Path, content: object, name: str = "model.pth.tar-50") -> Path:
    (folder / "prompt_learner").mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "prompt_learner" / name)
    (folder / "prompt_learner" / "checkpoint").write_text(f"{name}\n")
    return folder / "prompt_learner" / name


@pytest.mark.parametrize("n_ctx", [4, 16])
@pytest.mark.parametrize("where", ["file", "directory", "prompt_learner", "best"])
def test_reads_coops_published_files(tmp_path: Path, n_ctx: int, where: str) -> None:
    ctx = weights.context(11, n_ctx, WIDTH)
    name = "model-best.pth.tar" if where == "best" else "model.pth.tar-50"
    file = write_public(tmp_path, published(ctx), name)
    with pytest.raises(pickle.UnpicklingError):  # torch's own safe loader refuses such a file
        torch.load(file, weights_only=True)
    path = {"directory": tmp_path, "prompt_learner": file.parent}.get(where, file)
    loaded = tpt.load_context(path)
    assert isinstance(loaded, Context)
    assert loaded.vectors.dtype == torch.float32
    assert torch.equal(loaded.vectors, ctx.half().float())
    assert (loaded.n_ctx, loaded.n_before, loaded.class_specific) == (n_ctx, n_ctx, False)
    assert str(file) in loaded.source
    other_classes = ["cat", "dog", "T-shirt"]  # not the training classes
    assert tpt.ZeroShot(noise_clip(), other_classes, context=loaded)(torch.eye(32)[:1]).logits.shape == (3,)


def test_reads_cocoops_published_files(tmp_path: Path) -> None:
    ctx, meta_net = weights.context(21, 4, WIDTH), weights.meta_net(21)
    loaded = tpt.load_context(write_public(tmp_path, published(ctx, meta_net)), meta_input="unit")
    assert isinstance(loaded, ConditionalContext)
    assert torch.equal(loaded.base.vectors, ctx.half().float())
    assert loaded.meta_input == "unit"
    for name, value in loaded.meta_net.state_dict().items():
        assert torch.equal(value, meta_net[f"meta_net.{name}"].half().float())


def test_reads_a_whole_model_and_class_specific_vectors(tmp_path: Path) -> None:
    ctx = weights.context(3, 4, 2, WIDTH)
    whole = {"module.prompt_learner.ctx": ctx, "module.prompt_learner.token_suffix": torch.zeros(3, 72, 64)}
    torch.save({"state_dict": whole}, tmp_path / "m.pt")
    loaded = tpt.load_context(tmp_path / "m.pt", kind="coop", class_token_position="middle")
    assert isinstance(loaded, Context)
    assert loaded.class_specific
    assert loaded.n_before == 1
    assert torch.equal(loaded.vectors, ctx)


@pytest.mark.parametrize("position", get_args(Position))
@pytest.mark.parametrize("class_specific", [False, True])
def test_our_own_file_is_read_back_bit_equal(tmp_path: Path, position: str, class_specific: bool) -> None:
    shape = (4, 5, WIDTH) if class_specific else (5, WIDTH)
    names = tuple(NAMES) if class_specific else None
    context = Context(weights.context(4, *shape), vectors_before(5, position), "coop: trained", names)
    path = tpt.save_context(tmp_path / "new" / "context.safetensors", context, backbone="noise")
    assert path.stat().st_size < 10_000
    for where in (path, path.parent):
        loaded = tpt.load_context(where)
        assert isinstance(loaded, Context)
        assert torch.equal(loaded.vectors, context.vectors)
        assert (loaded.n_before, loaded.class_names) == (context.n_before, names)
    assert tpt.load_context(path, class_token_position=position) is not None


def test_our_own_cocoop_file_is_read_back_bit_equal(tmp_path: Path) -> None:
    context = conditional()
    loaded = tpt.load_context(tpt.save_context(tmp_path / "c.safetensors", context), kind="cocoop")
    assert isinstance(loaded, ConditionalContext)
    assert torch.equal(loaded.base.vectors, context.base.vectors)
    for name, value in context.meta_net.state_dict().items():
        assert torch.equal(loaded.meta_net.state_dict()[name], value)


@pytest.mark.parametrize(
    "context", [Context(weights.context(4, 6, WIDTH), 6, "x"), conditional()], ids=["coop", "cocoop"]
)
@pytest.mark.parametrize("best", [False, True])
def test_the_public_layout_is_read_back_bit_equal(tmp_path: Path, context: Any, best: bool) -> None:
    file = tpt.export_public(tmp_path, context, noise_clip(), NAMES, epoch=7, best=best)
    assert file == tmp_path / "prompt_learner" / ("model-best.pth.tar" if best else "model.pth.tar-7")
    loaded = tpt.load_context(tmp_path)
    assert torch.equal(loaded.base.vectors, context.base.vectors)
    assert type(loaded) is type(context)


def test_the_public_layout_has_the_official_keys_and_embeddings(tmp_path: Path) -> None:
    clip = noise_clip()
    context = Context(weights.context(4, 6, WIDTH), 6, "x")
    saved = torch.load(tpt.export_public(tmp_path, context, clip, NAMES, half=True), weights_only=True)
    assert list(saved) == ["state_dict", "epoch", "optimizer", "scheduler", "val_result"]
    assert saved["epoch"] == 50
    state = saved["state_dict"]
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "ctx": (6, WIDTH),
        "token_prefix": (4, 1, WIDTH),
        "token_suffix": (4, 77 - 1 - 6, WIDTH),
    }
    assert all(v.dtype == torch.float16 for v in state.values())
    # As in the official code: embed the whole padded sentence, then cut out the context.
    sentence = clip.tokenizer.wrap_all(["X X X X X X golden retriever."], 77)[0]
    embedded = clip.text.token_embedding(torch.tensor(sentence + [0] * (77 - len(sentence)))).half()
    assert torch.equal(state["token_prefix"][2], embedded[:1])
    assert torch.equal(state["token_suffix"][2], embedded[7:])


class Exploit:
    """Creates a directory when an unsafe loader unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_loading_executes_no_code(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    content = published(weights.context(11, 4, WIDTH)) | {"optimizer": Exploit(target)}
    file = write_public(tmp_path, content)
    loaded = tpt.load_context(file)
    assert isinstance(loaded, Context)
    assert not target.exists()
    torch.load(file, weights_only=False)  # shows that the exploit works
    assert target.exists()


def test_a_hostile_pickle_cannot_change_other_objects(tmp_path: Path) -> None:
    # `BUILD` with a slot state sets attributes on any object that the pickle names.
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x0c\x00\x00\x00__defaults__X\x01\x00\x00\x00xst\x86b."
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", program)
    with pytest.raises(ContextFileError, match="Cannot read "):
        tpt.load_context(tmp_path / "evil.pt")


def test_torchs_old_format_is_read_only_if_it_is_plain(tmp_path: Path) -> None:
    ctx = weights.context(11, 4, WIDTH)
    torch.save({"state_dict": {"ctx": ctx}}, tmp_path / "plain.pth", _use_new_zipfile_serialization=False)
    loaded = tpt.load_context(tmp_path / "plain.pth")
    assert isinstance(loaded, Context)
    assert torch.equal(loaded.vectors, ctx)
    torch.save(published(ctx), tmp_path / "live.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ContextFileError, match=r"Cannot read .*live.pth .* save its `state_dict`"):
        tpt.load_context(tmp_path / "live.pth")


def saved(path: Path, **tensors: Tensor) -> Path:
    torch.save({"state_dict": tensors}, path)
    return path


def test_a_context_of_another_width_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pt", ctx=torch.zeros(4, 512))
    with pytest.raises(ContextFileError, match=r"width 64 for noise.* got 512 \(coop: .*a.pt\); use the backbone"):
        tpt.context_from_file(noise_clip(), file)
    with pytest.raises(ValueError, match=r"width 64 .* got 512"):
        tpt.TPT(noise_clip(), NAMES, context=tpt.load_context(file))


def test_a_wrong_number_of_vectors_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pt", ctx=torch.zeros(16, WIDTH))
    with pytest.raises(ContextFileError, match=r"a.pt holds a context of n_ctx=16, not 4\. Use .* null for n_ctx"):
        tpt.load_context(file, n_ctx=4)
    assert tpt.load_context(file, n_ctx=16) is not None


def test_class_specific_vectors_of_other_classes_are_refused(tmp_path: Path) -> None:
    public = tpt.load_context(saved(tmp_path / "a.pt", ctx=torch.zeros(5, 4, WIDTH)))
    with pytest.raises(ValueError, match=r"class-specific context of 4 classes, got 5 \(coop: .*a.pt\)"):
        tpt.TPT(noise_clip(), NAMES, context=public)
    ours = Context(torch.zeros(4, 4, WIDTH), 4, "coop: x", ("airplane", "cat", "golden_retriever", "tram"))
    path = tpt.save_context(tmp_path / "c.safetensors", ours)
    with pytest.raises(ValueError, match=r"learned for other classes: \('airplane', 'cat', "):
        tpt.TPT(noise_clip(), NAMES, context=tpt.load_context(path))


@pytest.mark.parametrize(("kind", "other"), [("coop", "cocoop"), ("cocoop", "coop")])
def test_coop_and_cocoop_files_are_not_confused(tmp_path: Path, kind: str, other: str) -> None:
    meta_net = weights.meta_net(21) if kind == "coop" else {}
    file = saved(tmp_path / "a.pt", ctx=torch.zeros(4, WIDTH), **meta_net)
    with pytest.raises(ContextFileError, match=rf"a.pt holds a context of kind={other}, not .*\. Use context={other},"):
        tpt.load_context(file, kind=kind)


def test_files_without_a_learned_context_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContextFileError, match=r"no learned context \(a tensor `ctx`\)\. Pass a file that CoOp"):
        tpt.load_context(saved(tmp_path / "a.pt", weight=torch.zeros(3)))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ContextFileError, match=r"list.pt holds no checkpoint dictionary but a list"):
        tpt.load_context(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ContextFileError, match=r"Cannot read .*text.pt"):
        tpt.load_context(tmp_path / "text.pt")
    (tmp_path / "empty").mkdir()
    for path in ("nothing", "empty"):
        with pytest.raises(ContextFileError, match=rf"There is no learned context at .*{path}: .*\. Check the path"):
            tpt.load_context(tmp_path / path)
    (tmp_path / "empty" / "checkpoint").write_text("../../etc/model.pth.tar-9\n")
    with pytest.raises(ContextFileError, match=r"empty: no file, and no directory with .* CoOp's"):
        tpt.load_context(tmp_path / "empty")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    file = write_public(tmp_path, published(weights.context(11, 4, WIDTH)))
    content = file.read_bytes()
    for keep in (0, 1, 100, len(content) // 2, len(content) - 10):
        file.write_bytes(content[:keep])
        with pytest.raises(ContextFileError, match="Cannot read "):
            tpt.load_context(file)
    ours = tpt.save_context(tmp_path / "c.safetensors", conditional())
    ours.write_bytes(ours.read_bytes()[:-50])
    with pytest.raises(ContextFileError, match=r"Cannot read .*c.safetensors"):
        tpt.load_context(ours)


def test_a_changed_byte_is_read_or_refused_without_a_crash(tmp_path: Path) -> None:
    file = write_public(tmp_path, published(weights.context(11, 4, WIDTH)))
    content, chance = file.read_bytes(), random.Random(0)
    begin = content.index(b"state_dict") - 40
    places = [chance.randrange(begin, begin + 2500) for _ in range(150)]  # the pickle
    places += [chance.randrange(len(content)) for _ in range(50)]
    refused = 0
    for place in places:
        file.write_bytes(content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :])
        try:
            tpt.load_context(file)
        except ContextFileError:
            refused += 1
    assert refused > 20


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """The bit may be in a tensor, in the metadata or in the digest itself."""
    file, chance, refused = tmp_path / "c.safetensors", random.Random(0), 0
    tpt.save_context(file, conditional(), "some/backbone")
    content, whole = file.read_bytes(), tpt.load_context(file)
    for place in [*range(0, 900), *(chance.randrange(len(content)) for _ in range(200))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        try:
            found = tpt.load_context(file)
        except ContextFileError:
            refused += 1
            continue
        assert found.fingerprint() == whole.fingerprint()
    assert refused > 1000


def test_a_file_without_a_digest_is_noted(tmp_path: Path) -> None:
    """Older versions and other programs write such files; the bundled files have a digest."""
    file = tpt.save_context(tmp_path / "c.safetensors", conditional())
    tensors, metadata = read_safetensors(file)
    save_file(tensors, file, {name: value for name, value in metadata.items() if name != DIGEST})
    old = tpt.load_context(file)
    assert isinstance(old, ConditionalContext) and "no digest" in old.base.note
    assert tpt.load_context("emoji-mini/coop").note == ""


@pytest.mark.parametrize(
    ("ctx", "found"),
    [
        (torch.zeros(WIDTH), r"float32 of shape \(64,\)"),
        (torch.zeros(2, 3, 4, WIDTH), r"shape \(2, 3, 4, 64\)"),
        (torch.zeros(0, WIDTH), r"shape \(0, 64\)"),
        (torch.zeros(4, WIDTH, dtype=torch.long), "int64"),
        (torch.full((4, WIDTH), math.nan), "finite"),
    ],
)
def test_invalid_vectors_are_refused(tmp_path: Path, ctx: Tensor, found: str) -> None:
    with pytest.raises(ContextFileError, match=found):
        tpt.load_context(saved(tmp_path / "a.pt", ctx=ctx))


def test_an_invalid_meta_net_is_refused(tmp_path: Path) -> None:
    net = weights.meta_net(21)
    missing = {k: v for k, v in net.items() if not k.endswith("linear1.bias")}
    misshapen = net | {"meta_net.linear2.weight": torch.zeros(7, 2)}
    for broken in (missing, misshapen):
        with pytest.raises(ContextFileError, match="two linear layers that ends in width 64"):
            tpt.load_context(saved(tmp_path / "a.pt", ctx=torch.zeros(4, WIDTH), **broken))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pt", ctx=torch.zeros(4, WIDTH))
    with pytest.raises(ValueError, match="`kind` to be coop or cocoop or null, got 'x'"):
        tpt.load_context(file, kind="x")
    with pytest.raises(ValueError, match="`class_token_position` to be end or middle"):
        tpt.load_context(file, class_token_position="left")
    ours = tpt.save_context(tmp_path / "c.safetensors", Context(torch.zeros(4, WIDTH), 4, "x"))
    with pytest.raises(ContextFileError, match="holds a context of n_before=4, not 0"):
        tpt.load_context(ours, class_token_position="front")
    with pytest.raises(ValueError, match=r"ends in .safetensors"):
        tpt.save_context(tmp_path / "c.pt", Context(torch.zeros(4, WIDTH), 4, "x"))


def test_tampered_metadata_is_refused(tmp_path: Path) -> None:
    for notes in ({"n_before": "many"}, {"n_before": "9"}, {"class_names": "[1"}, {"class_names": '["a"]'}):
        torch.save({"state_dict": {"ctx": torch.zeros(4, WIDTH)}, "context": notes}, tmp_path / "a.pt")
        with pytest.raises(ContextFileError, match="notes"):
            tpt.load_context(tmp_path / "a.pt")
