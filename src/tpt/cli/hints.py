"""Errors of Hydra and OmegaConf as one sentence that names the nearest thing that exists."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tpt.cli.quoting import searched, setting
from tpt.errors import UserError

# Errors of libraries that read what a user writes.
FAMILIES = (HydraException, OmegaConfBaseException, MisconfigurationException)
ADDING = ("experiment", "search", "logger", "callbacks", "debug")  # groups whose options add up
HELP = "see --help for all settings"
_OF_TRAINER = "Expected a `trainer` that this machine can run, but Lightning says: "
_UNEXPECTED = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")


class Settings:
    """The settings and options that a command line can choose from, to find what is near to a wrong one.

    Args:
        config_dirs: folders of the configuration, the project's last.
        config_name: of the program.
        arguments: of the command line.
        refused: why the program takes no such setting, and what to give instead, if a rule says so.
    """

    def __init__(
        self,
        config_dirs: Sequence[Path],
        config_name: str,
        arguments: Sequence[str] = (),
        refused: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        *own, self.config_dir = config_dirs
        self._own = own
        self._refused = refused
        self.arguments = arguments
        self.config_name = config_name
        defaults = OmegaConf.load(self.config_dir / f"{config_name}.yaml").get("defaults", [])
        self.groups = [str(group) for default in defaults if isinstance(default, DictConfig) for group in default]
        self._choices = [a for a in arguments if (key := a.split("=")[0]) in self.groups and a != key]

    def options(self, group: str) -> list[str]:
        """The options of a group."""
        return sorted(path.stem for path in self._files(group))

    def _files(self, group: str) -> list[Path]:
        return [path for folder in (*self._own, self.config_dir) for path in (folder / group).glob("[!_]*.yaml")]

    def keys(self, *choices: str) -> list[str]:
        """Every setting, dotted, of the options that are chosen."""
        try:
            with hydra.initialize_config_dir(str(self.config_dir), version_base="1.3"):
                cfg = hydra.compose(self.config_name, [*searched(self._own), *self._choices, *choices])
        except (HydraException, OmegaConfBaseException):
            return []
        return [
            key
            for key, _ in items(OmegaConf.to_container(cfg, resolve=False))
            if not key.split(".")[-1].startswith("_")
        ]

    def refuse_odd_choices(self, arguments: Iterable[str]) -> None:
        """Raises a UserError at the first choice that is no option's name, or several where they would overwrite."""
        parser = OverridesParser.create()
        for override in parser.parse_overrides([text for text in arguments if text.split("=")[0] in self.groups]):
            group, value = override.key_or_group, override.value()
            if override.is_sweep_override() or override.is_delete() or isinstance(value, str):
                continue
            if not isinstance(value, list) or not all(isinstance(option, str) for option in value):
                options = ", ".join(self.options(group))
                raise UserError(f"Expected an option of `{group}`, got {_given(override)}; there are {options}.")
            if group not in ADDING:
                raise UserError(
                    f"Expected one option of `{group}`, got {_given(override)}, of which the last would overwrite the "
                    f"others; choose one, or add -m and write {group}={','.join(value)} to try each."
                )

    def missing(self, error: Exception) -> UserError | None:
        """The sentence on an option or setting that does not exist, if the error is about one."""
        if isinstance(error, MissingConfigException):
            return self.no_option(error)
        if found := re.search(r"In '([^']+)': Could not override '([^']+)'\. No match", str(error)):
            return self._of_another(*found.groups())
        found = re.match(r"Could not (?:override|delete from config\.) '([^']+)'", str(error))
        return None if found is None else self.unknown(found[1])

    def _of_another(self, file: str, group: str) -> UserError:
        """The sentence on an option that is made for another program, whose groups it chooses from."""
        chosen, _, option = file.rpartition("/")
        others = [
            path.stem
            for path in self.config_dir.glob("*.yaml")
            if group in Settings([self.config_dir], path.stem).groups and path.stem != self.config_name
        ]
        return UserError(
            f"Expected an option of `{chosen}` for {self.config_name}.py, got {option!r}, which chooses a `{group}`"
            + (f" and is one of {' and '.join(f'{name}.py' for name in others)}." if others else f"; {HELP}.")
        )

    def unknown(self, key: str) -> UserError:
        """The sentence on a setting that does not exist."""
        if (why := self._refused(key)) is not None:
            return UserError(f"Expected a setting that {self.config_name}.py takes, got `{key}`: {why}.")
        known = self.keys()
        group, _, rest = key.partition(".")
        if rest and group in self.groups and (having := self._options_with(key)):
            chosen = next((c for c in self._choices if c.startswith(f"{group}=")), f"this {group}")
            return UserError(
                f"Expected a setting of {chosen}, got {key!r}, which is one of {group}={' or '.join(having[:4])}; "
                f"{HELP}."
            )
        last = key.rsplit(".", maxsplit=1)[-1]  # as in `steps` and, where there is no group `data`, `data.root`
        close = [k for k in known if k.endswith(f".{last}") and not k.startswith("data.module.")]
        close = [] if rest and group in self.groups else close
        close = close or difflib.get_close_matches(key, {*known, *self.groups}, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close[:3])}?" if close else f"{HELP}."
        return UserError(f"Expected a setting that exists, got {key!r}; {hint}")

    def _options_with(self, key: str) -> list[str]:
        group = key.split(".", maxsplit=1)[0]
        found = []
        for file in self._files(group):
            named = re.search(rf"^{re.escape(key.split('.')[1])}:", file.read_text("utf-8"), re.MULTILINE)
            if named and key in self.keys(f"{group}={file.stem}"):
                found.append(file.stem)
        return sorted(found)

    def no_option(self, error: MissingConfigException) -> UserError:
        """The sentence on an option of a group that does not exist."""
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        known = [name for name in error.options or self.options(group) if not name.startswith("_")]
        if not known:
            return UserError(f"Expected a configuration {error.missing_cfg_file!r}, found none; {HELP}.")
        close = difflib.get_close_matches(option, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        return UserError(f"Expected an option of `{group}`, got {option!r}; {hint}There are {', '.join(known)}.")


def _given(override: Override) -> str:
    return str(override.get_value_element_as_str())


def explained(error: Exception, settings: Settings | None = None) -> Exception:
    """The error to report: the given one, its cause, or one sentence that shows the way out.

    Args:
        error: Hydra's or any other.
        settings: of the program, to choose from.
    """
    text = str(error)
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        inside = _inside(error, error.__cause__)
        of_lightning = text.endswith("full_key: trainer") and not isinstance(inside, UserError)
        return UserError(f"{_OF_TRAINER}{inside}") if of_lightning else inside
    if isinstance(error, ValueError) and text.startswith("Unable to configure"):  # by Python's logging
        return UserError(f"Expected a `hydra.job_logging` that can be set up, got: {text} ({error.__cause__}).")
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if settings is not None and (unknown := settings.missing(error)) is not None:
        return unknown
    return _reworded(text, () if settings is None else settings.arguments) or (
        UserError(_OF_TRAINER + text) if isinstance(error, MisconfigurationException) else error
    )


def _reworded(text: str, arguments: Sequence[str]) -> UserError | None:
    """The sentence for a message of Hydra or OmegaConf that shows no way out; None for any other."""
    if found := re.match(r"Interpolation key '([^']*)' not found", text):
        keys = [a.lstrip("+").split("=")[0] for a in arguments if f"${{{found[1]}}}" in a]
        where = f" in `{keys[0]}`" if keys else ""
        return UserError(
            f"Expected the name of a setting{where}, but there is no {found[1]!r} for ${{{found[1]}}}; where these "
            f"characters themselves are meant, write \\${{{found[1]}}}."
        )
    if found := re.match(r"Error merging override [+~]*([^=]+)=(.*)", text):
        return UserError(f"Expected for `{found[1]}` the kind of value that it has, got {found[2]}; {HELP}.")
    return _several(text) if text.startswith("Ambiguous value for argument") else None


def _several(text: str) -> UserError:
    """The sentence on several values where one is expected, made from Hydra's message."""
    override = text.split("\n", maxsplit=1)[0].removeprefix("Ambiguous value for argument '").removesuffix("'")
    key, _, value = override.lstrip("+~").partition("=")
    return UserError(
        f"Expected one value for `{key}`, got {value}; add -m to try each, write {key}=[{value}] for a list, or "
        f"{setting(key, value)} for one text with commas."
    )


def unreadable(override: str) -> UserError:
    """The sentence on a setting that Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    if not equals:
        return UserError(f"Expected KEY=VALUE, got {override!r}; {HELP}.")
    if not re.fullmatch(r"[~+]{0,2}[\w.@/:-]+", key, re.ASCII):
        return UserError(f"Expected a setting's name before =, got {key!r}; {HELP}.")
    return UserError(
        f"Expected a value for `{key.lstrip('+')}` that needs no quotes, got {value}; write {setting(key, value)}."
    )


def refuse_unreadable(arguments: Iterable[str]) -> None:
    """Raises a UserError that names the first setting that Hydra's grammar cannot read."""
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            parser.parse_override(argument)
        except HydraException as error:
            raise unreadable(argument) from error


def users_part(error: TypeError, cfg: DictConfig) -> UserError | None:
    """The sentence on a setting that a part does not take (`+method.foo=1`); None if a call within it is wrong."""
    found = _UNEXPECTED.match(str(error))
    container = OmegaConf.to_container(cfg, resolve=False)
    for key, node in [("", container), *items(container)]:
        if found is None or not isinstance(node, dict) or found[2] not in node or "_target_" not in node:
            continue
        if found[1].removesuffix(".__init__") in _names_of(node["_target_"]):
            return UserError(f"Expected settings that {_short(node)} knows in `{key}`, got {found[2]!r}; {HELP}.")
    return None


def _names_of(target: str) -> set[str]:
    """The names under which a TypeError may speak of what a configuration names."""
    try:
        made = get_object(target)
    except Exception:  # there is no such thing, and importing it may raise anything
        return set()
    return {c.__qualname__ for c in inspect.getmro(made)} if inspect.isclass(made) else {made.__qualname__}


def _short(node: dict[Any, Any]) -> str:
    return str(node["_target_"]).rsplit(".", maxsplit=1)[-1]


def _inside(error: InstantiationException, cause: Exception) -> Exception:
    """What was wrong while Hydra made a part of the program."""
    where = re.search(r"full_key: (\S+)", str(error))
    section = f"`{where[1]}`" if where else "the configuration"
    if isinstance(cause, InstantiationException) and isinstance(cause.__cause__, Exception):
        return _inside(cause, cause.__cause__)
    called_here = cause.__traceback__ is not None and cause.__traceback__.tb_next is None  # by Hydra, with settings
    if isinstance(cause, TypeError) and called_here:
        if found := _UNEXPECTED.match(str(cause)):
            name = found[1].removesuffix(".__init__")
            return UserError(f"Expected settings that {name} knows in {section}, got {found[2]!r}; {HELP}.")
        if found := re.search(r"missing \d+ required [\w-]+ arguments?: (.*)", str(cause)):
            return UserError(f"Expected a value for {found[1]} in {section}, got none; {HELP}.")
    if isinstance(cause, ImportError) and (found := re.search(r"Error locating target '([^']+)'", str(error))):
        inner = cause.__cause__
        absent = isinstance(inner, ModuleNotFoundError) and f"{found[1]}.".startswith(f"{inner.name}.")
        if absent or (isinstance(inner, AttributeError) and str(inner).startswith("module ")):
            return UserError(
                f"Expected a class or function at {found[1]}, which {section} names, found none; check its name, and "
                "add its folder to PYTHONPATH if it is your own."
            )
        return inner if isinstance(inner, Exception) else cause
    return cause


def items(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every key of nested dictionaries, dotted, with its value."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}", value
        yield from items(value, f"{prefix}{key}.")
