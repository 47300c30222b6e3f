"""A ``Config`` field is an option: ``size: Annotated[int, "square side, pixels"] = 512``.

Type, unit, help, default and manifest entry stand in that one line; ``cli.py`` derives the command line from it and
``skinkit.toml`` fills the same fields.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from skinkit.artifacts.files import json_values
from skinkit.errors import ConfigError, did_you_mean

C = TypeVar("C")
Writes = Literal["", "table", "predictions", "bundle", "pack", "folder", "workspace", "downloads", "scratch", "key"]
"""Kinds of outputs."""


@dataclass(frozen=True)
class Help:
    """Help of an option with more to say than its text.

    Attributes:
        text: the help.
        identity: whether the value affects the result (and so stands in the recipe).
        if_given: stands there only where it is not the default, so that artifacts older than the option stay as they
            are; of a model's setting, so that models older than it stay up to date.
        former: the option's name in earlier versions, which settings and command lines may still use; the identity is
            computed with it, so that artifacts made under it stay as they are.
        positional: an argument without a dash.
        metavar: how the value is called in the help.
        flag: the option on the command line, where it is not the field's name (``for`` is a word of Python). A
            positional argument with a flag may be given either way.
        rare: rarely needed: the help shows it last.
        writes: kind of output that the value names, which is checked before the command begins
            (``skinkit.commands._output``); empty for any other option.
    """

    text: str
    identity: bool = True
    if_given: bool = False
    former: str = ""
    positional: bool = False
    metavar: str = ""
    flag: str = ""
    rare: bool = False
    writes: Writes = ""


def folder_for_files(usual: str, unless: str = "") -> Help:
    """The help of ``--out``, which replaces a folder of the workspace.

    Args:
        usual: the folder that is used without it.
        unless: in which case there is none.
    """
    also = f"; {unless}" if unless else ""
    return Help(f"folder for the files (default: {usual} of the workspace{also})", metavar="DIR", writes="folder")


MODEL = "trained model, as 'skinkit models list' names it"
ONE_MODEL = Help(f"{MODEL} (default: the workspace's)", metavar="NAME", flag="--model")
"""How a command's ``Config`` says which model it reads."""
ONE_MODEL_ARGUMENT = dataclasses.replace(ONE_MODEL, positional=True)
"""The same, where the model may also be named without ``--model``."""
MANY_MODELS = Help(f"{MODEL}, repeatable (default: the workspace's)", metavar="NAME", flag="--model", positional=True)
"""The same, of a command that reads several."""
MaskLabel = Annotated[
    int | None, Help("with --mask: value of the mask that is the lesion, where it holds several", identity=False)
]
"""How a ``Config`` that takes one photo says which value of its mask is the lesion."""
MaskPolarity = Annotated[
    Literal["", "light", "dark"],
    Help("with --mask: dark: lower values are lesion; light: higher, however it looks", identity=False),
]
"""The same, which side of a grey mask."""
_RARE = frozenset({"seed", "bootstrap", "minimum", "allow_leakage", "allow_untrained", "near_bits", "near_limit"})
"""Fields that are rarely needed in any command."""


@dataclass(frozen=True)
class Option:
    """One field of a ``Config``, taken apart."""

    name: str
    type: Any
    default: Any
    help: Help

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return self.help.flag or "--" + self.name.replace("_", "-")

    @property
    def former_flag(self) -> str:
        """Its spelling on the command line of earlier versions; empty if it has always had its name."""
        return "--" + self.help.former.replace("_", "-") if self.help.former else ""

    @property
    def identity_name(self) -> str:
        """Its name in the identity of an artifact."""
        return self.help.former or self.name

    @property
    def nested(self) -> tuple[Option, ...]:
        """The options of a field that is itself a ``Config``, such as ``recipe``; none of another field."""
        return tuple(options_of(self.type)) if _is_config(self.type) else ()

    @property
    def rare(self) -> bool:
        """Whether the help shows it last."""
        return self.help.rare or self.name in _RARE


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def options_of(config: type) -> Iterator[Option]:
    """The options of a ``Config`` class in order."""
    hints = get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{config.__qualname__}.{field.name} has no help: write Annotated[type, 'help']")
        kind, note = get_args(hint)[:2]
        help_ = note if isinstance(note, Help) else Help(str(note))
        default = field.default
        if default is dataclasses.MISSING:
            raise TypeError(f"{config.__qualname__}.{field.name} has no default")
        yield Option(field.name, kind, default, help_)


