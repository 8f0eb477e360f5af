"""Reads the weights in a file without running any code in it."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tpt.clip.model import tensors_digest
from tpt.clip.weights.layouts import from_transformers, state_dict_of
from tpt.errors import UserError, WeightsFileError
from tpt.files import open_plain, readable

DIGEST = "tpt_digest"  # key in the metadata of this project's safetensors files


class _Attributes:
    """Stand-in for an object of any class; it keeps the object's state and runs none of its code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, *_: Any) -> None:
        """Ignores the contents of a dictionary, list or set, which a pickle adds with this method or one of those."""

    append = extend = add = __setitem__


_DTYPES: dict[str, torch.dtype] = {
    f"{name}Storage": getattr(torch, name.lower())
    for name in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Bool")
} | {"CharStorage": torch.int8, "ByteStorage": torch.uint8}


class _ArchiveUnpickler(pickle._Unpickler):  # in Python, because the C version can fill the memory on a damaged byte
    """Reads `data.pkl` in a zip archive written by torch.

    A pickle can run code only through the classes and functions that it names.  Tensors, storages and ordered
    dictionaries are allowed here; everything else becomes `_Attributes`.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._root = archive.namelist()[0].split("/")[0]  # the top folder
        self._archive = archive
        super().__init__(archive.open(f"{self._root}/data.pkl"))

    # Bound methods, because a file cannot change what they do.
    def _rebuild(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)

    def _first(self, value: Any, *_: Any) -> Any:
        return value  # the content of a parameter or a typed list

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}:
            return self._rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" or (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._first
        return _Attributes

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"storage {key} is of an unknown type")
        info = self._archive.getinfo(f"{self._root}/data/{key}")
        if info.compress_type != zipfile.ZIP_STORED:  # torch never compresses; a small file must not expand
            raise pickle.UnpicklingError(f"storage {key} is compressed")
        raw = bytearray(self._archive.read(info))
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _collect(module: _Attributes, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a TorchScript module and its submodules, by their dotted names."""
    out: dict[str, Tensor] = {}
    for name, value in module.state.items():
        if isinstance(value, Tensor):
            out[prefix + name] = value
        elif isinstance(value, _Attributes):
            out |= _collect(value, f"{prefix}{name}.")
    return out


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises a WeightsFileError if it is damaged or something else."""
    with readable(f"the safetensors file {path}", error=WeightsFileError):
        open_plain(path, sys.maxsize).close()
        with safe_open(path, framework="pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not iterable itself
            metadata = dict(file.metadata() or {})
    if DIGEST in metadata and metadata[DIGEST] != _digest(tensors, metadata):
        raise WeightsFileError(f"{path} is damaged: its content does not match its digest; get it again.")
    return tensors, metadata


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file with a digest of its content in the metadata, checked by `read_safetensors`."""
    return save(dict(tensors), metadata={**metadata, DIGEST: _digest(tensors, metadata)})


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    said = {name: value for name, value in metadata.items() if name != DIGEST}
    built = {name: [str(value.dtype), list(value.shape)] for name, value in tensors.items()}
    return tensors_digest(tensors, json.dumps([said, built], sort_keys=True))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The dictionary in a file, and its metadata.

    The file is a safetensors file, a TorchScript archive (its metadata is then `{"format": "torchscript"}`), or a
    training program's `torch.save` file.  From the latter, only tensors and plain values are read; optimizers,
    schedulers and similar objects become empty stand-ins, so none of the file's code runs.  Files in the format before
    torch 1.6 may only hold tensors and plain values.  Raises a WeightsFileError for other and damaged files.
    """
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    way_out = (
        "Get it again, or, where you trust it, load it with the torch that wrote it and save its `state_dict` entry "
        "with `safetensors.torch.save_file`"
    )
    what = f"{path} as weights or a checkpoint from safetensors, torch.save or TorchScript"
    with readable(what, way_out, WeightsFileError):  # a damaged pickle can raise almost any exception
        open_plain(path, sys.maxsize).close()  # refuses a pipe, which would block
        content = _unpickled(path)
        if isinstance(content, _Attributes):
            return _collect(content), {"format": "torchscript"}
    if not isinstance(content, dict):
        raise WeightsFileError(f"{path} holds no checkpoint dictionary but a {type(content).__name__}.")
    return content, {}


def _unpickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _ArchiveUnpickler(archive).load()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's message advises running the file's code; it is not repeated
        raise UserError("it is damaged, something else, or would run code") from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The only state dict in a file under OpenAI's or open_clip's names, and the file's metadata.

    The metadata of weights of transformers' CLIPModel is `{"format": "transformers"}`; see also `read_checkpoint`.
    """
    content, metadata = read_checkpoint(path)
    weights = state_dict_of(content, path)
    if not weights:
        raise WeightsFileError(f"{path} holds no state dict. Save its state dict with `safetensors.torch.save_file`.")
    if "text_model.embeddings.token_embedding.weight" in weights:
        return from_transformers(weights, path), {"format": "transformers"}
    return weights, metadata
