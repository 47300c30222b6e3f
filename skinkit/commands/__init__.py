"""Commands other than the stages: the same shape (``Config``, ``run``), but no artifact.

A command is added by its file, named as the command, and nothing else. Its docstring begins ``name: one-line help.``;
``PANEL`` names its panel of ``skinkit --help`` and its place there, ``SHARED_OPTIONS`` the options that it shares with
others (of ``commands._command_line``; by default :data:`IN_WORKSPACE`).

``run(config, context)`` returns a mapping for ``--json``; its key ``text`` is printed otherwise. Heavy libraries are
imported inside ``run``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from skinkit.artifacts.builder import Share
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.pipeline import Pipeline
from skinkit.privacy.permissions import keep_private
from skinkit.stages import STAGES
from skinkit.workspace import SETTINGS_FILE, Workspace, find_workspace, load_workspace

if TYPE_CHECKING:
    from skinkit.workers import Cluster

CHAIN = "Chain"
IN_WORKSPACE = ("workspace",)
MODEL_STUDY = ("workspace", "cohort", "jobs", "device", "no_upstream")
TALK = ("json", "quiet", "log_format")
"""Options that every command has."""
_PANELS = ("Start", CHAIN, "Look", "Data study", "Model study", "Hand over")
"""Panels of ``skinkit --help``, in the order shown."""
_LINE = re.compile(r'"""(?P<name>\w+): (?P<line>.+?)(?:"""|\n)')
_PANEL = re.compile(r'^PANEL = "(?P<panel>.+)", (?P<place>\d+)$', re.MULTILINE)


def panels_of(folder: Path) -> dict[str, dict[str, str]]:
    """Panel -> command -> one-line help, in the order shown: the commands of a folder, and the stages as one panel.

    A command's file says both: its docstring begins ``name: one-line help.``, and ``PANEL = "Look", 3`` names the panel
    and the place there. The files are read, not run, so that an overview loads no command.
    """
    places: dict[str, list[tuple[int, str, str]]] = {panel: [] for panel in _PANELS}
    for file in sorted(folder.glob("[a-z]*.py")):
        text = file.read_text(encoding="utf-8")
        line, panel = _LINE.match(text), _PANEL.search(text)
        if line is None or line["name"] != file.stem or panel is None or panel["panel"] not in places:
            raise ImportError(f"{file} does not begin with its name and one-line help, or has no PANEL of {_PANELS}")
        help_line = line["line"][0].upper() + line["line"][1:]
        places[panel["panel"]].append((int(panel["place"]), file.stem, help_line))
    return {
        panel: dict(STAGES) if panel == CHAIN else {name: line for _, name, line in sorted(of)}
        for panel, of in places.items()
    }


PANELS: dict[str, dict[str, str]] = panels_of(Path(__file__).parent)
"""Panel of ``skinkit --help`` -> command name -> one-line help, in the order shown."""

COMMANDS: dict[str, str] = {name: line for panel, of in PANELS.items() if panel != CHAIN for name, line in of.items()}
"""Command name -> one-line help; the command's module loads only when it is invoked."""

SYNONYMS: dict[str, str] = {
    "version": "--version",
    "plan": "run --plan",
    "dry-run": "run --plan",
    "model": "models",
    "pack": "models pack",
    "install": "models install",
    "download": "weights fetch",
    "fetch": "weights fetch",
    "ls": "list",
    "sources": "list sources",
    "cohorts": "status",
    "check": "doctor",
    "test": "evaluate",
    "metrics": "evaluate",
    "features": "radiomics",
    "folds": "split",
    "fit": "train",
    "generate": "synthesise",
    "synthesize": "synthesise",
    "infer": "predict",
    "gradcam": "explain",
    "shap": "explain",
    "robustness": "corrupt",
    "forgetting": "continual",
    "html": "report",
    "csv": "export",
    "tsne": "embed",
    "shortcuts": "audit",
    "pseudonymise": "init --key",
    "anonymise": "scrub",
    "completions": "completion",
}
"""Common wrong command names -> the command to suggest."""


@dataclass(frozen=True)
class Context:
    """Settings that every command receives.

    Attributes:
        folder: folder of ``--workspace``, or the current folder.
        console: messages and progress.
        jobs: number of processes.
        device: ``auto``, ``cpu`` or ``cuda``.
        cohorts: cohorts named with ``--cohort``; empty for all.
        upstream: whether inputs are brought up to date first.
        retry_failed: compute failed rows again.
        case_seconds: time limit of a case, seconds; 0 for no limit.
        share: compute only this share of the rows.
        cluster: ``--cluster``; empty for processes of this machine.
    """

    folder: Path
    console: Console
    jobs: int = 1
    device: str = "auto"
    cohorts: Sequence[str] = ()
    upstream: bool = True
    retry_failed: bool = False
    case_seconds: float = 120.0
    share: Share | None = None
    cluster: str = ""

    def workspace(self) -> Workspace:
        """The workspace at or above the folder."""
        workspace = load_workspace(find_workspace(self.folder))
        for name in workspace.settings:
            if name not in STAGES:
                raise ConfigError(
                    f"[stage.{name}] of {SETTINGS_FILE}", did_you_mean(name, STAGES), "rename or remove it"
                )
        if workspace.private:
            keep_private(workspace.artifacts)
        return workspace

    def labelled(self, workspace: Workspace) -> list[str]:
        """The cohorts named with ``--cohort``, or all with diagnoses.

        Raises:
            ConfigError: an unknown cohort.
            InputError: there is no cohort with diagnoses.
        """
        cohorts = workspace.chosen(self.cohorts, "development", "external")
        if not cohorts:
            raise InputError(
                f"{workspace.root} has no labelled cohort",
                "a development or external cohort",
                f"add one to {workspace.root / SETTINGS_FILE}",
            )
        return cohorts

    def pipeline(self, workspace: Workspace) -> Pipeline:
        """A pipeline over that workspace with this invocation's settings."""
        return Pipeline(
            workspace,
            self.console,
            jobs=self.jobs,
            device=self.device,
            upstream=self.upstream,
            retry_failed=self.retry_failed,
            case_seconds=self.case_seconds,
            share=self.share,
            cluster=self.on_cluster(workspace),
        )

    def on_cluster(self, workspace: Workspace) -> Cluster | None:
        """What ``--cluster`` says, with the settings of the workspace."""
        if not self.cluster:
            return None
        from skinkit.workers import Cluster

        return Cluster.of(self.cluster, workspace.cluster, str(workspace.root / SETTINGS_FILE))


class Command(Protocol):
    """The shape of a command module."""

    Config: type[Any]

    def run(self, config: Any, context: Context) -> Mapping[str, Any]:
        """Run the command and return its result."""


def load_command(name: str) -> Command:
    """The module of a command."""
    return cast("Command", importlib.import_module(f"skinkit.commands.{name}"))
