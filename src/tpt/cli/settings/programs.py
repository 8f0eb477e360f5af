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

# Settings of Lightning's trainer that the programs refuse, by the reason.
_PARTIAL = ("limit_test_batches", "fast_dev_run", "overfit_batches")
_IDLE = ("max_*", "min_*", "limit_*", "*val*", "gradient_clip_*", "accumulate_grad_batches")
_BOTH = {
    "it would disable the records and checkpoints": ("barebones",),
    "the program has its own; see --help": ("callbacks", "logger"),
}
REFUSES = {
    "test_time": {
        "other precisions change the numbers; use backbone.precision=bf16 or fp16": ("precision",),
        "it would test only part of the images, and no table would say so; use data.limit": _PARTIAL,
        "it has no effect on a test": _IDLE,
        **_BOTH,
    },
    "train_coop": {
        "the learner's schedule has this length; use learner.epochs": ("max_epochs", "min_epochs"),
        "it has no effect on training": ("inference_mode", "limit_test_batches"),
        **_BOTH,
    },
}
# What settings are called in a program, for error messages of the data readers, which both programs share.
WORDS: dict[str, Rules] = {
    "train_coop": (
        NO_SKIPPING,
        (r"(pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "remove it"),
        (r"\bdata\.(root|class_names|num_workers|classes|path|split|limit)\b", r"shots.\1"),
    )
}


def program_hint(key: str) -> Any:
    """The limits of a setting that the programs themselves read; None for any other."""
    return next((hint for pattern, hint in OF_PROGRAMS.items() if fnmatchcase(key, pattern)), None)


def refuse_setting(program: str, key: str) -> None:
    """Raises a UserError for a setting that a program refuses."""
    for why, names in REFUSES[program].items():
        if any(fnmatchcase(key, f"trainer.{name}") for name in names):
            raise UserError(f"Expected a setting that {program}.py takes, got `{key}`: {why}.")
