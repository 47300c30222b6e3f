"""The stages, in the order of the chain.

A stage is one file of this folder with

    VERSION   raised when its result changes for the same inputs
    SCHEMA    the table it writes
    Config    a frozen dataclass; each field is an option (``skinkit.options``)
    targets   which artifacts a bare command makes: ``(config, workspace, cohorts, name) -> [Ref]``
    needs     what it reads to make one of them: ``(config, target, workspace) -> {input name: Ref}``
    run       the work: ``(config, job) -> Artifact``

and, where it has them,

    resolve   settings with the workspace's defaults filled in: ``(config, target, workspace) -> Config``
    sources   files outside the workspace it reads: ``(config, target, workspace) -> Sources``
    guard     what must not be replaced: ``(config, existing artifact, recipe) -> None``
    audit     a proof asked for on the command line, whether or not the stage had to run: ``(config, job) -> None``
    GOES_ON   errors of one target that do not keep the others from being made
    OF_MODEL  True where its artifacts go by the name of a trained model: --model chooses it
    SHARES    True where rows can be worked out in shares (``--shard``); ``run`` then calls ``build.finish_share()``
    direct    an answer without a workspace, such as ``radiomics --image``: ``(config, console) -> dict | None``

It imports heavy libraries inside ``run``,
so that ``--help`` is instant. The pipeline opens the inputs, composes the recipe and decides whether a stage must run;
a stage never asks.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from skinkit.artifacts.artifact import Artifact, Recipe
from skinkit.artifacts.builder import Builder, Share
from skinkit.console import Console
from skinkit.schemas import Schema
from skinkit.workspace import Cohort, Ref, Workspace

STAGES: dict[str, str] = {
    "ingest": "Read a source folder into one table of cases.",
    "segment": "Draw the lesion mask of every image.",
    "radiomics": "Measure 102 radiomic features of every lesion.",
    "fuse": "Join cases, masks and features into one row per case.",
    "split": "Divide the development cases; patients stay together.",
    "select": "Choose each fold's radiomic signature.",
    "train": "Train a model on the development cohorts.",
    "predict": "Give every case probabilities, malignancy and call.",
    "explain": "Show what the model looked at.",
    "evaluate": "Score predictions against the truth, with intervals.",
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
    "models": "train",
    "predictions": "predict",
    "explanations": "explain",
    "metrics": "evaluate",
    "report": "report",
}
"""Artifact kind -> the stage that makes it."""


@dataclass(frozen=True)
class Job:
    """One piece of work for a stage: what to make, from what, and how.

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
        sources: what :func:`sources` answered, where the stage has it.
        case_seconds: how long a case may take in a worker process; 0 for as long as it likes.
        share: work out only this share of the rows.
    """

    workspace: Workspace
    target: Ref
    inputs: Mapping[str, Artifact]
    recipe: Recipe
    schema: Schema
    jobs: int
    device: str
    console: Console
    retry_failed: bool = False
    sources: Sources | None = None
    case_seconds: float = 120.0
    share: Share | None = None

    @property
    def cohort(self) -> Cohort:
        """The cohort of the target."""
        return self.workspace.cohort(self.target.cohort)

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
        )


@dataclass(frozen=True)
class Sources:
    """What a stage reads outside the workspace.

    Attributes:
        inputs: name -> content digest; part of the recipe.
        watch: digest of sizes and times; a difference makes the artifact stale without reading any file.
    """

    inputs: Mapping[str, str]
    watch: str


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
