"""A server of files on loopback that breaks connections, changes its files and refuses ranges as told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class FileServer:
    """What is served, and how.

    Args:
        url: of the server.
        files: path -> content.
        cuts: bytes after which the next connections break; whole answers once it is empty.
        ranges: whether Range is honoured.
        etag: of every file; If-Range with another one gets the whole file.
        statuses: of the next answers, in place of the file.
        honours_if_range: False sends the range whatever version was asked for.
        seen: (path, Range, If-Range) of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"one"'
    statuses: list[int] = field(default_factory=list)
    honours_if_range: bool = True
    seen: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked, if_range = self.headers.get("Range", ""), self.headers.get("If-Range", "")
            state.seen.append((self.path, asked, if_range))
            status = state.statuses.pop(0) if state.statuses else 0
            content = state.files.get(self.path)
            if status or content is None:
                self.send_error(status or 404)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if state.ranges else 0
            if if_range not in ("", state.etag) and state.honours_if_range:
                start = 0
            self._send(content, start)

        def _send(self, content: bytes, start: int) -> None:
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts else len(content)
            self.wfile.write(content[start : start + cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
