"""Signs texts for this user on this machine, to recognise them in directories that may come from anybody.

HMAC-SHA256 with a key of 32 random bytes, created once in the user's configuration folder (`XDG_CONFIG_HOME`, else
`~/.config`) and readable only by the user.  Without a writable home directory, nothing is signed.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from tpt.files import open_plain

KEY_BYTES = 32


def sign(text: str) -> str:
    """The user's signature of a text; "" if no key can be stored."""
    key = _key(make=True)
    return "" if key is None else _signature(text, key)


def is_signed(text: str, signature: str) -> bool:
    """Whether this user made a signature of a text."""
    key = _key()
    return key is not None and hmac.compare_digest(signature.encode("utf-8", "replace"), _signature(text, key).encode())


def _signature(text: str, key: bytes) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def _key(make: bool = False) -> bytes | None:
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
    new = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with suppress(FileExistsError):  # another process has just created one
            path.hardlink_to(new)
    finally:
        new.unlink(missing_ok=True)
