"""Small real artifacts for tests of the later stages, written through the builder as their own stages would."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit.artifacts.artifact import Artifact, ArtifactRecipe, open_artifact
from skinkit.artifacts.builder import Builder
from skinkit.console import Console
from skinkit.pipeline import Pipeline
from skinkit.schemas import SCHEMAS
from skinkit.workspace import Ref, Workspace, load_workspace

Row = Mapping[str, Any]


def make_workspace(
    folder: Path, cohorts: Mapping[str, str], *, allow_untrained: str = "", **defaults: str
) -> Workspace:
    """A workspace with these cohorts (name -> role); a reason where they are too few to show that a model learns."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["[workspace]", *(f'{key} = "{value}"' for key, value in defaults.items())]
    for name, role in cohorts.items():
        lines += [f"[cohorts.{name}]", f'role = "{role}"', 'source = "folder"', f'path = "{name}"']
        (folder / name).mkdir(exist_ok=True)
    lines += ["[stage.train]", f'allow_untrained = "{allow_untrained}"'] if allow_untrained else []
    (folder / "skinkit.toml").write_text("\n".join(lines), encoding="utf-8")
    return load_workspace(folder)


def write(
    workspace: Workspace,
    ref: Ref,
    rows: Sequence[Row] | pd.DataFrame,
    info: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Artifact:
    """Write one artifact whose rows are given."""
    schema = SCHEMAS[ref.kind]
    recipe = ArtifactRecipe(ref.kind, schema.version, "written", 1, config or {}, {})
    with Builder(workspace.path(ref), schema, recipe) as build:
        build.clear()
        for name, data in (files or {}).items():
            (build.partial / name).parent.mkdir(parents=True, exist_ok=True)
            (build.partial / name).write_bytes(data)
        return build.finish(pd.DataFrame(rows), info=info)


def write_cases(workspace: Workspace, cohort: str, rows: Sequence[Row]) -> Artifact:
    """Cases of a cohort: what a row leaves out is filled so that it shares nothing with any other row."""
    full = []
    for i, row in enumerate(rows):
        image = row.get("image_id", f"{cohort}-{i:04d}")
        patient = row.get("patient_id", f"P{image}")
        lesion = row.get("lesion_id")
        group = next(str(value) for value in (patient, lesion, image) if value)
        full.append(
            {
                "image_id": image,
                "case_id": image,
                "patient_id": patient,
                "lesion_id": lesion,
                "group_id": f"{row.get('space', cohort)}:{group}",
                "image_path": f"{image}.png",
                "image_sha256": f"file-{cohort}-{image}",
                "pixel_sha256": f"pixels-{cohort}-{image}",
                "view": None,
                "diagnosis": None,
                "status": "ok",
                "reason": None,
                **{key: value for key, value in row.items() if key != "space"},
            }
        )
    return write(workspace, Ref("cases", cohort), full)


class Said(Console):
    """A console that remembers."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        super().__init__(stream=self.text)


def run_stage(
    workspace: Workspace, stage: str, *, cohorts: Sequence[str] = (), name: str = "", **given: Any
) -> tuple[list[Artifact], str]:
    """Run a stage as its command does, on inputs as they are; its artifacts and what it said."""
    console = Said()
    pipeline = Pipeline(workspace, console, upstream=False)
    steps = pipeline.make(stage, given, cohorts=cohorts, name=name)
    made = [open_artifact(step.artifact.path) for step in steps if step.stage == stage]
    return made, console.text.getvalue()


def make(workspace: Workspace, stage: str, **options: Any) -> Artifact:
    """The one artifact of :func:`run_stage`."""
    (artifact,), _ = run_stage(workspace, stage, **options)
    return artifact


def model(workspace: Workspace, name: str) -> Artifact:
    """A trained model."""
    return open_artifact(workspace.path(Ref("models", name=name)))
