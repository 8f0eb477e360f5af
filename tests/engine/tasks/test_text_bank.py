"""Datasets with the same classes share a text bank; one is kept at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tpt
from tpt.data import image_folder
from tpt.engine.tasks.adaptation import AdaptationTask


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
