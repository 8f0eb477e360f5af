"""Small CLIPs with seeded random weights, from the script that makes the parity numbers."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

import tpt
from tpt.clip.prompts import ConditionalContext, Context, MetaNet

PARITY = Path(__file__).parent / "golden" / "parity"

_spec = importlib.util.spec_from_file_location("parity_weights", PARITY / "weights.py")
assert _spec is not None and _spec.loader is not None
weights: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(weights)

# The random ViT in open_clip's configuration format.
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
}


@cache
def noise_clip(arch: str = "vit", seed: int = 1) -> tpt.CLIP:
    """Returns the CLIP with the random weights of a parity case; tests share it and must not change it."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"noise-{arch}-{seed}.safetensors", arch, seed)
        return tpt.load_clip(pretrained=path, quick_gelu=True)


def conditional(seed: int = 21, meta_input: Any = "raw") -> ConditionalContext:
    """Returns the CoCoOp context with the random weights of a parity case."""
    net = MetaNet(weights.EMBED, weights.TEXT_WIDTH)
    net.load_state_dict({k.removeprefix("meta_net."): v for k, v in weights.meta_net(seed).items()})
    return ConditionalContext(Context(weights.context(seed, 4, weights.TEXT_WIDTH), 4, "noise"), net, meta_input)


def write(path: Path, arch: str = "vit", seed: int = 1) -> Path:
    """Writes the random weights of a parity case to `path`, and returns `path`."""
    save_file(weights.state_dict(arch, seed), path)
    return path


def parity_cases(kind: str) -> list[dict[str, Any]]:
    """Returns the parity cases of one kind."""
    return [case for case in json.loads((PARITY / "cases.json").read_text()) if case["kind"] == kind]


def golden(name: str) -> dict[str, np.ndarray]:
    """Returns the output of the official code for one case, as named arrays."""
    with np.load(PARITY / f"{name}.npz") as arrays:
        return dict(arrays)
