"""The page of `tpt-demo` as a hosted application: `python app.py`.

PORT is listened on, by default 7860; SPACE_HOST is the name under which visitors reach it, as Hugging Face's Spaces set
it, since requests for other names are refused.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import tpt
from tpt.cli.demo.app import make_app


def application(folder: Path) -> Any:
    """The application, which keeps uploaded pictures in a folder."""
    return make_app(tpt.load_clip("emoji-mini"), folder, host=os.environ.get("SPACE_HOST", ""))


if __name__ == "__main__":
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="tpt-demo-") as folder:
        uvicorn.run(application(Path(folder)), host="0.0.0.0", port=int(os.environ.get("PORT", "7860")))
