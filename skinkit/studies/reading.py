"""Read a study from its TOML: plain tables into the values of ``skinkit.studies.study``, every name checked.

Tables of the file, beside ``title``, ``citation``, ``classes``, ``malignant``, ``preset``, ``segmenter``,
``remarks``, ``figures`` and ``watched``:

    [[cohorts]] [[protocols]] [[steps]] [[arms]] [[comparators]] [[exhibits]] [[outlines]] [selection]
                  fields of ``Wanted``, ``Protocol``, ``Prerequisite``, ``Arm``, ``Arm``, ``Exhibit``,
                  ``OutlineMethod``, ``SelectionRule``
    [presets.NAME]  place of an arm or step -> preset of its model
    [[numbers]]   printed numbers of one exhibit (below)
    [[cited]]     a row of the paper's table of other people's work: ``who``, ``data``, ``classes``, ``caution``, and
                  its metrics in per cent

A block of numbers looks like the paper's table. ``exhibit``, ``unit`` and ``source`` (where it is printed) hold for all
of it, and ``printed_only = true`` says that skinkit computes nothing of the kind. Each of ``cohort``, ``arm`` and
``figure`` either holds for the block too, or is named in ``by``, so that a row begins with it, or is ``across``, so
that ``columns`` lists it. The other cells of a row are ``value``, ``[value, sd]``, ``{value, of}`` (a count of a total,
kept as their ratio) or ``"-"`` for a cell that is empty in the paper. Without ``across`` a row ends in one cell.
``arm`` is the whole system by default.

``classes`` is a class set of ``skinkit.taxonomy``, or the name of a TOML file of classes beside the study.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.weights import OF_MODEL
from skinkit.studies.study import (
    CITED_METRICS,
    KINDS,
    SYNTHESISE,
    TRAIN,
    UNITS,
    Arm,
    Cited,
    Exhibit,
    OutlineMethod,
    Prerequisite,
    Protocol,
    Published,
    PublishedSplit,
    SelectionRule,
    Study,
    Wanted,
    writes_images,
)

T = TypeVar("T")
EMPTY = "-"
_TABLES = {
    "cohorts": Wanted, "protocols": Protocol, "steps": Prerequisite, "arms": Arm, "comparators": Arm,
    "exhibits": Exhibit, "outlines": OutlineMethod,
}  # fmt: skip
_TEXTS = ("title", "citation", "classes", "malignant", "preset")
_OTHER = ("remarks", "segmenter", "selection", "numbers", "cited", "presets", "figures", "watched")
_SHARED = ("exhibit", "unit", "source", "printed_only", "by", "across", "columns", "rows")
_KEYS = ("cohort", "arm", "figure")


def read_study(
    module_file: str, splits: Sequence[PublishedSplit] = (), more_arms: Sequence[Mapping[str, Any]] = ()
) -> Study:
    """The study whose TOML lies beside a Python file; both have the study's name.

    Args:
        module_file: ``__file__`` of the study.
        splits: the protocols of ``skinkit split`` that it adds.
        more_arms: further tables of ``[[arms]]``, after those of the file.

    Raises:
        ConfigError: the TOML is absent or invalid, has an unknown key, lacks one, or names an exhibit, a cohort, an arm
            or a unit that does not exist.
    """
    file = Path(module_file).with_suffix(".toml")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}", "a valid UTF-8 TOML file", "correct the file") from None
    for table in (content, content.get("selection")):
        if isinstance(table, dict) and str(table.get("classes", "")).endswith(".toml"):
            table["classes"] = str(file.parent / table["classes"])
    content["arms"] = [*_rows(content, "arms", file.name), *more_arms]
    return study_of(content, file.stem, file.name, splits)


def study_of(content: Mapping[str, Any], name: str, where: str, splits: Sequence[PublishedSplit] = ()) -> Study:
    """The study of parsed TOML; ``where`` is the file that errors name. Raises as :func:`read_study`."""
    _refuse_unknown(content, (*_TEXTS, *_TABLES, *_OTHER), where)
    for key in (*_TEXTS, "cohorts", "protocols", "arms"):
        if not content.get(key):
            raise ConfigError(f"{where} has no {key}", f"the key {key!r}", "add it")
    tables: dict[str, tuple[Any, ...]] = {
        key: tuple(_made(kind, row, f"{where}, {key} {i + 1}") for i, row in enumerate(_rows(content, key, where)))
        for key, kind in _TABLES.items()
    }
    for exhibit in tables["exhibits"]:
        _one_of(exhibit.kind, KINDS, f"{where}, exhibit {exhibit.name}: kind")
    selection = content.get("selection")
    study = Study(
        name=name,
        **{key: content[key] for key in _TEXTS},
        cohorts=tables["cohorts"],
        protocols=tables["protocols"],
        arms=tables["arms"],
        segmenter=str(content.get("segmenter", "otsu")),
        outlines=tables["outlines"],
        comparators=tables["comparators"],
        selection=None if selection is None else _made(SelectionRule, selection, f"{where}, selection"),
        splits=tuple(splits),
        parts=tables["exhibits"],
        cited=tuple(_cited(row, f"{where}, cited {i + 1}") for i, row in enumerate(_rows(content, "cited", where))),
        remarks=tuple(content.get("remarks", ())),
        steps=tables["steps"],
        presets=_presets(content.get("presets", {}), where),
        figures=tuple(content.get("figures", ())),
        watched=tuple(content.get("watched", ())),
    )
    _check_made_from(study, where)
    numbers: list[Published] = []
    for i, block in enumerate(_rows(content, "numbers", where)):
        numbers += _numbers(study, block, f"{where}, numbers {i + 1}")
    return dataclasses.replace(study, published=tuple(numbers))


def _rows(content: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    rows = content.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{where}: {key} is no list of tables", f"[[{key}]]", "write one table per entry")
    return rows


def _refuse_unknown(table: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for key in table:
        if key not in names:
            raise ConfigError(f"unknown key {key!r} in {where}", did_you_mean(key, names), "rename or remove it")


def _one_of(value: object, names: Sequence[str], what: str) -> None:
    if value not in names:
        raise ConfigError(f"{what} {value!r}", did_you_mean(str(value), names), "name one of these")


def _made(kind: type[T], table: Any, where: str) -> T:
    """A dataclass from a table of the same keys; lists become tuples."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is no table", "a table", "correct the file")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _refuse_unknown(table, tuple(fields), where)
    for name, field in fields.items():
        if name in table:
            _typed(str(field.type), table[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} has no {name}", f"the key {name!r}", "add it")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})


def _typed(annotation: str, value: object, what: str) -> None:
    """Check a value against the annotation of its field, as far as TOML can differ from it."""
    kinds: dict[str, type] = {"str": str, "int": int, "bool": bool, "tuple": list, "Mapping": dict}
    expected = kinds[annotation.partition("[")[0]]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        words = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}[expected]
        raise ConfigError(f"{what} = {value!r}", words, "correct the value")


