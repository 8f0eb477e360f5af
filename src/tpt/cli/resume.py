"""How a run or sweep was started (`start.json`), and `resume=DIRECTORY`, which starts it again with the same settings.

A directory may come from anybody, and some settings name code, servers, accounts or files.  So a directory that the
user did not start may only choose options of the project's `conf`, and give plain values to settings that change
numbers.  Everything else needs `trust=true`, or the same setting on the command line.

The user's own directories are recognised by the signature of `start.json`: HMAC-SHA256 with a random key in the user's
configuration folder (`XDG_CONFIG_HOME`, else `~/.config`), which only the user can read.  Without a writable home
directory, nothing is signed.  The signature does not cover the path, so that a run can be moved.  A copied `start.json`
can therefore have the user's own settings applied to other records and checkpoints, which are only read as data.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict

from tpt.cli.command_line import parsed, swept_values
from tpt.cli.places import FLAGS, SEARCHED, config_dir
from tpt.cli.quoting import for_hydra, searched
from tpt.cli.sweeps import given_settings, sweep_config
from tpt.errors import UserError
from tpt.files import BUNDLED, bundled, dotted_values, is_file, open_plain, read_bytes, write_json, write_text
from tpt.results.runs.manifest import NAME, Text
from tpt.results.runs.training import TRAINING

START, HYDRAS = "start.json", ".hydra"
MOST_BYTES = 2**22
KEY_BYTES = 32
TRUST = "trust=true"
_ANEW = "give the run's settings again with its hydra.run.dir and resume=auto, or start a new run"

_LIMITS = re.compile(r"trainer\.(limit_(test|train|val)_batches|max_steps)")  # not in conf, and so added with `+`
# Settings that an untrusted directory may give values to; the first ones with all below them.
_TAKEN = re.compile(
    r"(method|views|data|backbone|context|optimizer|learner|shots|learned|seed|threads|batch_size|name|tags|notes"
    r"|print_config|optimized_metric|public_layout)(\..+)?"
    rf"|trainer\.(accelerator|devices|precision|deterministic|fast_dev_run)|{_LIMITS.pattern}"
    r"|callbacks\.records\.(top|logits|shard_size)"
)
PLACES = ("root", "path", "shards", "coop", "cocoop", "folder")  # settings that are paths, whatever their value
RENAMED = {"data.shuffle=true": "data.order=shuffled", "data.shuffle=false": "data.order=listed"}  # since version 0.1
WORDS = ("ctx_init", "tags", "notes")  # settings that are plain text, whatever their value
_PLACE = re.compile(r"[/\\:]|^\s*[~.]")  # characters found in paths, URLs and models of a hub


class Start(BaseModel):
    """How a run or sweep was started."""

    model_config = ConfigDict(strict=True, frozen=True)

    program: Text  # name of its configuration, test_time or train_coop
    settings: list[Text]  # of the command line, one `key=value` each, without `resume`
    sweep: bool = False
    searched: bool = False  # whether a sweeper such as Optuna chooses the jobs as it goes
    folders: list[Text] = []  # absolute paths of the user's own options, from `--config-dir`
    cwd: Text = ""  # where relative paths in the settings start from; "" if unknown
    signature: Text = ""  # of all the above; "" if there is no key

    def said(self) -> str:
        """The signed text; leaves out default values, so that fields added later keep earlier signatures valid."""
        return json.dumps(self.model_dump(exclude={"signature"}, exclude_defaults=True), sort_keys=True)


def folders_of_job() -> list[Path]:
    """The folders of the user's own options in the current job."""
    sources = HydraConfig.get().runtime.config_sources  # "main" is the project's own
    return [Path(s.path).absolute() for s in sources if s.schema == "file" and s.provider != "main"]


def keep(cfg: DictConfig, anew: bool = False) -> None:
    """Writes how the current run and its sweep were started; only in the first process.

    A new run (`anew`), which now has its directory, also writes Hydra's files, for people to read.
    """
    now: Any = HydraConfig.get()
    if any(os.environ.get(rank, "0") != "0" for rank in ("LOCAL_RANK", "RANK", "NODE_RANK")):
        return
    folder = Path(now.runtime.output_dir)
    program, settings, folders = str(now.job.config_name), given_settings(now), [*map(str, folders_of_job())]
    start = Start(program=program, settings=settings, folders=folders, cwd=str(now.runtime.cwd))
    keep_start(folder, start, anew)
    if anew:
        about = {"config": cfg, "hydra": {"hydra": now}, "overrides": settings}
        for name, content in about.items():
            write_text(OmegaConf.to_yaml(content), folder / HYDRAS / f"{name}.yaml")
    if now.mode is RunMode.MULTIRUN and (swept := given_settings(sweep_config())):
        is_searched = now.runtime.choices.get("hydra/sweeper") != "basic"
        of_sweep = {"settings": swept, "sweep": True, "searched": is_searched}
        keep_start(Path(now.sweep.dir), start.model_copy(update=of_sweep))


