"""Pictures of unknown classes: the other half, another dataset without the tested classes, or a folder."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tpt.data import EpisodeDataModule, emoji_shift
from tpt.data.datamodule import with_outside
from tpt.errors import DataError


def test_the_other_half_of_the_classes() -> None:
    whole = emoji_shift("fxemoji")
    base = whole.half("base")
    tested, outside = EpisodeDataModule([whole], classes="base", outside="other").datasets
    assert tested.fingerprint() == base.fingerprint() and outside.name == "fxemoji_outside" and not outside.labelled
    assert outside.class_names == base.class_names
    paths = [{sample.path for sample in d.samples} for d in (base, outside, whole)]
    assert paths[0] | paths[1] == paths[2] and not paths[0] & paths[1]
    limited = with_outside([base], "other", None, 7, 3)[1]
    assert len(limited) == 7 and limited.image(0).size == outside.image(0).size
    with pytest.raises(DataError, match="Set data.classes=base or new"):
        with_outside([whole], "other", None, None, 0)


def test_another_dataset_without_the_tested_classes() -> None:
    base = emoji_shift("fxemoji").half("base")
    outside = with_outside([base], "twemoji", None, None, 0)[1]
    names = {sample.path.split("/")[0] for sample in outside.samples}
    assert len(outside) > 100 and not names & {sample.path.split("/")[0] for sample in base.samples}
    with pytest.raises(DataError, match="outside the classes of 'fxemoji'"):
        with_outside([emoji_shift("fxemoji")], "twemoji", None, None, 0)


def test_a_folder_of_pictures() -> None:
    pictures = sorted((ROOT / "docs").rglob("*.png")) or sorted(Path(ROOT).rglob("*.png"))
    if not pictures:
        pytest.skip("a checkout without pictures")
    outside = with_outside([emoji_shift("fxemoji")], str(pictures[0].parent), None, None, 0)[1]
    assert outside.image(0).mode == "RGB"
    assert with_outside([emoji_shift("fxemoji")], None, None, None, 0)[0].name == "fxemoji"
