"""Weights from the network; files that are already on the disk are used without a request.

One short request first checks that the network is available, because the hub's own client retries every file for a
minute.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import open_clip
from huggingface_hub import constants, get_session, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained_from_hf, download_pretrained_from_url

from tpt.errors import UserError
from tpt.files import at_home

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
            _reach_url(url)
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
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)  # any answer will do
        log.info("Fetching %s of %s from %s.", filename, repository, constants.ENDPOINT)
        return Path(download_pretrained_from_hf(repository, filename, cache_dir=cache_dir))
    except Exception as error:  # whatever the client of the version raises
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
            get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)  # any answer will do
            log.info("Fetching the tokenizer %s from %s.", tokenizer, constants.ENDPOINT)
            return open_clip.get_tokenizer(name, cache_dir=cache_dir)
    except ImportError as error:
        raise FetchError(
            f"Expected the package `transformers` for the tokenizer of {name!r}, found none; "
            "pip install 'test-time-prompt-tuning[transformers]'."
        ) from error
    except Exception as error:  # whatever the client of the version raises
        where = "put its files in that folder" if name.startswith("local-dir:") else "put it in the hub's cache first"
        raise FetchError(
            f"Could not read the tokenizer {tokenizer!r} of {name!r} ({first_line(error)[:200]}); {where}."
        ) from error


def _candidates(filename: str) -> list[str]:
    """The file names that open_clip looks for, in its order."""
    if filename == HF_WEIGHTS_NAME:
        return [HF_SAFE_WEIGHTS_NAME, filename]
    if filename.endswith((".bin", ".pth")):
        return [f"{filename[:-4]}.safetensors", filename]
    return [filename]


def _reach_url(url: str) -> None:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S):
            log.info("Fetching %s.", url)
    except HTTPError:  # the server responds; the request for the file itself decides
        return


def _not_fetched(what: str, error: Exception) -> FetchError:
    return FetchError(
        f"Could not get the weights {what} ({first_line(error)[:200]}); without a network, pass "
        "pretrained=/path/to/the/file, or use the bundled 'emoji-mini'."
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's type if the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
