"""The range of every setting of the programs whose kind alone does not say it, and those that no part takes.

A key is a pattern: `*.lr` stands for the learning rate of any part of ours.  Kinds follow from the annotations of what
a setting becomes; a contributor's part needs no line here, and may check its own ranges when it is made.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from tpt.cli.settings.kinds import FLAG, LIST, MAPPING, NULL, NUMBER, PART, TEXT, WHOLE, Kind

_ANY = frozenset({NULL, FLAG, WHOLE, NUMBER, TEXT, LIST, MAPPING, PART})
_WHOLE, _TEXT, _NUMBER = frozenset({WHOLE}), frozenset({TEXT}), frozenset({WHOLE, NUMBER})
_OR_NULL = frozenset({NULL})
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "32", "16", "bf16")  # the frozen backbone has one of its own
SEEDS = 2**32 - 1  # the largest that numpy takes


def at_least(number: float) -> Kind:
    """Any kind; a number is at least this large."""
    return Kind(_ANY, least=number)


def above(number: float) -> Kind:
    """Any kind; a number is larger than this."""
    return Kind(_ANY, above=number)


def one_of(*words: str) -> Kind:
    """Any kind; a text is one of these."""
    return Kind(_ANY, words=words)


FILLED = Kind(_ANY, filled=True)
SHARE = Kind(_ANY, above=0, most=1)  # (0, 1]

# What the programs take themselves.
OF_PROGRAMS = {
    "seed": Kind(_WHOLE, least=0, most=SEEDS),
    "threads": Kind(_WHOLE | _OR_NULL, least=1),
    "resume": Kind(_TEXT | _OR_NULL),
    "trust": Kind(frozenset({FLAG})),
    "name": Kind(_TEXT, filled=True),
    "learned.targets": Kind(frozenset({MAPPING})),
    "learned.targets.*": Kind(frozenset({LIST})),
    "learned.*": Kind(_TEXT | _OR_NULL, filled=True),
    "public_layout": Kind(frozenset({FLAG})),
    "batch_size": Kind(_WHOLE, least=1),
    "shots.k": Kind(_WHOLE | _OR_NULL, least=1),
    "trainer.accelerator": Kind(_TEXT, filled=True),
    "trainer.devices": Kind(_WHOLE | _TEXT | {LIST}, least=-1),
    "trainer.num_nodes": Kind(_WHOLE, least=1),
    "trainer.precision": Kind(_WHOLE | _TEXT | _OR_NULL, words=PRECISIONS, least=16, most=32),
    "tags": Kind(frozenset({LIST})),
    "notes": Kind(_TEXT | _OR_NULL),
    "print_config": Kind(frozenset({FLAG})),
    "optimized_metric": Kind(_TEXT | _OR_NULL, filled=True),
}

RANGES = {
    "*.seed": Kind(_ANY, least=0, most=SEEDS),
    "*.batch_size": at_least(1),
    "*.val_batch_size": at_least(1),
    "*.num_workers": at_least(0),
    "*.limit": at_least(1),
    "*.root": FILLED,
    "*.path": FILLED,
    "*.shards": FILLED,
    "*.class_names": FILLED,
    "*.on_bad_image": one_of("error", "skip"),
    "*.orientation": one_of("apply", "ignore"),
    "*.classes": one_of("all", "base", "new"),
    "*.num_views": at_least(1),
    "*.made_on": one_of("loader", "device"),
    "*.severity": above(0),
    "*.steps": at_least(0),
    "*.selection_p": SHARE,
    "*.min_selected": at_least(0),
    "*.lr": above(0),
    "*.weight_decay": at_least(0),
    "*.momentum": Kind(_ANY, least=0, below=1),
    "*.penalty_weight": at_least(0),
    "*.tau": Kind(_ANY, above=0, below=1),
    "*.lambda_q": at_least(0),
    "*.lambda_y": above(0),
    "*.scale": Kind(_ANY, least=0, most=2),
    "*.sample_k": at_least(1),
    "*.n_ctx": at_least(1),
    "*.epochs": at_least(1),
    "*.warmup_epochs": at_least(0),
    "*.warmup_rate": above(0),
    "*.max_tokens": at_least(1),
    "*.max_graph_tokens": at_least(0),
    "*.class_token_position": one_of("end", "middle", "front"),
    "*.meta_input": one_of("raw", "unit"),
    "backbone.precision": one_of("fp32", "fp16", "bf16"),
    "cache.max_gb": above(0),
    "*.every_n_images": at_least(1),
    "*.shard_size": at_least(1),
    "*.flush_every_s": at_least(0),
    "*.log_every_s": at_least(0),
    "*.refresh_rate": at_least(0),
    "*.top": at_least(1),
    "*.flips": at_least(0),
    "*.sheets": at_least(0),
}

# What Lightning's trainer takes, and these programs must not be given: why, and what to give instead.
_PARTIAL = "it would test a part of the images, and no table would say so; use data.limit"
_NO_EFFECT = "it has no effect on a test"
TEST_REFUSES = {
    "trainer.precision": "other precisions change the numbers; use backbone.precision=bf16 or fp16, which results name",
    "trainer.limit_test_batches": _PARTIAL,
    "trainer.fast_dev_run": _PARTIAL,
    "trainer.overfit_batches": _PARTIAL,
    "trainer.max_epochs": _NO_EFFECT,
    "trainer.max_steps": _NO_EFFECT,
    "trainer.max_time": _NO_EFFECT,
    "trainer.min_*": _NO_EFFECT,
    "trainer.limit_*": _NO_EFFECT,
    "trainer.*val*": _NO_EFFECT,
    "trainer.gradient_clip_*": _NO_EFFECT,
    "trainer.accumulate_grad_batches": _NO_EFFECT,
    "trainer.barebones": "it would leave out the records",
    "trainer.callbacks": "they have a group of their own, callbacks",
    "trainer.logger": "loggers have a group of their own, logger",
}
TRAIN_REFUSES = {
    "trainer.max_epochs": "the learner's schedule has this length; use learner.epochs",
    "trainer.min_epochs": "the learner's schedule has this length; use learner.epochs",
    "trainer.inference_mode": "it has no effect on training",
    "trainer.limit_test_batches": "it has no effect on training",
    "trainer.barebones": "it would leave out the checkpoints",
    "trainer.callbacks": "the program has its own",
    "trainer.logger": "loggers have a group of their own, logger",
}
REFUSES = {"test_time": TEST_REFUSES, "train_coop": TRAIN_REFUSES}


def range_of(key: str) -> Kind | None:
    """The range of a setting; None if its kind is all."""
    return next((kind for pattern, kind in RANGES.items() if fnmatchcase(key, pattern)), None)


def program_kind(key: str) -> Kind | None:
    """The kind of a setting that the programs take themselves."""
    return next((kind for pattern, kind in OF_PROGRAMS.items() if fnmatchcase(key, pattern)), None)


def refused(program: str, key: str) -> str | None:
    """Why a program refuses a setting, and what to give instead; None if it takes it."""
    rules = REFUSES.get(program, {})
    return next((why for pattern, why in rules.items() if fnmatchcase(key, pattern)), None)
