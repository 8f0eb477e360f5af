"""Draws `emoji-shift`, the bundled data: one zip archive per domain, with one folder per class.

    python tools/make_emoji_shift.py icons/ --out src/tpt/data/emoji_shift

Needs `resvg-py` in addition to the project; `emoji_icons.py` shows how to download the icons.  Archives have fixed
times and a fixed order, so the same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import emoji_icons
from PIL import Image

SIZE = 72  # pixels; larger than the 64 of the bundled model, so random crops keep some detail
COLOURS = 64  # palette size; enough for drawings, and keeps the repository small


def png(picture: Image.Image) -> bytes:
    """Encodes the picture as a small palette PNG."""
    buffer = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def domain_members(names: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Returns the (set, class name) pairs of each domain."""
    held = emoji_icons.held_back(names)
    domains: dict[str, list[tuple[str, str]]] = {"source_train": [], "source_val": []}
    for vendor, members in emoji_icons.SEEN.items():
        for member in members:
            for name in names:
                domains["source_val" if name in held[vendor] else "source_train"].append((member, name))
    for unseen in emoji_icons.UNSEEN:
        domains[unseen.replace("-", "_")] = [(unseen, name) for name in names]
    return domains


def drawings(sets: dict[str, dict[str, Any]], members: list[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Yields the path and bytes of every picture in a domain, sorted by class and set."""
    for member, name in sorted(members, key=lambda m: (m[1], m[0])):
        rgba = emoji_icons.render(sets[member], name, SIZE)
        if rgba is not None:
            yield f"{name.replace('-', ' ')}/{member}.png", png(emoji_icons.on_white(rgba))


def write(pictures: Iterator[tuple[str, bytes]], path: Path) -> int:
    """Writes the archive without compression (PNG is compressed already); returns the number of pictures."""
    count = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in pictures:
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("icons", type=Path, help="folder of the unpacked Iconify packages")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sets = emoji_icons.load_sets(args.icons)
    names = emoji_icons.class_names(sets)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "class_names.txt").write_text("\n".join(n.replace("-", " ") for n in names) + "\n", "utf-8")
    for domain, members in domain_members(names).items():
        path = args.out / f"{domain}.zip"
        count = write(drawings(sets, members), path)
        print(f"{domain}: {count} pictures, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
