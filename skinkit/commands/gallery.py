"""gallery: compare predicted with manual masks, best to worst.

Ranks the photos of each cohort by IoU and shows some of the worst, median and best, with IoU and Dice under each photo.
Photos in sample for the segmenter are left out. Reports the mean and median of IoU and Dice with 95 % intervals over
patients; with --against those of a second set of masks and the paired difference. --control measures a centred ellipse
of the mean area, the same in every photo. Files are written to 'gallery/<cohort>' of the workspace: SVG, PNG and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.commands import Context
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.options import Help, folder_for_files
from skinkit.schemas import OK
from skinkit.workspace import Cohort, Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PANEL = "Look", 5
SHARED_OPTIONS = ("workspace", "cohort")

FOLDER = "gallery"
CONTROL = "centred ellipse"
_PART = "part"
"""Column of the rows: their value of ``--by``."""
_SIDE_PX = 384


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    masks: Annotated[str, Help("name of the masks (default: the workspace's segmenter)", former="name")] = ""
    against: Annotated[str, "name of a second set of masks to show, such as from other starting weights"] = ""
    control: Annotated[
        bool, "also measure a centred ellipse of the mean area of these photos' outlines, the same in every photo"
    ] = False
    by: Annotated[str, Help("column of the cases: also give the figures for each of its values", metavar="COLUMN")] = ""
    cases: Annotated[int, Help("photos of each kind: worst, median and best", former="count")] = 5
    ids: Annotated[bool, "print the image id under each picture"] = False
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """A contact sheet for every cohort that has these masks and truth masks."""
    if config.cases < 1:
        raise ConfigError(f"--cases {config.cases}", "1 or more", "correct the value")
    workspace = context.workspace()
    name = config.masks or workspace.defaults["segmenter"]
    folder = folder_of(config.out, workspace, FOLDER)
    sheets = {}
    for cohort in [workspace.cohort(c) for c in context.cohorts or workspace.cohorts]:
        ref = Ref("masks", cohort.name, name)
        if not exists(workspace.path(ref)):
            continue
        masks = open_artifact(workspace.path(ref))
        rows = _scored(masks, workspace, cohort, config.by)
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
            f"run 'skinkit segment --name {name}', or name other masks with --masks",
        )
    texts = [sheet.pop("text") for sheet in sheets.values()]
    return {"galleries": sheets, "text": "\n".join(texts)}


def _scored(masks: Artifact, workspace: Workspace, cohort: Cohort, by: str = "") -> pd.DataFrame:
    """Masks with a truth mask, sorted by IoU, joined with the cases of their photos, and with a column of these.

    Raises:
        ConfigError: the cases have no such column.
    """
    table = masks.table()
    learnt = table["in_sample"].fillna(value=False).astype(bool)
    table = table[(table["status"] == OK) & table["iou"].notna() & ~learnt]
    names = ["image_id", "image_path", "width_px", "height_px", "group_id"]
    names += ["truth_mask_path", "truth_mask_label", "truth_mask_polarity"]
    every = open_artifact(workspace.path(Ref("cases", cohort.name))).table()
    if by and by not in every:
        raise ConfigError(
            f"no column {by!r} in the cases of {cohort.name}", did_you_mean(by, map(str, every)), "correct --by"
        )
    cases = every.reindex(columns=names).assign(
        **{_PART: every[by].astype("string").fillna("not known") if by else None}
    )
    rows = table[["image_id", "mask_file", "iou", "dice"]].merge(cases, on="image_id", validate="one_to_one")
    return rows.sort_values(["iou", "image_id"]).reset_index(drop=True)


def _sheet(
    config: Config, cohort: Cohort, masks: Mapping[str, Artifact], rows: pd.DataFrame, folder: Path
) -> dict[str, Any]:
    """One contact sheet, and the figures over all photos; masks by name, ranked by the first of them."""
    from skinkit.figures import photos

    names = list(masks)
    groups = {kind: rows.iloc[list(places)] for kind, places in _chosen(len(rows), config.cases).items()}
    pictures = {
        kind: [_picture(row, cohort.root, masks, ids=config.ids) for row in part.to_dict("records")]
        for kind, part in groups.items()
    }
    stem = "-".join(names)
    title = f"{cohort.name}, {' and '.join(names)}: {len(rows)} photos"
    files = photos.contact_sheet(pictures, folder, stem, names=names, title=title)
    answer = {
        "masks": names[0],
        **_measured(config, cohort, rows),
        "by": config.by or None,
        "parts": {str(name): _measured(config, cohort, of) for name, of in rows.groupby(_PART)},
        "shown": {kind: part[["image_id", "iou", "dice"]].to_dict("records") for kind, part in groups.items()},
        "figures": files,
    }
    written = write_study(folder, stem, answer, _text(config, cohort.name, names[0], answer), files=files)
    return {**written.body, "files": written.files, "text": written.text}


def _measured(config: Config, cohort: Cohort, rows: pd.DataFrame) -> dict[str, Any]:
    """The figures over some photos: of the masks, of those they are compared with, and of the control."""
    from skinkit.evaluation.overlap import FIGURES, difference, overlap

    patients = rows["group_id"].to_numpy(dtype=str)
    ours = {figure: rows[figure].to_numpy(dtype=float) for figure in FIGURES}

    def beside(theirs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {**overlap(theirs, patients), "difference": difference(ours, theirs, patients)}

    against = {figure: rows[f"{figure}_against"].to_numpy(dtype=float) for figure in FIGURES if config.against}
    return {
        "n": len(rows),
        "n_clusters": int(rows["group_id"].nunique()),
        **overlap(ours, patients),
        "against": {"masks": config.against, **beside(against)} if config.against else None,
        "control": {"masks": CONTROL, **beside(_control(cohort, rows))} if config.control else None,
    }


def _control(cohort: Cohort, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """IoU and Dice of a centred ellipse of the outlines' mean share of the photo."""
    import numpy as np

    from skinkit.evaluation.overlap import FIGURES
    from skinkit.images.drawn_masks import read_drawn_mask
    from skinkit.images.mask_reading import Reading
    from skinkit.images.masks import agreement, centred_ellipse

    drawn = [
        read_drawn_mask(
            cohort.root / row["truth_mask_path"], (int(row["width_px"]), int(row["height_px"])), Reading.of_case(row)
        )[0]
        for row in rows.to_dict("records")
    ]
    share = float(np.mean([mask.mean() for mask in drawn]))
    found = [agreement(centred_ellipse(mask.shape, round(share * mask.size)), mask) for mask in drawn]
    return {figure: np.array([one[figure] for one in found]) for figure in FIGURES}


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


def _text(config: Config, cohort: str, name: str, answer: Mapping[str, Any]) -> str:
    """The figures of all photos, and of each value of ``--by``."""
    return "\n".join(
        [
            f"{cohort}: {answer['n']} photos of {answer['n_clusters']} patients (95 % intervals over patients)",
            *_lines(name, answer),
            *(
                line
                for part, of in answer["parts"].items()
                for line in [f" {config.by} {part}: {of['n']} photos", *_lines(name, of)]
            ),
        ]
    )


def _lines(name: str, answer: Mapping[str, Any]) -> list[str]:
    from skinkit.evaluation.overlap import FIGURES, text_of

    def line(words: str, figures: Mapping[str, Any], *, signed: bool = False) -> str:
        return f"  {words}: {'; '.join(text_of(figures, figure, signed=signed) for figure in FIGURES)}"

    others = [other for kind in ("against", "control") if (other := answer[kind])]
    return [
        line(name, answer),
        *(line(other["masks"], other) for other in others),
        *(line(f"{name} minus {other['masks']}", other["difference"], signed=True) for other in others),
    ]
