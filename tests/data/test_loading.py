"""A user's mistake in a loading process."""

from pathlib import Path

import pytest

from tests.conftest import noise_image
from tpt.data import EpisodeDataModule, Shots, ShotsDataModule, image_folder
from tpt.errors import BadImageError
from tpt.views import Views


def test_loading_processes_hand_on_the_sentence_itself(tmp_path: Path) -> None:
    """Not torch's text of the process's trace, in testing and in training."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            noise_image(number).save(tmp_path / name / f"{number}.png")
    whole = (tmp_path / "dog" / "1.png").read_bytes()
    dataset = image_folder(tmp_path)
    (tmp_path / "dog" / "1.png").write_bytes(whole[:80])
    testing = EpisodeDataModule([dataset], num_workers=1).use_views(Views(8, 2)).test_dataloader()[0]
    shots = ShotsDataModule(Shots(dataset, None), batch_size=2, num_workers=1).use_image_size(8)
    for loader in (testing, shots.train_dataloader()):
        with pytest.raises(BadImageError) as caught:
            list(loader)
        assert str(caught.value).startswith("Expected a readable image, but ") and "dog/1.png" in str(caught.value)
        assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 400
