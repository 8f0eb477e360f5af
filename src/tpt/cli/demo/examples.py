"""The page's examples: drawings in styles that the bundled model has never seen, and class names."""

from __future__ import annotations

from pathlib import Path

from tpt.data.bundled import class_names, emoji_shift

EVERY = 8  # every eighth bundled name: enough to be hard, few enough to read
# Domain and class; the paper's settings correct the first five answers, break the sixth, and keep the others.
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
    """Writes the drawings to files; returns their paths."""
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
    """Initial class names, including those of the drawings."""
    return class_names()[::EVERY]
