"""The limit on the disk space of uploads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("starlette")  # comes with gradio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tpt.cli.demo import door


def test_the_oldest_uploads_are_deleted_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_KEPT", 3 * door.LEAST_COUNTED)
    uploads = tmp_path / "pictures"
    uploads.mkdir()
    (uploads / "drawing.png").write_bytes(b"there from the beginning")
    os.utime(uploads / "drawing.png", (0, 0))

    async def keep(request: Request) -> PlainTextResponse:
        name = (await request.body()).decode()
        (uploads / name).write_text(name)
        os.utime(uploads / name, (int(name), int(name)))
        return PlainTextResponse(name)

    app = Starlette(routes=[Route(door.UPLOAD, keep, methods=["POST"])])
    app.add_middleware(door.Door, folder=tmp_path, uploads=uploads, host="testserver")
    client = TestClient(app)
    for number in range(1, 7):
        assert client.post(door.UPLOAD, content=str(number)).text == str(number)
        left = sorted(path.name for path in uploads.iterdir())
        assert left == sorted([*map(str, range(max(1, number - 2), number + 1)), "drawing.png"])
    refused = client.post(door.UPLOAD, content=bytes(3 * door.LEAST_COUNTED + 1))
    assert refused.status_code == 503 and "try again later" in refused.text
    assert len(list(uploads.iterdir())) == 4


def test_only_the_pages_own_requests_are_passed_on(tmp_path: Path) -> None:
    """Checks host, origin, route and file without gradio; `test_requests.py` asks the real page."""

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("the page")

    secret, shown = tmp_path / "secret.png", tmp_path / "page" / "shown.png"
    shown.parent.mkdir()
    for path in (secret, shown):
        path.write_text(path.stem)
    app = Starlette(routes=[Route("/{rest:path}", page)])
    app.add_middleware(door.Door, folder=shown.parent, uploads=shown.parent, host="page.example")
    client = TestClient(app, "http://page.example")
    assert client.get("/").text == "the page"
    assert client.get("/", headers={"host": "127.0.0.1:7860"}).status_code == 200
    assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 400
    assert client.get("/", headers={"origin": "http://elsewhere.example"}).status_code == 403
    assert client.get("/gradio_api/info").status_code == 404
    assert client.get(f"{door.FILE}{shown}").text == "shown"
    assert client.get(f"{door.FILE}{secret}").status_code == 404
