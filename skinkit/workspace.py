"""The workspace: ``skinkit.toml`` (cohorts and defaults) and where each artifact lives.

artifacts/<cohort>/{cases, masks/<name>, features/<name>, fused/<name>}
artifacts/<cohort>/{predictions,explanations,metrics}/<model>
artifacts/splits/<name>/{split, signature/<name>}
artifacts/models/<name>
artifacts/report/<name>
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinkit.errors import ConfigError, did_you_mean

SETTINGS_FILE = "skinkit.toml"
ROLES = ("development", "external", "inference")
RESERVED = ("splits", "models", "report")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")

DEFAULTS: dict[str, str] = {
    "segmenter": "otsu",
    "split": "grouped",
    "model": "frozen_probe",
    "classes": "pad6",
    "malignant": "",
}
_DEFAULT_HELP = {
    "segmenter": "segmenter, and the name of masks, features and fused tables",
    "split": "name of the split models are trained on",
    "model": "name of the model that predicts",
    "classes": "class set: pad6, wang8, wang4, isic2017, isic2018-7, malignancy or a TOML file",
    "malignant": "malignant set: pad or wang; empty for the class set's own",
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
    """

    name: str
    role: str
    source: str
    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    prevalence: float | None = None


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

    def with_role(self, *roles: str) -> list[str]:
        """Names of the cohorts of these roles, in the order of the file."""
        return [cohort.name for cohort in self.cohorts.values() if cohort.role in roles]


def find_workspace(start: Path) -> Path:
    """The nearest folder at or above ``start`` that has a ``skinkit.toml``."""
    start = start.expanduser().resolve()
    for folder in (start, *start.parents):
        if (folder / SETTINGS_FILE).is_file():
            return folder
    raise ConfigError(
        f"no {SETTINGS_FILE} in {start} or above it",
        "a workspace",
        "run 'skinkit init DIR --cohort NAME=SOURCE:PATH', or 'skinkit demo' to see one",
    )


def load_workspace(folder: Path) -> Workspace:
    """Read and check ``skinkit.toml``.

    Raises:
        ConfigError: the file is absent, not TOML, or has an unknown key, role or name.
    """
    file = folder / SETTINGS_FILE
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {file}", "a workspace", "run 'skinkit init DIR'") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}", "a valid UTF-8 TOML file", "mend the file") from None
    for key in values:
        if key not in ("workspace", "cohorts", "stage"):
            raise ConfigError(
                f"{file}: unknown table [{key}]", did_you_mean(key, ("workspace", "cohorts", "stage")), "rename it"
            )
    defaults = dict(DEFAULTS)
    for key, value in values.get("workspace", {}).items():
        if key not in DEFAULTS:
            raise ConfigError(f"{file}: unknown key {key!r} in [workspace]", did_you_mean(key, DEFAULTS), "rename it")
        if not isinstance(value, str):
            raise ConfigError(f"{file}: {key} = {value!r} in [workspace]", "text in quotes", "put it in quotes")
        defaults[key] = value
    cohorts = {name: _cohort(file, name, table) for name, table in values.get("cohorts", {}).items()}
    settings = values.get("stage", {})
    if not all(isinstance(table, dict) for table in settings.values()):
        raise ConfigError(f"{file}: [stage] holds a plain value", "tables such as [stage.segment]", "mend the file")
    return Workspace(folder.resolve(), defaults, cohorts, settings)


def _cohort(file: Path, name: str, table: Any) -> Cohort:
    check_name(name, f"cohort in {file}")
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: cohort {name!r} is no table", f"[cohorts.{name}]", "mend the file")
    for key in ("role", "source", "path"):
        if not isinstance(table.get(key), str):
            raise ConfigError(
                f"{file}: [cohorts.{name}] has no {key}", "role, source and path, each as text", f"add {key} = ..."
            )
    if table["role"] not in ROLES:
        raise ConfigError(
            f"{file}: role {table['role']!r} of cohort {name!r}", did_you_mean(table["role"], ROLES), "use one of these"
        )
    root = (file.parent / Path(table["path"]).expanduser()).resolve()
    prevalence = table.get("prevalence")
    if prevalence is not None and not (isinstance(prevalence, float) and 0 < prevalence < 1):
        raise ConfigError(
            f"{file}: prevalence = {prevalence!r} of cohort {name!r}",
            "the share of malignant cases where the model is to be used, such as 0.02",
            "mend the value",
        )
    options = {key: value for key, value in table.items() if key not in ("role", "source", "path", "prevalence")}
    return Cohort(name, table["role"], table["source"], root, options, prevalence)


def check_name(name: str, what: str) -> None:
    """Refuse names that cannot be a folder on every file system.

    Raises:
        ConfigError: the name is empty, too long, reserved or has other characters.
    """
    if not _NAME.match(name) or name in RESERVED or name.endswith((".partial", ".previous")):
        raise ConfigError(
            f"{what}: the name {name!r}",
            "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, and not " + ", ".join(RESERVED),
            "choose another name",
        )


def settings_text(defaults: Mapping[str, str], cohorts: Sequence[Mapping[str, Any]], stage: Mapping[str, Any]) -> str:
    """A ``skinkit.toml`` with a comment on every default.

    Args:
        defaults: values of ``[workspace]`` that differ from :data:`DEFAULTS` or are to be shown.
        cohorts: mappings with ``name``, ``role``, ``source``, ``path`` and further options.
        stage: stage name -> settings.
    """
    import tomli_w

    lines = ["# skinkit workspace. Every key may be left out; the values shown are in force.", "", "[workspace]"]
    for key, value in {**DEFAULTS, **defaults}.items():
        lines.append(f"{tomli_w.dumps({key: value}).strip()}  # {_DEFAULT_HELP[key]}")
    for cohort in cohorts:
        lines += ["", f"[cohorts.{cohort['name']}]"]
        lines.append(tomli_w.dumps({k: v for k, v in cohort.items() if k != "name"}).strip())
    for name, table in stage.items():
        lines += ["", f"[stage.{name}]", tomli_w.dumps(dict(table)).strip()]
    return "\n".join(lines) + "\n"
