"""run: run every stage that is not up to date.

Existing models are used unchanged; --retrain trains them again, unless they were installed. A segmentation network of
the workspace is trained first. A model whose own pretrained weights are not here, and for which skinkit.toml names no
others, starts from those that are installed with PyTorch, and says so. Failed cases do not stop the chain: they are
counted and listed in the report, and newly failed ones set the exit code 3.

--plan writes nothing: it lists the outdated artifacts in order, with reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.commands import Context
from skinkit.commands._checked_settings import refuse_problems
from skinkit.commands.init import begun_here, said
from skinkit.pipeline import Pipeline, Plan
from skinkit.workspace import Ref, Workspace

PANEL = "Start", 5
SHARED_OPTIONS = ("workspace", "jobs", "device", "retry_failed", "case_seconds", "cluster")


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    retrain: Annotated[bool, "train the model again even if it exists"] = False
    clinic: Annotated[bool, "also write the clinic report of every inference cohort"] = True
    plan: Annotated[bool, "list outdated artifacts with reasons and write nothing"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """The whole chain of a workspace."""
    workspace = context.workspace()
    refuse_problems(workspace)
    if config.plan:
        return _planned(config, context, workspace)
    pipeline = context.pipeline(workspace)
    run_chain(workspace, pipeline, retrain=config.retrain, clinic=config.clinic)
    failures = sum(s.artifact.manifest["counts"]["newly_failed"] for s in pipeline.steps if not s.fresh)
    reports = [step.artifact.path / "index.html" for step in pipeline.steps if step.ref.kind == "report"]
    n_made = sum(not step.fresh for step in pipeline.steps)
    return {
        "exit_code": 3 if failures else 0,
        "steps": [step.as_dict() for step in pipeline.steps],
        "newly_failed": failures,
        "reports": [str(path) for path in reports],
        "text": f"{n_made} artifacts made, {len(pipeline.steps) - n_made} up to date, {failures} newly failed cases\n"
        + "\n".join(f"report: {path}" for path in reports),
    }


def _planned(config: Config, context: Context, workspace: Workspace) -> dict[str, Any]:
    """The artifacts a run would make, in order; nothing is written."""
    plan = Plan(workspace, context.console, jobs=context.jobs, device=context.device, retry_failed=context.retry_failed)
    run_chain(workspace, plan, retrain=config.retrain, clinic=config.clinic)
    lines = [f"  {step.stage:<10} {step.ref!s:<34} {step.why}" for step in plan.planned]
    lines.append(f"{len(plan.planned)} artifacts would be made, {len(plan.fresh)} are up to date; nothing was written")
    return {
        "plan": [step.as_dict() for step in plan.planned],
        "up_to_date": [str(ref) for ref in plan.fresh],
        "text": "\n".join(lines),
    }


def run_chain(workspace: Workspace, pipeline: Pipeline, *, retrain: bool = False, clinic: bool = True) -> None:
    """Every stage in the order of the chain; training only without a model, or with ``--retrain``."""
    learns = bool(workspace.with_role("development"))
    if learns and _is_network(workspace.defaults["segmenter"]):
        segmenter = workspace.defaults["segmenter"]
        _train(workspace, pipeline, segmenter, retrain, model=segmenter)
    for stage in ("ingest", "segment", "radiomics", "fuse"):
        pipeline.make(stage, {})
    if learns:
        pipeline.make("select", {})
        _train(workspace, pipeline, workspace.defaults["model"], retrain)
    pipeline.make("predict", {})
    pipeline.make("explain", {})
    if workspace.with_role("development", "external"):
        pipeline.make("evaluate", {})
    pipeline.make("report", {})
    if clinic and workspace.with_role("inference"):
        pipeline.make("report", {"audience": "clinic"})


def _is_network(name: str) -> bool:
    from skinkit.models import Network, is_registered, load_model

    return is_registered(name, "segment") and issubclass(load_model(name), Network)


def _train(workspace: Workspace, pipeline: Pipeline, name: str, retrain: bool, **options: Any) -> None:
    path = workspace.path(Ref("models", name=name))
    if exists(path) and open_artifact(path).installed:
        if retrain:
            pipeline.console.info(f"models/{name} was installed: it is not trained anew")
        return
    if retrain or not exists(path):
        stated = workspace.stage_settings("train", name)
        if not stated.keys() & {"settings", "preset", "weights"}:
            begun = begun_here(str(stated.get("model") or name)) or {}
            options = {**begun, **options}
            if begun:
                how = ", ".join(said(begun))
                pipeline.console.warn(f"{name}: its own pretrained weights are not here; it is trained with {how}")
        pipeline.make("train", {**options, **({"replace": True} if retrain else {})}, name=name)
