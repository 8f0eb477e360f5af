"""Runs `tpt-demo` in its own process and sends it requests, as any process on the machine could."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SECRET = "s3cr3t-value"
FILE = {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an HTTP response."""

    status: int
    headers: Any
    body: bytes


@dataclass
class Page:
    """A running page.

    Args:
        url: its address.
        folder: temporary folder of its pictures.
        workdir: its working directory.
    """

    url: str
    folder: Path
    workdir: Path
    _functions: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def upload(self, name: str, content: bytes) -> str:
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        answer = self.get("/gradio_api/upload", body, Content_Type=f"multipart/form-data; boundary={mark}")
        assert answer.status == 200, answer
        return str(json.loads(answer.body)[0])

    def function(self, inputs: int) -> int:
        """The id of the first function with at least this number of inputs."""
        found = self._functions or json.loads(self.get("/config").body)["dependencies"]
        self._functions = found
        return int(next(one["id"] for one in found if len(one["inputs"]) >= inputs))

    def ask(self, data: list[Any], **fields: Any) -> str:
        """Calls a function of the page and returns its response as text."""
        session = uuid.uuid4().hex
        asked = {"data": data, "fn_index": self.function(len(data)), "session_hash": session, **fields}
        joined = self.get("/gradio_api/queue/join", json.dumps(asked).encode(), Content_Type="application/json")
        assert joined.status == 200, joined
        with urllib.request.urlopen(f"{self.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
            return next(line.decode() for line in stream if b"process_completed" in line)

    def look(
        self, picture: Any, names: Any = "cat\ndog", method: Any = "zero_shot", views: Any = 2, **given: Any
    ) -> str:
        """Classifies a picture; `given` may have steps, lr, selected, words and templates."""
        rest = [given.get(name) for name in ("steps", "lr", "selected", "words", "templates")]
        named = {"path": picture, "meta": FILE} if isinstance(picture, str) else picture
        return self.ask([named, names, method, views, *rest])


@pytest.fixture(scope="package")  # starting it takes seconds
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    workdir = tmp_path_factory.mktemp("work")
    temporary = tmp_path_factory.mktemp("temporary")
    process = subprocess.Popen(
        [sys.executable, "-c", "from tpt.cli.programs.opening import demo; demo()", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=workdir,
        env={**os.environ, "TMPDIR": str(temporary), "TPT_SECRET": SECRET, "TPT_CACHE": str(workdir / "cache")},
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        (folder,) = temporary.glob("tpt-demo-*")
        yield Page(found[0], folder, workdir)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not folder.exists()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="package")
def server(page_server: Page) -> str:
    """The address of the page."""
    return page_server.url