def _presets(tables: Any, where: str) -> dict[str, dict[str, str]]:
    good = isinstance(tables, dict) and all(
        isinstance(of, dict) and all(isinstance(preset, str) for preset in of.values()) for of in tables.values()
    )
    if not good:
        raise ConfigError(f"{where}: presets is no table of tables of texts", "[presets.NAME]", "correct the file")
    return {name: dict(of) for name, of in tables.items()}


def _check_made_from(study: Study, where: str) -> None:
    """Refuse what is made from a step or arm that does not stand before it, or from one of another kind."""
    trained: list[str] = []
    images: list[str] = []
    for one in study.everything:
        at = f"{where}, {one.name}"
        if one.weights.startswith(OF_MODEL):
            _one_of(one.weights.removeprefix(OF_MODEL), trained, f"{at}: weights of")
        if one.synthetic:
            _one_of(one.synthetic, images, f"{at}: synthetic")
        if isinstance(one, Arm):
            if one.teacher:
                _one_of(one.teacher, trained, f"{at}: teacher")
            for member in one.members:
                _one_of(member, trained, f"{at}: member")
        else:
            _one_of(one.stage, (TRAIN, SYNTHESISE), f"{at}: stage")
            if one.stage == SYNTHESISE:
                _one_of(one.model, trained, f"{at}: model")
        if one.name in (*trained, *images):
            raise ConfigError(f"{at}: a second step or arm of that name", "a name of its own", "rename it")
        (images if writes_images(one) else trained).append(one.name)


def _cited(row: Mapping[str, Any], where: str) -> Cited:
    texts = {key: value for key, value in row.items() if key not in CITED_METRICS}
    values = {key: _share(row[key], "%", f"{where}: {key}") for key in CITED_METRICS if key in row}
    return _made(Cited, {**texts, "values": values}, where)


def _numbers(study: Study, block: Mapping[str, Any], where: str) -> Iterator[Published]:
    """The numbers of one block."""
    _refuse_unknown(block, (*_SHARED, *_KEYS), where)
    for key in ("exhibit", "unit", "source", "rows"):
        if not block.get(key):
            raise ConfigError(f"{where} has no {key}", f"the key {key!r}", "add it")
    by, across = list(block.get("by", [])), block.get("across", "")
    columns = list(block.get("columns", [])) if across else [""]
    for key in (*by, *([across] if across else [])):
        _one_of(key, _KEYS, f"{where}: by or across")
    _one_of(block["exhibit"], [part.name for part in study.parts], f"{where}: exhibit")
    _one_of(block["unit"], UNITS, f"{where}: unit")
    for i, row in enumerate(block["rows"]):
        line = f"{where}, row {i + 1}"
        if not isinstance(row, list) or len(row) != len(by) + len(columns):
            raise ConfigError(f"{line} = {row!r}", f"{len(by)} names and {len(columns)} cells", "correct the row")
        for column, cell in zip(columns, row[len(by) :], strict=True):
            if cell == EMPTY:
                continue
            keys = {key: block[key] for key in _KEYS if key in block} | dict(zip(by, row, strict=False))
            keys |= {across: column} if across else {}
            yield _number(study, block, keys, cell, line)


def _number(study: Study, block: Mapping[str, Any], keys: Mapping[str, str], cell: object, where: str) -> Published:
    cohort, arm, figure = keys.get("cohort", ""), keys.get("arm", study.whole.name), keys.get("figure", "")
    printed_only = block.get("printed_only", False)
    if not figure:
        raise ConfigError(f"{where} has no figure", "what the number is", "name it as figure, by or across")
    if cohort or not printed_only:
        _one_of(cohort, [wanted.name for wanted in study.cohorts], f"{where}: cohort")
    _one_of(arm, [each.name for each in (*study.arms, *study.comparators)], f"{where}: arm")
    unit, sd = str(block["unit"]), None
    if isinstance(cell, list) and len(cell) == 2:
        value, sd = (_share(part, unit, where) for part in cell)
    elif isinstance(cell, dict) and set(cell) == {"value", "of"}:
        value = _share(cell["value"], unit, where) / _share(cell["of"], unit, where)
    else:
        value = _share(cell, unit, where)
    return Published(block["exhibit"], cohort, arm, figure, value, sd, unit, block["source"], printed_only)


def _share(value: object, unit: str, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r}", 'a number, [number, sd], {value, of} or "-"', "correct the cell")
    return value / 100 if unit == "%" else float(value)