def keep_start(folder: Path, start: Start, anew: bool = False) -> None:
    """Writes how a run or sweep was started, unless there are results of an earlier start.

    A new run (`anew`) replaces the file of another that started at the same time and was refused.
    """
    pattern = "*/" if start.sweep else ""
    begun = any(True for name in (NAME, TRAINING) for _ in folder.glob(f"{pattern}{name}"))
    if begun and not anew and (folder / START).is_file():
        return
    settings = [setting for setting in start.settings if not setting.startswith(("resume=", "trust="))]
    kept = start.model_copy(update={"settings": settings})
    write_json({**kept.model_dump(), "signature": sign(kept.said())}, folder / START)


def read_start(folder: Path) -> Start | None:
    """How the run or sweep in a directory was started; None if there is none, a UserError if the file is damaged."""
    path = folder / START
    try:
        return Start.model_validate(json.loads(read_bytes(path, MOST_BYTES)))
    except (FileNotFoundError, NotADirectoryError):
        for name in (name for name in (NAME, TRAINING) if (folder / name).is_file()):
            raise UserError(f"{folder} has {name} but no {START}, the settings of its start; {_ANEW}.") from None
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The run's settings in {path} cannot be read or are damaged; {_ANEW}.") from error


def continued(arguments: Sequence[str], program: str) -> list[str]:
    """The command line of a run or sweep to resume, with the settings that are added now; see `resumable` for errors.

    Without `resume=DIRECTORY` the arguments stay as they are; a `.ckpt` is a checkpoint, which Lightning resumes.
    """
    given = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if not given or (text := _plain(given[-1])) in ("auto", "null", "") or text.endswith(".ckpt"):
        return list(arguments)
    folder, added = Path(text).expanduser(), [a for a in arguments if not a.startswith("resume=")]
    here = str(folder.resolve())
    if "${" in here:
        raise UserError(f"Expected a directory without '${{' in `resume`, got {here}; rename it.")
    begun = resumable(folder, program, added)
    if begun.searched:
        raise UserError(
            f"Expected a sweep with fixed jobs in `resume`, got {folder}, whose sweeper chooses its jobs as it goes; "
            f"continue its study in a new search with hydra.sweeper.storage=sqlite:///{here}/study.db."
        )
    added = enter(begun, added)
    how, place = (["--multirun"], "hydra.sweep.dir") if begun.sweep else ([], "hydra.run.dir")
    folders = searched([*map(Path, begun.folders)])
    return [*how, *folders, *begun.settings, *added, f"{place}={for_hydra(here)}", "resume=auto"]


def resumable(folder: Path, program: str, added: Sequence[str] = ()) -> Start:
    """How a run was started, without the settings that `added` arguments replace; a UserError if it is not trusted."""
    if (begun := read_start(folder)) is None:
        raise UserError(f"There is no run or sweep of {program}.py in {folder}. Check the path, or use resume=auto.")
    if begun.program != program:  # its settings are others
        raise UserError(f"Expected a run of {program}.py, got {folder}, a run of {begun.program}.py; use that.")
    keys = {argument.partition("=")[0] for argument in added}
    settings = [RENAMED.get(setting.lower(), setting) for setting in begun.settings]
    left = [setting for setting in settings if setting.partition("=")[0] not in keys]
    folders = [] if {*FLAGS, SEARCHED, f"+{SEARCHED}", f"++{SEARCHED}"} & keys else begun.folders
    again = begun.model_copy(update={"settings": left, "folders": folders})
    own, signature = sign(begun.said(), make=False).encode(), begun.signature.encode("utf-8", "replace")
    if TRUST in map(str.lower, added) or (own and hmac.compare_digest(own, signature)):
        return again
    beyond = [repr(setting[:100]) for setting in left if not is_taken(setting)]
    beyond += [f"{FLAGS[0]} {place}" for place in folders]
    beyond += [f"{path}, which is not a file or folder inside it" for path in _odd(folder.resolve())]
    if beyond:
        raise UserError(
            f"The run in {folder} was not started by you on this machine, and parts of it need your approval: "
            f"{', '.join(beyond[:5])}{' and more' if beyond[5:] else ''}; add {TRUST} if you trust its source, "
            "or give these settings on the command line."
        )
    return again.model_copy(update={"cwd": ""})


