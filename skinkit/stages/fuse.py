"""fuse: cases + masks + features -> fused, one row per case. It joins and fits nothing.

A case with several photos is represented by its dermoscopic one, else by the first image id. A case without features
keeps its row (reason ``features_missing``), because models can still predict it from its other inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from skinkit.artifacts.artifact import Artifact
from skinkit.data.views import beside, is_view_column, primary_images
from skinkit.schemas import FEATURES, FUSED, OK
from skinkit.stages import Job
from skinkit.workspace import Ref, Workspace, check_name

VERSION = 2
SCHEMA = FUSED


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    features: Annotated[str, "name of the features (default: the workspace's segmenter)"] = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One fused table per cohort."""
    name = name or config.features or workspace.defaults["segmenter"]
    check_name(name, "name of the fused table")
    return [Ref("fused", cohort, name) for cohort in workspace.chosen(cohorts)]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """Cases, features, and the masks those features were measured in."""
    from skinkit.artifacts.artifact import exists, open_artifact

    features = Ref("features", target.cohort, config.features or target.name)
    path = workspace.path(features)
    masks = str(open_artifact(path).config.get("masks") or "") if exists(path) else ""
    return {
        "cases": Ref("cases", target.cohort),
        "masks": Ref("masks", target.cohort, masks or features.name),
        "features": features,
    }


def run(config: Config, job: Job) -> Artifact:
    """Join one cohort."""
    cases = job.inputs["cases"].table()
    masks = job.inputs["masks"].table(
        ["image_id", "segmenter", "mask_file", "mask_sha256", "mask_failed", "area_share"]
    )
    features = job.inputs["features"].table()
    measured = [name for name in features.columns if name not in FEATURES.names]
    images = cases[cases["status"] == OK].drop(columns=["fingerprint", "status", "reason", "detail"], errors="ignore")
    images = images.merge(masks, on="image_id", how="left", validate="one_to_one")
    folder = job.inputs["masks"].path
    inside = job.workspace.path(Ref("masks", job.target.cohort, folder.name.removesuffix(".previous")))
    prefix = inside.relative_to(job.workspace.root).as_posix()
    images["mask_path"] = [f"{prefix}/{name}" if isinstance(name, str) else None for name in images["mask_file"]]
    frame = beside(primary_images(images), images)
    ok = features.loc[features["status"] == OK, ["image_id", *measured]]
    frame = frame.merge(ok, on="image_id", how="left", validate="one_to_one")
    without = ~frame["image_id"].isin(ok["image_id"])
    frame["status"] = OK
    frame["reason"] = without.map({True: "features_missing", False: None})
    views = [name for name in map(str, frame) if is_view_column(name)]
    extra = [name for name in cases.columns if _is_extra(name)]
    keep = [*(n for n in FUSED.names if n in frame), *views, *extra, *measured]
    with job.build() as build:
        build.clear()
        return build.finish(
            frame[keep],
            info={"masks": job.inputs["masks"].info, "radiomics": job.inputs["features"].info, "features": measured},
        )


def _is_extra(column: str) -> bool:
    """Columns of a source beyond the shared ones: the seven-point checklist, derm7pt's own, a hospital's ``keep``."""
    return column.startswith(("seven_point__", "derm7pt__", "keep__"))
