"""Every setting has a type and a range; a wrong value is reported before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from tests.conftest import compose_config
from tpt.cli.settings.check import check_sweep, hints_of_settings, refuse_wrong
from tpt.cli.settings.parts import HYDRAS, REFERENCE, leaves, of_config, target_of
from tpt.errors import Count, UserError, fits, in_words

WHOLE_0, WHOLE_1 = "a whole number of at least 0", "a whole number of at least 1"
WRONG_TEST = {
    # override: part of the error message
    # Values of the wrong type or out of range.
    "method.steps=[1,2]": f"`method.steps` to be {WHOLE_0} or paper, got [1, 2]",
    "method.steps={a:1}": "`method.steps` to be",
    "method.steps=null": "got null",
    "method.steps=two": "got 'two'",
    "method.steps='2'": "got '2'",
    "method.steps=1.0": "got 1.0",
    "method.steps=true": "got true",
    "method.steps=-1": "got -1",
    "method.selection_p=null": "`method.selection_p` to be a number in (0, 1] or paper, got null",
    "method.selection_p=[0.1,0.2]": "got [0.1, 0.2]",
    "method.selection_p=0": "got 0",
    "method.selection_p=1.01": "got 1.01",
    "method.selection_p=nan": "got nan",
    "method.lr=inf": "`method.lr` to be a number of at least 0 or paper, got inf",
    "method.lr=-1": "got -1",
    "method.min_selected=-1": WHOLE_0,
    "method.learned_class_token=1": "to be true or false, got 1",
    "views.num_views=4.0": "got 4.0",
    "views.num_views=0": WHOLE_1,
    "views.made_on=gpu": "to be loader or device, got 'gpu'",
    "data.batch_size=2.5": f"`data.batch_size` to be {WHOLE_1}, got 2.5",
    "data.batch_size=null": "got null",
    "data.num_workers=null": f"`data.num_workers` to be {WHOLE_0}, got null",
    "data.num_workers=-1": "got -1",
    "data.limit=abc": f"`data.limit` to be {WHOLE_1} or null, got 'abc'",
    "data.limit=0": "got 0",
    "data.on_bad_image=ignore": "to be error or skip",
    "threads=-2": f"`threads` to be {WHOLE_1} or null",
    "seed=abc": "`seed` to be a whole number from 0 to 4294967295, got 'abc'",
    "seed=-1": "got -1",
    "seed=4294967296": "got 4294967296",
    "seed=null": "got null",
    "name=''": "a text that is not empty",
    "context.ctx_init=null": "`context.ctx_init` to be a text, got null",
    "context.class_token_position=left": "to be end or middle or front, got 'left'",
    "backbone.precision=fp8": "to be fp32 or bf16 or fp16",
    "backbone.compile=maybe": "true or false",
    "optimizer.weight_decay=-0.1": "weight_decay",
    "cache.max_gb=0": "a number above 0 or null",
    "cache.num_views=none": f"{WHOLE_1} or null, got 'none'",
    "callbacks.metrics.every_n_images=0": WHOLE_1,
    "callbacks.records.shard_size=0": WHOLE_1,
    "callbacks.records.top=0.5": WHOLE_1,
    "trainer.devices=1.5": "a list or a text or a whole number",
    "trainer.num_nodes=0": WHOLE_1,
    # Settings that nothing reads or that the program refuses.
    "+foo=1": "got 'foo', which nothing reads",
    "+data.limitt=3": "got 'data.limitt', which nothing reads",
    "+method.step=1": "Expected settings that TPT accepts in `method`, got 'step'; did you mean steps",
    "+trainer.precison=16": "Expected settings that Trainer accepts in `trainer`, got 'precison'; did you mean prec",
    "+trainer.precision=bf16-mixed": "use backbone.precision=bf16",
    "+trainer.precision=64-true": "use backbone.precision=bf16",
    "+trainer.limit_test_batches=1": "use data.limit",
    "+trainer.fast_dev_run=true": "use data.limit",
    "+trainer.max_epochs=3": "has no effect on a test",
    "+trainer.gradient_clip_val=1": "has no effect on a test",
}
WRONG_TRAIN = {
    "shots.k=1.5": f"`shots.k` to be {WHOLE_1} or null, got 1.5",
    "shots.classes=old": "to be all or base or new, got 'old'",
    "shots.num_workers=-1": WHOLE_0,
    "batch_size=0": f"`batch_size` to be {WHOLE_1}",
    "seed=1.0": "got 1.0",
    "learner.n_ctx=2.5": f"`learner.n_ctx` to be {WHOLE_1}, got 2.5",
    "learner.epochs=1.5": f"`learner.epochs` to be {WHOLE_1} or null",
    "learner.epochs=0": "got 0",
    "learner.class_specific=2": "true or false",
    "learner.warmup_epochs=-1": WHOLE_0,
    "learner.warmup_rate=0": "above 0",
    "public_layout=2": "true or false",
    "+trainer.max_epochs=2": "use learner.epochs",
    "+learner.foo=2": "accepts in `learner`, got 'foo'",
}


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DictConfig]:
    """The default configurations by program."""
    folder = tmp_path_factory.mktemp("run")
    programs = ("test_time", "train_coop")
    return {program: compose_config(program, "name=x", tmp_path=folder) for program in programs}


def changed(cfg: DictConfig, program: str, setting: str) -> None:
    """Changes one setting of a configuration and checks the result."""
    (override,) = OverridesParser.create().parse_overrides([setting])
    cfg = cfg.copy()
    OmegaConf.update(cfg, override.key_or_group, override.value(), force_add=True, merge=False)
    refuse_wrong(cfg, program, [override])


def check(tmp_path: Path, program: str, *overrides: str) -> None:
    cfg = compose_config(program, *overrides, tmp_path=tmp_path)
    refuse_wrong(cfg, program, OverridesParser.create().parse_overrides(list(overrides)))


@pytest.mark.parametrize(
    ("program", "setting", "sentence"),
    [("test_time", *item) for item in WRONG_TEST.items()] + [("train_coop", *item) for item in WRONG_TRAIN.items()],
)
def test_a_wrong_value_is_reported(program: str, setting: str, sentence: str, composed: dict[str, DictConfig]) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as found:
        changed(composed[program], program, setting)
    assert setting.lstrip("+").split("=")[0].rsplit(".", maxsplit=1)[-1] in str(found.value)
    assert str(found.value).startswith("Expected ") and "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("program", "overrides"),
    [
        ("test_time", ["method.steps=0", "method.lr=1", "data.limit=null", "threads=2", "trainer.devices=auto"]),
        ("test_time", ["+optimizer.betas=[0.9,0.99]", "trainer.devices=[0,1]", "trainer.deterministic=warn"]),
        ("test_time", ["method=ctpt", "method.penalty_weight=3", "method.steps=paper", "+trainer.profiler=simple"]),
        ("test_time", ["method=zero_shot", "method.templates=[a,b]", "++logger.csv.version=3"]),
        ("test_time", ["method=rlcf", "views=paper", "context=random", "logger=wandb"]),
        ("test_time", ["+callbacks.x={_target_: lightning.pytorch.callbacks.Timer, duration: null}"]),
        ("train_coop", ["shots.k=null", "learner.epochs=null", "+trainer.max_steps=3", "trainer.precision=16-mixed"]),
        ("train_coop", ["learner=cocoop", "learner.ctx_init=null", "learner.n_ctx=2", "public_layout=true"]),
    ],
)
def test_good_values_pass(program: str, overrides: list[str], tmp_path: Path) -> None:
    check(tmp_path, program, *overrides)


def test_null_is_allowed_only_where_the_chosen_option_allows_it(tmp_path: Path) -> None:
    """The chosen option decides: `n_ctx` may be null for a context from a file, but not for random vectors."""
    check(tmp_path, "test_time", "context=coop", "context.path=x", "context.n_ctx=null")
    with pytest.raises(UserError, match=f"`context.n_ctx` to be {WHOLE_1}, got null"):
        check(tmp_path, "test_time", "context=random", "context.n_ctx=null")


@pytest.mark.parametrize("method", ["ctpt", "otpt", "atpt", "rtpt", "use", "rlcf", "tps"])
def test_settings_that_a_method_passes_to_its_base_class(method: str, tmp_path: Path) -> None:
    cfg = compose_config("test_time", f"method={method}", tmp_path=tmp_path)
    for setting, sentence in {"steps=null": "got null", "steps=1.5": "got 1.5", "selection_p=0": "got 0"}.items():
        with pytest.raises(UserError, match=f"`method.*{sentence}"):
            changed(cfg, "test_time", f"method.{setting}")
    with pytest.raises(UserError, match=r"in `method`, got 'stepz'; did you mean steps"):
        changed(cfg, "test_time", "+method.stepz=2")


def test_an_unquoted_number_is_not_a_folder_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape("""for a text, write 'data.root="2024"'""")):
        check(tmp_path, "test_time", "data=folder", "data.root=2024")
    check(tmp_path, "test_time", "data=folder", 'data.root="2024"')


@pytest.mark.parametrize("program", ["test_time", "train_coop"])
def test_every_setting_has_a_type(program: str, tmp_path: Path) -> None:
    cfg = compose_config(program, tmp_path=tmp_path)
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    hints = hints_of_settings(config)
    own = [key for key, value in leaves(config) if not (isinstance(value, str) and REFERENCE.fullmatch(value))]
    assert [key for key in own if key not in hints] == []


def test_a_sweep_is_checked_before_its_first_job(tmp_path: Path) -> None:
    cfg = compose_config("test_time", tmp_path=tmp_path)
    for text, sentence in {
        "method.steps=1,null,2": "got null",
        "method.selection_p=choice(0.1,2)": "got 2",
        "views.num_views=8,16.0": "got 16.0",
        "seed=range(-1,3)": "got -1",
        "data.limit=3,many": "got 'many'",
    }.items():
        with pytest.raises(UserError, match=sentence):
            check_sweep(cfg, OverridesParser.create().parse_overrides([text]))
    good = ["method.steps=0,1,2", "method=tpt,zero_shot", "context.ctx_init='a photo of a','a b'"]
    check_sweep(cfg, OverridesParser.create().parse_overrides(good))


def items(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted key and value of every entry in nested dictionaries."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}", value
        yield from items(value, f"{prefix}{key}.")


class Part:
    """A part that a contributor adds."""

    def __init__(self, a: Count, b: float = 1.0, c: Literal["x", "y"] = "x", d: Any = None, scale: int = 3) -> None:
        pass


class Below(Part):
    """A part that passes `**more` to its base class."""

    def __init__(self, e: list[int] | None = None, **more: Any) -> None:
        pass


def test_a_contributors_part_is_checked_by_its_annotations() -> None:
    """Its limits come from its own annotations, not from those of other parts."""
    node = {"_target_": f"{__name__}.Part", "a": 1, "b": 2, "c": "x", "d": {}, "scale": 3}
    hints = hints_of_settings({"method": node})
    assert (hints["method.a"], hints["method.b"], "method.d" in hints) == ([Count], [float], False)
    refuse_wrong(OmegaConf.create({"method": node}), "test_time")
    for key, value in {"a": 0, "c": "z", "scale": 1.5}.items():
        with pytest.raises(UserError, match=f"`method.{key}`"):
            refuse_wrong(OmegaConf.create({"method": {**node, key: value}}), "test_time")
    with pytest.raises(UserError, match="Expected settings that Part accepts in `method`, got 'seed'"):
        hints_of_settings({"method": {**node, "seed": -1}})
    below = target_of(f"{__name__}.Below")  # accepts the base class's arguments too
    assert below is not None and not below.open
    assert list(below.hints) == ["e", "a", "b", "c", "d", "scale"]


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3], [1.0, True, "1", None, [1]]),
        (float, [0, 0.5, -1e9], [float("nan"), float("inf"), True, "1", None]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (Path | None, ["a", None], [1, []]),
        (int | None, [1, None], [1.5, "null"]),
        (Sequence[str] | str | None, [["a"], "a", None], [1, {"a": 1}]),
        (Literal["a", "b"] | None, ["a", None], ["c", 1]),
    ],
)
def test_values_that_an_annotation_allows(hint: Any, good: list[Any], bad: list[Any]) -> None:
    of = of_config(hint)
    assert all(fits(of, value) for value in good) and not any(fits(of, value) for value in bad)


def test_open_annotations_allow_any_value() -> None:
    assert of_config(Any) is None and of_config(Path | Any) is None and of_config(object | None) is None


@pytest.mark.parametrize("hint", [Part, Callable[..., int], Part | None, Callable[[], None] | str])
def test_class_and_callable_annotations_need_a_part(hint: Any) -> None:
    of = of_config(hint)
    assert fits(of, {"_target_": "x"}) and not any(fits(of, value) for value in (3, {"a": 1}, ["a"], True))


@pytest.mark.parametrize("program", ["test_time", "train_coop"])
def test_a_group_and_a_value_cannot_replace_each_other(program: str, tmp_path: Path) -> None:
    """Holds at every level, also for parts and for settings that refer to others."""
    first = compose_config(program, tmp_path=tmp_path)
    plain = OmegaConf.to_container(first, resolve=False)
    tried = 0
    for key, node in items(plain):
        if key.rsplit(".", maxsplit=1)[-1] in HYDRAS or (isinstance(node, dict) and not ("." in key and node)):
            continue
        others = ["zzz", "null"] if isinstance(node, dict) else ["{a: {b: 2}}"]
        for text in others:
            if (key, text) == ("shots.draw.val", "null"):  # null is allowed here
                continue
            (override,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
            cfg = first.copy()
            OmegaConf.update(cfg, key, override.value(), force_add=True, merge=False)
            with pytest.raises(UserError, match=f"^Expected .*{re.escape(key)}"):
                refuse_wrong(cfg, program, [override])
            tried += 1
    assert tried > 50


@pytest.mark.parametrize(
    "key", ["seed", "method", "data.module", "data.root", "trainer", "callbacks", "callbacks.records"]
)
def test_required_settings_cannot_be_removed(key: str, composed: dict[str, DictConfig]) -> None:
    """Without records, for example, a run would compute everything and keep nothing."""
    overrides = OverridesParser.create().parse_overrides([f"~{key}"])
    cfg = composed["test_time"]
    with pytest.raises(UserError, match=f"got '~{key}', which every run needs; give another value or option"):
        refuse_wrong(cfg, "test_time", overrides)


@pytest.mark.parametrize(
    "key", ["callbacks.progress", "callbacks.metrics", "logger.csv", "method.steps", "trainer.devices"]
)
def test_optional_settings_can_be_removed(key: str, tmp_path: Path) -> None:
    cfg = compose_config("test_time", f"~{key}", tmp_path=tmp_path)
    refuse_wrong(cfg, "test_time", OverridesParser.create().parse_overrides([f"~{key}"]))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("method._partial_=false", "Expected a setting, got 'method._partial_', which defines how a part is built"),
        ("method._target_=3", "Expected a class or function in `method._target_`, got 3"),
        ("method.optimizer=adam", "`method.optimizer` to be a group of settings with `_target_`, got 'adam'"),
        (
            "callbacks.metrics=null",
            "got 'callbacks.metrics', which nothing reads; see --help, and leave out a group with ~",
        ),
    ],
)
def test_keys_that_define_a_part_are_checked(setting: str, sentence: str, composed: dict[str, DictConfig]) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        changed(composed["test_time"], "test_time", setting)


LIMITS = st.one_of(st.none(), st.integers(-5, 5))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(LIMITS, LIMITS, st.booleans(), st.booleans(), st.floats(-6, 6))
def test_numeric_limits_and_their_text(
    low: int | None, high: int | None, above: bool, below: bool, value: float
) -> None:
    """A number fits exactly when it lies within the limits, and the text names both limits."""
    limits = [
        *([] if low is None else [Gt(low) if above else Ge(low)]),
        *([] if high is None else [Lt(high) if below else Le(high)]),
    ]
    hint = Annotated[float, *limits] if limits else float
    inside = (low is None or value > low or (value == low and not above)) and (
        high is None or value < high or (value == high and not below)
    )
    assert fits(hint, value) == inside
    words = in_words(hint)
    assert words.startswith("to be a number") and all(str(end) in words for end in (low, high) if end is not None)
