"""Command-line options that several programs share."""

from __future__ import annotations

import argparse
from pathlib import Path

from tpt.cli.options import DEVICE_HELP, known_device
from tpt.cli.places import version_option


def new_parser(program: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser with `--version`, whose texts are printed without rewrapping."""
    made = argparse.ArgumentParser(
        prog=program, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    version_option(made)
    return made


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`, see `chosen_device`."""
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)


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
    return None if known_device(text) == "auto" else known_device(text)
