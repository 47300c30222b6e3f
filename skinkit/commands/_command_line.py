"""The options of every command and their ``--help``: the command's own options first, rare ones last.

The ``Config`` of a stage or command defines its own options; shared options are in one table here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from skinkit.commands import IN_WORKSPACE, TALK, load_command
from skinkit.errors import ConfigError
from skinkit.options import Option, on_command_line, options_of
from skinkit.stages import STAGES, load_stage

ARGUMENTS, OWN, COMMON, RARELY = HEADINGS = ("Arguments", "This command", "Common", "Rarely")


class _Shared(NamedTuple):
    """An option that commands share.

    Attributes:
        type: of its value.
        flags: its spellings.
        help: one sentence.
        default: of the parameter.
        metavar: placeholder of its value in the help.
        heading: its section of the help.
    """

    type: Any
    flags: tuple[str, ...]
    help: str
    default: Any = None
    metavar: str | None = None
    heading: str = COMMON


_SHARED: dict[str, _Shared] = {
    "workspace": _Shared(Path | None, ("--workspace", "-w"), "Folder with skinkit.toml; default: here or above."),
    "cohort": _Shared(
        list[str] | None, ("--cohort",), "Cohort to process, repeatable; default: all that apply.", metavar="<name>"
    ),
    "external": _Shared(
        list[str] | None, ("--external",), "Like --cohort, but the cohort must be external.", metavar="<name>"
    ),
    "name": _Shared(
        str | None,
        ("--name",),
        "Name of the result; default: name of the segmenter, split, generator or kind of model.",
        metavar="<name>",
    ),
    "jobs": _Shared(int | None, ("--jobs", "-j"), "Number of processes; default: the cores available to this process."),
    "device": _Shared(Literal["auto", "cpu", "cuda"], ("--device",), "Device of networks.", "auto"),
    "no_upstream": _Shared(
        bool,
        ("--no-upstream",),
        "Use inputs without bringing them up to date first.",
        False,
        heading=RARELY,
    ),
    "retry_failed": _Shared(
        bool, ("--retry-failed",), "Process cases again that failed before.", False, heading=RARELY
    ),
    "case_seconds": _Shared(
        float,
        ("--case-seconds",),
        "Time limit of a case in seconds, after which it fails; 0: none.",
        120.0,
        heading=RARELY,
    ),
    "cluster": _Shared(
        str | None,
        ("--cluster",),
        "Work out cases on a Dask cluster (tcp://host:8786) or in Slurm jobs (slurm).",
        metavar="<address>",
        heading=RARELY,
    ),
    "shard": _Shared(
        str | None,
        ("--shard",),
        "Compute the i-th of n shares of the rows (i/n), such as a task of a Slurm array; a run without it joins them.",
        metavar="<i/n>",
        heading=RARELY,
    ),
    "json": _Shared(bool, ("--json",), "Print one JSON object on stdout, also on errors.", False),
    "quiet": _Shared(bool, ("--quiet", "-q"), "Show only warnings and errors.", False),
    "log_format": _Shared(
        Literal["text", "json"], ("--log-format",), "Messages on stderr as text or JSON lines.", "text", heading=RARELY
    ),
}
_OLDER_NAME = _SHARED["name"]._replace(help="Older spelling of --model.", heading=RARELY)
_WIDEST = 28
"""Width of the column of option names in a help; longer names get a line of their own."""
_ALSO = "_as_option"
"""Suffix of the parameter of an argument that is also an option."""
_FORMER = "_by_former_name"
"""Suffix of the parameter of an option's former spelling, which the help does not show."""


def own_options(name: str) -> list[Option]:
    """The fields of a stage's or command's ``Config``."""
    return list(options_of((load_stage(name) if name in STAGES else load_command(name)).Config))


def parameters_of(name: str) -> list[inspect.Parameter]:
    """All options of a stage or command, as parameters that typer reads."""
    options = own_options(name)
    parameters = [parameter for option in options for parameter in _own(option)]
    taken = {option.name for option in options}
    shared = [option for option in _shared_of(name) if option not in taken]
    return parameters + [_of_shared(one, _OLDER_NAME if _renamed(name, one) else _SHARED[one]) for one in shared]


def _shared_of(name: str) -> Sequence[str]:
    if name not in STAGES:
        return (*getattr(load_command(name), "SHARED_OPTIONS", IN_WORKSPACE), *TALK)
    shares = getattr(load_stage(name), "SHARES", False)
    return [option for option in _SHARED if option != "shard" or shares]


def _renamed(name: str, shared: str) -> bool:
    """Whether ``--name`` of a stage is the older spelling of ``--model``."""
    return shared == "name" and name in STAGES and getattr(load_stage(name), "OF_MODEL", False)


