"""What a run or sweep was started with, which outlives whatever is tried in its directory later.

`start.json` is written when a job begins, as long as nothing was computed in the directory.  Hydra's own files there
are written anew by every start, one that is refused included, and a kill may leave half of one: they are for people.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpt.errors import UserError
from tpt.files import read_bytes, write_json
from tpt.results.runs.manifest import NAME
from tpt.results.runs.training import TRAINING

START = "start.json"
MOST_BYTES = 2**22
_ANEW = "give the settings of the run again, with its hydra.run.dir and resume=auto, or start it anew"


@dataclass(frozen=True)
class Start:
    """How something was started.

    Args:
        program: name of its configuration, test_time or train_coop.
        settings: what the command line gave, one `key=value` each, without `resume`.
        sweep: whether it is a sweep, and not one run.
        searched: whether a sweeper such as Optuna chooses the jobs of the sweep on the way.
    """

    program: str
    settings: tuple[str, ...]
    sweep: bool = False
    searched: bool = False


def keep_start(folder: Path, start: Start, anew: bool = False) -> bool:
    """Writes how a run or sweep was started, unless something was computed by what was started before.

    Args:
        folder: of the run, or of the sweep, whose jobs have folders of their own in it.
        start: this one.
        anew: this one has just taken the directory for a new run: another that began beside it may have written its
            own, and was refused.

    Returns:
        Whether it was written.
    """
    pattern = "*/" if start.sweep else ""
    begun = any(True for name in (NAME, TRAINING) for _ in folder.glob(f"{pattern}{name}"))
    if anew or not (begun and (folder / START).is_file()):
        settings = [setting for setting in start.settings if not setting.startswith(("resume=", "trust="))]
        write_json({**asdict(start), "settings": settings}, folder / START)
        return True
    return False


def read_start(folder: Path) -> Start | None:
    """How the run or sweep in a directory was started; None if none was.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    path = folder / START
    try:
        content: Any = json.loads(read_bytes(path, MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        if found := next((name for name in (NAME, TRAINING) if (folder / name).is_file()), None):
            raise UserError(
                f"Expected {START}, which says how the run was started, beside {found} in {folder}, found none; "
                f"{_ANEW}."
            ) from None
        return None
    except OSError as error:
        raise UserError(f"Expected the settings of a run in {path}, but it cannot be read; {_ANEW}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"Expected the settings of a run in {path}, but it is damaged; {_ANEW}.") from error
    fields = content if isinstance(content, dict) else {}
    program, settings, sweep = (fields.get(name) for name in ("program", "settings", "sweep"))
    searched = fields.get("searched", False)  # earlier versions did not write it
    whole = isinstance(settings, list) and all(isinstance(setting, str) for setting in settings)
    flags = isinstance(sweep, bool) and isinstance(searched, bool)
    if not (isinstance(program, str) and flags and isinstance(settings, list) and whole):
        raise UserError(f"Expected the settings of a run in {path}, but it is damaged; {_ANEW}.")
    return Start(program, tuple(settings), bool(sweep), bool(searched))
