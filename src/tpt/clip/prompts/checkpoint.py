"""Learned contexts in files: CoOp's and CoCoOp's published ones, and this project's own.  No code in a file is run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from tpt.clip.model import CLIP, LoadedCLIP
from tpt.clip.prompts.conditional import ConditionalContext, MetaInput, MetaNet
from tpt.clip.prompts.context import Context, Origin, Position, vectors_before
from tpt.clip.weights.archive import DIGEST, read_checkpoint, sealed
from tpt.clip.weights.layouts import plain_names
from tpt.clip.weights.named import known_width
from tpt.clip.weights.pretrained import clip_label
from tpt.errors import ContextFileError, Count, Filled, UserError, WeightsFileError, checked
from tpt.files import readable, write_bytes
from tpt.files.names import context_file

LearnedContext = Annotated[Context | ConditionalContext, "load it with tpt.load_context"]

FORMAT = "tpt-context-1"
NO_DIGEST = "the context's file holds no digest, so damage to it would not be noticed"
_META_NET = tuple(f"meta_net.linear{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias"))
_USED = {"ctx", *_META_NET, "token_prefix", "token_suffix"}  # the last two are specific to the training classes


@checked
def load_context(
    path: Filled | Path | None,
    *,
    kind: Literal["coop", "cocoop"] | None = None,
    class_token_position: Position | None = None,
    n_ctx: Count | None = None,
    meta_input: MetaInput = "raw",
    backbone: Literal["any"] | None = None,
) -> LearnedContext:
    """Loads a context that was learned with CoOp or CoCoOp.

    Reads this project's `.safetensors` files and training checkpoints (`best.ckpt`, `last.ckpt`), and the public layout
    of Dassl's trainer (`prompt_learner/model.pth.tar-50`, `model-best.pth.tar`).  That is a pickled dictionary whose
    `state_dict` has `ctx` and for CoCoOp `meta_net.*`; its `token_prefix` and `token_suffix` are specific to the
    training classes and are dropped.  Half precision is converted to single.

    Args:
        path: the file, or a directory.  In a directory, `context.safetensors` is read, or else the file that is named
            in the text file `checkpoint` there or in its `prompt_learner`.  `emoji-mini/coop` and `emoji-mini/cocoop`
            come with the package.
        kind: "coop" or "cocoop" requires that kind; None accepts both.
        class_token_position: "end", "middle" or "front"; None uses the file's own, or "end" if the file has none.
        n_ctx: required number of vectors; None accepts any number.
        meta_input: for CoCoOp, see `ConditionalContext`.
        backbone: None accepts only the backbone that the context was learned with, if the file identifies it (by name
            or weights, or by the start token's embedding in CoOp's own files); "any" accepts any backbone.

    Raises:
        ContextFileError: the file is damaged, has no such context, or has more learned tensors than are used.
        UserError: an option is unknown, or there is no path.

    Example:
        >>> import tempfile, tpt
        >>> clip = tpt.load_clip("emoji-mini")
        >>> learned = tpt.random_context(clip, n_ctx=4)  # in place of a context from train_coop.py
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = tpt.save_context(f"{folder}/context.safetensors", learned, clip)
        ...     context = tpt.load_context(file)
        >>> context.n_ctx, context.n_before, torch.equal(context.vectors, learned.vectors)
        (4, 4, True)
        >>> method = tpt.TPT(clip, ["cat", "dog"], context=context)  # another backbone would be refused
    """
    if path is None:
        raise UserError(
            "Expected a file or directory with a learned context, got none; set context.path, or learned.coop and "
            "learned.cocoop for the rows of a table."
        )
    path = context_file(path)
    tensors, metadata = _read(path)
    found = _kind(path, tensors, metadata)
    context = _context(path, tensors, metadata, class_token_position or "end")
    before = None if class_token_position is None else vectors_before(context.n_ctx, class_token_position)
    holds = {"kind": found, "n_ctx": context.n_ctx, "n_before": context.n_before}
    for name, asked in {"kind": kind, "n_ctx": n_ctx, "n_before": before}.items():
        if asked not in (None, holds[name]):
            raise ContextFileError(
                f"{path} holds a context of {name}={holds[name]}, not {asked}. Use context={found}, and null for n_ctx "
                "and class_token_position, to take what the file holds."
            )
    if backbone is None:
        context = replace(context, origin=Origin.in_file(tensors, metadata))
    if found == "coop":
        return context
    return ConditionalContext(replace(context, source=f"cocoop: {path}"), _meta_net(path, tensors), meta_input)


@checked
def context_from_file(
    clip: LoadedCLIP,
    path: Filled | Path | None,
    *,
    kind: Literal["coop", "cocoop"] | None = None,
    class_token_position: Position | None = None,
    n_ctx: Count | None = None,
    meta_input: MetaInput = "raw",
    backbone: Literal["any"] | None = None,
) -> LearnedContext:
    """As `load_context`, but also checks that the context fits a backbone, and moves it to the backbone's device."""
    loaded = load_context(
        path,
        kind=kind,
        class_token_position=class_token_position,
        n_ctx=n_ctx,
        meta_input=meta_input,
        backbone=backbone,
    )
    loaded.check(clip)
    base = replace(loaded.base, vectors=loaded.base.vectors.to(clip.device))
    if isinstance(loaded, Context):
        return base
    return replace(loaded, base=base, meta_net=loaded.meta_net.to(clip.device))


