"""Settings that the programs themselves read, and settings of Lightning's trainer that they refuse."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from tpt.cli.errors import NO_SKIPPING, Rules
from tpt.errors import Count, Filled, Seed, UserError

OF_PROGRAMS: dict[str, Any] = {
    "seed": Seed,
    "threads": Count | None,
    "resume": str | None,
    "trust": bool,
    "name": Filled,
    "learned.targets": dict,
    "learned.targets.*": list,
    "learned.*": Filled | None,
    "public_layout": bool,
    "batch_size": Count,
    "shots.k": Count | None,
    "trainer.num_nodes": Count,
    "tags": list,
    "notes": str | None,
    "print_config": bool,
    "optimized_metric": Filled | None,
}

# Settings of Lightning's trainer that the programs refuse: why, and what to use instead.
_PARTIAL = "it would test only part of the images, and no table would say so; use data.limit"
_NO_EFFECT = "it has no effect on a test"
TEST_REFUSES = {
    "trainer.precision": "other precisions change the numbers; use backbone.precision=bf16 or fp16, which results name",
    **dict.fromkeys(("trainer.limit_test_batches", "trainer.fast_dev_run", "trainer.overfit_batches"), _PARTIAL),
    **dict.fromkeys(("trainer.max_*", "trainer.min_*", "trainer.limit_*", "trainer.*val*"), _NO_EFFECT),
    **dict.fromkeys(("trainer.gradient_clip_*", "trainer.accumulate_grad_batches"), _NO_EFFECT),
    "trainer.barebones": "it would disable the records",
    "trainer.callbacks": "they have their own group, callbacks",
    "trainer.logger": "loggers have a group of their own, logger",
}
TRAIN_REFUSES = {
    "trainer.max_epochs": "the learner's schedule has this length; use learner.epochs",
    "trainer.min_epochs": "the learner's schedule has this length; use learner.epochs",
    "trainer.inference_mode": "it has no effect on training",
    "trainer.limit_test_batches": "it has no effect on training",
    "trainer.barebones": "it would disable the checkpoints",
    "trainer.callbacks": "the program has its own",
    "trainer.logger": "loggers have a group of their own, logger",
}
# What settings are called in a program, for error messages of the data readers, which both programs share.
WORDS: dict[str, Rules] = {
    "train_coop": (
        NO_SKIPPING,
        (r"(pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "remove it"),
        (r"\bdata\.(root|class_names|num_workers|classes|path|split|limit)\b", r"shots.\1"),
    )
}
REFUSES = {"test_time": TEST_REFUSES, "train_coop": TRAIN_REFUSES}


def program_hint(key: str) -> Any:
    """The limits of a setting that the programs themselves read; None for any other."""
    return next((hint for pattern, hint in OF_PROGRAMS.items() if fnmatchcase(key, pattern)), None)


def refusal(program: str, key: str) -> UserError | None:
    """The message for a setting that a program refuses; None if it accepts it."""
    why = next((why for pattern, why in REFUSES[program].items() if fnmatchcase(key, pattern)), None)
    return None if why is None else UserError(f"Expected a setting that {program}.py takes, got `{key}`: {why}.")
