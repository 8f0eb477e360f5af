"""Datasets with the same classes share a text bank; one is kept at a time."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import tpt
from tpt.data import image_folder
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.engine.tasks.method_maker import MethodMaker
from tpt.errors import UserError


def test_the_same_classes_share_a_method(clip: tpt.CLIP, image_tree: Path) -> None:
    one = image_folder(image_tree)
    datasets = [
        one,
        replace(one, name="again"),
        replace(one, template="a {}."),
        replace(one, class_names=["a", "b", "c"]),
    ]
    made: list[Any] = []

    def make(dataset: Any) -> tpt.Method:
        made.append(dataset)
        return tpt.ZeroShot(clip, dataset.class_names)

    task = AdaptationTask(clip, make, datasets)
    methods = [task.method(index) for index in range(4)]
    assert methods[0] is methods[1] and len({id(method) for method in methods}) == 3
    assert made == [datasets[0], datasets[2], datasets[3]]
    assert list(task._methods) == [3]


@pytest.mark.parametrize("texts", [{"templates": ["a {}."]}, {"descriptions": {"a": ["an a"], "b": ["a b"]}}])
def test_texts_replace_words_but_not_a_learned_context(
    clip: tpt.CLIP, image_tree: Path, tmp_path: Path, texts: dict[str, Any]
) -> None:
    dataset = replace(image_folder(image_tree), class_names=["a", "b"])
    make = partial(tpt.ZeroShot, **texts)
    words = MethodMaker(clip, partial(tpt.context_from_words, ctx_init="a drawing of"), make)(dataset)
    assert torch.equal(words.bank(), tpt.ZeroShot(clip, ["a", "b"], **texts).bank())
    assert words.notes == (f"method.{next(iter(texts))} replaces the context (words: a drawing of)",)
    default = MethodMaker(clip, partial(tpt.context_from_words, ctx_init="a photo of a"), make)(dataset)
    assert default.notes == ()
    path = tpt.save_context(tmp_path / "context.safetensors", tpt.random_context(clip, 4))
    with pytest.raises(UserError, match="one source of the classes' texts, got `context`"):
        MethodMaker(clip, partial(tpt.context_from_file, path=path), make)(dataset)
