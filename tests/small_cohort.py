"""A small workspace with drawn photos, masks and measured features, written as the stages before training would."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import written_artifacts
from PIL import Image

from skinkit.images.identity import dhash, pixel_sha256
from skinkit.radiomics import extract
from skinkit.workspace import Ref, Workspace, load_workspace

CLASSES = {"nevus": (120, 80, 60), "melanoma": (70, 50, 50), "basal_cell_carcinoma": (190, 100, 95)}
HOW: dict[str, Any] = {"channels": ["grey"], "bin_width": 25.0, "engine": "fast"}
WIDTH, HEIGHT = 60, 48
FEW = "some six validation cases a fold, as many as a test has time for"
"""Why a model of :func:`make` is kept, whatever it has learnt."""


def draw(rng: np.random.Generator, diagnosis: str) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H, W, 3) and its mask: an ellipse of the diagnosis' colour on skin."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    a, b = rng.uniform(9, 17, 2)
    mask = ((columns - WIDTH / 2) / a) ** 2 + ((rows - HEIGHT / 2) / b) ** 2 <= 1
    photo = np.full((HEIGHT, WIDTH, 3), (215, 170, 145), float) + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    # Light falls unevenly, and on each photo otherwise; without that two lesions would look the same from afar.
    coarse = Image.fromarray(rng.normal(0, 14, (4, 5)).astype(np.float32))
    photo += np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))[..., None]
    spread = 22 if diagnosis == "melanoma" else 9
    photo[mask] = np.array(CLASSES[diagnosis]) + rng.normal(0, 14) + rng.normal(0, spread, (int(mask.sum()), 3))
    return photo.clip(0, 255).astype(np.uint8), mask


def write_cohort(workspace: Workspace, cohort: str, patients: int, seed: int, segmenter: str = "truth") -> pd.DataFrame:
    """Photos, masks, cases and the fused table of a cohort: two photos of one lesion per patient."""
    rng = np.random.default_rng(seed)
    folder, masks = workspace.root / cohort, workspace.artifacts / cohort / "masks" / segmenter
    masks.mkdir(parents=True, exist_ok=True)
    (folder / "outlines").mkdir(exist_ok=True)
    rows = []
    for patient in range(patients):
        diagnosis = list(CLASSES)[patient % len(CLASSES)]
        older = diagnosis != "nevus"
        subject = {
            "patient_id": f"P{patient:02d}",
            "lesion_id": f"P{patient:02d}-1",
            "group_id": f"{cohort}:P{patient:02d}",
            "diagnosis": diagnosis,
            "age_years": float(rng.integers(55, 85) if older else rng.integers(15, 50)),
            "sex": ["female", "male", None][int(rng.integers(3))],
            "site": ["head/neck", "torso", "upper extremity"][int(rng.integers(3))],
            "bleed": "True" if older and rng.random() < 0.5 else "False",
        }
        for shot in (1, 2):
            image = f"{cohort}-{patient:02d}-{shot}"
            photo, mask = draw(rng, diagnosis)
            Image.fromarray(photo).save(folder / f"{image}.png")
            for file in (masks / f"{image}.png", folder / "outlines" / f"{image}.png"):
                Image.fromarray(mask.astype(np.uint8) * 255).save(file)
            rows.append(
                {
                    **subject,
                    "image_id": image,
                    "case_id": image,
                    "image_path": f"{image}.png",
                    "image_sha256": f"file-{image}",
                    "pixel_sha256": pixel_sha256(photo),
                    "dhash": dhash(photo),
                    "width_px": WIDTH,
                    "height_px": HEIGHT,
                    "truth_mask_path": f"outlines/{image}.png",
                    "truth_mask_sha256": f"outline-{image}",
                    "segmenter": segmenter,
                    "mask_path": f"artifacts/{cohort}/masks/{segmenter}/{image}.png",
                    "mask_failed": False,
                    "area_share": float(mask.mean()),
                    "status": "ok",
                    "reason": None,
                    **extract(photo, mask, **HOW),
                }
            )
    frame = pd.DataFrame(rows)
    shown = [name for name in frame if "original_" not in name and not name.startswith(("mask", "area", "segm"))]
    written_artifacts.write_cases(workspace, cohort, frame[shown].to_dict("records"))
    write_fused(workspace, cohort, frame, segmenter)
    return frame


def write_fused(workspace: Workspace, cohort: str, frame: pd.DataFrame, segmenter: str = "truth") -> None:
    """The fused table of a cohort."""
    measured = [name for name in frame if "original_" in name]
    info = {"features": measured, "radiomics": HOW, "masks": {"segmenter": segmenter}}
    written_artifacts.write(workspace, Ref("fused", cohort, segmenter), frame, info)


TEMPLATES: Callable[[str, Callable[[Path], None]], Path] | None = None
"""Makes a folder of that name once for all test processes; set by ``conftest``."""


def make(folder: Path, folds: int = 2, patients: int = 18, **defaults: str) -> Workspace:
    """A development cohort ``clinic`` with a split, and an external one, ``jinan``; models need not have learnt.

    The first of its kind is drawn, the others are copies.
    """
    assert TEMPLATES is not None
    kind = "-".join(["small", str(folds), str(patients), *(f"{key}={defaults[key]}" for key in sorted(defaults))])
    template = TEMPLATES(kind, lambda at: _drawn(at, folds, patients, **defaults))
    shutil.copytree(template, folder, dirs_exist_ok=True)
    return load_workspace(folder)


def _drawn(folder: Path, folds: int, patients: int, **defaults: str) -> None:
    settings = {"segmenter": "truth", "model": "lightgbm", "classes": "pad6", **defaults}
    roles = {"clinic": "development", "jinan": "external"}
    workspace = written_artifacts.make_workspace(folder, roles, allow_untrained=FEW, **settings)
    write_cohort(workspace, "clinic", patients, seed=1)
    write_cohort(workspace, "jinan", 4, seed=2)
    written_artifacts.run_stage(workspace, "split", folds=folds, validation=0.34)


def make_ward(folder: Path, n: int) -> Workspace:
    """A workspace with so many photos of a ward, which nobody has looked at yet."""
    workspace = written_artifacts.make_workspace(folder, {"ward": "inference"}, segmenter="otsu")
    rng = np.random.default_rng(5)
    for i in range(n):
        Image.fromarray(draw(rng, list(CLASSES)[i % 3])[0]).save(folder / "ward" / f"i{i:02d}.png")
    return workspace
