"""segment: cases -> masks, one PNG per image at the image's own size.

A mask that is empty, covers less than 0.5 % or more than 98 % of the image has *failed*: the row says so
(``mask_failed``) and later stages measure the whole image instead. Where a person drew a mask, Dice and IoU tell how
close the drawn one comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifact import Artifact, digest, write_atomic
from skinkit.errors import CaseError
from skinkit.executor import map_cases
from skinkit.schemas import MASKS, OK
from skinkit.stages import Job, Sources
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import numpy as np

VERSION = 1
SCHEMA = MASKS
SMALLEST_SHARE, LARGEST_SHARE = 0.005, 0.98
"""Outside these shares of the image a mask has failed."""


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[str, "segmenter: otsu or truth (default: the workspace's)"] = ""
    settings: Annotated[tuple[str, ...], "a setting of the segmenter as NAME=VALUE, repeatable"] = ()


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One set of masks per cohort."""
    name = name or config.model or workspace.defaults["segmenter"]
    check_name(name, "name of the masks")
    chosen = [workspace.cohort(c).name for c in cohorts] or list(workspace.cohorts)
    return [Ref("masks", cohort, name) for cohort in chosen]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The cases of the cohort."""
    return {"cases": Ref("cases", target.cohort)}


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """Masks called after a segmenter are drawn by it; others by the workspace's."""
    from skinkit.models import registered

    named = target.name if target.name in registered("segment") else workspace.defaults["segmenter"]
    return replace(config, model=config.model or named)


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The segmenter's settings with its defaults: a changed default makes masks stale."""
    return Sources({"settings": digest(asdict(_settings(config)))}, watch="")


def _settings(config: Config) -> Any:
    from skinkit.models import load_model, model_config

    segmenter = load_model(config.model, task="segment")
    return model_config(segmenter, config.settings, where=f"--settings of {config.model}")


def run(config: Config, job: Job) -> Artifact:
    """Draw the masks of one cohort."""
    from skinkit.models import load_model

    name = config.model
    segmenter = load_model(name, task="segment")
    settings = _settings(config)
    cases = job.inputs["cases"].table()
    cases = cases[cases["status"] == OK]
    reads_truth = "truth_mask" in segmenter.READS
    with job.build() as build:
        items = {}
        fingerprints = {}
        for case in cases.to_dict("records"):
            key = (case["image_id"],)
            items[key] = {k: case[k] for k in ("image_id", "image_path", "truth_mask_path", "width_px", "height_px")}
            fingerprints[key] = job.recipe.fingerprint(
                asdict(settings), case["image_sha256"], case["truth_mask_sha256"]
            )
        todo = [items[key] for key in build.plan(fingerprints)]
        draw = None if reads_truth else partial(segmenter.draw, config=settings)
        work = partial(_mask_one, root=job.cohort.root, out=build.partial, segmenter=name, draw=draw)
        for row in map_cases(work, todo, key=("image_id",), jobs=job.jobs, console=job.console, label="segmenting"):
            build.add(row)
        return build.finish(info={"segmenter": name, "caution": getattr(segmenter, "CAUTION", None)})


def _mask_one(
    case: Mapping[str, Any],
    *,
    root: Path,
    out: Path,
    segmenter: str,
    draw: Callable[[np.ndarray], np.ndarray] | None,
) -> dict[str, Any]:
    """One mask: drawn (or taken over from a person), written, measured."""
    import hashlib

    from skinkit.images import png_bytes, read_mask, read_rgb, slug

    size = int(case["width_px"]), int(case["height_px"])
    truth = read_mask(root / case["truth_mask_path"], size) if case["truth_mask_path"] else None
    if draw is not None:
        mask = draw(read_rgb(root / case["image_path"]))
    elif truth is None:
        raise CaseError("truth_mask_absent", "the source folder holds no mask for this image")
    else:
        mask = truth
    data = png_bytes(mask)
    file = f"png/{slug(case['image_id'])}.png"
    write_atomic(out / file, data)
    return {
        "image_id": case["image_id"],
        "segmenter": segmenter,
        "mask_file": file,
        "mask_sha256": hashlib.sha256(data).hexdigest(),
        **measured(mask),
        **(agreement(mask, truth) if truth is not None else {}),
        "status": OK,
    }


def measured(mask: np.ndarray) -> dict[str, Any]:
    """Size, area and bounding box of a mask, and whether it failed."""
    import numpy as np

    height, width = mask.shape
    area = int(mask.sum())
    share = area / mask.size
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if area else (0, 0, 0, 0)
    left, top, right, bottom = (int(v) for v in box)
    return {
        "width_px": width,
        "height_px": height,
        "area_px": area,
        "area_share": share,
        "left_px": left,
        "top_px": top,
        "right_px": right,
        "bottom_px": bottom,
        "mask_failed": bool(share < SMALLEST_SHARE or share > LARGEST_SHARE),
    }


def agreement(mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice 2|A.B| / (|A| + |B|) and IoU |A.B| / |A+B|; both 1 where both masks are empty."""
    both, either = int((mask & truth).sum()), int((mask | truth).sum())
    if either == 0:
        return {"dice": 1.0, "iou": 1.0}
    return {"dice": 2 * both / (int(mask.sum()) + int(truth.sum())), "iou": both / either}