def _odd(folder: Path) -> Iterator[Path]:
    """What is no plain file or folder in a directory: pipes, devices, and links that leave it or form a loop."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            real = Path(os.path.realpath(path))
            if not real.is_relative_to(folder) or real.is_symlink() or not (real.is_file() or real.is_dir()):
                yield path


def is_taken(setting: str) -> bool:
    """Whether a setting, `key=value`, may be accepted from a directory that the user did not start.

    It chooses options of the project's `conf`, or gives numbers and plain text to settings in `_TAKEN`.
    """
    try:
        override = parsed(setting)
        values = swept_values(override)
    except (HydraException, ValueError, TypeError):
        return False
    key, package = str(override.key_or_group), override.package
    adds = override.type in (OverrideType.ADD, OverrideType.FORCE_ADD) and _LIMITS.fullmatch(key)
    if not (adds or override.type is OverrideType.CHANGE) or "${" in setting:
        return False
    if package and not _TAKEN.fullmatch(package):
        return False
    found = [(below, leaf) for one in values for below, leaf in dotted_values(one)]
    if "." not in key and (config_dir() / key).is_dir():
        return all(re.fullmatch(r"\d*", below) and _is_option(key, leaf) for below, leaf in found)
    return bool(_TAKEN.fullmatch(key)) and all(_is_plain(f"{key}.{below}".strip("."), leaf) for below, leaf in found)


def _is_option(group: str, option: Any) -> bool:
    """Whether an option is in the project's `conf` and does not reach outside the run, as most loggers do."""
    name = str(option)
    if option is None or re.fullmatch(r"[A-Za-z]\w*", name) is None:
        return option is None
    outside = group == "search" or (group == "logger" and name not in ("csv", "none"))
    return not outside and (config_dir() / group / f"{name}.yaml").is_file()


def _is_plain(key: str, value: Any) -> bool:
    """Whether the value of a dotted key is a number or plain text, and refers to no code and no path."""
    parts = key.split(".")
    if any(part.startswith("_") for part in parts):  # `_target_` and other keys that control how parts are built
        return False
    if not isinstance(value, str) or {*WORDS} & {*parts}:
        return isinstance(value, bool | int | float | str | None)
    if value.startswith(f"{BUNDLED}/") and bundled(value) != Path(value):  # bundled with the package
        return True
    return not ({*PLACES} & {*parts} or _PLACE.search(value) or is_file(value))


def enter(begun: Start, added: Sequence[str] = ()) -> list[str]:
    """Changes to where a run was started, for its relative paths; returns the `added` arguments with absolute paths."""
    if not begun.cwd or not Path(begun.cwd).is_dir() or Path(begun.cwd).samefile(Path.cwd()):
        return list(added)
    arguments = [_absolute(before, argument) for before, argument in zip(["", *added], added, strict=False)]
    if Path(sys.argv[0]).exists():  # used by Lightning when it starts more processes
        sys.argv[0] = str(Path(sys.argv[0]).absolute())
    os.chdir(begun.cwd)
    return arguments


def _absolute(before: str, argument: str) -> str:
    """An argument with its path, if any, made absolute; `before` is the preceding argument."""
    key, equals, value = argument.partition("=")
    path = Path(_plain(value))
    if before in FLAGS:
        return str(Path(argument).absolute())
    if key in FLAGS and equals:
        return f"{key}={path.absolute()}"
    named = {*PLACES} & {*key.split(".")} or ("." in key and path.is_file())
    return f"{key}={for_hydra(str(path.absolute()))}" if named and value and path.exists() else argument


def _plain(text: str) -> str:
    """The text of a value, without Hydra's quotes."""
    with suppress(UserError):
        if isinstance(value := parsed(f"resume={text}").value(), str):
            return value
    return text


def sign(text: str, make: bool = True) -> str:
    """The user's signature of a text; "" without a key that only the user can read, which it can `make`."""
    try:
        given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
        path = (given if given.is_absolute() else Path("~/.config").expanduser()) / "tpt" / "key"
        if make and not path.exists():
            _make(path)
        with open_plain(path, KEY_BYTES) as file:
            about, key = os.fstat(file.fileno()), file.read()
    except (OSError, RuntimeError):  # RuntimeError: unknown home directory
        return ""
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077 or len(key) != KEY_BYTES:
        return ""
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent) as file, suppress(FileExistsError):  # another process has just made one
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        path.hardlink_to(file.name)
