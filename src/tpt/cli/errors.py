"""How a command ends that cannot go on: one sentence for a user's mistake, the trace for a bug.

The same rule for every command.  This module imports nothing heavy, so that a quick command stays quick.
"""

from __future__ import annotations

import errno
import os
import re
import select
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tpt.engine.printing import forgiving_streams, one_line, printable, say
from tpt.errors import UserError

TRACE = "TPT_TRACE"  # set in the environment, shows the trace of a user's mistake as well
INTERRUPTED = 130  # exit codes of a shell: 128 and the signal
NOBODY_READS = 141
PACKAGE = Path(__file__).parents[1]

# Errors of the machine, whatever the work: a full disk, a file system that can only be read, ...
_LACKS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota of disk space is used up; free some",
    errno.EFBIG: "a file would be larger than is allowed; raise the limit (ulimit -f), or choose another file system",
    errno.EROFS: "it is on a file system that can only be read; choose another place",
    errno.EIO: "the device failed; look at its health",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine; close some programs",
}
_WRONG = {
    errno.ENOENT: "there is none; check the path",
    errno.EACCES: "you have no right to it; change its rights, or choose another",
    errno.EPERM: "you have no right to it; change its rights, or choose another",
    errno.EISDIR: "it is a folder, not a file; check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; check the path",
    errno.EEXIST: "it is there already; move it away, or choose another",
    errno.ENAMETOOLONG: "its name is too long; shorten it",
    errno.ELOOP: "its links lead in a circle; mend them",
    **_LACKS,
}
_IN_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback")
_NUMBERED = re.compile(r"\[Errno (\d+)\] .*: (['\"].*['\"])$")

Family = tuple[type[BaseException], ...]
Rules = Sequence[tuple[str, str]]  # patterns of settings, and what to write in their place
# For a program that cannot leave out bad pictures, where readers of data offer it beside another way.
NO_SKIPPING = (r",? or (pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "")


def is_mistake(error: BaseException, families: Family = ()) -> bool:
    """Whether the user, or the machine, is the cause; otherwise it is a bug.

    Args:
        error: that ended the work.
        families: whose errors a user causes, beside `UserError`: those of libraries that read what users write.
    """
    if isinstance(error, OSError):
        return isinstance(error, families) or _file_of(error) is not None or error.errno in _LACKS
    return isinstance(error, (UserError, *families))


def sentence(error: BaseException) -> str:
    """One sentence on a user's mistake, in one line."""
    if isinstance(error, OSError) and (file := _file_of(error)) is not None:
        number, name = file
        return one_line(f"Expected to use {name}, but {_WRONG.get(number, os.strerror(number))}.")
    if isinstance(error, OSError) and error.errno in _LACKS:
        return f"Expected to go on, but {_LACKS[error.errno]}."
    return one_line(_own_words(str(error))) or type(error).__name__


def in_words_of(error: Exception, rules: Rules) -> Exception:
    """The error with a program's own settings in its way out; what was got is left as it is."""
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
    """Where a bug is: the innermost line of the trace that is not of an installed library."""
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    found = "the program"
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if not path.is_absolute() or (PACKAGE not in path.parents and libraries & {*path.resolve().parents}):
            continue
        where = f"{path}, line {line}"
        found = f"the program ({where})" if PACKAGE in path.parents else f"what was added to the program ({where})"
    return found


def tell(error: BaseException, families: Family = (), job: str = "", kept: str = "") -> int:
    """Reports on stderr what ended the work; returns the exit code.

    Args:
        error: that ended it.
        families: as in `is_mistake`.
        job: which job of several.
        kept: what of the work is kept, and how it is continued.
    """
    mistake = is_mistake(error, families)
    if not mistake or os.environ.get(TRACE):
        say("".join(traceback.format_exception(error)).rstrip(), error=True)
    where = f" [{printable(job)}]" if job else ""
    if mistake:
        lacking = isinstance(error, OSError) and error.errno in _LACKS and kept
        text = f"{sentence(error).removesuffix('.')}; {kept}" if lacking else sentence(error)
        say(f"Error{where}: {text}", error=True)
    else:
        rest = kept or "please report it with the lines above."
        say(f"Bug{where}: not your settings, but {place(error)} is at fault; {rest}", error=True)
    return int(getattr(error, "exit_code", 1)) if mistake else 1


def _as_it_is(error: Exception) -> Exception:
    return error


@contextmanager
def told(explain: Callable[[Exception], Exception] = _as_it_is, families: Family = ()) -> Iterator[None]:
    """Ends a command with one sentence at a user's mistake, and with the trace at a bug; with exit code 1.

    Args:
        explain: maps an error to the one that is reported.
        families: as in `is_mistake`.
    """
    forgiving_streams()
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError as error:
        if not nobody_reads():
            sys.exit(tell(error, families))
        sys.exit(NOBODY_READS)
    except Exception as error:
        sys.exit(tell(explain(error), families))


def nobody_reads() -> bool:
    """Whether stdout leads to a program that has ended, as in `... | head`; what is left to print is then dropped."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # an error is told without being asked for
        gone = any(events & select.POLLERR for _, events in poll.poll(0))
        if gone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return gone
    except (OSError, ValueError):  # stdout is no file, or closed
        return False


def _file_of(error: OSError) -> tuple[int, str] | None:
    """Number of the error and the file that it names."""
    if error.filename is not None and error.errno is not None:
        name = error.filename
        return error.errno, repr(os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else str(name))
    # A loading process hands over its words alone.
    found = _NUMBERED.search(_own_words(str(error))) if _IN_WORKER.match(str(error)) else None
    return None if found is None else (int(found[1]), found[2])


def _own_words(text: str) -> str:
    """What an error says, without the trace that a loading process puts before it."""
    found = _IN_WORKER.match(text)
    if found is None:
        return text
    lines = text.splitlines()
    said = [i for i, line in enumerate(lines) if re.match(rf"(\w+\.)*{found[1]}: ", line)]
    return "\n".join(lines[said[-1] :]).split(": ", maxsplit=1)[1] if said else text
