"""Subgroups by the tone of the skin in the photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.audit import photo_files, skin_tone
from skinkit.images.lab import from_lab
from skinkit.workspace import Ref


def test_the_tone_of_each_photo_is_that_of_its_border(tmp_path: Path) -> None:
    rows = []
    for name, lab in {"pale": (82, 8, 14), "dark": (28, 10, 14)}.items():
        pixels = np.tile(from_lab(np.array([lab])), (90 * 120, 1)).reshape(90, 120, 3)
        pixels[30:60, 40:80] = (90, 20, 20)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        rows.append({"image_id": name, "image_path": f"{name}.png"})
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = pd.DataFrame([*rows, {"image_id": "broken", "image_path": "broken.png"}], index=[5, 6, 7])
    angles = photo_files.measured(skin_tone.measure, images, tmp_path, (skin_tone.ANGLE,), label="reading")
    seen = skin_tone.toned(images, angles[skin_tone.ANGLE])
    assert seen.index.tolist() == [5, 6, 7]
    assert seen[skin_tone.TONE].tolist()[:2] == ["very light", "dark"]
    assert seen[skin_tone.ANGLE].iloc[0] == pytest.approx(np.degrees(np.arctan2(32, 14)), abs=1.5)
    assert seen[skin_tone.TONE].isna().tolist() == [False, False, True]


def test_metrics_are_stated_by_tone(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "w", folds=1, patients=24)
    written.run_stage(workspace, "train", model="lightgbm", settings=("rounds=2", "min_leaf=3"))
    written.run_stage(workspace, "predict", name="lightgbm", cohorts=["jinan"])
    for file in sorted((workspace.root / "jinan").glob("*.png"))[::2]:
        Image.fromarray((np.asarray(Image.open(file)) * 0.4).astype(np.uint8)).save(file)

    def subgroups(**how: object) -> set[str]:
        options = {"bootstrap": 20, "shortcuts": False, "minimum": 1, **how}
        written.run_stage(workspace, "evaluate", name="lightgbm", cohorts=["jinan"], **options)
        table = open_artifact(workspace.path(Ref("metrics", "jinan", "lightgbm"))).table()
        return {name for name in table["subgroup"].astype(str) if name.startswith("ita_group=")}

    assert not subgroups(tones=False)
    assert not subgroups(subgroups=False)
    stated = subgroups()
    assert len(stated) > 1
    assert subgroups(tones=False, by=("ita_group",)) == stated
    for file in (workspace.root / "jinan").glob("*.png"):
        file.unlink()
    assert subgroups(bootstrap=30) == stated  # remembered
