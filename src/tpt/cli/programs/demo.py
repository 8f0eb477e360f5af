"""A page to look at, for this machine alone: drop a picture, type class names, see its views and the answers."""

from __future__ import annotations

import argparse
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tpt.checks import whole_number
from tpt.cli.errors import told
from tpt.errors import UserError

PORT, MOST_PORT = 7860, 65535


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
    add("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    add("--port", type=int, default=PORT, help="0 takes any that is free; default %(default)s")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the page until Ctrl-C; one sentence and exit code 1 on a user's mistake."""
    args = parser().parse_args(arguments)
    with told(), suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="tpt-demo-") as folder:
        serve(args, Path(folder))  # the pictures of the folder are gone when the server is


def serve(args: argparse.Namespace, folder: Path) -> None:
    """Makes the page and serves it.

    Raises:
        UserError: something on the command line cannot be, or gradio is not installed.
        OSError: the port is taken.
    """
    from tpt.cli.compose import Parts, compose, known_option  # noqa: PLC0415 -- likewise
    from tpt.cli.demo.app import HOST, make_app  # noqa: PLC0415 -- likewise
    from tpt.data.pictures import class_list  # noqa: PLC0415 -- torch takes time to load

    whole_number("--port", args.port, 0, MOST_PORT, "0 takes one that is free")
    names = None if args.classes is None else class_list(args.classes)
    known_option("method", args.method)
    weights = [] if args.pretrained is None else [("backbone.pretrained", args.pretrained)]
    parts = Parts.of(compose([("backbone", args.backbone)], weights), device=args.device)
    app = make_app(parts.clip, folder, args.method, names)
    import uvicorn  # noqa: PLC0415 -- comes with gradio

    with listening(HOST, args.port) as door:
        print(f"The page is at http://{HOST}:{door.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([door])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; raises a UserError where the port is taken."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(f"Expected port {port} to be free, but {error.strerror}; choose another --port.") from error


if __name__ == "__main__":
    main()
