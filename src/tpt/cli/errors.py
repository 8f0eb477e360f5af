"""Reports an error that ends a command: a sentence for a user's mistake, the trace for a bug; loads nothing heavy."""

from __future__ import annotations

import errno
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tpt.engine.printing import forgiving_streams, nobody_reads, one_line, printable, say
from tpt.errors import UserError

INTERRUPTED = 130  # exit codes as in a shell: 128 plus the signal's number
NOBODY_READS = 141
PACKAGE = Path(__file__).parents[1]

# Errors of the machine, such as a full disk, which need not name a file.
_LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)
_WORKERS = re.compile(r"(?s)Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback.*\n(?:\w+\.)*\1: (.*)")
_NUMBERED = re.compile(r"\[Errno (\d+)\] .*: (['\"].*['\"])$")

# Errors of libraries that parse what a user writes, by name, so that none is loaded.
_PARSERS = {"HydraException", "OmegaConfBaseException", "MisconfigurationException"}

Rules = Sequence[tuple[str, str]]  # (pattern, replacement) pairs for the names of settings in a message
# For programs that cannot skip unreadable images, although the data readers suggest it.
NO_SKIPPING = (r",? or (pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "")


def mistake(error: BaseException) -> str | None:
    """The message, on one line, for an error that the user or the machine caused; None for a bug."""
    if isinstance(error, OSError):
        if (file := _file_of(error)) is not None:
            return one_line("Cannot use {}: {}.".format(*file))
        return f"{os.strerror(error.errno)}." if error.errno in _LACKS else None
    if isinstance(error, UserError) or _PARSERS & {kind.__name__ for kind in type(error).__mro__}:
        return one_line(_own_words(str(error))) or type(error).__name__
    return None


def cause_of(error: BaseException) -> BaseException:
    """The error of a part that Hydra could not build, instead of Hydra's, which adds the name of the part."""
    while type(error).__name__ == "InstantiationException" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def in_words_of(error: BaseException, rules: Rules) -> BaseException:
    """The error with its advice in terms of a program's own settings; the value that was given stays as it is."""
    text = str(error)
    if isinstance(error, UserError) and not text.startswith("Expected a setting that exists"):
        for pattern, instead in rules:
            text = re.sub(pattern, instead, text)
        error.args = (text,)
    return error


def place(error: BaseException) -> str:
    """Where a bug is: the innermost line of the trace outside installed libraries."""
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    found = "the program"
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        ours = PACKAGE in path.parents
        if path.is_absolute() and (ours or not libraries & {*path.resolve().parents}):
            found = f"{'' if ours else 'added code: '}{path}, line {line}"
    return found


def tell(error: BaseException, words: Rules = (), job: str = "", kept: str = "") -> int:
    """Reports what ended the command, or a `job` of a sweep, and how to continue `kept` work; returns the exit code."""
    if isinstance(error, BrokenPipeError) and nobody_reads():
        return NOBODY_READS
    error = in_words_of(cause_of(error), words)
    where = f" [{printable(job)}]" if job else ""
    if (said := mistake(error)) is not None:
        rest = f" Fix this, then {kept}." if kept and isinstance(error, OSError) and error.errno in _LACKS else ""
        say(f"Error{where}: {said}{rest}", error=True)
        return int(getattr(error, "exit_code", 1))
    say("".join(traceback.format_exception(error)).rstrip(), error=True)
    rest = f"Completed work is kept; once the error is fixed, {kept}." if kept else "Please report the lines above."
    say(f"Internal error{where} in {place(error)} (your settings are fine). {rest}", error=True)
    return 1


@contextmanager
def told(words: Rules = ()) -> Iterator[None]:
    """Ends a command with exit code 1: a sentence in the program's `words` for a user's mistake, a trace for a bug."""
    forgiving_streams()
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        sys.exit(tell(error, words))


def _file_of(error: OSError) -> tuple[str, str] | None:
    """The file that an error names, and what is wrong with it."""
    if error.filename is not None and error.errno is not None:
        name = error.filename
        named = os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else str(name)
        return repr(named), error.strerror or os.strerror(error.errno)
    worker = _WORKERS.match(str(error))  # passes on only the text of an error
    found = worker and _NUMBERED.search(worker[2])
    return (found[2], os.strerror(int(found[1]))) if found else None


def _own_words(text: str) -> str:
    """The text of an error, without the trace that a data-loading worker puts before it."""
    found = _WORKERS.match(text)
    return found[2] if found else text
