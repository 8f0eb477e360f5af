"""`--help` of the Hydra programs: every group with its options, and every setting with its value."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tpt.cli.command_line import CommandLine, first_job
from tpt.cli.mistakes import composing, groups_of
from tpt.cli.options import all_folders, comments_of, options, own_options
from tpt.cli.places import command, config_dir
from tpt.cli.settings.walk import REFERENCE, leaves
from tpt.engine.printing import say

WIDTH = 160  # line width if the output is no terminal
NAMES = 34  # width of the column of settings


def show_help(program: str, line: CommandLine) -> None:
    """Prints the groups, options and settings of a command line."""
    with own_options(*line.own), composing(program, line.overrides):
        say("\n".join(_help(program, line)))


def _help(program: str, line: CommandLine) -> list[str]:
    cfg = first_job(program, line, hydras=True)
    lists = {o.key_or_group: o.value() for o in line.overrides if isinstance(o.value(), list)}
    chosen = {
        group: [*map(str, lists.get(group, [cfg.hydra.runtime.choices.get(group)]))] for group in groups_of(program)
    }
    called, example = command(program), "method=zero_shot" if program == "test_time" else "shots=folder"
    lines = [
        f"{called} [GROUP=OPTION ...] [SETTING=VALUE ...]",
        "",
        f"The settings of another option: {called} --help GROUP=OPTION, such as {example}.",
        f"Several runs: {called} -m SETTING=VALUE,VALUE.  All that Hydra can do: --hydra-help.",
        "",
        "Groups and their options (* chosen):",
        "",
    ]
    for group, marked in chosen.items():
        lines += _options(group, marked, program)
    lines += ["Settings:", ""]
    remarks = {**comments(config_dir() / f"{program}.yaml", ""), **_remarks(chosen)}
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in leaves(config):
        reference = isinstance(value, str) and REFERENCE.fullmatch(value)
        if not reference and not key.startswith(("data.module.", "hydra.")):
            lines += _row(f"{key}={_shown(value)}", remarks.get(key, "").rstrip("."))
    return [*lines, ""]


def _options(group: str, chosen: Sequence[str], program: str) -> list[str]:
    """The options of a group, each with the first comment of its file; options of the other program are skipped."""
    lines = [f"{group}:"]
    for option in options(group):
        first = next(iter(comments_of(group, option)), "")
        commands = re.findall(r"python (\w+)\.py", first) if first.startswith("python ") else []
        if commands and commands[-1] != program:
            continue
        lines += _row(f"{'*' if option in chosen else ' '} {option}", first)
    return [*lines, ""]


def _remarks(choices: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The comments after settings: of the chosen options, else of shared files and of other options of the group."""
    ranked = []
    for group, chosen in choices.items():
        for path in (path for folder in all_folders() for path in sorted((folder / group).glob("*.yaml"))):
            rank = 2 if path.stem in chosen else int(path.stem.startswith("_"))
            if rank or group != "experiment":  # the comments of an experiment explain its own values
                ranked.append((rank, group, path))
    found: dict[str, str] = {}
    for _, group, path in sorted(ranked, key=lambda entry: entry[0]):  # later ones replace earlier ones
        prefix = "" if "@package _global_" in path.read_text("utf-8") else f"{group}."
        found |= comments(path, prefix)
    return found


def comments(path: Path, prefix: str) -> dict[str, str]:
    """The comments after the settings of a YAML file, by dotted key."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # (indentation, name) of the groups around a line
    for line in path.read_text("utf-8").splitlines():
        match = re.match(r"( *)([\w]+):(?:\s|$)(.*)", line)
        if match is None:
            continue
        indent, name, rest = len(match[1]), match[2], match[3]
        above = [(i, n) for i, n in above if i < indent] + [(indent, name)]
        if remark := re.search(r"(?:^|\s)# (.*)", rest):
            found[prefix + ".".join(n for _, n in above)] = remark[1].strip()
    return found


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "?" if text == "???" else text


def _row(name: str, said: str) -> list[str]:
    """A name with its description next to it or below it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    inside = textwrap.wrap(said, max(width - NAMES - 4, 20)) or [""]
    if len(name) > NAMES:
        return [f"  {name}", *(f"  {'':{NAMES}}  {line}" for line in inside if line)]
    first, *rest = inside
    return [f"  {name:{NAMES}}  {first}".rstrip(), *(f"  {'':{NAMES}}  {line}" for line in rest)]
