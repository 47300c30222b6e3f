"""The workspace: ``skinkit.toml`` (cohorts and defaults) and where each artifact lives.

artifacts/<cohort>/{cases, masks/<name>, features/<name>, fused/<name>}
artifacts/<cohort>/{predictions,explanations,metrics}/<model>
artifacts/splits/<name>/{split, signature/<name>}
artifacts/synthetic/<name>
artifacts/models/<name>
artifacts/report/<name>
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinkit.artifacts.leftovers import INSTALLING, PARTIAL, PREVIOUS
from skinkit.errors import ConfigError, did_you_mean, listed
from skinkit.privacy.pseudonyms import KeyedFolder, remembered
from skinkit.taxonomy import CLASS_SET_HELP, DIAGNOSES

SETTINGS_FILE = "skinkit.toml"
ROLES = ("development", "external", "inference")
RESERVED = ("splits", "synthetic", "models", "report")
UNFINISHED = (PARTIAL, PREVIOUS, INSTALLING)
"""Ends of the names of folders that are no finished artifact."""
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")

_TABLES = ("workspace", "cohorts", "stage", "cluster")
_NOT_OPTIONS = ("role", "source", "path", "prevalence", "pseudonymise", "diagnoses")
"""Keys of a cohort that do not decide how its files are read."""

AUTO = "auto"
_RULE, _USUAL = "otsu", "unet"
"""The segmenter that needs no training, and the usual name of one that is trained."""
DEFAULTS: dict[str, str] = {
    "segmenter": AUTO,
    "split": "grouped",
    "model": "frozen_probe",
    "classes": "pad6",
    "malignant": "",
}
PRIVATE = "private"
_DEFAULT_HELP = {
    "segmenter": "name of masks, features and fused tables too; auto: the workspace's trained segmenter, else otsu",
    "split": "name of the split models are trained on",
    "model": "name of the model that predicts",
    "classes": CLASS_SET_HELP,
    "malignant": "malignant set: pad or wang; empty for the class set's own",
    PRIVATE: "true: only the owner can read what is written",
}


@dataclass(frozen=True)
class Cohort:
    """One cohort of the workspace.

    Attributes:
        name: folder name under ``artifacts``.
        role: ``development`` (trained on), ``external`` (only scored) or ``inference`` (unlabelled patients).
        source: name of the source that reads it (``pad-ufes-20``, ``folder``, ...).
        root: absolute folder of its files.
        options: the remaining keys of its table in ``skinkit.toml``.
        prevalence: share of malignant cases where the model is to be used, if the cohort states one; it is not among
            the options, because reading the cohort does not depend on it.
        diagnoses: the only diagnoses its cases can have, where the workspace says so; no option either.
        key_file: key of the pseudonyms that its patients, lesions, cases and photos go by; None where they have their
            own ids. ``root`` then finds photos by their pseudonym.
    """

    name: str
    role: str
    source: str
    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    prevalence: float | None = None
    key_file: Path | None = None
    diagnoses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ref:
    """Names one artifact: kind, and the cohort and name where the kind has them."""

    kind: str
    cohort: str = ""
    name: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.cohort, self.kind, self.name) if part)


@dataclass(frozen=True)
class Workspace:
    """A folder with ``skinkit.toml`` and ``artifacts``."""

    root: Path
    defaults: Mapping[str, str]
    cohorts: Mapping[str, Cohort]
    settings: Mapping[str, Mapping[str, Any]]
    """Stage name -> configuration values given in ``[stage.NAME]``."""
    private: bool = False
    """Whether only the owner can read what is written."""
    cluster: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ``--cluster``, as given in ``[cluster]``."""

    @property
    def artifacts(self) -> Path:
        """Folder of all artifacts."""
        return self.root / "artifacts"

    def path(self, ref: Ref) -> Path:
        """Where an artifact lives."""
        name = ref.name
        places: dict[str, Sequence[str]] = {
            "cases": (ref.cohort, "cases"),
            "split": ("splits", name, "split"),
            "synthetic": ("synthetic", name),
            "models": ("models", name),
            "report": ("report", name),
        }
        if ref.kind == "signature":
            split, _, signature = name.partition("/")
            return self.artifacts.joinpath("splits", split, "signature", signature)
        return self.artifacts.joinpath(*places.get(ref.kind, (ref.cohort, ref.kind, name)))

    def cohort(self, name: str) -> Cohort:
        """The cohort of that name; unknown names raise :class:`ConfigError`."""
        if name not in self.cohorts:
            raise ConfigError(
                f"no cohort {name!r} in {self.root / SETTINGS_FILE}",
                did_you_mean(name, self.cohorts),
                f"add [cohorts.{name}] with role, source and path, or name another cohort",
            )
        return self.cohorts[name]

    def stage_settings(self, stage: str, name: str = "") -> dict[str, Any]:
        """Values of ``[stage.STAGE]``; of ``train``, those of ``[stage.train.NAME]`` win for the model called NAME."""
        own, shared = self.model_settings(stage).get(name, {}), self.settings.get(stage, {})
        return {**{key: value for key, value in shared.items() if key not in self.model_settings(stage)}, **own}

    def model_settings(self, stage: str) -> dict[str, Mapping[str, Any]]:
        """Name of a model -> values of ``[stage.train.NAME]``; empty for other stages."""
        tables = self.settings.get(stage, {}).items() if stage == "train" else ()
        return {name: table for name, table in tables if isinstance(table, dict)}

    def with_role(self, *roles: str) -> list[str]:
        """Names of the cohorts of these roles, in the order of the file."""
        return [cohort.name for cohort in self.cohorts.values() if cohort.role in roles]

    def chosen(self, named: Sequence[str], *roles: str) -> list[str]:
        """The named cohorts; where none is named, those of these roles, or all without roles.

        Raises:
            ConfigError: a name that no cohort has.
        """
        every = self.with_role(*roles) if roles else list(self.cohorts)
        return [self.cohort(name).name for name in named] or every

    def development(self, named: Sequence[str], what: str, fix: str = "leave --cohort out") -> list[str]:
        """The development cohorts, for what is made from all of them together.

        Args:
            named: the cohorts named on the command line.
            what: what is made, for the error.
            fix: what to do instead, for the error.

        Raises:
            ConfigError: other cohorts are named, or only some.
        """
        cohorts = self.with_role("development")
        if named and set(named) != set(cohorts):
            raise ConfigError(
                f"{what} of {listed(named)} alone",
                f"all development cohorts together: {listed(cohorts)}",
                f"{fix}, or change the roles in {SETTINGS_FILE}",
            )
        return cohorts


