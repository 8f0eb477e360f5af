"""What the page begins with: drawings of vendors that the bundled model never saw and class names."""

from __future__ import annotations

from pathlib import Path

from tpt.data.emoji_shift import class_names, emoji_shift

EVERY = 8  # of the bundled names in the first list: enough to be mistaken among, few enough to be read
# Domain and class; the paper's settings mend the first five answers, break the sixth, and leave the others.
DRAWINGS = (
    ("emojione", "fountain pen"),
    ("twemoji", "shortcake"),
    ("fxemoji", "suspension railway"),
    ("emojione_monotone", "prince"),
    ("emojione", "detective"),
    ("emojione", "soft ice cream"),
    ("twemoji", "shark"),
    ("fxemoji", "cat"),
    ("emojione_monotone", "umbrella with rain drops"),
    ("twemoji", "doughnut"),
)


def write_drawings(folder: Path) -> list[Path]:
    """Writes the drawings as files, which a page can offer, and gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    names, paths = class_names(), []
    for domain, name in DRAWINGS:
        dataset = emoji_shift(domain)
        index = next(i for i, sample in enumerate(dataset.samples) if sample.label == names.index(name))
        path = folder / f"{name.replace(' ', '_')}_{domain}.png"
        path.write_bytes(dataset.content(index))
        paths.append(path)
    return paths


def first_names() -> list[str]:
    """A list of class names to begin with, those of the drawings among them."""
    return class_names()[::EVERY]
