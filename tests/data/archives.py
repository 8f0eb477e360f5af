"""Zip archives as programs write them that say nothing of their names' encoding."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.own_data import png

WINDOWS, UNIX = 0, 3


def zip_of_names(path: Path, names: Sequence[bytes], system: int = WINDOWS) -> Path:
    """An archive of one picture under each name, byte for byte, without the mark for UTF-8."""
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