def find_workspace(start: Path) -> Path:
    """The nearest folder at or above ``start`` that has a ``skinkit.toml``."""
    start = start.expanduser().resolve()
    for folder in (start, *start.parents):
        if (folder / SETTINGS_FILE).is_file():
            return folder
    raise ConfigError(
        f"no {SETTINGS_FILE} in {start} or above it",
        "a workspace",
        f"run 'skinkit init {start}', or 'skinkit demo' to see one; --workspace names a folder elsewhere",
    )


def load_workspace(folder: Path) -> Workspace:
    """Read and check ``skinkit.toml``.

    Raises:
        ConfigError: the file is absent, not TOML, or has an unknown key, role or name.
    """
    file = folder / SETTINGS_FILE
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"no {file}", "a workspace", f"run 'skinkit init {folder}'") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: {error}", "a valid UTF-8 TOML file", "correct the file") from None
    for key in values:
        if key not in _TABLES:
            raise ConfigError(f"{file}: unknown table [{key}]", did_you_mean(key, _TABLES), "rename it")
        if not isinstance(values[key], dict):
            raise ConfigError(f"{file}: {key} = {values[key]!r}", f"a table [{key}]", "correct the file")
    defaults = dict(DEFAULTS)
    for key, value in values.get("workspace", {}).items():
        if key == PRIVATE and isinstance(value, bool):
            continue
        if key == PRIVATE:
            raise ConfigError(f"{file}: {key} = {value!r} in [workspace]", "true or false", "correct the value")
        if key not in DEFAULTS:
            raise ConfigError(
                f"{file}: unknown key {key!r} in [workspace]", did_you_mean(key, _DEFAULT_HELP), "rename it"
            )
        if not isinstance(value, str):
            raise ConfigError(f"{file}: {key} = {value!r} in [workspace]", "text in quotes", "put it in quotes")
        defaults[key] = value
    if defaults["segmenter"] == AUTO:
        defaults["segmenter"] = _trained_segmenter(folder) or _RULE
    settings = values.get("stage", {})
    if not all(isinstance(table, dict) for table in settings.values()):
        raise ConfigError(f"{file}: [stage] holds a plain value", "tables such as [stage.segment]", "correct the file")
    every = {key: settings["ingest"][key] for key in ("pseudonymise",) if key in settings.get("ingest", {})}
    cohorts = {name: _cohort(file, name, table, every) for name, table in values.get("cohorts", {}).items()}
    private = values.get("workspace", {}).get(PRIVATE, False)
    return Workspace(folder.resolve(), defaults, cohorts, settings, private, values.get("cluster", {}))


