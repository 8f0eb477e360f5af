"""Weights from the network; files that are already on the disk are used without a request.

One short request first checks that the network is available, because the hub's own client retries every file for a
minute.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import constants, get_session, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained_from_hf, download_pretrained_from_url

from tpt.errors import UserError
from tpt.files import at_home, reason

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
CONFIG_NAME = "open_clip_config.json"


class FetchError(UserError):
    """The weights are not on the disk and cannot be fetched."""


def fetch_tag(name: str, tag: str, cache_dir: str | None = None) -> Path:
    """The weights file of an open_clip tag, fetched if it is not on the disk yet.

    Args:
        name, tag: as open_clip lists them.
        cache_dir: where fetched files are kept; open_clip's default if None.

    Raises:
        FetchError: it cannot be fetched.
    """
    known = open_clip.get_pretrained_cfg(name, tag)
    repository, _, filename = known.get("hf_hub", "").rpartition("/")
    if repository:
        return fetch_from_hub(repository, filename or HF_WEIGHTS_NAME, cache_dir)
    url = known["url"]
    folder = at_home(cache_dir or "~/.cache/clip")
    try:
        if not (folder / Path(url).name).is_file():
            _reach(url, Path(url).name)
        return Path(download_pretrained_from_url(url, str(folder)))
    except Exception as error:
        raise _not_fetched(url, error) from error


def fetch_from_hub(repository: str, filename: str = HF_WEIGHTS_NAME, cache_dir: str | None = None) -> Path:
    """A file in a repository on the Hugging Face hub, or the `.safetensors` file that replaces it.

    Args:
        repository: ORG/NAME.
        filename: name of the file; by default open_clip's name for weights.
        cache_dir: as for `fetch_tag`.

    Raises:
        FetchError: it cannot be fetched.
    """
    for candidate in _candidates(filename):
        found = try_to_load_from_cache(repository, candidate, cache_dir=cache_dir)
        if isinstance(found, str):
            return Path(found)
    try:
        _reach(constants.ENDPOINT, f"{filename} of {repository}")
        return Path(download_pretrained_from_hf(repository, filename, cache_dir=cache_dir))
    except Exception as error:  # the type depends on the client's version
        raise _not_fetched(f"{repository}/{filename}", error) from error


def fetch_tokenizer(name: str, tokenizer: str, cache_dir: str | None = None) -> Any:
    """open_clip's tokenizer for a model, from files on the disk, or else fetched.

    Args:
        name: open_clip's name of the model.
        tokenizer: name of the tokenizer on the hub, for messages.
        cache_dir: as for `fetch_tag`.

    Raises:
        FetchError: the tokenizer cannot be read, or needs a package that is not installed.
    """
    try:
        try:
            return open_clip.get_tokenizer(name, cache_dir=cache_dir, local_files_only=True)
        except (OSError, ValueError):
            if name.startswith("local-dir:"):
                raise
            _reach(constants.ENDPOINT, f"the tokenizer {tokenizer}")
            return open_clip.get_tokenizer(name, cache_dir=cache_dir)
    except ImportError as error:
        raise FetchError(
            f"The tokenizer of {name!r} needs the package `transformers`. Install it: pip install "
            "'test-time-prompt-tuning[transformers]'."
        ) from error
    except Exception as error:  # the type depends on the client's version
        where = "put its files in that folder" if name.startswith("local-dir:") else "put it in the hub's cache first"
        raise FetchError(
            f"Could not read the tokenizer {tokenizer!r} of {name!r} ({reason(error)}); {where}."
        ) from error


def _candidates(filename: str) -> list[str]:
    """The file names that open_clip looks for, in its order."""
    if filename == HF_WEIGHTS_NAME:
        return [HF_SAFE_WEIGHTS_NAME, filename]
    if filename.endswith((".bin", ".pth")):
        return [f"{filename[:-4]}.safetensors", filename]
    return [filename]


def _reach(address: str, what: str) -> None:
    """Raises an error if no server answers; any answer is enough, since the file itself is requested later."""
    get_session().head(address, timeout=TIMEOUT_S)
    log.info("Fetching %s from %s.", what, address)


def _not_fetched(what: str, error: Exception) -> FetchError:
    return FetchError(
        f"Could not get the weights {what} ({reason(error)}); without a network, pass "
        "pretrained=/path/to/the/file, or use the bundled 'emoji-mini'."
    )
