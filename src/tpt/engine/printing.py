"""Text that is safe to print: names from archives, tables and checkpoints are not to steer a terminal."""

from __future__ import annotations

import contextlib
import io
import re
import sys

# Control characters but tab and line feed, halves of surrogate pairs, and what turns the direction of writing.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """The text with a code, such as `\\x1b`, in place of each character that a terminal or a reader would act on."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def one_line(text: object) -> str:
    """The same, in one line."""
    return printable(" ".join(str(text).split()))


def say(text: str = "", error: bool = False) -> None:
    """Prints lines, to stderr if `error`; prints nothing if the reader is gone or the disk is full."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr if error else sys.stdout, flush=error)


def forgiving_streams() -> None:
    """Lets stdout and stderr write a code for what their encoding has no character for, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