def _of_shared(name: str, of: _Shared) -> inspect.Parameter:
    note = typer.Option(*of.flags, help=of.help, metavar=of.metavar, rich_help_panel=of.heading)
    return _keyword(name, Annotated[of.type, note], of.default)


def _own(option: Option) -> list[inspect.Parameter]:
    """One field of a ``Config``; None means not set, so that ``skinkit.toml`` applies.

    An argument with a flag is also an option.
    """
    kind = on_command_line(option.type)
    help_ = option.help
    default_text = _shown_default(option.default)
    text = f"{help_.text} (default: {default_text})" if default_text and "(default" not in help_.text else help_.text
    parameters = []
    if help_.positional:
        argument_help = f"the same as {help_.flag}" if help_.flag else help_.text
        argument = typer.Argument(help=argument_help, metavar=help_.metavar or None, show_default=False)
        parameters.append(_keyword(option.name, Annotated[kind | None, argument], None))
    if not help_.positional or help_.flag:
        flags = [option.flag, f"--no-{option.flag[2:]}"] if kind is bool else [option.flag]
        metavar = help_.metavar or ("<text>,..." if kind == list[str] else _choices(kind))
        note = typer.Option(
            "/".join(flags),
            help=text,
            metavar=metavar,
            show_default=False,
            rich_help_panel=RARELY if option.rare else OWN,
        )
        name = option.name + _ALSO if help_.positional else option.name
        parameters.append(_keyword(name, Annotated[kind | None, note], None))
    if former := option.former_flag:
        parameters.append(
            _keyword(option.name + _FORMER, Annotated[kind | None, typer.Option(former, hidden=True)], None)
        )
    return parameters


def _choices(kind: Any) -> str | None:
    """The values of an option that may be left empty, without the empty one; None where typer shows all of them."""
    values = get_args(kind) if get_origin(kind) is Literal else ()
    return f"<{'|'.join(filter(None, values))}>" if "" in values else None


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _shown_default(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "on" if default else ""
    return "" if default is None else str(default)


def passed_values(options: Sequence[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values set for a ``Config``'s fields.

    Raises:
        ConfigError: a field is set twice, to different values: as argument, as option or by a former spelling.
    """
    passed: dict[str, Any] = {}
    for option in options:
        given = [values[name] for end in ("", _ALSO, _FORMER) if values.get(name := option.name + end) is not None]
        if not given:
            continue
        if all(isinstance(value, list) for value in given):
            given = [[part for value in given for part in value]]
        first, *others = [value for value in given if value] or given[:1]
        for also in others:
            if also != first:
                raise ConfigError(f"{first} and {option.flag} {also}", "one of them", f"leave {first} or {also} out")
        passed[option.name] = first
    return passed


def flags_of(name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Spelling of every option of a command -> its help, and its allowed values if they are limited."""
    flags: dict[str, tuple[str, tuple[str, ...]]] = {}
    for parameter in parameters_of(name):
        kind, note = get_args(parameter.annotation)[:2]
        if isinstance(note, typer.models.OptionInfo) and not note.hidden:
            # Of an annotation typer takes the first name for a default until it has read the parameter.
            for spelling in (str(note.default), *(note.param_decls or ())):
                flags.update(dict.fromkeys(spelling.split("/"), (note.help or "", _values_of(kind))))
    return {**flags, "--help": ("Show this message and exit.", ())}


def values_of_first_argument(name: str) -> tuple[str, ...]:
    """Allowed values of a command's first argument, if they are limited."""
    first = next((option for option in own_options(name) if option.help.positional), None)
    return _values_of(first.type) if first else ()


def _values_of(kind: Any) -> tuple[str, ...]:
    kinds = [kind, *get_args(kind)]
    return next((tuple(filter(None, get_args(one))) for one in kinds if get_origin(one) is Literal), ())


# ------------------------------------------------------------------------------------------------ the help


class CommandHelp(TyperCommand):
    """A command whose help groups options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write them."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                flags, text = record
                if flags.startswith("--") and " / --no-" in flags and not text.endswith("(default: on)"):
                    record = flags.partition(" / ")[0], text  # nobody needs --no-common
                argument = parameter.param_type_name == "argument"
                if argument:
                    record = record[0].replace(" <list[str]>", "..."), record[1]
                groups[ARGUMENTS if argument else getattr(parameter, "rich_help_panel", None) or COMMON].append(record)
        _write_groups(formatter, groups)


class Overview(TyperGroup):
    """``skinkit`` itself, its commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = str(getattr(command, "rich_help_panel", ""))
            groups.setdefault(panel, []).append((name, command.help or ""))
        _write_groups(formatter, groups)


def _write_groups(formatter: Any, groups: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    for heading, rows in groups.items():
        if rows:
            width = min(max(len(row[0]) for of in groups.values() for row in of), _WIDEST)
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", text) for name, text in rows], col_max=_WIDEST)
