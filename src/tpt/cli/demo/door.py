"""Guards the page's server: requests can reach only the routes that the page uses, and only the page's own files.

The server has no login: every user and process of the machine can reach it, and so can another site in a browser.
gradio has dozens of routes, and copies any file or URL that a request names before our functions see it.  So each
request is checked before gradio gets it.
"""

from __future__ import annotations

import ipaddress
import json
import math
import mimetypes
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response

FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
ASKED = ("/gradio_api/queue/join", "/gradio_api/run/predict")  # routes that call a function
SHOWN = ("/", "/config", "/theme.css", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/upload_progress")
FOLDERS = ("/assets/", "/static/")  # routes of gradio's own files
WITH_QUERY = ("/gradio_api/queue/data", "/gradio_api/upload_progress", UPLOAD)
FIELDS = ("data", "fn_index", "session_hash", "trigger_id")  # route of a call
MOST_UPLOAD = 64 * 2**20  # largest request, in bytes
MOST_ASKED = 2**20
MOST_KEPT = 2**30  # largest total of uploads, in bytes
LEAST_COUNTED = 2**20  # smallest size that each file counts as, which limits their number
# Formats that cannot contain a script.
SHOWN_AS = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif")
# The browser then loads nothing from other sites, whatever the page or a later version of gradio refers to.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Door(BaseHTTPMiddleware):
    """Middleware that passes on only the page's own requests, which reach no file outside `folder`."""

    def __init__(self, app: Any, folder: Path, uploads: Path, host: str) -> None:
        super().__init__(app)
        self.folder, self.uploads = folder.resolve(), uploads.resolve()  # in the latter, gradio keeps uploaded pictures
        self.hosts = {"localhost", host, socket.gethostname()}
        self._own = {*self.uploads.rglob("*")}  # folder of gradio's copies of the drawings
        self._coming = 0.0  # bytes of the uploads in progress

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Handles a request."""
        try:
            answer = await self._answer(request, call_next)
        except HTTPException as error:
            # Reads the whole body first: a client that is cut off while sending does not read the answer.
            if _length(request) < math.inf:  # a body without a length might never end
                with suppress(ClientDisconnect):
                    async for _ in request.stream():
                        pass
            answer = PlainTextResponse(error.detail, error.status_code)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    async def _answer(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        path, reads, headers = request.scope["path"], request.method in ("GET", "HEAD"), request.headers
        if not self._is_known(headers.get("host", "")):
            raise HTTPException(400, "unknown host")
        if "origin" in headers and urlsplit(headers["origin"]).netloc != headers["host"]:
            raise HTTPException(403, "request from another site")
        if path not in WITH_QUERY:
            request.scope["query_string"] = b""
        if reads and path.startswith(FILE):
            return self._file(path.removeprefix(FILE))
        if request.method == "POST" and path == UPLOAD:
            return await self._upload(request, call_next)
        if request.method == "POST" and path in ASKED:
            if _length(request) > MOST_ASKED:
                raise HTTPException(413, f"more than {MOST_ASKED} bytes")
            try:
                request._body = self._checked(await request.body())  # forwarded by Starlette
            except (ValueError, RecursionError) as error:
                raise HTTPException(400, "malformed request") from error
        elif not reads or not (path in SHOWN or path.startswith(FOLDERS)):
            raise HTTPException(404, "not found")
        return await call_next(request)

    async def _upload(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Accepts a file; deletes the oldest ones, so that all and those in progress take at most `MOST_KEPT` bytes."""
        if (length := _length(request)) > MOST_UPLOAD:
            raise HTTPException(413, f"more than {MOST_UPLOAD} bytes")
        if self._coming + length > MOST_KEPT:
            raise HTTPException(503, "too many uploads at a time; try again later")
        self._coming += length
        try:
            files = [path for path in self.uploads.rglob("*") if path.is_file() and path not in self._own]
            room = MOST_KEPT - self._coming
            for path in sorted(files, key=lambda path: path.lstat().st_mtime, reverse=True):
                room -= max(path.lstat().st_size, LEAST_COUNTED)
                if room < 0:
                    path.unlink()
            return await call_next(request)
        finally:
            self._coming -= length

    def _checked(self, body: bytes) -> bytes:
        """The body of a call without unused fields and foreign files; a ValueError or the like if it is malformed."""
        asked = json.loads(body)
        if not isinstance(asked, dict):
            raise ValueError(asked)
        return json.dumps({key: self._plain(asked[key]) for key in FIELDS if key in asked}).encode()

    def _plain(self, value: Any) -> Any:
        """The value, in which every reference to a file or URL becomes a file of the page, or None."""
        match value:
            case {"path": _} | {"url": _}:
                found = self._own_file(value.get("path"))
                return found and {"path": str(found), "orig_name": found.name, "meta": {"_type": "gradio.FileData"}}
            case dict():
                return {key: self._plain(one) for key, one in value.items()}
            case list():
                return [self._plain(one) for one in value]
            case _:
                return value

    def _own_file(self, path: Any) -> Path | None:
        """The file at that path, with links resolved, if it is in the folder of the pictures."""
        try:
            found = Path(path).resolve(strict=True)
        except (TypeError, ValueError, OSError, RuntimeError):  # not text, not a path, missing, or a link to itself
            return None
        return found if found.is_file() and found.is_relative_to(self.folder) else None

    def _file(self, path: str) -> Response:
        """Sends a file: pictures may be displayed, any other file can only be downloaded."""
        if (found := self._own_file(path)) is None:
            raise HTTPException(404, "not found")
        kind = mimetypes.guess_type(found.name)[0]
        media_type = kind if kind in SHOWN_AS else "application/octet-stream"
        policy = {"Content-Security-Policy": "default-src 'none'; sandbox"}
        return FileResponse(found, media_type=media_type, filename=found.name, headers=policy)

    def _is_known(self, host: str) -> bool:
        """Whether a host is this server's name or an IP address, so that another site's name cannot be pointed here."""
        name = urlsplit(f"//{host}").hostname if host else None
        try:
            return name in self.hosts or bool(ipaddress.ip_address(name or ""))
        except ValueError:
            return False


def _length(request: Request) -> float:
    """Length of the body by its header, which the server enforces; infinite without one."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() else math.inf
