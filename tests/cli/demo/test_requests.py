"""Hostile and malformed requests to the page, sent without a browser or its widgets.

They run with the browser tests, because the page's program takes ten seconds of computing time to start.
"""

from __future__ import annotations

import http.server
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.demo.conftest import FILE, SECRET, Page
from tests.conftest import noise_image

pytestmark = pytest.mark.browser
WHO = Path("/etc/passwd")
FIRST_LINE = WHO.read_text().splitlines()[0]
OUTSIDE_NAMES = "zebra-of-a-file"


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise_image(seed).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def mine(page_server: Page) -> str:
    """The path of an uploaded picture."""
    return page_server.upload("p.png", png(1))


@pytest.fixture(scope="module")
def private(page_server: Page) -> Path:
    """A picture in the server's working directory, next to files of names; requests may read none of them."""
    path = page_server.workdir / "private.png"
    path.write_bytes(png(2))
    for name in ("names.txt", "cat,dog", "@names.txt"):
        (page_server.workdir / name).write_text(f"{OUTSIDE_NAMES}\nlion\n")
    return path


@pytest.fixture(scope="module")
def other_site() -> Iterator[tuple[str, list[str]]]:
    """The URL of a picture on another server, and the list of paths requested from that server."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png(3))

        def log_message(self, *_: Any) -> None: ...

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/p.png", asked
    running.shutdown()
    thread.join()
    running.server_close()


def test_an_uploaded_picture_and_an_example_are_classified(page_server: Page, mine: str) -> None:
    assert "tpt-answers" in page_server.look(mine, "cat,dog", "tpt", 4, steps=2, lr=0.01, selected=0.5, words="a cat")
    example = next((page_server.folder / "drawings").iterdir())
    assert "tpt-answers" in page_server.look(str(example))


FORMS = {
    "path": lambda private, _site: {"path": str(private), "meta": FILE},
    "no mark of a file": lambda private, _site: {"path": str(private)},
    "relative": lambda private, _site: {"path": private.name, "meta": FILE},
    "from the folder upwards": lambda private, _site: {"path": f"UPLOADS/../../../../{private}", "meta": FILE},
    "link": lambda _private, _site: {"path": "UPLOADS/link.png", "meta": FILE},
    "linked folder": lambda private, _site: {"path": f"UPLOADS/linked/{private.name}", "meta": FILE},
    "file address": lambda private, _site: {"path": f"file://{private}", "meta": FILE},
    "address as url": lambda private, _site: {"url": f"file://{private}", "meta": FILE},
    "http": lambda _private, site: {"path": site, "meta": FILE},
    "http as url": lambda _private, site: {"path": None, "url": site, "meta": FILE},
    "own path and other url": lambda _private, site: {"path": "/nowhere", "url": site, "is_stream": True, "meta": FILE},
    "data": lambda _private, _site: {"path": None, "url": "data:image/png;base64,iVBORw0KGgo=", "meta": FILE},
    "text": lambda private, _site: [str(private)],
    "deeper": lambda private, _site: {"image": {"path": str(private), "meta": FILE}, "meta": FILE},
    "folder": lambda private, _site: {"path": str(private.parent), "meta": FILE},
    "own folder": lambda _private, _site: {"path": "UPLOADS", "meta": FILE},
    "device": lambda _private, _site: {"path": "/dev/zero", "meta": FILE},
    "pattern": lambda private, _site: {"path": f"{private.parent}/*.png", "meta": FILE},
    "list of pictures": lambda private, _site: {"path": f"@{private.parent}/names.txt", "meta": FILE},
    "zero byte": lambda private, _site: {"path": f"{private}\0", "meta": FILE},
    "home": lambda _private, _site: {"path": "~/.bashrc", "meta": FILE},
    "number": lambda _private, _site: {"path": 0, "meta": FILE},
}


@pytest.mark.parametrize("form", FORMS)
def test_no_other_picture_is_read(
    form: str, page_server: Page, private: Path, other_site: tuple[str, list[str]]
) -> None:
    site, asked = other_site
    uploads = page_server.folder / "pictures"
    for name, target in (("link.png", private), ("linked", private.parent)):
        if not (uploads / name).is_symlink():
            (uploads / name).symlink_to(target)
    given = json.loads(json.dumps(FORMS[form](private, site)).replace("UPLOADS", str(uploads)))
    assert "tpt-answers" not in page_server.look(given)
    assert asked == []
    copied = [path for path in page_server.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert private.read_bytes() not in [path.read_bytes() for path in copied]


REFERENCE = "${oc.env:TPT_SECRET}"
TARGET = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["PWNED"]}]}
ODD = {
    "method": ["../method/tpt", "tpt,zero", "tpt +context.zz=1", REFERENCE, TARGET, ["tpt"], None, 5, "/etc/passwd"],
    "views": [0, 129, -1, 1.5, "64", True, None, float("nan"), float("inf"), [2], REFERENCE, TARGET],
    "steps": [-1, 21, 1.5, "1", True, float("nan"), REFERENCE, TARGET, "'+context.zz=1'"],
    "lr": [0, -1, 1.5, "paper", float("nan"), float("inf"), REFERENCE, TARGET],
    "selected": [0, -0.1, 1.1, "all", float("nan"), REFERENCE, TARGET],
    "words": ["a " * 200, f"a {REFERENCE}", "${hydra:runtime.cwd}", TARGET, ["a"], 5, "\ud800", "[CLS] [CLS]"],
    "templates": ["/etc/passwd", "names.txt", "@names.txt", REFERENCE, TARGET, ["{} a"], 1, "imagenet_8"],
    "names": ["names.txt", "@names.txt", "/etc/passwd", "", None, 5, TARGET, ["a", "b"], "\ud800\na", "a" * 100_001],
}  # fmt: skip


@pytest.mark.parametrize("field", ODD)
def test_values_outside_the_limits_are_refused(field: str, page_server: Page, mine: str, private: Path) -> None:
    for value in ODD[field]:
        asked = {"method": "tps", "names": "cat\ndog", "views": 4, field: value}
        answer = page_server.look(mine, **asked)
        assert "tpt-problem" in answer and "tpt-answers" not in answer and "Internal error" not in answer, (
            value,
            answer,
        )
        assert SECRET not in answer and FIRST_LINE not in answer and OUTSIDE_NAMES not in answer, (value, answer)
        assert str(page_server.workdir) not in answer, (value, answer)
    assert not (page_server.workdir / "PWNED").exists()


@pytest.mark.parametrize("names", [f"{WHO},dog", "cat,dog", "@names.txt,b", f"{REFERENCE},b", "names.txt\ncat"])
def test_class_names_are_never_read_as_files(names: str, page_server: Page, mine: str, private: Path) -> None:
    answer = page_server.look(mine, names)
    assert "tpt-answers" in answer and all(part in answer for part in names.replace("\n", ",").split(","))
    assert SECRET not in answer and OUTSIDE_NAMES not in answer and FIRST_LINE not in answer


def test_settings_that_a_method_lacks_are_ignored(page_server: Page, mine: str) -> None:
    answer = page_server.look(mine, steps=TARGET, lr=REFERENCE, selected="x")
    assert "tpt-answers" in answer and answer.count("<figure") == 1


def test_unknown_fields_of_a_request_are_dropped(page_server: Page, mine: str, private: Path) -> None:
    file = {"path": str(private), "meta": FILE}
    asked = [{"path": mine, "meta": FILE}, "cat\ndog", "zero_shot", 2, None, None, None, None, None]
    answer = page_server.ask(asked, event_data=file, request=file, batched=False, simple_format=True, oauth_token="x")
    assert "tpt-answers" in answer


@pytest.mark.parametrize("method", ["nothing", "../method/tpt", REFERENCE, TARGET, None])
def test_only_options_can_be_chosen_as_a_method(method: Any, page_server: Page) -> None:
    """The function that shows a method's widgets has a single input, the method."""
    functions = json.loads(page_server.get("/config").body)["dependencies"]
    for one in (one for one in functions if len(one["inputs"]) == 1):
        asked = {"data": [method], "fn_index": one["id"]}
        answer = page_server.get("/gradio_api/run/predict", json.dumps(asked).encode(), Content_Type="application/json")
        assert SECRET.encode() not in answer.body and b"_paper" not in answer.body
        assert b"tpt-problem" in answer.body or answer.status != 200


