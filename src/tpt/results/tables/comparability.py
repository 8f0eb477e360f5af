"""Marks of a cell: how it differs from the paper's cell, or what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tpt.data.catalog.entries import CATALOG, NATURAL_SHIFT
from tpt.results.runs.settings import MIXED_ALWAYS, MIXED_NEVER, ORDER, PAPER, PAPER_TEXT
from tpt.results.tables.published import ALL_VIEWS, printed_row
from tpt.results.tables.runs import Run

# The class list in the paper's code (azshue/TPT, `data/cls_to_names.py`, and its copies elsewhere) has cheesecake
# before cheese_plate, but the split's labels are 16 = cheese_plate and 17 = cheesecake.
NAMES_SWAPPED = {"food101": "two class names are swapped in the paper's code, which concerns 600 of 30,300 images"}
PART, UNFINISHED = "on part of the images", "unfinished"
UNLABELLED = "pictures without labels have no accuracy"
ENSEMBLE = "+ensemble"  # suffix of the names of methods whose text is an ensemble of templates
SEVEN_TEMPLATES = ("imagenet", "imagenet_a", "imagenet_v2", "caltech101", "stanford_cars", "sun397")


@dataclass(frozen=True)
class Mark:
    """One mark; marks with the same explanation share a letter."""

    why: str
    detail: str = ""  # about this cell, added to the explanation


def paper_method(run: Run) -> str:
    """The name of the method in the printed tables."""
    all_views = run.method == "tpt" and run.settings.get("method.selection_p") == 1.0
    return ALL_VIEWS if all_views else run.method


def printed_method(run: Run, dataset: str) -> str:
    """The name of the printed row to compare a cell with; all printed rows of stream methods use an ensemble."""
    method, templates = paper_method(run), run.settings.get("method.templates")
    ensemble = run.stream and method == run.option and templates in ("paper", _templates_of_paper(run, dataset))
    return f"{method}{ENSEMBLE}" if ensemble else method


def marks_of(run: Run, dataset: str) -> list[Mark]:
    """All marks of a run's cell; only a cell without marks can be compared with the printed number."""
    found = list(coverage(run, dataset))
    if printed_row(run.backbone, printed_method(run, dataset), dataset).source:
        found += [*_test_set(run, dataset), *_settings(run, dataset)]
    return found


def coverage(run: Run, dataset: str) -> Iterator[Mark]:
    """Marks for images that are left out: by a subset, in an unfinished run, without a label, without an answer."""
    about, found = run.to_test[dataset], run.results["datasets"].get(dataset)
    failed = run.results["without_answer"].get(dataset, []) if found is None else found["unanswered"]
    done = len(failed) + (0 if found is None else found["images"])
    if about["to_test"] != about["size"]:
        yield Mark(PART, f"{dataset} {about['to_test']:,} of {about['size']:,}")
    if done < about["to_test"]:
        yield Mark(UNFINISHED, f"{dataset} {done:,} of {about['to_test']:,} images done")
    if found is not None and "acc" not in found:
        before, after = found["confidence_zero_shot"], found["confidence"]
        said = f"{found['changed']:.1f} % of the answers changed, confidence {before:.1f} to {after:.1f} %"
        yield Mark(UNLABELLED, f"{dataset} {said}")
    if failed:
        yield Mark("images without an answer are left out", f"{dataset} {len(failed):,}")


def left_out(runs: Iterable[Run], datasets: Iterable[str], of: str = "") -> list[Mark]:
    """Marks for the images of some datasets that runs leave out; each detail starts with `of`."""
    names = list(datasets)
    marks = (mark for run in runs for name in names if name in run.to_test for mark in coverage(run, name))
    return [replace(mark, detail=f"{of} {mark.detail}".strip()) for mark in marks if mark.why != UNLABELLED]


