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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tpt.clip.model import tensors_digest
from tpt.clip.weights.layouts import state_dict_of
from tpt.errors import WeightsFileError
from tpt.files import open_plain

DIGEST = "tpt_digest"  # key in the metadata of this project's safetensors files


class _Attributes:
    """Stand-in for an object of any class; it keeps the object's state and runs none of its code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict[str, Any] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> _Attributes:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    # A pickle fills dictionaries, lists and sets through these methods; the stand-in ignores the contents.
    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Function:
    """A function that a pickle may call, without attributes that a malicious file could overwrite."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


class _Rebuild(_Function):
    __slots__ = ()

    def __call__(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)


class _First(_Function):
    """Returns the first argument, which is the content of a parameter or a typed list."""

    __slots__ = ()

    def __call__(self, value: Any, *_: Any) -> Any:
        return value


_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _ArchiveUnpickler(pickle._Unpickler):  # in Python, since a damaged byte makes the one in C fill the memory
    """Reads `data.pkl` in a zip archive written by torch.

    A pickle can run code only through the classes and functions that it names.  Tensors, storages and ordered
    dictionaries are allowed here; everything else becomes `_Attributes` or is refused.

    Args:
        archive: the open file.
        root: name of its top folder.
        stand_ins: whether objects of all unknown classes become `_Attributes`; otherwise only TorchScript modules do.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str, stand_ins: bool) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive = archive
        self._root = root
        self._stand_ins = stand_ins

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}:
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" or (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _First()
        if self._stand_ins or module.startswith("__torch__"):
            return _Attributes
        raise pickle.UnpicklingError(f"{module}.{name} is not a weight")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"storage {key} is of an unknown type")
        info = self._archive.getinfo(f"{self._root}/data/{key}")
        if info.compress_type != zipfile.ZIP_STORED:  # torch never compresses; small files must not expand
            raise pickle.UnpicklingError(f"storage {key} is compressed")
        raw = bytearray(self._archive.read(info))
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _unpickle_archive(path: Path, stand_ins: bool) -> Any:
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        return _ArchiveUnpickler(archive, root, stand_ins).load()


def _collect(module: _Attributes, prefix: str, out: dict[str, Tensor]) -> None:
    for name, value in module.state.items():
        if isinstance(value, Tensor):
            out[prefix + name] = value
        elif isinstance(value, _Attributes):
            _collect(value, f"{prefix}{name}.", out)


def _torchscript_weights(path: Path) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    _collect(_unpickle_archive(path, stand_ins=False), "", out)
    return out


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        WeightsFileError: the file is damaged, or not a safetensors file.
    """
    open_plain(path, sys.maxsize).close()
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not iterable itself
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsFileError(f"{path} is damaged or not a safetensors file ({error}); get it again.") from error
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


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary that a training program saved, with stand-ins for all but tensors and plain values.

    Optimizers, schedulers and similar objects become empty stand-ins, so none of the file's code runs.  Files in the
    format before torch 1.6 may hold only plain values and tensors.

    Raises:
        WeightsFileError: the file is damaged or holds no dictionary.
        OSError: the file does not exist or cannot be read.
    """
    try:
        open_plain(path, sys.maxsize).close()  # refuses a pipe, which would block
        if zipfile.is_zipfile(path):
            content = _unpickle_archive(path, stand_ins=True)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged pickle can raise almost any exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in reason:  # torch's message advises running the file's code; do not repeat it
            reason = "it is something else, or would run code"
        raise WeightsFileError(
            f"Expected {path} to be a checkpoint written by torch.save, but it cannot be read safely ({reason[:200]}); "
            "get the file again, or, where you trust it, load it with the torch that wrote it and save its "
            "`state_dict` entry with `safetensors.torch.save_file`."
        ) from error
    if not isinstance(content, dict):
        raise WeightsFileError(f"Expected a checkpoint dictionary in {path}, found {type(content).__name__}.")
    return content


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict and metadata of a safetensors file, a pickled state dict or checkpoint, or a TorchScript archive.

    In a training checkpoint, the state dict is used (see `state_dict_of`).  A prefix of all names is dropped.

    Raises:
        WeightsFileError: the file is of another kind, damaged, or holds several state dicts.
    """
    metadata: dict[str, str] = {}
    open_plain(path, sys.maxsize).close()
    try:
        if path.suffix == ".safetensors":
            content, metadata = read_safetensors(path)
        elif _is_torchscript(path):
            content, metadata = _torchscript_weights(path), {"format": "torchscript"}
        else:
            content = _read_pickled(path)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsFileError(
            f"Expected {path} to hold weights (safetensors, a state dict or checkpoint saved by torch.save, or a "
            f"TorchScript archive), but it cannot be read as such ({reason}); save its state dict with "
            "`safetensors.torch.save_file` where you trust the file, and load that."
        ) from error
    weights = state_dict_of(content, path) if isinstance(content, dict) else {}
    if not weights:
        raise WeightsFileError(
            f"Expected a state dict in {path}, found {type(content).__name__} without one; save its state dict with "
            "`safetensors.torch.save_file`."
        )
    return weights, metadata


def _read_pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(path):
            raise
        return read_checkpoint(path)  # may hold other objects, which become stand-ins