def _trained_segmenter(folder: Path) -> str:
    """Name of the workspace's trained segmenter: ``unet``, else the only one; empty where that names none."""
    names = [file.parent.name for file in sorted(folder.glob("artifacts/models/*/model.json")) if _is_segmenter(file)]
    return _USUAL if _USUAL in names else names[0] if len(names) == 1 else ""


def _is_segmenter(file: Path) -> bool:
    """Whether a finished model segments, by its ``model.json``; damage is found where the model is opened."""
    name = file.parent.name
    if not _NAME.fullmatch(name) or name.endswith(UNFINISHED) or not (file.parent / "manifest.json").is_file():
        return False
    try:
        return bool(json.loads(file.read_text("utf-8")).get("task") == "segment")
    except (OSError, ValueError, AttributeError):
        return False


def _cohort(file: Path, name: str, table: Any, every: Mapping[str, Any]) -> Cohort:
    check_name(name, f"cohort in {file}")
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: cohort {name!r} is no table", f"[cohorts.{name}]", "correct the file")
    for key in ("role", "source", "path"):
        if not isinstance(table.get(key), str):
            raise ConfigError(
                f"{file}: [cohorts.{name}] has no {key}", "role, source and path, each as text", f"add {key} = ..."
            )
    if table["role"] not in ROLES:
        raise ConfigError(
            f"{file}: role {table['role']!r} of cohort {name!r}", did_you_mean(table["role"], ROLES), "use one of these"
        )
    try:
        root = (file.parent / Path(table["path"]).expanduser()).resolve()
    except (RuntimeError, ValueError) as error:  # ~nobody, a NUL
        raise ConfigError(
            f"{file}: path = {table['path']!r} of cohort {name!r}: {error}", "the path of a folder", "correct it"
        ) from None
    prevalence = table.get("prevalence")
    if prevalence is not None and not (isinstance(prevalence, float) and 0 < prevalence < 1):
        raise ConfigError(
            f"{file}: prevalence = {prevalence!r} of cohort {name!r}",
            "the share of malignant cases where the model is to be used, such as 0.02",
            "correct the value",
        )
    key_file = _key_file(file, name, {**every, **table})
    if key_file is not None:
        root = KeyedFolder.of(root, key_file, file.parent.resolve())
    options = {key: value for key, value in table.items() if key not in _NOT_OPTIONS}
    diagnoses = checked_diagnoses(table.get("diagnoses", []), f"[cohorts.{name}] of {file}")
    return Cohort(name, table["role"], table["source"], root, options, prevalence, key_file, diagnoses)


def _key_file(file: Path, name: str, table: Mapping[str, Any]) -> Path | None:
    """The key that ``pseudonymise`` names, else the one the cohort was last read with; ``""`` stands for none."""
    setting = table.get("pseudonymise")
    if setting is None:
        memory = remembered(file.parent / "artifacts" / name)
        return memory.key_file if memory else None
    if not isinstance(setting, str):
        raise ConfigError(
            f"{file}: pseudonymise = {setting!r} of cohort {name!r}",
            "the path of a key file, in quotes",
            "correct the value",
        )
    return (file.parent / Path(setting).expanduser()).absolute() if setting else None


