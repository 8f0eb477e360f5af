"""Read the weights in a file without running anything the file contains."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


class WeightsFileError(ValueError):
    """A weights file that cannot be used; the message says why and what would do."""


class _Attributes:
    """Stands for any TorchScript module: keeps its state, runs none of its code."""

    def __init__(self, *args: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


class _TorchScriptUnpickler(pickle.Unpickler):
    """Reads a TorchScript archive's `data.pkl`; modules become plain attributes, all else is refused."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive = archive
        self._root = root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Attributes
        if (module, name) in {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}:
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name)
        if module == "torch.jit._pickle":  # typed lists of constants
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"{module}.{name} is not a weight")

    def persistent_load(self, pid: Any) -> Tensor:
        _, storage_type, key, _, _ = pid
        raw = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        dtype = storage_type.dtype
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _collect(module: _Attributes, prefix: str, out: dict[str, Tensor]) -> None:
    for name, value in module.state.items():
        if isinstance(value, Tensor):
            out[prefix + name] = value
        elif isinstance(value, _Attributes):
            _collect(value, f"{prefix}{name}.", out)


def _torchscript_weights(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        module = _TorchScriptUnpickler(archive, root).load()
    out: dict[str, Tensor] = {}
    _collect(module, "", out)
    return out


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict and metadata of a safetensors file, a pickled state dict or a TorchScript archive.

    A training checkpoint's `state_dict` entry is taken, and a `module.` in front of every key dropped.

    Raises:
        WeightsFileError: not such a file, damaged, or holding more than weights.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {k: file.get_tensor(k) for k in file.keys()}, dict(file.metadata() or {})
        if _is_torchscript(path):
            return _torchscript_weights(path), {"format": "torchscript"}
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsFileError(
            f"Expected {path} to hold weights alone (safetensors, a state dict saved by torch.save, or a "
            f"TorchScript archive), but it cannot be read as such ({reason}); save its state dict with "
            "`safetensors.torch.save_file` where you trust the file, and load that."
        ) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise WeightsFileError(f"Expected a state dict in {path}, found {type(content).__name__}; save one instead.")
    weights = {k.removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    return weights, {}
