"""The one register of what each setting means to records, to the rows of tables and to figures.

A setting is a dotted key of a configuration.  An entry of the register stands for the key and all below it, the longest
one that fits holds, and what has no entry, such as a setting of a new method, is taken as it is: it may change
records, it sets rows of a table off from each other, and if it varies in a sweep it is the axis of a figure.

Settings of the training run that a context comes from have `training.` in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRAINING = "training."  # in front of the settings of train_coop.py
SEED = "seed"
LIMIT = "data.limit"
ORDER, ORDER_SEED, CONCENTRATION = "data.order", "data.order_seed", "data.order_concentration"


@dataclass(frozen=True)
class Meaning:
    """What a setting means.

    Args:
        record: whether another value may change a record, so that only the same value continues a run.
        row: whether another value makes another row of a table.
        label: whether a row's label may name it; what has a column of its own, or is wiring, is not named.
        axis: what it is called on the axis of a figure; None calls it by its name; an empty one has no figure.
        logarithmic: whether that axis is by factors.
    """

    record: bool = True
    row: bool = True
    label: bool = True
    axis: str | None = None
    logarithmic: bool = False


_PLAIN = Meaning()
_OUTSIDE = Meaning(record=False, row=False)  # where the work is done, and who is told
_PLACE = Meaning(record=False, row=False)  # of images, whose names and contents are compared instead
_DATA = Meaning(row=False)  # a column of a table, or its cells, not a row
_REPEATED = Meaning(row=False)  # stands a second time under its own key
_MACHINE = Meaning(record=False, row=False)
_HELD = Meaning(row=False, label=False, axis="")  # what a record holds beside the answer
_PART = Meaning(record=False, row=False)  # how much of the work is done now; what is left out makes a run unfinished

REGISTER: Mapping[str, Meaning] = {
    "seed": Meaning(axis=""),
    "cache": _OUTSIDE,
    "callbacks": _OUTSIDE,
    "callbacks.records.top": _HELD,
    "callbacks.records.logits": _HELD,
    "logger": _OUTSIDE,
    "name": _OUTSIDE,
    "resume": _OUTSIDE,
    "trust": _OUTSIDE,
    "tags": _OUTSIDE,
    "notes": _OUTSIDE,
    "print_config": _OUTSIDE,
    "optimized_metric": _OUTSIDE,
    "experiment": _REPEATED,
    "hydra": _REPEATED,
    "learned": _PLACE,  # of contexts
    "optimizer": _REPEATED,
    "row": _REPEATED,
    "backbone": Meaning(label=False),
    "context.path": Meaning(record=False, label=False),  # what lies there has a fingerprint
    "data": _DATA,
    "data.root": _PLACE,
    "data.path": _PLACE,
    "data.shards": _PLACE,
    "data.batch_size": Meaning(axis="images a batch", logarithmic=True),
    "data.classes": Meaning(axis=""),  # a half of them, which is another question
    "data.split": Meaning(axis=""),
    "data.outside": Meaning(row=False, axis=""),  # pictures beside those of the tables
    "data.limit": Meaning(axis=""),  # which images are drawn, which says nothing about a method
    ORDER: _PLAIN,
    ORDER_SEED: Meaning(axis=""),
    CONCENTRATION: Meaning(axis="concentration of the order", logarithmic=True),
    "data.module": Meaning(record=False, row=False),  # repeats the settings of `data`
    "data.num_workers": _MACHINE,
    "data.pin_memory": _MACHINE,
    "data.on_bad_image": _MACHINE,  # whether a run goes on, not what an image's record is
    "trainer.devices": _MACHINE,
    "trainer.num_nodes": _MACHINE,
    "trainer.strategy": _MACHINE,
    "trainer.enable_progress_bar": _OUTSIDE,
    "trainer.logger": _OUTSIDE,
    "trainer.profiler": _OUTSIDE,
    "trainer.fast_dev_run": _PART,
    "trainer.limit_test_batches": _PART,
    "trainer.limit_train_batches": _PART,
    "trainer.limit_val_batches": _PART,
    "views.num_views": Meaning(axis="number of views", logarithmic=True),
    "method.steps": Meaning(axis="steps"),
    "method.selection_p": Meaning(axis="share of views kept", logarithmic=True),
    "method.gamma": Meaning(axis="share of views that vote", logarithmic=True),
    "method.lr": Meaning(axis="learning rate", logarithmic=True),
    "method.penalty_weight": Meaning(axis="weight of the penalty"),
    "training.backbone": Meaning(label=False),
    "training.cache": _OUTSIDE,
    "training.logger": _OUTSIDE,
    "training.name": _OUTSIDE,
    "training.tags": _OUTSIDE,
    "training.notes": _OUTSIDE,
    "training.print_config": _OUTSIDE,
    "training.optimized_metric": _OUTSIDE,
    "training.public_layout": _OUTSIDE,
    "training.resume": _OUTSIDE,
    "training.trainer": _OUTSIDE,
    "training.shots.module": _REPEATED,
    "training.shots.num_workers": _MACHINE,
    "training.shots.root": _DATA,
    "training.shots.draw": _DATA,
    "training.shots.k": Meaning(axis="shots of each class", logarithmic=True),
    "training.learner.n_ctx": Meaning(axis="context vectors"),
}
WIRING = ("_partial_", "_convert_")  # ends of keys that only say how a part is made


def meaning(key: str) -> Meaning:
    """What the register says of a dotted key."""
    parts = key.split(".")
    if parts[-1] in WIRING:
        return Meaning(label=False, axis="")
    if parts[-1] == SEED:
        return REGISTER[SEED]
    for length in range(len(parts), 0, -1):
        if (found := REGISTER.get(".".join(parts[:length]))) is not None:
            return found
    return _PLAIN


def is_seed(key: str) -> bool:
    """Whether a setting is a seed: runs that differ in seeds alone make one row, with a deviation."""
    return key == ORDER_SEED or key.rsplit(".", 1)[-1] == SEED


def axis_label(key: str) -> str:
    """What the axis of a figure calls a setting; empty if there is no such figure."""
    found = meaning(key).axis
    return key.removeprefix(TRAINING).rsplit(".", 1)[-1].replace("_", " ") if found is None else found


# Settings with which the printed rows of a method were run, by the option of `method`; those of TPT are Shu et al.'s
# section 4.  Values that mean the same stand in a tuple: "paper" lets the method take its paper's.
_VIEWS = {"views.num_views": 64}
_STEP = {
    "method.steps": 1,
    "method.lr": 5e-3,
    "method.optimizer._target_": "torch.optim.AdamW",
    "method.optimizer.weight_decay": 0.01,
    "method.learned_class_token": False,
}
_TUNED = {**_VIEWS, **_STEP, "method.selection_p": 0.1}
_WORDS = {"context.ctx_init": "a photo of a", "context.class_token_position": "end"}
PAPER: Mapping[str, Mapping[str, Any]] = {
    "zero_shot": {},
    "tpt": _TUNED,
    "zero": {**_VIEWS, "method.gamma": 0.3},
    "mta": {**_VIEWS, "method.lambda_q": 4.0, "method.lambda_y": 0.2},
    # The printed rows are those of ImageNet's variants.
    "ctpt": {**_TUNED, "method.penalty_weight": (20.0, "paper")},
    "otpt": {**_TUNED, "method.penalty_weight": (2.0, "paper")},
    "atpt": {**_TUNED, "method.penalty_weight": (10.0, "paper"), "method.tau": (0.99999, "paper")},
}
# And of the text that a row starts from: words, or words in several templates.
PAPER_TEXT: Mapping[str, Mapping[str, Any]] = {
    "words": _WORDS,
    "ensemble": {"method.templates": "imagenet_80"},
}
MIXED_ALWAYS = ("ctpt", "otpt", "atpt", "tda", "pta", "dota")  # printed with AugMix on ImageNet's variants too
MIXED_NEVER = ("zero", "mta", "boostadapter")