def refuse_misfit(make_context: partial[Any], name: str | None, pretrained: str | Path | None) -> None:
    """Refuses a context file that does not fit a backbone before its weights are loaded, by name and width if known.

    `make_context` is a function from a CLIP to a context, checked only if it loads a file; `name` and `pretrained` are
    as for `load_clip`.
    """
    if make_context.func is not context_from_file:
        return
    base = load_context(*make_context.args, **make_context.keywords).base
    label, width = clip_label(name, pretrained), known_width(name, pretrained)
    if width is not None:
        base.check_width(width, label)
    if base.origin is not None:
        base.origin.check_name(label, base.source)


@checked
def save_context(path: Filled | Path, context: LearnedContext, backbone: CLIP | str = "") -> Path:
    """Writes a context to a `.safetensors` file without rounding, with the metadata needed to use it.

    Args:
        path: the file; its folder is created.
        context: a context of CoOp or CoCoOp.
        backbone: the CLIP that the context was learned with, or its name; loading the file with another backbone is an
            error.  If empty, the context's own information about its backbone is kept.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise UserError(f"Expected a path that ends in .safetensors, got {path}; `export_public` writes CoOp's layout.")
    write_bytes(sealed(learned_tensors(context), file_metadata(context, backbone)), path)
    return path


def learned_tensors(context: LearnedContext) -> dict[str, Tensor]:
    """The learned tensors on the CPU, under their public names: `ctx`, and for CoCoOp `meta_net.*`."""
    out = {"ctx": context.base.vectors}
    if isinstance(context, ConditionalContext):
        out |= {f"meta_net.{name}": value for name, value in context.meta_net.state_dict().items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in out.items()}


def file_metadata(context: LearnedContext, backbone: CLIP | str = "") -> dict[str, str]:
    """The metadata of a file, as text because safetensors allows only text."""
    base = context.base
    origin = Origin.of(backbone) if backbone else base.origin or Origin()
    described = {
        "format": FORMAT,
        "kind": "cocoop" if isinstance(context, ConditionalContext) else "coop",
        "n_before": str(base.n_before),
        "backbone": origin.backbone,
        "backbone_weights": origin.weights,
        "source": base.source,
    }
    if base.class_names is not None:
        described["class_names"] = json.dumps(list(base.class_names))
    return described


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The learned tensors under their public names, and the metadata of the file."""
    try:
        loaded, metadata = read_checkpoint(path)
    except WeightsFileError as error:
        raise ContextFileError(str(error)) from error
    content, said = loaded.get("state_dict", loaded), loaded.get("context")
    metadata = said if isinstance(said, dict) else metadata
    weights = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    weights = plain_names(weights, path)
    # The keys have a prefix if a whole model was saved.
    tensors = {re.sub(r"^(prompt_learner\.)?(prompt_generator\.)?", "", key): value for key, value in weights.items()}
    if "ctx" not in tensors or len(tensors) != len(weights):
        raise ContextFileError(
            f"{path} holds no learned context (a tensor `ctx`). Pass a file that CoOp, CoCoOp or train_coop.py wrote, "
            "such as prompt_learner/model.pth.tar-50."
        )
    return tensors, {str(key): value for key, value in metadata.items() if isinstance(value, str)}