FILES = [str(WHO), "PRIVATE", "FOLDER/../../../../PRIVATE", "FOLDER/pictures/out.png", "%2e%2e/%2e%2e/etc/passwd", ""]
FILES += [f"//{WHO}", f"file://{WHO}", "SITE", "FOLDER", "private.png", "~/.bashrc", "/dev/null", "/proc/self/environ"]
API = [f"file{WHO}", f"file/{WHO}", "proxy=SITE", "info", "openapi.json", "app_id", "runs", "vibe-code", "mcp", "token"]
API += ["dev/reload", "deep_link", "call/look", "custom_component/x/client/y/z.py", "stream/a/b/1/playlist.m3u8"]
ROUTES = [
    *(f"/gradio_api/file={path}" for path in FILES),
    *(f"/gradio_api/{route}" for route in API),
    *(
        "/monitoring",
        "/docs",
        "/openapi.json",
        f"/file={WHO}",
        f"//gradio_api/file={WHO}",
        "/svelte/../app.py",
        "/user",
    ),
    *("/static/../../routes.py", "/static/%2e%2e/%2e%2e/routes.py", "/assets//etc/passwd", "/assets/..%2f..%2fapp.py"),
]


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_leads_to_another_file(
    route: str, page_server: Page, private: Path, other_site: tuple[str, list[str]]
) -> None:
    link = page_server.folder / "pictures" / "out.png"
    if not link.is_symlink():
        link.symlink_to(private)
    named = {"PRIVATE": str(private), "FOLDER": str(page_server.folder), "SITE": other_site[0]}
    for name, value in named.items():
        route = route.replace(name, value)
    answer = page_server.get(route)
    assert answer.status in (403, 404), (route, answer)
    assert FIRST_LINE.encode() not in answer.body and other_site[1] == []


