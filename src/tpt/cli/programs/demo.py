"""A page to look at: drop a picture, type class names, see its views and the answers."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from tpt.cli.errors import told
from tpt.cli.options import DEVICE_HELP, known_device, known_option, own_options
from tpt.cli.places import version_option
from tpt.errors import UserError, refuse

HOST, PORT, MOST_PORT = "127.0.0.1", 7860, 65535
EXPOSED = (
    "Everyone who can reach this address can use the page: it has no password and no encryption. They can upload "
    "pictures and keep this machine busy; of its files they see those of the page alone."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="tpt-demo", description=__doc__)
    add = made.add_argument
    add(
        "--backbone",
        default="emoji_mini",
        help="an option of conf/backbone, such as vit_b16, or a model of open_clip with --pretrained; default "
        "%(default)s, the bundled one, which knows drawings alone",
    )
    add("--pretrained", metavar="WEIGHTS", help="a tag of open_clip or a file")
    add("--method", default="tpt", help="that is chosen at first; default %(default)s")
    add("--classes", metavar="NAMES", help="that stand there at first: a text file, or names with commas between")
    add("--device", default="auto", help=DEVICE_HELP)
    add(
        "--host",
        default=HOST,
        help="address to listen on; default %(default)s, which this machine alone reaches, all its users though; "
        "0.0.0.0 lets the whole network use the page, without a password",
    )
    add("--port", type=int, default=PORT, help="0 takes any that is free; default %(default)s")
    add("--config-dir", type=Path, metavar="DIR", help="folder of your own options, such as DIR/method/mine.yaml")
    version_option(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the page until Ctrl-C; one sentence and exit code 1 on a user's mistake."""
    args = parser().parse_args(arguments)
    temporary = tempfile.TemporaryDirectory(prefix="tpt-demo-")  # its pictures are gone when the server is
    with told(), suppress(KeyboardInterrupt), temporary as folder, own_options(args.config_dir):
        serve(args, Path(folder))


def serve(args: argparse.Namespace, folder: Path) -> None:
    """Makes the page and serves it.

    Raises:
        UserError: something on the command line cannot be, or gradio is not installed.
        OSError: the port is taken.
    """
    from tpt.data.pictures import class_list  # noqa: PLC0415 -- takes time to load

    refuse("--port", Annotated[int, Ge(0), Le(MOST_PORT), "0 takes one that is free"], args.port)
    names = None if args.classes is None else class_list(args.classes)
    known_option("method", args.method)
    device = None if known_device(args.device) == "auto" else known_device(args.device)

    from tpt.cli.compose import Parts, compose, refuse_stream  # noqa: PLC0415 -- torch takes time to load
    from tpt.cli.demo.app import make_app  # noqa: PLC0415 -- likewise

    refuse_stream(args.method, "tpt-demo")
    weights = [] if args.pretrained is None else [("backbone.pretrained", args.pretrained)]
    parts = Parts.of(compose([("backbone", args.backbone)], weights), device=device)
    app = make_app(parts.clip, folder, args.method, names, args.host)
    import uvicorn  # noqa: PLC0415 -- comes with gradio

    with listening(args.host, args.port) as door:
        address, port = door.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        if not ipaddress.ip_address(address).is_loopback:
            print(EXPOSED)
        print(f"The page is at http://{shown}:{port} (Ctrl-C ends it)", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([door])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; raises a UserError where the port is taken or the host is not this machine's."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise UserError(
            f"Expected `--host` to be an address of this machine, got {host!r} ({error.strerror})."
        ) from error
    except OSError as error:
        raise UserError(
            f"Expected port {port} to be free on {host}, but {error.strerror}; choose another --port or --host."
        ) from error


if __name__ == "__main__":
    main()
