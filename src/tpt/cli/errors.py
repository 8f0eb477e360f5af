"""Reports an error that ends a command: a short message for a user's mistake, the trace for a bug.

Every command uses this rule.  The module imports nothing heavy, so that quick commands stay quick.
"""

from __future__ import annotations

import errno
import os
import re
import select
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tpt.engine.printing import forgiving_streams, one_line, printable, say
from tpt.errors import UserError

TRACE = "TPT_TRACE"  # environment variable; if set, a user's mistake shows its trace too
INTERRUPTED = 130  # exit codes as in a shell: 128 plus the signal's number
NOBODY_READS = 141
PACKAGE = Path(__file__).parents[1]

# Errors of the machine, such as a full disk: what happened, and what to do.
_LACKS = {
    errno.ENOSPC: "the disk is full. Free some space",
    errno.EDQUOT: "your disk quota is used up. Free some space",
    errno.EFBIG: "a file would exceed the size limit. Raise it (ulimit -f) or use another file system",
    errno.EROFS: "the file system is read-only. Choose another folder",
    errno.EIO: "the storage device failed. Check the device",
    errno.EMFILE: "too many files are open. Raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine. Close some programs",
}
_WRONG = {
    errno.ENOENT: "no such file or folder. Check the path",
    errno.EACCES: "permission denied. Change its permissions or choose another path",
    errno.EPERM: "permission denied. Change its permissions or choose another path",
    errno.EISDIR: "it is a folder, not a file. Check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder. Check the path",
    errno.EEXIST: "it already exists. Move it or choose another path",
    errno.ENAMETOOLONG: "its name is too long. Shorten it",
    errno.ELOOP: "its symbolic links form a loop. Fix them",
    **_LACKS,
}
_IN_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback")
_NUMBERED = re.compile(r"\[Errno (\d+)\] .*: (['\"].*['\"])$")

# Errors of libraries that parse what a user writes; a library that is not loaded has raised none.
_PARSERS = {
    "hydra.errors": "HydraException",
    "omegaconf.errors": "OmegaConfBaseException",
    "lightning.fabric.utilities.exceptions": "MisconfigurationException",
}

Rules = Sequence[tuple[str, str]]  # (pattern, replacement) pairs for the names of settings in a message
# For programs that cannot skip unreadable images, although the data readers suggest it.
NO_SKIPPING = (r",? or (pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "")


def is_mistake(error: BaseException) -> bool:
    """Whether the user or the machine caused the error; otherwise it is a bug."""
    parsers = (getattr(sys.modules[module], name) for module, name in _PARSERS.items() if module in sys.modules)
    if isinstance(error, (UserError, *parsers)):
        return True
    return isinstance(error, OSError) and (_file_of(error) is not None or error.errno in _LACKS)


def cause_of(error: BaseException) -> BaseException:
    """The error of a part that Hydra could not build, instead of Hydra's, which adds the name of the part."""
    while type(error).__name__ == "InstantiationException" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def sentence(error: BaseException) -> str:
    """The message for a user's mistake, on one line."""
    if isinstance(error, OSError) and (file := _file_of(error)) is not None:
        number, name = file
        return one_line(f"Cannot use {name}: {_WRONG.get(number, os.strerror(number))}.")
    if isinstance(error, OSError) and error.errno in _LACKS:
        problem = _LACKS[error.errno]
        return f"{problem[0].upper()}{problem[1:]}."
    return one_line(_own_words(str(error))) or type(error).__name__


def in_words_of(error: BaseException, rules: Rules) -> BaseException:
    """The error with its advice in terms of a program's own settings; the value that was given stays as it is."""
    text = str(error)
    if not isinstance(error, UserError) or text.startswith("Expected a setting that exists"):
        return error
    for pattern, instead in rules:
        text = re.sub(pattern, instead, text)
    if text == str(error):
        return error
    changed = UserError(text).with_traceback(error.__traceback__)
    changed.exit_code = error.exit_code
    return changed


def place(error: BaseException) -> str:
    """Where a bug is: the innermost line of the trace outside installed libraries."""
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    found = "the program"
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if not path.is_absolute() or (PACKAGE not in path.parents and libraries & {*path.resolve().parents}):
            continue
        where = f"{path}, line {line}"
        found = where if PACKAGE in path.parents else f"added code: {where}"
    return found


def tell(error: BaseException, words: Rules = (), job: str = "", kept: str = "") -> int:
    """Reports on stderr what ended the command; returns the exit code.

    Args:
        error: the error that ended it.
        words: the program's own names for settings in the message.
        job: the overrides of the job, in a sweep.
        kept: how to continue, such as "continue with resume=DIR"; empty if nothing is kept.
    """
    if isinstance(error, BrokenPipeError) and nobody_reads():
        return NOBODY_READS
    error = in_words_of(cause_of(error), words)
    mistake = is_mistake(error)
    if not mistake or os.environ.get(TRACE):
        say("".join(traceback.format_exception(error)).rstrip(), error=True)
    where = f" [{printable(job)}]" if job else ""
    if mistake:
        lacking = isinstance(error, OSError) and error.errno in _LACKS and kept
        text = f"{sentence(error).removesuffix('.')}, then {kept}." if lacking else sentence(error)
        say(f"Error{where}: {text}", error=True)
    else:
        rest = f"Completed work is kept; once the error is fixed, {kept}." if kept else "Please report the lines above."
        say(f"Internal error{where} in {place(error)} (your settings are fine). {rest}", error=True)
    return int(getattr(error, "exit_code", 1)) if mistake else 1


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


def _file_of(error: OSError) -> tuple[int, str] | None:
    """The error's number and the file that it names."""
    if error.filename is not None and error.errno is not None:
        name = error.filename
        return error.errno, repr(os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else str(name))
    # A data-loading worker passes on only the text of an error.
    found = _NUMBERED.search(_own_words(str(error))) if _IN_WORKER.match(str(error)) else None
    return None if found is None else (int(found[1]), found[2])


def _own_words(text: str) -> str:
    """The text of an error, without the trace that a data-loading worker puts before it."""
    found = _IN_WORKER.match(text)
    if found is None:
        return text
    lines = text.splitlines()
    said = [i for i, line in enumerate(lines) if re.match(rf"(\w+\.)*{found[1]}: ", line)]
    return "\n".join(lines[said[-1] :]).split(": ", maxsplit=1)[1] if said else text
