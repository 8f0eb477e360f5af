"""What requests may ask of the page's server: the few routes that the page itself uses, and no file but its own.

The server's address is no login: every user and process of the machine reaches it, and so may another site that a
browser shows.  gradio has dozens of routes and copies whatever file or address a request names before any function of
ours sees it, so that a request is checked before gradio has it.
"""

from __future__ import annotations

import ipaddress
import json
import mimetypes
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, PlainTextResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
ASKED = ("/gradio_api/queue/join", "/gradio_api/run/predict")  # what a function is asked
SHOWN = ("/", "/config", "/theme.css", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/upload_progress")
FOLDERS = ("/assets/", "/static/")  # of gradio's own files
WITH_QUERY = ("/gradio_api/queue/data", "/gradio_api/upload_progress", UPLOAD)
FIELDS = ("data", "fn_index", "session_hash", "trigger_id")  # of what a function is asked
MOST_UPLOAD = 64 * 2**20  # bytes
MOST_ASKED = 2**20
SHOWN_AS = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif")  # none holds a script
# A browser then loads nothing from elsewhere, whatever the page or a later version of gradio names.
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


class Door:
    """Middleware that answers what is not to be asked, and hands on the rest.

    Args:
        app: the application behind it.
        folder: of the pictures, uploaded ones and examples; no other file is read for a request.
        host: the name or address that is listened on.
    """

    def __init__(self, app: Any, folder: Path, host: str) -> None:
        self.app, self.folder = app, folder.resolve()
        self.hosts = {"localhost", host, socket.gethostname()}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":  # and no web socket, which the page has none of
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path, method, headers = scope["path"], scope["method"], Headers(scope=scope)
        if path not in WITH_QUERY:
            scope["query_string"] = b""
        if not self._is_known(headers.get("host", "")):
            await _refusal("unknown host", 400)(scope, receive, send)
        elif "origin" in headers and urlsplit(headers["origin"]).netloc != headers["host"]:
            await _refusal("request from another site", 403)(scope, receive, send)
        elif method in ("GET", "HEAD") and path.startswith(FILE):
            await self._file(path.removeprefix(FILE))(scope, receive, send)
        elif method in ("GET", "HEAD") and (path in SHOWN or path.startswith(FOLDERS)):
            await self.app(scope, receive, send)
        elif method == "POST" and path in (UPLOAD, *ASKED):
            await self._post(scope, headers, receive, send)
        else:
            await _refusal("not found", 404)(scope, receive, send)

    async def _post(self, scope: MutableMapping[str, Any], headers: Headers, receive: Receive, send: Send) -> None:
        length, most = headers.get("content-length", ""), MOST_UPLOAD if scope["path"] == UPLOAD else MOST_ASKED
        if not length.isdecimal() or int(length) > most:
            await _refusal(f"more than {most} bytes", 413)(scope, receive, send)
        elif scope["path"] == UPLOAD:
            await self.app(scope, receive, send)
        else:
            try:
                body = self.checked(await _read(receive))
            except (ValueError, RecursionError):
                await PlainTextResponse("malformed request", 400)(scope, receive, send)
            else:
                MutableHeaders(scope=scope)["content-length"] = str(len(body))
                await self.app(scope, _again(body, receive), send)

    def checked(self, body: bytes) -> bytes:
        """The body of a question without the fields that the page does not use and without files that are not its own.

        Raises:
            ValueError, RecursionError: it is no question.
        """
        asked = json.loads(body)
        if not isinstance(asked, dict):
            raise ValueError(asked)
        return json.dumps({key: self._plain(asked[key]) for key in FIELDS if key in asked}).encode()

    def _plain(self, value: Any) -> Any:
        """The value, in which whatever names a file or an address is a file of the page, or nothing."""
        match value:
            case {"path": _} | {"url": _}:
                found = self.own_file(value.get("path"))
                return found and {"path": str(found), "orig_name": found.name, "meta": {"_type": "gradio.FileData"}}
            case dict():
                return {key: self._plain(one) for key, one in value.items()}
            case list():
                return [self._plain(one) for one in value]
            case _:
                return value

    def own_file(self, path: Any) -> Path | None:
        """The file of that path, with all links followed, if it lies in the folder of the pictures."""
        try:
            found = Path(path).resolve(strict=True)
        except (TypeError, ValueError, OSError, RuntimeError):  # no text, no path, nothing there, a link to itself
            return None
        return found if found.is_file() and found.is_relative_to(self.folder) else None

    def _file(self, path: str) -> FileResponse | PlainTextResponse:
        """A picture, which a page can show and a browser else saves; anything else is only saved."""
        found = self.own_file(path)
        if found is None:
            return PlainTextResponse("not found", 404)
        kind = mimetypes.guess_type(found.name)[0]
        return FileResponse(
            found,
            media_type=kind if kind in SHOWN_AS else "application/octet-stream",
            filename=found.name,
            headers={"Content-Security-Policy": "default-src 'none'; sandbox"},
        )

    def _is_known(self, host: str) -> bool:
        """Whether it is this server's: a name of another site that leads here would make its pages ours."""
        name = urlsplit(f"//{host}").hostname if host else None
        try:
            return name in self.hosts or bool(ipaddress.ip_address(name or ""))
        except ValueError:
            return False


async def _read(receive: Receive) -> bytes:
    """The whole body, whose length the server holds to its header."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _refusal(text: str, status: int) -> Callable[..., Awaitable[None]]:
    """Takes the whole body first and keeps nothing of it: a sender that is cut off while it writes reads no answer."""

    async def refuse(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if Headers(scope=scope).get("content-length", "").isdecimal():  # a body without a length may never end
            while (await receive()).get("more_body", False):
                pass
        await PlainTextResponse(text, status)(scope, receive, send)

    return refuse


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return messages.pop() if messages else await receive()

    return give


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent
