"""Groups runs into rows of a table, and labels the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tpt.results.runs.settings import IMAGES, LIMIT, ORDER, ORDER_SEED, SEED, TRAINING, is_seed, meaning
from tpt.results.tables.comparability import PART, left_out, paper_method, said
from tpt.results.tables.runs import Run

FEATURE = "method.feature"
DECIDING = ("pillow", "torch")  # packages whose version affects pixels or rounding
T = TypeVar("T")
NOTHING = "The runs have no answers for images with labels yet. Wait until they have some."


@dataclass(frozen=True, eq=False)
class Row:
    """One or more runs that differ only in their datasets, seed and order seed."""

    label: str  # the method, and how it differs from the other rows
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The first run, for everything that all of them share."""
        return self.runs[0]

    def having(self, dataset: str) -> list[Run]:
        """The runs that test a dataset, one per seed."""
        return [run for run in self.runs if dataset in run.to_test]

    def by_seed(self) -> dict[tuple[Any, ...], list[Run]]:
        """The runs by their seeds (see `seeds_of`)."""
        return _by(self.runs, seeds_of)


def seeds_of(run: Run) -> tuple[Any, ...]:
    """The seeds of the run, of its context's training, and of the order."""
    return tuple(str(run.compared.get(key)) for key in (SEED, f"{TRAINING}{SEED}", ORDER_SEED))


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Groups runs into rows, in their order.

    Two runs with the same settings, seed and dataset get separate rows.  So do runs with different images or classes of
    a dataset, because all seeds of a row share one test set.
    """
    groups: dict[Any, list[list[Run]]] = {}
    members: list[list[Run]] = []
    for run in runs:
        settings = frozenset((k, _plain(v)) for k, v in run.compared.items() if not is_seed(k))
        key = run.method, run.backbone, str(run.results["backbone"].get("fingerprint")), settings
        alike = groups.setdefault(key, [])
        if (group := next((its for its in alike if not any(_overlap(run, member) for member in its)), None)) is None:
            alike.append(group := [])
            members.append(group)
        group.append(run)
    return [Row(label, tuple(group)) for label, group in zip(_labels(members), members, strict=True)]


def labelled_runs(runs: Sequence[Run]) -> list[tuple[str, Run, list[str]]]:
    """The runs with answers for labelled images: row label, with the seed if there are several; run; datasets."""
    return [
        (f"{row.label}, seed={run.results.get('seed')}" if len(row.by_seed()) > 1 else row.label, run, names)
        for row in rows_of(runs)
        for run in row.runs
        if (names := [name for name, about in run.results["datasets"].items() if "acc" in about])
    ]


def _overlap(run: Run, other: Run) -> bool:
    shared = run.to_test.keys() & other.to_test.keys()
    twice = bool(shared) and seeds_of(run) == seeds_of(other)
    return twice or not all(run.same_test_set(other, dataset) for dataset in shared)


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """One label per group, unique among the groups of a backbone."""
    firsts = [group[0] for group in groups]
    seeds = [list(dict.fromkeys(map(seeds_of, group))) for group in groups]
    of_backbone = _by(zip(firsts, seeds, strict=True), lambda each: each[0].backbone)
    several = {name for name, its in of_backbone.items() if len({own[0][0] for _, own in its}) > 1}
    telling, labels = _telling(firsts), []
    for run, own in zip(firsts, seeds, strict=True):
        # Always shown for a stream method, so that it is not mistaken for an episodic one.
        always = [key for key in (ORDER, FEATURE) if run.stream and key in run.compared]
        parts = [f"{run.compared[key]} stream" if key == ORDER else str(run.compared[key]) for key in always]
        parts += [f"{name}={_plain(run.compared.get(key))}" for key, name in telling[run].items() if key not in always]
        if len(own) > 1:
            parts.append(f"{len(own)} {'orders' if len({found[:2] for found in own}) == 1 else 'seeds'}")
        elif run.backbone in several:
            parts.append(f"seed={own[0][0]}")
        labels.append(paper_method(run) + (f" ({', '.join(parts)})" if parts else ""))
    more: Callable[[Run, Sequence[Run]], str]
    for more in (_place, lambda run, _: f", {run.path}"):
        named = [(run.backbone, label) for run, label in zip(firsts, labels, strict=True)]
        same = _by(zip(firsts, named, strict=True), lambda each: each[1])
        labels = [
            label + more(run, [other for other, _ in same[own]]) if len(same[own]) > 1 else label
            for run, label, own in zip(firsts, labels, named, strict=True)
        ]
    return labels


def _place(run: Run, others: Sequence[Run]) -> str:
    """Where the images are, if runs on the same datasets differ in it, for example clean and attacked copies."""
    near = [other.settings for other in others if run.to_test.keys() & other.to_test.keys()]
    keys = [key for key in differing(near) if key in IMAGES]
    own = [f"{key.removeprefix('data.')}={run.settings[key]}" for key in keys if run.settings.get(key) is not None]
    return "".join(f", {each}" for each in own)


def _telling(runs: Sequence[Run]) -> dict[Run, dict[str, str]]:
    """For each run, the settings that distinguish it from others of its backbone and method, with their short names.

    `data.limit` is one of them if it is not the same in all runs of the backbone.
    """
    found: dict[Run, dict[str, str]] = {}
    for near in _by(runs, lambda run: run.backbone).values():
        limit = [LIMIT] if LIMIT in _named(near) else []
        for rivals in _by(near, paper_method).values():
            common = [key for key in _named(rivals) if all(key in run.compared for run in rivals)]
            for twins in _by(rivals, lambda run: tuple(_plain(run.compared[key]) for key in common)).values():  # noqa: B023
                keys = dict.fromkeys([*common, *(_named(twins) if len(twins) > 1 else ()), *limit])
                found |= dict.fromkeys(twins, short_names(list(keys)))
    return found


def _by(items: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Items in groups with the same key, in their order."""
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _named(runs: Sequence[Run]) -> list[str]:
    """The differing settings that a label may name, without seeds."""
    return [key for key in differing([run.compared for run in runs]) if not is_seed(key) and meaning(key).label]


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values are not all equal, in the order of the configuration."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({_plain(each.get(key)) for each in settings}) > 1]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Maps each dotted key to its shortest ending that no other key has."""
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[start:]) for start in reversed(range(len(parts))))
        found[key] = next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key)
    return found


def versions_remark(rows: Sequence[Row]) -> Iterator[str]:
    """One warning per package in `DECIDING` if the rows were made with several versions of it."""
    for package in DECIDING:
        found: dict[str, dict[str, None]] = {}
        for row in rows:
            for version in (start["versions"].get(package) for run in row.runs for start in run.results["sessions"]):
                if version is not None:
                    found.setdefault(version, {})[row.label] = None
        if len(found) > 1:
            said = "; ".join(f"{version}: {', '.join(labels)}" for version, labels in found.items())
            yield f"warning: rows made with several versions of {package} differ in more than their methods ({said})"


def coverage_remark(runs: Sequence[Run], labels: bool = False) -> Iterator[str]:
    """Remarks on images that runs leave out, for example not done yet; `labels` adds the method's name."""
    marks = [
        replace(mark, detail=f"{run.method} {mark.detail}") if labels and mark.why != PART else mark
        for run in runs
        for mark in left_out([run], run.to_test)
    ]
    yield from said(marks).values()
