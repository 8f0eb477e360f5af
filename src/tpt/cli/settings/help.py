"""`--help` of the programs: every group with its options, and one line for every setting."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpt.cli.settings.register import Register, leaves

WIDTH = 160  # if the output is no terminal
NAMES = 34  # characters of the column of settings
# Of the settings of other libraries' parts, for which no line of a file or docstring of ours speaks.
MEANINGS = {
    "context.path": "file or folder of the context, such as a run of train_coop.py",
    "context.kind": "what the file must hold: coop or cocoop",
    "learned.coop": "run of train_coop.py, or file of a context, for the rows coop and tpt_coop",
    "learned.cocoop": "the same for the rows cocoop and tpt_cocoop",
    "learner.class_token_position": "where the class name stands among the vectors",
    "learner.epochs": "passes over the images; they set the schedule",
    "learner.warmup_epochs": "epochs at the warm-up rate",
    "learner.warmup_rate": "learning rate while warming up",
    "trainer.accelerator": "what computes: cpu, gpu, or auto for the best there is",
    "trainer.devices": "processes on this machine, each with a device of its own",
    "trainer.num_nodes": "machines",
    "trainer.precision": "of training",
    "trainer.deterministic": "kernels that repeat themselves, see docs/runs.md",
    "trainer.enable_model_summary": "prints the layers of the model",
    "trainer.enable_checkpointing": "Lightning's own checkpoints; a run has records instead",
    "trainer.num_sanity_val_steps": "validation batches before training",
    "trainer.log_every_n_steps": "steps between two rows of the logs",
    "optimizer.lr": "learning rate",
    "optimizer.weight_decay": "weight decay",
    "optimizer.momentum": "momentum",
    "learner.optimizer.lr": "learning rate after warming up",
    "learner.optimizer.weight_decay": "weight decay",
    "learner.optimizer.momentum": "momentum",
    "method.optimizer.weight_decay": "weight decay",
    "logger.csv.save_dir": "where its folder is made",
    "logger.csv.name": "of its folder",
    "logger.csv.version": "of its folder's subfolder; none where empty",
}


def help_text(
    program: str, command: str, folders: Sequence[Path], config: Mapping[str, Any], choices: Mapping[str, str]
) -> str:
    """The whole help.

    Args:
        program: name of the configuration.
        command: how the program is called.
        folders: of the configuration, the project's last.
        config: composed with what the command line chooses, unresolved.
        choices: which option of each group is chosen, or which list of options, such as `[csv,wandb]`.
    """
    lines = [
        f"{command} [GROUP=OPTION ...] [SETTING=VALUE ...]",
        "",
        f"The settings of another option: {command} --help GROUP=OPTION, such as {_example(program)}.",
        f"Several runs: {command} -m SETTING=VALUE,VALUE.  All that Hydra can do: --hydra-help.",
        "",
        "Groups and their options (* chosen):",
        "",
    ]
    for group, chosen in choices.items():
        lines += _options([folder / group for folder in folders], chosen, program)
    lines += ["Settings:", ""]
    remarks = {**comments(folders[-1] / f"{program}.yaml", ""), **_remarks(folders, choices)}
    register = Register(config)
    for key, value in leaves(config):
        if key in register.own() and not key.startswith("data.module."):
            said = remarks.get(key) or MEANINGS.get(key) or register.settings[key].meaning
            kind = register.settings[key].kind
            what = "" if kind is None else f" ({kind.expected.removeprefix('to be ')})"
            lines += _row(f"{key}={_shown(value)}", f"{said.rstrip('.')}{what}".strip())
    return "\n".join(lines) + "\n"


def _example(program: str) -> str:
    return "method=zero_shot" if program == "test_time" else "shots=folder"


def _options(folders: Sequence[Path], chosen: str, program: str) -> list[str]:
    """The options of a group, each with the first line of its file; commands of another program are left out."""
    lines = [f"{folders[-1].name}:"]
    for path in sorted((p for folder in folders for p in folder.glob("[!_]*.yaml")), key=lambda path: path.stem):
        first = next((line[1:].strip() for line in path.read_text("utf-8").splitlines() if _says(line)), "")
        commands = re.findall(r"python (\w+)\.py", first) if first.startswith("python ") else []
        if commands and commands[-1] != program:
            continue
        mark = "*" if path.stem in _each(chosen) else " "
        lines += _row(f"{mark} {path.stem}", first)
    return [*lines, ""]


def _says(line: str) -> bool:
    return line.startswith("#") and "@package" not in line


def _remarks(folders: Sequence[Path], choices: Mapping[str, str]) -> dict[str, str]:
    """The comments behind settings, of the files of all chosen options."""
    found: dict[str, str] = {}
    for group, chosen in choices.items():
        for option in _each(chosen):
            found |= _of_file([folder / group for folder in folders], f"{option}.yaml", f"{group}.")
    return found


def _each(chosen: str) -> list[str]:
    """The options of one that is chosen, or of a list."""
    return [option.strip() for option in chosen.removeprefix("[").removesuffix("]").split(",")]


def _of_file(folders: Sequence[Path], name: str, prefix: str, depth: int = 0) -> dict[str, str]:
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None or depth > 3:
        return {}
    text = path.read_text("utf-8")
    bases = re.search(r"^defaults: \[(.*)\]", text, re.MULTILINE)
    found: dict[str, str] = {}
    for base in bases[1].split(",") if bases else ():
        found |= _of_file(folders, f"{base.strip()}.yaml", prefix, depth + 1)
    return found | comments(path, "" if "@package _global_" in text else prefix)


def comments(path: Path, prefix: str) -> dict[str, str]:
    """The comments behind the settings of a YAML file, by dotted key."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # indentation and name of the groups that a line is in
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
    """A name and its description, beside or below it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    inside = textwrap.wrap(said, max(width - NAMES - 4, 20)) or [""]
    if len(name) > NAMES:
        return [f"  {name}", *(f"  {'':{NAMES}}  {line}" for line in inside if line)]
    first, *rest = inside
    return [f"  {name:{NAMES}}  {first}".rstrip(), *(f"  {'':{NAMES}}  {line}" for line in rest)]