def _kind(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Whether the tensors are CoOp's or CoCoOp's; refuses others, and metadata of another format or kind."""
    if more := [key for key in tensors if key not in _USED]:
        raise ContextFileError(
            f"{path} holds {len(more)} tensors that are learned by another method than CoOp (`ctx`) and CoCoOp (`ctx` "
            f"and `meta_net`) and would be left out, such as {more[0]}. Pass a file of CoOp or CoCoOp."
        )
    found = "cocoop" if any(key.startswith("meta_net.") for key in tensors) else "coop"
    format, kind = metadata.get("format", FORMAT), metadata.get("kind", found)
    if kind != found or (format.startswith(FORMAT.rstrip("1")) and format != FORMAT):
        raise ContextFileError(
            f"Expected format {FORMAT} and kind {found} for the tensors {', '.join(sorted(tensors))} in {path}, got "
            f"{format} and {kind}. Get the file again, or update this program."
        )
    return found


def _context(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], position: Position) -> Context:
    ctx = tensors["ctx"]
    usual = (2,) if "meta_net.linear1.weight" in tensors else (2, 3)
    if ctx.ndim not in usual or ctx.numel() == 0 or not ctx.is_floating_point() or not ctx.isfinite().all():
        raise ContextFileError(
            f"Expected `ctx` in {path} to be finite numbers of shape (n_ctx, width), or for CoOp (classes, n_ctx, "
            f"width), got {str(ctx.dtype).removeprefix('torch.')} of shape {tuple(ctx.shape)}; get the file again."
        )
    n_ctx = ctx.shape[-2]
    with readable(f"the notes on the context in {path}", "Get the file again", ContextFileError):
        n_before = int(metadata["n_before"]) if "n_before" in metadata else vectors_before(n_ctx, position)
        names = tuple(map(str, json.loads(metadata["class_names"]))) if "class_names" in metadata else None
        if not 0 <= n_before <= n_ctx or (names is not None and (ctx.ndim != 3 or len(names) != len(ctx))):
            raise ValueError(f"they do not fit `ctx` of shape {tuple(ctx.shape)}: {metadata}")
    note = NO_DIGEST if path.suffix.lower() == ".safetensors" and DIGEST not in metadata else ""
    return Context(ctx.float().contiguous(), n_before, f"coop: {path}", names, note=note)


def _meta_net(path: Path, tensors: dict[str, Tensor]) -> MetaNet:
    weights = {key.removeprefix("meta_net."): tensors[key].float() for key in _META_NET if key in tensors}
    width = tensors["ctx"].shape[-1]
    what = f"the meta-net of two linear layers that ends in width {width} in {path}"
    with readable(what, "Get the file again", ContextFileError):
        hidden, embed_dim = weights["linear1.weight"].shape
        net = MetaNet(embed_dim, width, hidden)
        net.load_state_dict(weights)
        if not all(torch.isfinite(value).all() for value in weights.values()):
            raise ValueError("it holds NaN or infinity")
    return net.requires_grad_(False)
