"""init: make a workspace: a folder with skinkit.toml.

A cohort is specified as NAME=SOURCE:PATH[:ROLE], for example --cohort pad=pad-ufes-20:/data/PAD-UFES-20 or --cohort
jinan=folder:/data/jinan:external. The role is development (the default), external or inference. An existing
skinkit.toml is never overwritten.

The default model is one that this installation can train: the ensemble where PyTorch and the weights that come with it
are installed, LightGBM on radiomics where they are not.

With --key FILE the patients of every cohort get pseudonyms. The file is created if absent. Keep it apart from the
workspace, and keep a copy: without it patients cannot be re-identified.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.files import write_atomic
from skinkit.commands import Context
from skinkit.errors import ConfigError, RefusedError, did_you_mean
from skinkit.options import Help
from skinkit.privacy.permissions import keep_private
from skinkit.privacy.pseudonyms import make_key, read_key
from skinkit.schemas import DEFAULT_ENDPOINT
from skinkit.taxonomy import CLASS_SET_HELP
from skinkit.workspace import DEFAULTS, PRIVATE, ROLES, SETTINGS_FILE, check_name, load_workspace, settings_text

PANEL = "Start", 2
SHARED_OPTIONS = ()

_OF_PHOTOS, _OF_TABLES = "ensemble", "lightgbm"
_EXAMPLE = """[cohorts.clinic]
role = "development"
source = "folder"
path = "/data/clinic"
"""


DECLARED = {"evaluate": {"primary": DEFAULT_ENDPOINT}}
"""Stage settings of a new workspace; the primary endpoint counts as chosen by default until a person declares it."""


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    folder: Annotated[str, Help("folder of the workspace; created if absent", positional=True, writes="workspace")] = (
        "."
    )
    cohort: Annotated[tuple[str, ...], Help("a cohort as NAME=SOURCE:PATH[:ROLE], repeatable", metavar="<cohort>")] = ()
    key: Annotated[
        str, Help("key file of the patients' pseudonyms; created if absent", metavar="<file>", writes="key")
    ] = ""
    private: Annotated[bool, "only the owner can read written files"] = False
    segmenter: Annotated[str, "default segmenter"] = DEFAULTS["segmenter"]
    model: Annotated[str, "default model (default: ensemble where the extra 'torch' is installed, else lightgbm)"] = ""
    classes: Annotated[str, f"default {CLASS_SET_HELP}"] = DEFAULTS["classes"]


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Write ``skinkit.toml``."""
    from skinkit.data import load_source

    folder = Path(config.folder).expanduser()
    file = folder / SETTINGS_FILE
    if file.exists():
        raise RefusedError(f"{file} exists", "a folder without a workspace", "edit that file, or choose another folder")
    cohorts = [parsed_cohort(text, folder) for text in config.cohort]
    for cohort in cohorts:
        load_source(cohort["source"])
    if config.key:
        made_key = _key(Path(config.key).expanduser().absolute(), folder)
        cohorts = [{**cohort, "pseudonymise": str(made_key)} for cohort in cohorts]
    model = config.model or _usual_model()
    defaults: dict[str, Any] = {"segmenter": config.segmenter, "model": model, "classes": config.classes}
    if config.private:
        defaults[PRIVATE] = True
        keep_private(folder / "artifacts")
    folder.mkdir(exist_ok=True)
    write_atomic(file, settings_text(defaults, cohorts, DECLARED).encode())
    workspace = load_workspace(folder)
    following = "next: skinkit run" if cohorts else f"next: add a cohort to {file}, for example\n\n{_EXAMPLE}"
    following = "\n".join([f"model: {model}", *_beginnings(config.segmenter, model), following])
    return {
        "workspace": str(workspace.root),
        "cohorts": list(workspace.cohorts),
        "model": model,
        "text": f"made {file} with {len(cohorts)} cohort(s): {', '.join(workspace.cohorts) or 'none yet'}\n{following}",
    }


def _usual_model() -> str:
    """A model that this installation can train: its weights are here, or it needs none."""
    from skinkit.models.parts.weights import LITE, PUBLIC, cached

    return _OF_PHOTOS if networks_installed() and cached(PUBLIC[LITE]) is not None else _OF_TABLES


def _beginnings(*names: str) -> list[str]:
    """Which of these models do not start from their own weights, in sentences."""
    sentences = []
    for name in names:
        begun = begun_here(name)
        if begun is None:
            sentences.append(
                f"no pretrained weights of {name} are here: see 'skinkit weights list' before 'skinkit run'"
            )
        elif begun:
            sentences.append(
                f"the weights of {name} are not here: 'skinkit run' trains it with {', '.join(said(begun))}"
            )
    return sentences


def said(beginning: Mapping[str, Any]) -> list[str]:
    """The settings of :func:`begun_here` in words."""
    preset = [f"preset {beginning['preset']}"] if "preset" in beginning else []
    return [*preset, *beginning.get("settings", ())]


def begun_here(name: str) -> dict[str, Any] | None:
    """Settings of ``[stage.train.NAME]`` with which a kind of model starts from weights that are here.

    Empty where it needs none, or where it is no kind that this installation knows. None where there are no weights.
    """
    from skinkit.models import can_start_from_lite, is_registered, load_model, model_config, preset_without
    from skinkit.models.parts.weights import LITE, PUBLIC, cached

    if not is_registered(name):
        return {}
    try:
        model = load_model(name)
    except ImportError:  # a network, without PyTorch: training it says what to install
        return {}
    default = model.default_weights(model_config(model, ()))
    if not default or (default in PUBLIC and cached(PUBLIC[default]) is not None):
        return {}
    if (other := preset_without(model, default)) is not None:
        return {"preset": other[0]}
    return {"settings": [f"backbone={LITE}"]} if can_start_from_lite(model) else None


def networks_installed() -> bool:
    """Whether everything that the extra ``torch`` brings is there."""
    try:
        return all(find_spec(name) for name in ("torch", "segmentation_models_pytorch", "timm"))
    except ModuleNotFoundError:
        return False


def _key(path: Path, folder: Path) -> Path:
    """The key file, created if absent.

    Raises:
        RefusedError: it is in the workspace, or an existing file is not a key.
    """
    if not path.exists() and not path.resolve().is_relative_to(folder.resolve()):
        make_key(path)
    read_key(path, folder)
    return path


def parsed_cohort(text: str, folder: Path) -> dict[str, str]:
    """Parse ``NAME=SOURCE:PATH[:ROLE]``; a path inside the workspace becomes relative to it."""
    name, _, rest = text.partition("=")
    source, _, place = rest.partition(":")
    path, _, last = place.rpartition(":")
    role = last if path and last in ROLES else "development"
    path = path if path and last in ROLES else place
    if not (name and source and path):
        raise ConfigError(
            f"--cohort {text!r}", "NAME=SOURCE:PATH[:ROLE]", "for example --cohort pad=pad-ufes-20:/data/PAD-UFES-20"
        )
    check_name(name, "--cohort")
    if path == place and last and "/" not in last and path != last and last.isalpha():
        raise ConfigError(f"--cohort {text!r}: role {last!r}", did_you_mean(last, ROLES), "use one of these roles")
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ConfigError(f"--cohort {text!r}: no folder {root}", "an existing folder", "check the path")
    home = folder.expanduser().resolve()
    path_text = os.path.relpath(root, home) if root.is_relative_to(home) else str(root)
    return {"name": name, "role": role, "source": source, "path": path_text}
