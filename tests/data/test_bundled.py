"""The bundled data."""

import numpy as np
import pytest

from tpt.data.bundled import DOMAINS, SHIFTED, class_names, emoji_shift

SIZES = {  # pictures per domain, as `tools/make_emoji_shift.py` printed
    "source_train": 2775,
    "source_val": 395,
    "twemoji": 634,
    "emojione": 634,
    "emojione_monotone": 634,
    "fxemoji": 372,
}


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain(domain: str) -> None:
    dataset = emoji_shift(domain)
    assert dataset.name == domain
    assert len(dataset) == SIZES[domain]
    assert dataset.class_names == class_names() and len(set(class_names())) == 634
    for sample in dataset.samples[:: len(dataset) // 20]:
        assert dataset.class_names[sample.label] == sample.path.split("/")[0]
    assert dataset.image(3).size == (72, 72)


def test_one_shifted_domain_is_black_and_white() -> None:
    grey = {}
    for domain in SHIFTED:
        pixels = [np.asarray(emoji_shift(domain).image(i), int) for i in range(0, 300, 15)]
        grey[domain] = max(float(np.abs(p - p.mean(-1, keepdims=True)).max()) for p in pixels) < 3
    assert grey == {"twemoji": False, "emojione": False, "emojione_monotone": True, "fxemoji": False}


def test_held_back_drawings_are_not_trained_on() -> None:
    train, val = ({s.path for s in emoji_shift(d).samples} for d in ("source_train", "source_val"))
    assert not train & val
    vendor = {"noto": "noto", "noto-v1": "noto"}
    held = {(p.split("/")[0], vendor.get(p.split("/")[1][:-4], "fluent")) for p in val}
    kept = {(p.split("/")[0], vendor.get(p.split("/")[1][:-4], "fluent")) for p in train}
    assert not held & kept  # for each class, whole vendors are held back, since their sets share drawings
    assert {name for name, _ in kept} == set(class_names())  # every class has a drawing to train on


def test_unknown_domain() -> None:
    with pytest.raises(ValueError, match="Expected `domain` to be one of source_train"):
        emoji_shift("openmoji")
