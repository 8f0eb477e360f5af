"""A loader whose processes hand on a user's mistake as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from tpt.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Failed:
    """What a loading process sends in place of a batch: torch would wrap the error in its own trace, as one text."""

    error: UserError


class _Guarded(Dataset[Any]):
    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitems__(self, keys: Sequence[Any]) -> list[Any] | _Failed:
        try:
            many = getattr(self.items, "__getitems__", None)
            return list(many(keys)) if many is not None else [self.items[key] for key in keys]
        except UserError as error:
            return _Failed(error)


class _Collate:
    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Any) -> Any:
        return items if isinstance(items, _Failed) else self.collate(items)


class Loader(DataLoader[Item]):
    """A `DataLoader` in which a UserError from a loading process is the one that the dataset raised.

    Args:
        dataset: items by key; a `__getitems__` of its own is used.
        collate_fn: makes a batch of items.
        options: of `DataLoader`.
    """

    def __init__(self, dataset: Dataset[Item], collate_fn: Callable[[Any], Any], **options: Any) -> None:
        if not isinstance(dataset, _Guarded):  # Lightning makes loaders anew with the arguments of others
            dataset, collate_fn = _Guarded(dataset), _Collate(collate_fn)
        super().__init__(dataset, collate_fn=collate_fn, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, _Failed):
                raise batch.error
            yield batch
