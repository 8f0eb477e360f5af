"""Zip archives whose member names have no encoding flag."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.own_data import png

WINDOWS, UNIX = 0, 3


def zip_of_names(path: Path, names: Sequence[bytes], system: int = WINDOWS) -> Path:
    """Writes an archive of one picture per name; names are stored byte for byte, without the UTF-8 flag."""
    holders = [f"{number:03d}".ljust(len(name), "x") for number, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, holder in enumerate(holders):
            member = zipfile.ZipInfo(holder)
            member.create_system = system
            archive.writestr(member, png(number))
    content = path.read_bytes()
    for holder, name in zip(holders, names, strict=True):
        content = content.replace(holder.encode(), name)
    path.write_bytes(content)
    return path
