"""Filters of synthetic images: copies of training photos, and a classifier that does not see the class."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import copying
import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from PIL import Image
from written_artifacts import make, model, run_stage

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.files import file_sha256
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.workspace import Ref, Workspace

TOYS = ("copying", "class_colours", "pooled_pixels")
FEW = {"model": "pooled_pixels", "weights": "none"}
IMAGES = Ref("synthetic", name="copies")
plain = small_cohort.draw


def textured(rng: np.random.Generator, diagnosis: str) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H, W, 3) and a mask: as of ``small_cohort``, with spots that no other photo has."""
    photo, mask = plain(rng, diagnosis)
    photo = photo.astype(float)
    for cells, strength in ((3, 25), (7, 25), (15, 18)):
        coarse = rng.normal(0, strength, (cells, cells, 3)).clip(-127, 127) + 128
        spots = Image.fromarray(coarse.astype(np.uint8)).resize(photo.shape[1::-1], Image.Resampling.BICUBIC)
        photo += np.asarray(spots).astype(float) - 128
    return photo.clip(0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of 18 patients in two folds, a generator that copies them, and a classifier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_cohort, "WIDTH", 96)
        patch.setattr(small_cohort, "HEIGHT", 84)
        patch.setattr(small_cohort, "draw", textured)
        workspace = small_cohort.make(tmp_path_factory.mktemp("chain") / "w")
    make(workspace, "train", model="copying", name="copies")
    make(workspace, "train", **FEW, name="judge")
    return workspace.root


def images(workspace: Workspace, **options: Any) -> tuple[Any, str]:
    """The images, and what was said."""
    (made,), said = run_stage(workspace, "synthesise", **{"model": "copies", **options})
    return made, said


def way(seed: int) -> str:
    return copying.WAYS[seed % len(copying.WAYS)]


def test_planted_copies_are_all_found_and_nothing_else_is(workspace: Workspace) -> None:
    made, said = images(workspace, per_class=6, attempts=5)
    table = made.table()
    planted = np.array([way(seed) != "noise" for seed in table["seed"]])
    assert set(map(way, table["seed"])) == set(copying.WAYS)
    assert table["copy_of"].notna().tolist() == planted.tolist()
    assert (table["status"] == "excluded").tolist() == planted.tolist()
    assert set(table.loc[planted, "reason"]) == {"repeats_photo"}
    learnt = read_table(made.path / "trained_on.parquet").query("part == 'train'")
    for fold, of in table[planted].groupby("fold"):
        own = learnt[learnt["fold"] == fold]
        assert set(of["copy_of"]) <= set(own["cohort"] + "/" + own["case_id"])
    assert made.info["copies"] == int(planted.sum())
    assert "repeat a photo" in said
    of_photos = made.info["filters"]["photos_of_different_lesions"]
    assert all(of["copies"] <= 0.005 * of["n"] for of in of_photos.values())
    assert all(of["n"] > 10 for of in of_photos.values())


def test_only_images_that_passed_are_training_rows(workspace: Workspace) -> None:
    made, _ = images(workspace, per_class=2)
    table = made.table()
    usable = table[table["status"] == "ok"]
    assert 0 < len(usable) < len(table)
    assert set(usable["image_file"].str.partition("/")[0]) == {"png"}
    assert set(table.loc[table["status"] != "ok", "image_file"].str.partition("/")[0]) == {"excluded"}
    for row in table.to_dict("records"):
        assert file_sha256(made.path / row["image_file"]) == row["image_sha256"]
    fed = make(workspace, "train", **FEW, name="fed", synthetic="copies")
    learnt = read_table(fed.path / "trained_on.parquet").query("cohort == 'synthetic:copies'")
    assert set(learnt["image_id"]) == set(usable["image_id"])


def test_copies_may_be_kept_and_are_counted_all_the_same(workspace: Workspace) -> None:
    made, said = images(workspace, per_class=3, keep_copies=True)
    table = made.table()
    assert set(table["status"]) == {"ok"}
    assert len(table) == 18
    planted = [way(seed) != "noise" for seed in table["seed"]]
    assert table["copy_of"].notna().tolist() == planted
    assert f"{sum(planted)} of 18 images" in said
    without, _ = images(workspace, per_class=3)
    kept = without.table().set_index("image_id")["pixel_sha256"]
    both = table.set_index("image_id")["pixel_sha256"]
    assert without.manifest["counts"]["kept"] == 18
    assert (kept[both.index] == both).all()