def _test_set(run: Run, dataset: str) -> Iterator[Mark]:
    entry, about = CATALOG[dataset], run.to_test[dataset]
    if dataset in NAMES_SWAPPED:
        yield Mark(NAMES_SWAPPED[dataset], dataset)
    if not entry.is_papers(about["split"]):
        yield Mark("another split than the paper's", f"{dataset} {about['split'] or 'its folder'}")
    elif (about["size"], about["classes"]) != (entry.images, entry.classes):
        here = f"{about['size']:,} images of {about['classes']:,} classes"
        yield Mark(
            "another test set than the paper's", f"{dataset} {here}, there {entry.images:,} of {entry.classes:,}"
        )


def _settings(run: Run, dataset: str) -> Iterator[Mark]:
    settings = run.settings | {"backbone.backbone_precision": run.results["backbone"]["precision"]}
    expected: dict[str, Any] = {"backbone.backbone_precision": "fp32", **PAPER.get(run.option, {})}
    expected |= {"trainer.precision": ("32-true", "32", 32, None), "data.orientation": ("ignore", None)}
    if paper_method(run) == ALL_VIEWS:
        expected["method.selection_p"] = 1.0
    if "coop" in run.method:
        training = run.training
        shots = "unknown" if training is None else f"{training.shots or 'all'} shots of {training.source}"
        settings["context.learned_on"], expected["context.learned_on"] = shots, "16 shots of imagenet"
        if training is not None and training.settings.get("learner.ctx_init") is None:
            settings["context.n_ctx"], expected["context.n_ctx"] = training.settings.get("learner.n_ctx"), 4
    elif not printed_method(run, dataset).endswith(ENSEMBLE):
        expected |= PAPER_TEXT["ensemble" if run.method == "ensemble" else "words"]
    if run.stream:
        expected |= {"method.feature": (_feature_of_paper(dataset), "paper", None), ORDER: "shuffled"}
        expected["method.templates"] = (_templates_of_paper(run, dataset), "paper")
    for key, value in expected.items():
        values = value if isinstance(value, tuple) else (value,)
        if settings.get(key) not in values:
            yield Mark(f"{key.split('.', 1)[1]}={settings.get(key)}, in the paper {values[0]}")
    if run.method.endswith(ENSEMBLE) and not run.stream:
        yield Mark(f"templates={settings.get('method.templates')}, the published row's are not known")
    if run.adapts and not (run.stream and _feature_of_paper(dataset) == "view0"):
        yield from _augmix(run, dataset)


def _templates_of_paper(run: Run, dataset: str) -> str:
    """Templates of the printed rows of stream methods: as in TDA's code; OnZeta's code has one set for all datasets."""
    if run.option == "onzeta" or dataset in SEVEN_TEMPLATES:
        return "imagenet_7"
    return "imagenet_80" if dataset in NATURAL_SHIFT else "dataset"


def _feature_of_paper(dataset: str) -> str:
    """The feature that the printed rows of stream methods use: the mean of the confident views on four datasets."""
    return "confident" if dataset in NATURAL_SHIFT and dataset != "imagenet" else "view0"


def _augmix(run: Run, dataset: str) -> Iterator[Mark]:
    papers = CATALOG[dataset].augmix
    mixed = run.option in MIXED_ALWAYS or (papers and run.option not in MIXED_NEVER)
    by_dataset = run.settings.get("views._target_") == "tpt.paper_views"
    mixes = papers if by_dataset else "views.augmix._target_" in run.settings
    if mixes != mixed:
        yield Mark("views without AugMix, in the paper with it" if mixed else "AugMix, in the paper plain crops")
    elif mixes and (severity := run.settings.get("views.augmix.severity")) != 1.0:
        yield Mark(f"AugMix of severity {severity}, in the paper 1")


def said(marks: Iterable[Mark]) -> dict[str, str]:
    """Maps each explanation to its full text, with the different details of all cells."""
    found: dict[str, dict[str, None]] = {}
    for mark in marks:
        found.setdefault(mark.why, {})[mark.detail] = None
    return {why: ": ".join(filter(None, (why, "; ".join(filter(None, details))))) for why, details in found.items()}