@pytest.mark.parametrize(
    "route",
    [
        "call/look",
        "call/v2/look",
        "api/predict",
        "stream/x",
        "process_recording",
        "vibe-edit",
        "component_server",
        "cancel",
    ],
)
def test_other_routes_take_no_requests(route: str, page_server: Page) -> None:
    assert page_server.get(f"/gradio_api/{route}", b"{}", Content_Type="application/json").status == 404


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.png", "a.xhtml", "a.js", "a.pdf", "a", "A.HTM", "a.png.html"])
def test_an_upload_is_served_as_a_download_never_as_a_page(name: str, page_server: Page) -> None:
    path = page_server.upload(name, f"<script>alert('{name}')</script>".encode())
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = page_server.get(f"/gradio_api/file={path}", None, None, **headers)
        assert answer.status in (200, 206) and answer.headers["Content-Disposition"].startswith("attachment")
        expected = "image/png" if name == "a.png" else "application/octet-stream"
        assert answer.headers["Content-Type"] == expected and answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["../../out.png", "/tmp/out.png", "a/../../b.png", "%2e%2e%2fx.png"])
def test_an_upload_stays_in_its_folder_whatever_its_name(name: str, page_server: Page) -> None:
    path = Path(page_server.upload(name, png(4))).resolve()
    assert path.is_relative_to((page_server.folder / "pictures").resolve())


def test_another_site_has_no_access(page_server: Page, mine: str) -> None:
    for origin in ("http://elsewhere.example", "null", "http://127.0.0.1:1", "file://"):
        assert page_server.get("/gradio_api/queue/join", b"{}", Origin=origin).status == 403
    assert page_server.get("/", Origin=page_server.url).status == 200
    for host in ("elsewhere.example", "127.0.0.1.elsewhere.example", "elsewhere.example:80", ""):
        assert page_server.get("/", Host=host).status == 400
    for host in ("localhost:1", "[::1]:1", "127.0.0.1"):
        assert page_server.get("/", Host=host).status == 200
    answer = page_server.get("/")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b"{", 400), (b"[" * 100_000, 400), (b"\xff\xfe", 400), (b" " * (2**20 + 1), 413)],
)
def test_malformed_requests_are_refused(body: bytes, status: int, page_server: Page) -> None:
    assert page_server.get("/gradio_api/queue/join", body, "POST").status == status


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/gradio_api/queue/join", "localhost", 413),
        ("/gradio_api/upload", "localhost", 413),
        ("/elsewhere", "localhost", 404),
        ("/gradio_api/upload", "elsewhere.example", 400),
    ],
)
def test_a_refusal_reaches_the_sender_of_a_large_body(path: str, host: str, status: int, page_server: Page) -> None:
    assert (
        page_server.get(path, bytes(2**26 + 1), "POST", Host=host).status == status
    )  # larger than the socket's buffers


def test_a_body_without_a_length_is_refused(page_server: Page) -> None:
    port = int(page_server.url.rsplit(":", 1)[1])
    for route in ("upload", "queue/join"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            head = f"POST /gradio_api/{route} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            line.sendall(head.encode())
            assert b" 413 " in line.recv(100)


def test_an_unreadable_picture_is_reported_by_name(page_server: Page) -> None:
    contents = {
        "no.png": b"no picture",
        "cut.png": png(5)[:200],
        "none.png": b"",
        "a.zip": b"PK\3\4",
        "page.svg": b"<svg/>",
    }
    for name, content in contents.items():
        answer = page_server.look(page_server.upload(name, content))
        assert "tpt-problem" in answer and name in answer and "Internal error" not in answer, answer
        assert str(page_server.folder) not in answer and "data.on_bad_image" not in answer
