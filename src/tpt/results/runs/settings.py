"""The register of settings: how each affects records, the rows of tables, and figures.

A setting is a dotted key of a configuration.  An entry of the register covers its key and all keys below it; the
longest matching entry applies.  A setting without an entry, such as one of a new method, may change records, makes a
different row of a table, and is the axis of a figure if it varies in a sweep.

Settings of the training run of a context have the prefix `training.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRAINING = "training."  # prefix of the settings of train_coop.py
SEED = "seed"
LIMIT = "data.limit"
ORDER, ORDER_SEED, CONCENTRATION = "data.order", "data.order_seed", "data.order_concentration"


@dataclass(frozen=True)
class Meaning:
    """How a setting affects records, tables and figures."""

    record: bool = True  # whether its value may change a record, so that a run is resumed only with the same value
    row: bool = True  # whether different values make different rows of a table
    label: bool = True  # whether a row's label may name it; not if it has its own column, or is wiring
    axis: str | None = None  # its name on the axis of a figure; None: derived from the key; empty: no figure
    logarithmic: bool = False  # whether that axis is logarithmic


IMAGES = ("data.root", "data.path", "data.shards")  # where the test images are
_FREE = (  # affect neither a record nor a row
    *("cache", "callbacks", "logger", "name", "resume", "trust", "tags", "notes", "print_config", "optimized_metric"),
    *(*IMAGES, "learned"),  # locations; the names and contents of the files are compared instead
    *("data.num_workers", "data.pin_memory", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    "data.on_bad_image",  # whether a run continues, not what a record contains
    "data.module",  # repeats the settings of `data`
    *("trainer.enable_progress_bar", "trainer.logger", "trainer.profiler"),
    # How much of the work is done now; leaving work out makes a run unfinished.
    *("trainer.fast_dev_run", *(f"trainer.limit_{part}_batches" for part in ("test", "train", "val"))),
    *(f"training.{key}" for key in ("cache", "logger", "name", "resume", "trust", "tags", "notes", "print_config")),
    *("training.optimized_metric", "training.public_layout", "training.shots.num_workers"),
    *(f"training.shots.{root}" for root in ("root", "draw.train.root", "draw.val.root")),
    *(f"training.trainer.{key}" for key in ("enable_progress_bar", "log_every_n_steps", "max_steps", "max_time")),
    "training.trainer.profiler",
)
_PLAIN = Meaning()
_NO_ROW = Meaning(row=False)
REGISTER: Mapping[str, Meaning] = {
    **dict.fromkeys(_FREE, Meaning(record=False, row=False)),
    # Repeated under another key, or shown as a column or as the cells of a table.
    **dict.fromkeys(("experiment", "hydra", "optimizer", "row", "training.shots.module", "data"), _NO_ROW),
    **dict.fromkeys(("training.trainer", "training.shots.draw"), _NO_ROW),
    # What a record contains in addition to the answer.
    **dict.fromkeys(("callbacks.records.top", "callbacks.records.logits"), Meaning(row=False, label=False, axis="")),
    "seed": Meaning(axis=""),
    "backbone": Meaning(label=False),
    "context.path": Meaning(record=False, label=False),  # the fingerprint of the context is compared instead
    "data.batch_size": Meaning(axis="images a batch", logarithmic=True),
    "data.classes": Meaning(axis=""),  # half of the classes is a different task
    "data.split": Meaning(axis=""),
    "data.outside": Meaning(row=False, axis=""),  # images in addition to those of the tables
    "data.limit": Meaning(axis=""),  # the subset of images, which says nothing about a method
    ORDER: _PLAIN,
    ORDER_SEED: Meaning(axis=""),
    CONCENTRATION: Meaning(axis="concentration of the order", logarithmic=True),
    "views.num_views": Meaning(axis="number of views", logarithmic=True),
    "method.steps": Meaning(axis="steps"),
    "method.selection_p": Meaning(axis="share of views kept", logarithmic=True),
    "method.gamma": Meaning(axis="share of views that vote", logarithmic=True),
    "method.lr": Meaning(axis="learning rate", logarithmic=True),
    "method.penalty_weight": Meaning(axis="weight of the penalty"),
    "training.backbone": Meaning(label=False),
    "training.shots.k": Meaning(axis="shots of each class", logarithmic=True),
    "training.learner.n_ctx": Meaning(axis="context vectors"),
}
WIRING = ("_partial_", "_convert_")  # last parts of keys that only say how an object is made


def meaning(key: str) -> Meaning:
    """The entry of the register that applies to a dotted key."""
    parts = key.split(".")
    if parts[-1] in WIRING:
        return Meaning(label=False, axis="")
    if parts[-1] == SEED:
        return REGISTER[SEED]
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((REGISTER[each] for each in above if each in REGISTER), _PLAIN)


def is_seed(key: str) -> bool:
    """Whether a setting is a seed; runs that differ only in seeds form one row, with a standard deviation."""
    return key == ORDER_SEED or key.rsplit(".", 1)[-1] == SEED


def axis_label(key: str) -> str:
    """The name of a setting on the axis of a figure; empty if it has no figure."""
    found = meaning(key).axis
    return key.removeprefix(TRAINING).rsplit(".", 1)[-1].replace("_", " ") if found is None else found


# Settings of the printed rows of a method, by the option of `method`; those of TPT are from Shu et al., section 4.
# A tuple lists equivalent values; "paper" is the value of the method's own paper.
_VIEWS = {"views.num_views": 64}
_TUNED = {
    **_VIEWS,
    "method.steps": 1,
    "method.lr": 5e-3,
    "method.optimizer._target_": "torch.optim.AdamW",
    "method.optimizer.weight_decay": 0.01,
    "method.learned_class_token": False,
    "method.selection_p": 0.1,
}
PAPER: Mapping[str, Mapping[str, Any]] = {
    "tpt": _TUNED,
    "zero": {**_VIEWS, "method.gamma": 0.3},
    "mta": {**_VIEWS, "method.lambda_q": 4.0, "method.lambda_y": 0.2},
    # The printed rows are for ImageNet's variants.
    "ctpt": {**_TUNED, "method.penalty_weight": (20.0, "paper")},
    "otpt": {**_TUNED, "method.penalty_weight": (2.0, "paper")},
    "atpt": {**_TUNED, "method.penalty_weight": (10.0, "paper"), "method.tau": (0.99999, "paper")},
}
# The same for the initial prompt of a row: words, or words in several templates.
PAPER_TEXT: Mapping[str, Mapping[str, Any]] = {
    "words": {"context.ctx_init": "a photo of a", "context.class_token_position": "end"},
    "ensemble": {"method.templates": "imagenet_80"},
}
MIXED_ALWAYS = ("ctpt", "otpt", "atpt", "tda", "pta", "dota")  # printed with AugMix on ImageNet's variants too
MIXED_NEVER = ("zero", "mta", "boostadapter")