def identity_of(config: Any) -> dict[str, Any]:
    """The values that affect the result, as plain values for the recipe."""
    values = [(o, getattr(config, o.name)) for o in options_of(type(config)) if o.help.identity]
    return {o.identity_name: json_values(value) for o, value in values if not (o.help.if_given and value == o.default)}


def settings_identity(config: Any) -> dict[str, Any]:
    """All values of a model's settings, nested ones too, but for options ``if_given`` that are at their default.

    So a setting that a later version adds leaves models trained before it up to date.
    """
    out = {}
    for option in options_of(type(config)):
        value = getattr(config, option.name)
        if _is_config(option.type):
            out[option.identity_name] = settings_identity(value)
        elif not (option.help.if_given and value == option.default):
            out[option.identity_name] = value
    return out


def make_config(config: type[C], *layers: Mapping[str, Any], where: str = "configuration") -> C:
    """A ``Config`` from layers of values, later ones winning; every value is checked.

    Args:
        config: the ``Config`` class.
        layers: mappings of field name (dashes allowed) to value.
        where: what the error names as the place of the values.

    Raises:
        ConfigError: unknown field or a value of the wrong type.
    """
    options = {option.name: option for option in options_of(config)}
    values: dict[str, Any] = {}
    for layer in layers:
        for raw, value in renamed_settings(config, layer).items():
            name = raw.replace("-", "_")
            if name not in options:
                known = [*options, *(f"{o.name}.{inner.name}" for o in options.values() for inner in o.nested)]
                raise ConfigError(
                    f"unknown setting {raw!r} in {where}", did_you_mean(name, known), "rename or remove it"
                )
            option = options[name]
            if option.nested and isinstance(value, Mapping):
                base = values.get(name, option.default)
                values[name] = make_config(option.type, vars(base), value, where=f"{where}, {name}")
            else:
                values[name] = checked(option, value, where)
    return config(**values)


def renamed_settings(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, with the former names of options (``Help.former``) replaced by the present ones."""
    present = {option.help.former: option.name for option in options_of(config) if option.help.former}
    return {present.get(name.replace("-", "_"), name): value for name, value in values.items()}


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings under dotted names: ``{"recipe": {"epochs": 5}}`` -> ``{"recipe.epochs": 5}``."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= (
            {f"{name}.{inner}": v for inner, v in flat(value).items()} if isinstance(value, Mapping) else {name: value}
        )
    return out


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`flat`."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot:
            out.setdefault(outer, {})[inner] = value
        else:
            out[name] = value
    return out


def checked(option: Option, value: Any, where: str) -> Any:
    """The value in the option's type, or :class:`ConfigError`."""
    kind = option.type
    origin = get_origin(kind)
    good = False
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        if _is_number_or_text(kind):
            value = _as_number(value)
            kind = float if isinstance(value, (int, float)) else str
        else:
            kind = next(a for a in get_args(kind) if a is not type(None))
        origin = get_origin(kind)
    if origin is Literal:
        good = value in get_args(kind)
    elif origin is tuple:
        if isinstance(value, str):
            value = [value]
        # --channels grey,red is --channels grey --channels red; arguments, such as files, may have commas.
        if isinstance(value, (list, tuple)) and _all_text(value) and not option.help.positional:
            value = [part.strip() for v in value for part in v.split(",")]
        good = isinstance(value, (list, tuple)) and all(isinstance(v, get_args(kind)[0]) for v in value)
        value = tuple(value) if good else value
    elif kind is float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        value = float(value) if good else value
    elif kind is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = isinstance(value, kind)
    if not good:
        raise ConfigError(f"{option.name} = {value!r} in {where}", described(kind), "correct the value")
    return value


def _is_number_or_text(kind: Any) -> bool:
    """Whether a field takes a number or a rule in words: ``float | str``."""
    return get_origin(kind) in (Union, types.UnionType) and {float, str} <= set(get_args(kind))


def _as_number(value: Any) -> Any:
    """Text that is a number as that number; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def on_command_line(kind: Any) -> Any:
    """The type an option has on the command line, where a list is repeated and a number or text is text."""
    if get_origin(kind) is tuple:
        return list[str]
    return str if _is_number_or_text(kind) else kind


def _all_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def described(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(v) for v in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list"
    if _is_number_or_text(kind):
        return "a number or text"
    if _is_config(kind):
        return "settings of its own, such as " + ", ".join(option.name for option in list(options_of(kind))[:3])
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(kind, str(kind))
