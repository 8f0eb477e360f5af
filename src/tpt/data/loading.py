"""A data loader whose workers pass on a UserError unchanged, and end together with their parent process."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tpt.errors import UserError

Item = TypeVar("Item")


class _Guarded(Dataset[Any]):
    """Returns a UserError as a batch; torch would turn it into one text with its own traceback."""

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitems__(self, keys: Sequence[Any]) -> list[Any] | UserError:
        try:
            many = getattr(self.items, "__getitems__", None)
            return list(many(keys)) if many is not None else [self.items[key] for key in keys]
        except UserError as error:
            return error


def _collated(collate: Callable[[Any], Any], items: Any) -> Any:
    """The batch, in shared memory if in a worker; torch would move it later, in a thread whose errors are lost."""
    if isinstance(items, UserError):
        return items
    batch = collate(items)
    if get_worker_info() is None:
        return batch
    try:
        for tensor in _tensors(batch):
            tensor.share_memory_()
    except (RuntimeError, OSError) as error:
        size = sum(tensor.nbytes for tensor in _tensors(batch)) / 1e6
        return UserError(
            f"A data-loading worker found no room for a batch of {size:.1f} MB in shared memory, /dev/shm "
            f"({str(error).splitlines()[0]}). Give the container more, as in docker run --shm-size=2g, or use a "
            "smaller batch size, or data.num_workers=0."
        )
    return batch


def _tensors(part: Any) -> Iterator[Tensor]:
    """The tensors in a batch of dataclasses, mappings and sequences."""
    if isinstance(part, Tensor):
        yield part
    elif is_dataclass(part) or isinstance(part, Mapping | list | tuple):
        inner = vars(part).values() if is_dataclass(part) else part.values() if isinstance(part, Mapping) else part
        for one in inner:
            yield from _tensors(one)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Reports an exception of the thread that passes on shared memory, but no connection that the parent broke."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _end_with_parent(_: int) -> None:
    """Ends a worker as soon as its parent ends; torch checks this rarely, and misses a parent that ended earlier."""
    sys.excepthook = _report
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Loader(DataLoader[Item]):
    """A `DataLoader` that raises a worker's UserError unchanged."""

    def __init__(self, dataset: Dataset[Item], collate_fn: Callable[[Any], Any], **options: Any) -> None:
        if not isinstance(dataset, _Guarded):  # Lightning re-creates loaders from another's arguments
            dataset, collate_fn = _Guarded(dataset), partial(_collated, collate_fn)
            options["worker_init_fn"] = _end_with_parent
        super().__init__(dataset, collate_fn=collate_fn, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch
