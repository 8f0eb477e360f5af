"""Safe printing: names from archives, tables and checkpoints must not control a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

# Control characters except tab and line feed, lone surrogates, and marks that change the writing direction.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """The text with characters that a terminal would act on escaped, such as `\\x1b`."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def one_line(text: object) -> str:
    """The printable text in one line."""
    return printable(" ".join(str(text).split()))


def say(text: str = "", error: bool = False) -> None:
    """Prints lines, to stderr if `error`; ignores a closed pipe and a full disk."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr if error else sys.stdout, flush=error)


def show_table(table: Table) -> None:
    """Prints a table, 160 columns wide if the output is no terminal; names such as [old] in it are no markup."""
    from rich.console import Console  # noqa: PLC0415 -- only needed here

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def show_yaml(text: str) -> None:
    """Prints YAML, coloured on a terminal."""
    if not sys.stdout.isatty():
        say(text)
        return
    from rich.console import Console  # noqa: PLC0415 -- only needed here
    from rich.syntax import Syntax  # noqa: PLC0415

    Console().print(Syntax(printable(text), "yaml", theme="ansi_dark", background_color="default", word_wrap=True))


def forgiving_streams() -> None:
    """Makes stdout and stderr escape characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def nobody_reads() -> bool:
    """Whether the program that reads stdout has ended, as in `... | head`; further output is then discarded."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # POLLERR is reported without being requested
        gone = any(events & select.POLLERR for _, events in poll.poll(0))
        if gone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at exit
        return gone
    except (OSError, ValueError):  # stdout is no file, or closed
        return False
