"""Signs texts for this user on this machine, to recognise them in directories that may come from anybody.

HMAC-SHA256 with a random key in the user's configuration folder (`XDG_CONFIG_HOME`, else `~/.config`), which only the
user can read.  Without a writable home directory, nothing is signed.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from tpt.files import open_plain

KEY_BYTES = 32


def sign(text: str, make: bool = True) -> str:
    """The user's signature of a text; "" if there is no key, and with `make` if none can be stored."""
    key = _key(make)
    return "" if key is None else hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def is_signed(text: str, signature: str) -> bool:
    """Whether this user made a signature of a text."""
    own = sign(text, make=False)
    return own != "" and hmac.compare_digest(own.encode(), signature.encode("utf-8", "replace"))


def _key(make: bool) -> bytes | None:
    """The user's key; None if there is none that only the user can read."""
    try:
        given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
        path = (given if given.is_absolute() else Path("~/.config").expanduser()) / "tpt" / "key"
        if make and not path.exists():
            _make(path)
        with open_plain(path, KEY_BYTES) as file:
            about, key = os.fstat(file.fileno()), file.read()
    except (OSError, RuntimeError):  # RuntimeError: unknown home directory
        return None
    alone = about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o077
    return key if alone and len(key) == KEY_BYTES else None


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent) as file, suppress(FileExistsError):  # another process has just made one
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        path.hardlink_to(file.name)
