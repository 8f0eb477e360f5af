"""Command-line options that several programs share."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tpt.engine.printing import one_line
from tpt.errors import fits, in_words


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends the program with one line instead of the usage, whose lines hide what is wrong."""
        self.exit(2, f"Error: {one_line(message[:1].upper() + message[1:])}; see {self.prog} --help.\n")


def new_parser(program: str, description: str | None, epilog: str | None = None) -> ArgumentParser:
    """A parser whose texts are printed without rewrapping; `opening` prints the version."""
    made = _Parser(prog=program, description=description, epilog=epilog, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("--version", action="store_true", help="prints the version and exits")
    return made


def whole(limits: Any) -> Callable[[str], int]:
    """The argparse type of whole numbers within limits such as `tpt.errors.Count`."""

    def read(text: str) -> int:
        with suppress(ValueError):
            if fits(limits, number := int(text)):
                return number
        raise ArgumentTypeError(f"expected it {in_words(limits)}, got {text!r}")

    return read


def _device(text: str) -> str | None:
    """The device's name in PyTorch, or None for `auto`."""
    if not re.fullmatch(r"auto|cpu|mps|(cuda|gpu)(:\d+)?", text):
        raise ArgumentTypeError(f"expected cpu, cuda, cuda:1, mps or auto, got {text!r}")
    return None if text == "auto" else text.replace("gpu", "cuda")


def add_device(parser: ArgumentParser) -> None:
    """Adds `--device`: a name in PyTorch, or None."""
    said = "cpu, cuda, cuda:1 or mps; default auto: a GPU if there is one"
    parser.add_argument("--device", type=_device, default="auto", help=said)


def add_model(parser: ArgumentParser) -> None:
    """Adds the options that choose a method, a backbone, a device and a folder of the user's own options."""
    add = parser.add_argument
    add("--method", default="tpt", help="an option of conf/method, such as tpt or zero_shot; default %(default)s")
    backbone = "an option of conf/backbone, or an open_clip model; default %(default)s, trained only on drawings"
    add("--backbone", default="emoji_mini", help=backbone)
    add("--pretrained", metavar="WEIGHTS", help="an open_clip tag, or a weights file")
    add_device(parser)
    add("--config-dir", type=Path, metavar="DIR", help="folder with your own options, such as DIR/method/mine.yaml")
