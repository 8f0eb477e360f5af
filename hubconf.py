"""Entry points of torch.hub: `torch.hub.load(REPOSITORY, "load_clip", "emoji-mini")`."""

import sys
from pathlib import Path

dependencies = ["torch", "torchvision", "lightning", "open_clip", "safetensors", "lazy_loader", "pydantic"]

sys.path.append(str(Path(__file__).parent / "src"))  # behind an installed tpt

from tpt import TPT, ZeroShot, load_clip, load_context, predict  # noqa: E402 -- of this checkout

__all__ = ["TPT", "ZeroShot", "load_clip", "load_context", "predict"]