def test_what_is_lacking_after_all_attempts_is_said(workspace: Workspace) -> None:
    made, said = images(workspace, per_class=4, attempts=1)
    table = made.table()
    lacking = {
        (str(fold), code): 4 - int((of["status"] == "ok").sum())
        for (fold, code), of in table.groupby(["fold", "class"])
    }
    assert len(table) == 24
    assert any(lacking.values())
    for (fold, code), number in lacking.items():
        assert made.info["asked"][fold][code] - made.info["images"][fold][code] == number
        if number:
            assert f"{code} {number}" in said
    assert "lacks images after 1 attempts" in said


def test_an_image_has_to_have_its_class_by_the_classifier_of_its_fold(workspace: Workspace) -> None:
    every, _ = images(workspace, per_class=2, agree="judge", agreement=1e-6, keep_copies=True)
    limit = round(float(every.table()["agreement"].median()), 4)
    made, _ = images(workspace, per_class=2, agree="judge", agreement=limit, keep_copies=True)
    table = made.table()
    assert table["agreement"].between(0, 1).all()
    disagrees = table["agreement"] < limit
    assert (table["reason"] == "disagrees").tolist() == disagrees.tolist()
    assert (table["status"] == "excluded").tolist() == disagrees.tolist()
    assert 0 < disagrees.sum() < len(table)
    assert made.info["filters"]["agree"] == "judge"
    counted = made.info["excluded"]["disagrees"]
    for (fold, code), of in table.groupby(["fold", "class"]):
        assert counted[str(fold)][code] == int((of["reason"] == "disagrees").sum())
    stricter, _ = images(workspace, per_class=2, agree="judge", agreement=1.0, keep_copies=True)
    assert set(stricter.table()["reason"]) == {"disagrees"}
    assert stricter.manifest["counts"]["kept"] >= len(table)
    with pytest.raises(InputError) as error:
        make(workspace, "train", **FEW, name="fed", synthetic="copies")
    assert "were excluded" in error.value.found


def test_a_judge_of_another_split_or_of_synthetic_images_is_refused(workspace: Workspace) -> None:
    rows = open_artifact(workspace.path(Ref("split", name="grouped")))
    written.write(workspace, Ref("split", name="copied"), rows.table(), rows.info)
    make(workspace, "train", **FEW, name="elsewhere", split="copied")
    with pytest.raises(RefusedError) as refused:
        images(workspace, per_class=1, agree="elsewhere")
    assert "another split (copied" in refused.value.found
    images(workspace, per_class=2)
    make(workspace, "train", **FEW, name="fed", synthetic="copies")
    with pytest.raises(ConfigError) as error:
        images(workspace, per_class=1, agree="fed", name="more")
    assert "learnt from the synthetic images copies" in error.value.found
    make(workspace, "train", model="lightgbm", name="trees")
    with pytest.raises(ConfigError) as reads:
        images(workspace, per_class=1, agree="trees", name="more")
    assert "reads more than a photo" in reads.value.found
    with pytest.raises(InputError) as absent:
        images(workspace, per_class=1, agree="nobody", name="more")
    assert "nobody" in absent.value.found


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"agreement": 0.7},
        {"copy_cosine": 0.0},
        {"copy_cosine": 1.5},
        {"agree": "judge", "agreement": 2},
    ],
)
def test_impossible_settings_are_refused(workspace: Workspace, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        images(workspace, per_class=1, **options)


def test_photos_that_are_not_here_any_more_are_said_to_be_unchecked(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / "clinic")
    made, said = images(workspace, per_class=1)
    of_photos = made.info["filters"]["photos_of_different_lesions"]
    assert all(of["photos"] == 0 and of["photos_not_here"] > 0 for of in of_photos.values())
    assert "training photos are not here or cannot be read" in said
    assert made.table()["correlation"].isna().all()


def test_the_weights_of_each_image_are_named(workspace: Workspace) -> None:
    made, _ = images(workspace, per_class=1, keep_copies=True)
    for row in made.table().to_dict("records"):
        weights = model(workspace, "copies").path / f"fold_{row['fold']}" / "photos.safetensors"
        assert row["weights_sha256"] == file_sha256(weights)
        with Image.open(made.path / row["image_file"]) as image:
            assert image.text["weights_sha256"] == row["weights_sha256"]  # type: ignore[attr-defined]
