"""Images whose prediction was changed by tuning; without a label, a change is neither fixed nor broken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any

FIXED, BROKEN, CHANGED = "fixed", "broken", "changed"
Record = Mapping[str, Any]


def kind_of(record: Record) -> str | None:
    """Whether the prediction was fixed, broken or changed otherwise; None if it is unchanged or missing."""
    if record["problem"] is not None or record["pred"] == record["pred_zero_shot"]:
        return None
    if record["pred"] == record["label"]:
        return FIXED
    return BROKEN if record["pred_zero_shot"] == record["label"] else CHANGED


def flips_of(records: Iterable[Record], limit: int) -> list[tuple[str, Record]]:
    """At most `limit` flips with their kinds, which alternate, so that no kind crowds out the others."""
    found: dict[str, list[tuple[str, Record]]] = {FIXED: [], BROKEN: [], CHANGED: []}
    for record in records:
        if (kind := kind_of(record)) is not None:
            found[kind].append((kind, record))
    return [flip for flip in chain.from_iterable(zip_longest(*found.values())) if flip is not None][:limit]
