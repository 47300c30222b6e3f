"""The stages, in the order of the chain.

A stage is one file of this folder with

    VERSION   increased when the result changes for the same inputs
    SCHEMA    the table it writes
    Config    a frozen dataclass; each field is an option (``skinkit.options``)
    targets   which artifacts a bare command makes: ``(config, workspace, cohorts, name) -> [Ref]``
    needs     what it reads to make one of them: ``(config, target, workspace) -> {input name: Ref}``
    run       the work: ``(config, job) -> Artifact``

and, where it has them,

    resolve   settings with the workspace's defaults filled in: ``(config, target, workspace) -> Config``
    sources   files outside the workspace it reads: ``(config, target, workspace) -> Sources``
    check_values
              refuses values of the settings, whatever is made, and quickly: ``(config, workspace) -> None``
    check     refuses settings before the inputs are made: ``(config, target, workspace) -> None``
    guard     refuses to replace an artifact, likewise: ``(config, existing artifact, recipe) -> None``; of the inputs,
              the recipe has trained models and sources
    company   processes that were started together for the command; only where it is true does this one lead:
              ``(config, device) -> context manager``
    audit     a check requested on the command line, run even if the stage is up to date: ``(config, job) -> None``
    GOES_ON   errors of one target that do not stop the others
    OF_MODEL  True where artifacts are named after a trained model: --model selects it
    SHARES    True where rows can be computed in shares (``--shard``); ``run`` then calls ``build.finish_share()``
    direct    a result without a workspace, such as ``radiomics --image``: ``(config, console) -> dict | None``

It imports heavy libraries inside ``run``,
so that ``--help`` is instant. The pipeline opens the inputs, composes the recipe and decides whether a stage must run;
a stage never asks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from skinkit.artifacts.artifact import Artifact, ArtifactRecipe
from skinkit.artifacts.builder import Builder, Share
from skinkit.console import Console
from skinkit.schemas import Schema
from skinkit.workspace import SETTINGS_FILE, Cohort, Ref, Workspace

if TYPE_CHECKING:
    from skinkit.workers import Cluster

STAGES: dict[str, str] = {
    "ingest": "Read a source folder into one table of cases.",
    "segment": "Segment the lesion in every image.",
    "radiomics": "Compute 102 radiomic features for every lesion.",
    "fuse": "Join cases, masks and features into one row per case.",
    "split": "Split the development cases by patient.",
    "select": "Select the radiomic signature of each fold.",
    "synthesise": "Generate images of each class and fold.",
    "train": "Train a model on the development cohorts.",
    "predict": "Predict class probabilities and malignancy for every case.",
    "explain": "Explain predictions with heatmaps and attributions.",
    "evaluate": "Compute metrics with confidence intervals.",
    "report": "Write one HTML page that opens offline.",
}
"""Stage name -> one-line help; the stage's module loads only when it is invoked."""

MAKER: dict[str, str] = {
    "cases": "ingest",
    "masks": "segment",
    "features": "radiomics",
    "fused": "fuse",
    "split": "split",
    "signature": "select",
    "synthetic": "synthesise",
    "models": "train",
    "predictions": "predict",
    "explanations": "explain",
    "metrics": "evaluate",
    "report": "report",
}
"""Artifact kind -> the stage that makes it."""


@dataclass(frozen=True)
class Job:
    """The input of a stage run: target, inputs and settings.

    Attributes:
        workspace: the workspace.
        target: the artifact to make.
        inputs: input name (as :func:`needs` gave it) -> opened artifact.
        recipe: composed by the pipeline.
        schema: the stage's table.
        jobs: processes to use.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: messages and progress.
        retry_failed: compute failed rows again.
        sources: result of :func:`sources`, where the stage has it.
        case_seconds: time limit of a case in a worker process, seconds; 0 for no limit.
        share: compute only this share of the rows.
        cluster: where cases are worked out; None for processes of this machine.
    """

    workspace: Workspace
    target: Ref
    inputs: Mapping[str, Artifact]
    recipe: ArtifactRecipe
    schema: Schema
    jobs: int
    device: str
    console: Console
    retry_failed: bool = False
    sources: Sources | None = None
    case_seconds: float = 120.0
    share: Share | None = None
    cluster: Cluster | None = None

    @property
    def cohort(self) -> Cohort:
        """The cohort of the target."""
        return self.workspace.cohort(self.target.cohort)

    @property
    def pace(self) -> dict[str, Any]:
        """How :func:`skinkit.workers.map_cases` goes through the cases of the target's cohort."""
        how = {"jobs": self.jobs, "limit_s": self.case_seconds, "console": self.console}
        if self.cluster is None:
            return how
        key_file = self.cohort.key_file
        shared = (self.workspace.root / SETTINGS_FILE, self.cohort.root, *([key_file] if key_file else []))
        return {**how, "cluster": replace(self.cluster, shared=shared)}

    def build(self) -> Builder:
        """The builder of the target, to be used as a context manager."""
        return Builder(
            self.workspace.path(self.target),
            self.schema,
            self.recipe,
            retry_failed=self.retry_failed,
            watch=self.sources.watch if self.sources else None,
            run=self.console.run_id,
            share=self.share,
            console=self.console,
        )


@dataclass(frozen=True)
class Sources:
    """What a stage reads outside the workspace.

    Attributes:
        inputs: name -> content digest; part of the recipe.
        watch: digest of sizes and times, compared without reading any file.
        unchanged: where ``watch`` differs, whether an artifact was made from files of the same contents all the same;
            without it, a difference makes the artifact stale.
    """

    inputs: Mapping[str, str]
    watch: str
    unchanged: Callable[[Artifact], bool] | None = None


class Stage(Protocol):
    """The shape of a stage module."""

    VERSION: int
    SCHEMA: Schema
    Config: type[Any]

    def targets(self, config: Any, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
        """Which artifacts the command makes; ``cohorts`` is empty when none was named."""

    def needs(self, config: Any, target: Ref, workspace: Workspace) -> dict[str, Ref]:
        """What is read to make the target."""

    def run(self, config: Any, job: Job) -> Artifact:
        """Make the target."""


def load_stage(name: str) -> Stage:
    """The module of a stage."""
    return cast("Stage", importlib.import_module(f"skinkit.stages.{name}"))
