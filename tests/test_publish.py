"""The entry points of torch.hub and the hosted demo page."""

import runpy
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT


def test_torch_hub_loads_from_a_checkout() -> None:
    clip = torch.hub.load(str(ROOT), "load_clip", "emoji-mini", source="local")
    method = torch.hub.load(str(ROOT), "ZeroShot", clip, ["cat", "dog"], source="local")
    assert method(clip.encode_views(torch.zeros(1, 3, 64, 64))).logits.shape == (2,)


@pytest.mark.browser  # with the other tests of the page, which load gradio
def test_the_hosted_page_answers_only_under_its_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("SPACE_HOST", "ours.example")
    app = runpy.run_path(str(ROOT / "app.py"))["application"](tmp_path)
    with TestClient(app, base_url="http://ours.example") as visitor:
        assert visitor.get("/").status_code == 200
        assert visitor.get("/", headers={"host": "other.example"}).status_code == 400
