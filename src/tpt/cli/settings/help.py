"""`--help` of the Hydra programs: every group with its options, and every setting with its value."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tpt.cli.command_line import CommandLine, first_job
from tpt.cli.options import all_folders, comments_of, is_group, options, own_options
from tpt.cli.places import command, config_dir
from tpt.cli.settings.parts import REFERENCE, leaves
from tpt.engine.printing import say

WIDTH = 160  # line width if the output is no terminal
NAMES = 34  # width of the column of settings
USAGE = """{called} [GROUP=OPTION ...] [SETTING=VALUE ...]

The settings of another option: {called} --help GROUP=OPTION, such as {example}.
Several runs: {called} -m SETTING=VALUE,VALUE.  All that Hydra can do: --hydra-help.

Groups and their options (* chosen):
"""


def show_help(program: str, line: CommandLine) -> None:
    """Prints the groups, options and settings of a command line."""
    example = "method=zero_shot" if program == "test_time" else "shots=folder"
    with own_options(*line.own):
        say("\n".join([USAGE.format(called=command(program), example=example), *_lines(program, line), ""]))


def _lines(program: str, line: CommandLine) -> Iterator[str]:
    """One text per option and per setting; options of the other program are left out."""
    cfg = first_job(program, line, hydras=True)
    choices = {group: [str(option)] for group, option in reversed([*cfg.hydra.runtime.choices.items()])}
    for one in line.overrides:
        if isinstance(several := one.value(), list):  # Hydra omits these
            choices[one.key_or_group] = [*map(str, several)]
    chosen = {group: marked for group, marked in choices.items() if is_group(group)}
    for group, marked in chosen.items():
        yield f"{group}:"
        for option in options(group):
            first = next(iter(comments_of(group, option)), "")
            if not first.startswith("python ") or re.findall(r"python (\w+)\.py", first)[-1] == program:
                yield _row(f"{'*' if option in marked else ' '} {option}", first)
        yield ""
    yield "Settings:\n"
    remarks = _comments(config_dir() / f"{program}.yaml", "") | _remarks(chosen)
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in leaves(config):
        reference = isinstance(value, str) and REFERENCE.fullmatch(value)
        if not reference and not key.startswith(("data.module.", "hydra.")):
            shown = "?" if value == "???" else value if isinstance(value, str) else json.dumps(value)
            yield _row(f"{key}={shown}", remarks.get(key, "").rstrip("."))


def _remarks(choices: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The comments after settings: of the chosen options, else of shared files and of other options of the group."""
    found: dict[str, str] = {}
    for group, chosen in choices.items():
        files = [path for folder in all_folders() for path in (folder / group).glob("*.yaml")]
        for path in sorted(files, key=lambda path: (path.stem in chosen, path.stem.startswith("_"))):  # best ones last
            if group != "experiment" or path.stem in chosen:  # the comments of an experiment explain its own values
                found |= _comments(path, "" if "@package _global_" in path.read_text("utf-8") else f"{group}.")
    return found


def _comments(path: Path, prefix: str) -> dict[str, str]:
    """The comments after the settings of a YAML file, by dotted key."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # (indentation, name) of the groups around a line
    for line in path.read_text("utf-8").splitlines():
        if match := re.match(r"( *)(\w+):(?:\s|$)(.*)", line):
            indent, name, rest = len(match[1]), match[2], match[3]
            above = [(i, n) for i, n in above if i < indent] + [(indent, name)]
            if remark := re.search(r"(?:^|\s)# (.*)", rest):
                found[prefix + ".".join(n for _, n in above)] = remark[1].strip()
    return found


def _row(name: str, said: str) -> str:
    """A name with its description next to it, wrapped."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    start, below = f"  {name:{NAMES}}  ", " " * (NAMES + 4)
    wrapped = textwrap.fill(
        said, width, initial_indent=start, subsequent_indent=below, break_long_words=False, break_on_hyphens=False
    )
    return wrapped or start.rstrip()
