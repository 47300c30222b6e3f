"""gallery: photos with manual and predicted outlines; the best, the median and the worst.

Ranks the photos of each cohort by IoU and shows some of the worst, median and best, with IoU and Dice under each photo.
Photos in sample for the segmenter are left out. Reports the mean and median of IoU and Dice with 95 % intervals over
patients. Files are written to 'gallery/<cohort>' of the workspace: SVG, PNG and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.commands import Context
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import ConfigError, InputError, listed
from skinkit.options import folder_for_files
from skinkit.schemas import OK
from skinkit.workspace import Cohort, Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FOLDER = "gallery"
_SIDE_PX = 384


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    name: Annotated[str, "name of the masks (default: the workspace's segmenter)"] = ""
    against: Annotated[str, "name of a second set of masks to show, such as from other starting weights"] = ""
    count: Annotated[int, "photos of each kind: worst, median and best"] = 5
    ids: Annotated[bool, "print the image id under each picture"] = False
    out: Annotated[str, folder_for_files("folder for the files (default: gallery of the workspace)")] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """A contact sheet for every cohort that has these masks and truth masks."""
    if config.count < 1:
        raise ConfigError(f"--count {config.count}", "1 or more", "correct the value")
    workspace = context.workspace()
    name = config.name or workspace.defaults["segmenter"]
    folder = folder_of(config.out, workspace, FOLDER)
    sheets = {}
    for cohort in [workspace.cohort(c) for c in context.cohorts or workspace.cohorts]:
        ref = Ref("masks", cohort.name, name)
        if not exists(workspace.path(ref)):
            continue
        masks = open_artifact(workspace.path(ref))
        rows = _scored(masks, workspace, cohort)
        masks_by_name = {name: masks}
        if config.against:
            masks_by_name[config.against] = open_artifact(
                workspace.path(Ref("masks", cohort.name, config.against)),
                f"run 'skinkit segment --name {config.against}'",
            )
            others = _scored(masks_by_name[config.against], workspace, cohort)[["image_id", "mask_file", "iou", "dice"]]
            rows = rows.merge(others, on="image_id", suffixes=("", "_against"), validate="one_to_one")
        if len(rows):
            sheets[cohort.name] = _sheet(config, cohort, masks_by_name, rows, folder / cohort.name)
    if not sheets:
        raise InputError(
            f"no masks {name!r} of {listed(context.cohorts or workspace.cohorts)} that a person's outline can judge",
            "masks of photos that have truth masks and that the segmenter has not learnt from",
            f"run 'skinkit segment --name {name}', or name other masks with --name",
        )
    texts = [sheet.pop("text") for sheet in sheets.values()]
    return {"galleries": sheets, "text": "\n".join(texts)}


def _scored(masks: Artifact, workspace: Workspace, cohort: Cohort) -> pd.DataFrame:
    """Masks with a truth mask, sorted by IoU, joined with the cases of their photos."""
    table = masks.table()
    learnt = table["in_sample"].fillna(value=False).astype(bool)
    table = table[(table["status"] == OK) & table["iou"].notna() & ~learnt]
    names = ["image_id", "image_path", "truth_mask_path", "truth_mask_label", "truth_mask_polarity", "group_id"]
    cases = open_artifact(workspace.path(Ref("cases", cohort.name))).table().reindex(columns=names)
    rows = table[["image_id", "mask_file", "iou", "dice"]].merge(cases, on="image_id", validate="one_to_one")
    return rows.sort_values(["iou", "image_id"]).reset_index(drop=True)


def _sheet(
    config: Config, cohort: Cohort, masks: Mapping[str, Artifact], rows: pd.DataFrame, folder: Path
) -> dict[str, Any]:
    """One contact sheet, and the figures over all photos; masks by name, ranked by the first of them."""
    from skinkit.evaluation.overlap import FIGURES, overlap
    from skinkit.figures import photos

    names, suffixes = list(masks), ["", "_against"][: len(masks)]
    agreement = {
        name: overlap(
            {figure: rows[figure + suffix].to_numpy(dtype=float) for figure in FIGURES},
            rows["group_id"].to_numpy(dtype=str),
        )
        for name, suffix in zip(names, suffixes, strict=True)
    }
    groups = {kind: rows.iloc[list(places)] for kind, places in _chosen(len(rows), config.count).items()}
    pictures = {
        kind: [_picture(row, cohort.root, masks, ids=config.ids) for row in part.to_dict("records")]
        for kind, part in groups.items()
    }
    stem = "-".join(names)
    title = f"{cohort.name}, {' and '.join(names)}: {len(rows)} photos"
    files = photos.contact_sheet(pictures, folder, stem, names=names, title=title)
    answer = {
        "masks": names[0],
        "n": len(rows),
        "n_clusters": int(rows["group_id"].nunique()),
        **agreement[names[0]],
        "against": {"masks": config.against, **agreement[config.against]} if config.against else None,
        "shown": {kind: part[["image_id", "iou", "dice"]].to_dict("records") for kind, part in groups.items()},
        "figures": files,
    }
    written = write_study(folder, stem, answer, _text(cohort.name, names[0], answer), files=files)
    return {**written.body, "files": written.files, "text": written.text}


def _chosen(n: int, count: int) -> dict[str, Sequence[int]]:
    """Ranks of the best, median and worst of n photos, without repetition."""
    count = min(count, max(1, n // 3))
    middle = max(0, (n - count) // 2)
    chosen = {
        "best": range(n - 1, max(n - 1 - count, -1), -1),
        "median": range(middle, min(middle + count, n)),
        "worst": range(min(count, n)),
    }
    used: set[int] = set()
    out: dict[str, Sequence[int]] = {}
    for kind, places in chosen.items():
        fresh = [place for place in places if place not in used]
        used |= set(fresh)
        if fresh:
            out[kind] = fresh
    return out


def _picture(row: Mapping[Any, Any], root: Path, masks: Mapping[str, Artifact], *, ids: bool) -> dict[str, Any]:
    """A downsampled photo with all its outlines."""
    import numpy as np
    from PIL import Image

    from skinkit.images.decode import read_mask, read_rgb
    from skinkit.images.drawn_masks import DrawnMask
    from skinkit.images.mask_reading import Reading

    rgb = read_rgb(root / row["image_path"])
    height, width = rgb.shape[:2]
    scale = _SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def small(mask: np.ndarray) -> np.ndarray:
        shades = Image.fromarray(mask.astype(np.uint8) * 255)
        return np.asarray(shades.resize(size, Image.Resampling.BILINEAR)) >= 128

    suffixes = ["", "_against"][: len(masks)]
    lines = [f"IoU {row['iou' + suffix]:.2f}, Dice {row['dice' + suffix]:.2f}" for suffix in suffixes]
    if len(masks) > 1:
        lines = [f"{name}: {line}" for name, line in zip(masks, lines, strict=True)]
    return {
        "rgb": np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS)),
        "truth": small(DrawnMask(root / row["truth_mask_path"], Reading.of_case(row)).read((width, height))),
        "predicted": [
            small(read_mask(artifact.path / file, sha256=artifact.sha256_of(file)))
            for artifact, file in zip(masks.values(), (row["mask_file" + suffix] for suffix in suffixes), strict=True)
        ],
        "text": "\n".join([*lines, *([str(row["image_id"])] if ids else [])]),
    }


def _text(cohort: str, name: str, agreement: Mapping[str, Any]) -> str:
    from skinkit.evaluation.overlap import FIGURES, text_of

    lines = [f"{cohort}: {agreement['n']} photos of {agreement['n_clusters']} patients (95 % intervals over patients)"]
    for masks, figures in (
        (name, agreement),
        *([(agreement["against"]["masks"], agreement["against"])] if agreement["against"] else []),
    ):
        lines.append(f"  {masks}: {'; '.join(text_of(figures, figure) for figure in FIGURES)}")
    return "\n".join(lines)
