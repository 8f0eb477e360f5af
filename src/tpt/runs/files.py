"""Files that are whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes the file whole or not at all."""
    partial = path.with_suffix(f".partial{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
