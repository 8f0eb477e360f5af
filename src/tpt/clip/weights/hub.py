"""Weights from the network; files that are already on the disk are used without a request.

One short request first checks that the network is available, because the hub's own client retries every file for a
minute.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import constants, get_session, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained_from_hf, download_pretrained_from_url

from tpt.errors import UserError
from tpt.files import at_home, readable

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
CONFIG_NAME = "open_clip_config.json"
_OFFLINE = "Without a network, pass pretrained=/path/to/the/file, or use the bundled 'emoji-mini'"


class FetchError(UserError):
    """The weights are not on the disk and cannot be fetched."""


def fetch_tag(name: str, tag: str, cache_dir: str | None = None) -> Path:
    """The weights file of an open_clip tag; raises a FetchError if it is neither on the disk nor available."""
    known = open_clip.get_pretrained_cfg(name, tag)
    repository, _, filename = known.get("hf_hub", "").rpartition("/")
    if repository:
        return fetch_from_hub(repository, filename or HF_WEIGHTS_NAME, cache_dir)
    url, folder = known["url"], at_home(cache_dir or "~/.cache/clip")
    with readable(f"the weights {url}", _OFFLINE, FetchError):
        if not (folder / Path(url).name).is_file():
            _reach(url, Path(url).name)
        return Path(download_pretrained_from_url(url, str(folder)))


def fetch_from_hub(repository: str, filename: str = HF_WEIGHTS_NAME, cache_dir: str | None = None) -> Path:
    """A file in a repository ORG/NAME on the Hugging Face hub, or the `.safetensors` file that replaces it.

    Raises a FetchError if it is neither on the disk nor available.
    """
    safe = HF_SAFE_WEIGHTS_NAME if filename == HF_WEIGHTS_NAME else re.sub(r"\.(bin|pth)$", ".safetensors", filename)
    with readable(f"the weights {repository}/{filename}", _OFFLINE, FetchError):
        for candidate in (safe, filename):  # in open_clip's order
            found = try_to_load_from_cache(repository, candidate, cache_dir=cache_dir)
            if isinstance(found, str):
                return Path(found)
        _reach(constants.ENDPOINT, f"{filename} of {repository}")
        return Path(download_pretrained_from_hf(repository, filename, cache_dir=cache_dir))


def fetch_tokenizer(name: str, tokenizer: str, cache_dir: str | None = None) -> Any:
    """open_clip's tokenizer for a model, from files on the disk, or else fetched under its name `tokenizer` on the hub.

    Raises a FetchError if the tokenizer cannot be read, or needs a package that is not installed.
    """
    way_out = "Put its files in the model's folder or in the hub's cache first"
    with readable(f"the tokenizer {tokenizer!r} of {name!r}", way_out, FetchError):
        try:
            return open_clip.get_tokenizer(name, cache_dir=cache_dir, local_files_only=True)
        except ImportError as error:
            raise FetchError(
                f"The tokenizer of {name!r} needs the package `transformers`. Install it: pip install "
                "'test-time-prompt-tuning[transformers]'."
            ) from error
        except (OSError, ValueError):
            if name.startswith("local-dir:"):
                raise
            _reach(constants.ENDPOINT, f"the tokenizer {tokenizer}")
            return open_clip.get_tokenizer(name, cache_dir=cache_dir)


def _reach(address: str, what: str) -> None:
    """Raises an error if no server answers; any answer is enough, since the file itself is requested later."""
    get_session().head(address, timeout=TIMEOUT_S)
    log.info("Fetching %s from %s.", what, address)
