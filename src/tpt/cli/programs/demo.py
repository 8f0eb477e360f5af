"""Serves a web page: drop a picture, type class names, see its views and the answers before and after adaptation."""

from __future__ import annotations

import ipaddress
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from tpt.cli.errors import told
from tpt.cli.options import own_options
from tpt.cli.programs.arguments import add_model, new_parser, whole
from tpt.errors import UserError

HOST, PORT = "127.0.0.1", 7860
Port = Annotated[int, Ge(0), Le(65535)]
EXPOSED = (
    "Everyone who can reach this address can use the page, which has no password and no encryption. They can upload "
    "pictures and keep this machine busy, but they see no files except those of the page."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the page until Ctrl-C; a short message and exit code 1 on a user's mistake."""
    parser = new_parser("tpt-demo", __doc__)
    add = parser.add_argument
    add_model(parser)
    add("--classes", metavar="NAMES", help="initial class names, separated by commas, or a text file")
    host = "address to listen on; default %(default)s, only for this machine; 0.0.0.0 is for the whole network"
    add("--host", default=HOST, help=f"{host}, without a password")
    add("--port", type=whole(Port), default=PORT, help="port; 0 takes any free one; default %(default)s")
    args = parser.parse_args(arguments)
    temporary = tempfile.TemporaryDirectory(prefix="tpt-demo-")  # uploaded pictures are deleted at the end
    with told(), suppress(KeyboardInterrupt), temporary as folder, own_options(args.config_dir):
        from tpt.data.pictures import class_list  # noqa: PLC0415 -- takes time to load

        names = None if args.classes is None else class_list(args.classes)
        # Before PyTorch is loaded, so that a wrong address is named at once.
        with listening_socket(args.host, args.port) as door:
            from tpt.cli.compose import Parts, compose, picture_method  # noqa: PLC0415 -- torch takes time to load
            from tpt.cli.demo.app import make_app  # noqa: PLC0415 -- likewise

            picture_method(args.method, "tpt-demo")
            weights = [] if args.pretrained is None else [("backbone.pretrained", args.pretrained)]
            parts = Parts.of(compose([("backbone", args.backbone)], weights), device=args.device)
            app = make_app(parts.clip, Path(folder), args.method, names, args.host)
            import uvicorn  # noqa: PLC0415 -- comes with gradio

            address, port = door.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            if not ipaddress.ip_address(address).is_loopback:
                print(EXPOSED)
            print(f"The page is at http://{shown}:{port} (press Ctrl-C to stop)", flush=True)
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([door])


def listening_socket(host: str, port: int) -> socket.socket:
    """A listening socket; raises a UserError if the port is in use or the host is not this machine's."""
    try:
        if not host:
            raise socket.gaierror  # to Python, all networks
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # the latter of what cannot be a name
        what = f"Cannot listen on port {port} of {host!r}: the port is in use, or the host is not this machine"
        raise UserError(f"{what}. Choose another --port or --host, such as {HOST}, or 0.0.0.0 for all.") from error