def checked_diagnoses(value: Any, where: str) -> tuple[str, ...]:
    """The only diagnoses that cases of a cohort can have, as a TOML file lists them under ``diagnoses``.

    Raises:
        ConfigError: no list, or an unknown diagnosis.
    """
    if not isinstance(value, list):
        raise ConfigError(
            f"diagnoses = {value!r} in {where}", "a list of diagnosis codes", 'write diagnoses = ["nevus", "melanoma"]'
        )
    for name in value:
        if name not in DIAGNOSES:
            raise ConfigError(
                f"diagnoses: {name!r} in {where}", did_you_mean(str(name), DIAGNOSES), "use one of these codes"
            )
    return tuple(value)


def check_name(name: str, what: str) -> None:
    """Refuse names that cannot be a folder on every file system.

    Raises:
        ConfigError: the name is empty, too long, reserved or has other characters.
    """
    if not _NAME.fullmatch(name) or name in RESERVED or name.endswith(UNFINISHED):
        raise ConfigError(
            f"{what}: the name {name!r}",
            "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, and not " + ", ".join(RESERVED),
            "choose another name",
        )


def with_defaults(text: str, values: Mapping[str, str], file: Path) -> str:
    """The text of a ``skinkit.toml`` with these values in ``[workspace]``; every other line stays as it is.

    Args:
        text: of the file.
        values: key of ``[workspace]`` -> value.
        file: named in the error.

    Raises:
        ConfigError: it is written in a way that cannot be edited line by line.
    """
    import tomli_w

    lines = text.splitlines(keepends=True)
    heads = [i for i, line in enumerate(lines) if line.lstrip().startswith("[")]
    start = next((i for i in heads if re.match(r"\s*\[\s*workspace\s*\]", lines[i])), None)
    if start is None:
        lines[:0] = ["[workspace]\n", "\n"]
        heads, start = [i + 2 for i in heads], 0
    end = min((i for i in heads if i > start), default=len(lines))
    for key, value in values.items():
        new = tomli_w.dumps({key: value}).strip()
        place = next((i for i in range(start + 1, end) if re.match(rf"\s*{key}\s*=", lines[i])), None)
        if place is None:
            lines.insert(start + 1, f"{new}\n")
            end += 1
        else:
            comment = re.search(r"""=\s*(?:"[^"]*"|'[^']*')\s*(#.*)$""", lines[place].rstrip())
            lines[place] = f"{new}{f'  {comment[1]}' if comment else ''}\n"
    changed, before = "".join(lines), tomllib.loads(text)
    try:
        same = tomllib.loads(changed) == {**before, "workspace": {**before.get("workspace", {}), **values}}
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        settings = ", ".join(f"{key} = {value!r}" for key, value in values.items())
        raise ConfigError(
            f"{file} cannot be edited line by line", f"{settings} in [workspace]", "edit the file by hand"
        )
    return changed


def settings_text(defaults: Mapping[str, Any], cohorts: Sequence[Mapping[str, Any]], stage: Mapping[str, Any]) -> str:
    """A ``skinkit.toml`` with a comment on every default.

    Args:
        defaults: values of ``[workspace]`` that differ from :data:`DEFAULTS` or are to be shown.
        cohorts: mappings with ``name``, ``role``, ``source``, ``path`` and further options.
        stage: stage name -> settings.
    """
    import tomli_w

    lines = ["# skinkit workspace. Every key is optional; the values shown are in effect.", "", "[workspace]"]
    for key, value in {**DEFAULTS, **defaults}.items():
        lines.append(f"{tomli_w.dumps({key: value}).strip()}  # {_DEFAULT_HELP[key]}")
    for cohort in cohorts:
        lines += ["", f"[cohorts.{cohort['name']}]"]
        lines.append(tomli_w.dumps({k: v for k, v in cohort.items() if k != "name"}).strip())
    for name, table in stage.items():
        lines += ["", f"[stage.{name}]", tomli_w.dumps(dict(table)).strip()]
    return "\n".join(lines) + "\n"
