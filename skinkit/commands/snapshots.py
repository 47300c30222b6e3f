"""snapshots: plot how heatmaps change during training.

Plots the snapshots a network stored every few epochs of its training (``--settings recipe.snapshot_every=10``): the
heatmaps of one validation photo per class, the importance of each attribute, and the channel weights if metadata gate
the image features. Files are written to 'snapshots' of the workspace: SVG, PNG and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.commands import Context
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import CaseError, InputError
from skinkit.learning.pack import trained
from skinkit.options import ONE_MODEL_ARGUMENT, folder_for_files
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np

PANEL = "Model study", 8

FOLDER = "snapshots"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    model: Annotated[str, ONE_MODEL_ARGUMENT] = ""
    fold: Annotated[int, "fold that is shown"] = 0
    attributes: Annotated[int, "attributes shown, the strongest at the end of training"] = 8
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Plot the snapshots of one fold."""
    from skinkit.figures import training
    from skinkit.learning.fold_network import SNAPSHOTS
    from skinkit.learning.trained import FOLD

    workspace = context.workspace()
    name = config.model or workspace.defaults["model"]
    model = trained(name, workspace)
    file = model.path / FOLD.format(config.fold) / SNAPSHOTS
    if not file.is_file():
        raise InputError(
            f"no {file.relative_to(model.path)} in {model.path}",
            "a network of photo and attributes that kept snapshots",
            "train one with --settings recipe.snapshot_every=10",
        )
    shots = json.loads(file.read_text(encoding="utf-8"))
    folder = folder_of(config.out, workspace, FOLDER)
    cohorts = model.json("model.json")["cohorts"]
    photos = _photos(workspace, cohorts, {case["pixel_sha256"] for shot in shots for case in shot["cases"]})
    files = {"heatmaps": training.heatmap_course(shots, photos, folder, f"{name}-heatmaps")}
    if any(shot["importance"] for shot in shots):
        files["importance"] = training.importance_course(shots, folder, f"{name}-importance", limit=config.attributes)
    if any(shot["factors"] for shot in shots):
        files["factors"] = training.factor_course(shots, folder, f"{name}-factors")
    body = {"model": name, "fold": config.fold, "figures": files, "snapshots": shots}
    written = write_study(folder, name, body, _text(name, shots))
    return {"model": name, "snapshots": len(shots), "figures": files, "files": written.files, "text": written.text}


def _photos(workspace: Workspace, cohorts: Sequence[str], pixel_hashes: set[str]) -> dict[str, np.ndarray]:
    """Pixel hash -> photo, for photos that still exist."""
    from skinkit.learning.examples import photos_of

    photos = {}
    for cohort in cohorts:
        path = workspace.path(Ref("cases", cohort))
        if not exists(path):
            continue
        table = open_artifact(path).table(["pixel_sha256", "image_path", "image_sha256"])
        for photo in photos_of(table[table["pixel_sha256"].isin(pixel_hashes)], workspace.cohort(cohort).root):
            try:
                photos[photo.pixel_sha256] = photo.read()
            except CaseError:
                continue  # the heatmaps are shown without it
    return photos


def _text(name: str, shots: Sequence[Mapping[str, Any]]) -> str:
    last = shots[-1]
    strongest = sorted(last["importance"].items(), key=lambda pair: -pair[1])[:5]
    lines = [f"{name}: {len(shots)} snapshots, the last of epoch {last['epoch']} ({last['phase']})"]
    if strongest:
        lines.append("  strongest attributes: " + ", ".join(f"{key} {value:.3g}" for key, value in strongest))
    if last["factors"]:
        factors = ", ".join(f"{code} {of['mean']:.3f}" for code, of in last["factors"].items())
        lines.append(f"  mean weight of the channels: {factors}")
    return "\n".join(lines)
