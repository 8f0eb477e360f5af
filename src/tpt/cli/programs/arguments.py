"""Command-line options that several programs share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn

from tpt.engine.printing import one_line
from tpt.errors import UserError

_DEVICE = re.compile(r"auto|cpu|mps|(?:cuda|gpu)(?::\d+)?")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from tpt.results.runs.version import __version__  # noqa: PLC0415 -- loading the package takes time

        parser.exit(message=f"tpt {__version__}\n")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends the program with one line instead of the usage, whose lines hide what is wrong."""
        self.exit(2, f"Error: {one_line(message[:1].upper() + message[1:])}; see {self.prog} --help.\n")


def new_parser(program: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser with `--version`, whose texts are printed without rewrapping."""
    made = _Parser(
        prog=program, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--version", action=_Version, nargs=0, help="prints the version and exits")
    return made


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`, see `chosen_device`."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; default auto: a GPU if there is one")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose a method, a backbone, a device and a folder of the user's own options."""
    add = parser.add_argument
    add("--method", default="tpt", help="an option of conf/method, such as tpt or zero_shot; default %(default)s")
    add(
        "--backbone",
        default="emoji_mini",
        help="an option of conf/backbone, such as vit_b16, or an open_clip model with --pretrained; default "
        "%(default)s, the bundled one, trained only on drawings",
    )
    add("--pretrained", metavar="WEIGHTS", help="an open_clip tag, or a weights file")
    add_device(parser)
    add("--config-dir", type=Path, metavar="DIR", help="folder with your own options, such as DIR/method/mine.yaml")


def chosen_device(text: str) -> str | None:
    """The device's name in PyTorch, or None for `auto`; raises a UserError for any other value."""
    if _DEVICE.fullmatch(text) is None:
        raise UserError(f"Expected cpu, cuda, cuda:1 or auto as --device, got {text!r}; choose one of them.")
    return None if text == "auto" else text.replace("gpu", "cuda")
