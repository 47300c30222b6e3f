"""Views of a case: fused beside each other, compared in leakage, read by a network, explained and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import third_party
import two_photos
from PIL import Image
from source_tables import table
from written_artifacts import Said

from skinkit import contract
from skinkit.audit import leakage
from skinkit.data.views import beside, every_photo, of_view, primary_images
from skinkit.errors import RefusedError
from skinkit.pipeline import Pipeline
from skinkit.schemas import VIEWS
from skinkit.stages.ingest import ONE_PICTURE
from skinkit.workspace import Ref, Workspace, load_workspace

HEADER = (
    "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,regression_structures,dots_and_globules,"
    "blue_whitish_veil,vascular_structures,level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,"
    "case_id,notes"
)
NAMES = {"nevus": "clark nevus", "melanoma": "melanoma (in situ)", "basal_cell_carcinoma": "basal cell carcinoma"}


def images(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """(case, view, hash) -> images with masks."""
    return pd.DataFrame(
        [
            {
                "case_id": case, "image_id": f"{case}-{view}", "view": view or None, "modality": view or "clinical",
                "image_path": f"{case}-{view}.png", "image_sha256": f"f-{hash_}", "pixel_sha256": hash_, "dhash": None,
                "mask_path": f"m-{hash_}", "mask_sha256": None, "mask_failed": False,
            }
            for case, view, hash_ in rows
        ]
    )  # fmt: skip


def test_a_case_keeps_every_view() -> None:
    both = images(("1", "clinical", "a"), ("1", "dermoscopic", "b"), ("2", "clinical", "c"))
    fused = beside(primary_images(both), both)
    assert fused["pixel_sha256"].tolist() == ["b", "c"]
    assert fused["view__clinical__pixel_sha256"].tolist() == ["a", "c"]
    assert fused["view__dermoscopic__image_path"].isna().tolist() == [False, True]
    assert of_view(fused, "image_clinical")["image_path"].tolist() == ["1-clinical.png", "2-clinical.png"]
    assert of_view(fused, "image_dermoscopic")["pixel_sha256"].isna().tolist() == [False, True]
    assert sorted(every_photo(fused)["pixel_sha256"]) == ["a", "b", "c"]


def test_a_cohort_of_single_photos_gets_no_column() -> None:
    single = images(("1", "", "a"), ("2", "", "b"))
    primary = primary_images(single)
    assert beside(primary, single) is primary
    assert of_view(primary, "image_clinical")["pixel_sha256"].tolist() == ["a", "b"], "its modality says what it is"
    assert of_view(primary, "image_dermoscopic")["pixel_sha256"].isna().all()


def test_leakage_compares_every_view() -> None:
    left = images(("1", "clinical", "a"), ("1", "dermoscopic", "b"))
    right = images(("9", "clinical", "a"), ("9", "dermoscopic", "z"))
    found = leakage.check(beside(primary_images(left), left), beside(primary_images(right), right))
    assert found.counts["pixels"] == 1
    assert found.pairs.loc[found.pairs["kind"] == "pixels", "other_case_id"].tolist() == ["9"]


def test_the_contract_knows_two_photos() -> None:
    contract.check_model(two_photos.TwoPhotos)


def test_a_block_for_each_photo_is_asked_for() -> None:
    class OneBlock(two_photos.TwoPhotos):
        __module__ = "two_photos"

        def blocks(self) -> dict[str, Any]:
            return {"image_clinical": self.clinical}

    with pytest.raises(AssertionError, match="blocks names image_clinical"):
        contract.check_model(OneBlock)


# ---------------------------------------------------------------------------------------------------- end to end


def write_derm7pt(folder: Path, lines: Sequence[tuple[str, str, str, str, str]]) -> None:
    """An archive in derm7pt's layout: (case, diagnosis, clinical file, dermoscopic file, notes)."""
    rows = [
        f"{case},{NAMES[diagnosis]},1,typical,absent,absent,absent,absent,absent,absent,low,flat,back,female,none,"
        f"{clinic},{derm},,{notes}"
        for case, diagnosis, clinic, derm, notes in lines
    ]
    table(folder / "meta" / "meta.csv", HEADER, *rows)


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """The toy as a third party's model."""
    with third_party.models("two_photos"):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, registered: None) -> Workspace:
    """A derm7pt-like cohort, fused, split, and the toy trained on both photos."""
    root = tmp_path_factory.mktemp("views")
    rng, lines = np.random.default_rng(3), []
    folder = root / "derm7pt" / "release_v0"
    (folder / "images").mkdir(parents=True)
    for case in range(24):
        diagnosis = list(NAMES)[case % 3]
        for shot in ("c", "d"):
            Image.fromarray(small_cohort.draw(rng, diagnosis)[0]).save(folder / "images" / f"{case}{shot}.png")
        lines.append((str(case), diagnosis, "" if case == 5 else f"{case}c.png", f"{case}d.png", ""))
    write_derm7pt(folder, lines)
    (root / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "otsu"\nmodel = "two_photos"\nclasses = "pad6"\n'
        '[cohorts.derm]\nrole = "development"\nsource = "derm7pt"\npath = "derm7pt"\n'
        '[stage.train]\nallow_untrained = "four validation cases a fold"\n'
    )
    workspace = load_workspace(root)
    make(workspace, "ingest")
    make(workspace, "split", folds=2, validation=0.34)
    make(workspace, "train", model="two_photos", weights="none", attributes="isic")
    return workspace


def make(workspace: Workspace, stage: str, *, name: str = "", cohorts: tuple[str, ...] = (), **options: Any) -> None:
    """A stage and whatever comes before it."""
    Pipeline(workspace, Said()).make(stage, options, cohorts=cohorts, name=name)


def fused(workspace: Workspace) -> pd.DataFrame:
    return pd.read_parquet(workspace.path(Ref("fused", "derm", "otsu")) / "table.parquet")


def test_training_reads_both_photos_and_bars_a_case_without_one(trained: Workspace) -> None:
    frame = fused(trained)
    assert frame["view__clinical__pixel_sha256"].notna().sum() == 23
    model = trained.path(Ref("models", name="two_photos"))
    barred = json.loads((model / "manifest.json").read_text())["info"]["barred"]
    assert barred == {"their photo cannot be read (view_missing)": 1}
    trained_on = pd.read_parquet(model / "trained_on.parquet")
    assert set(trained_on["pixel_sha256"]) == {
        *frame.loc[frame["case_id"] != "5", "pixel_sha256"],
        *frame["view__clinical__pixel_sha256"].dropna(),
    }


def test_predictions_say_which_photo_is_missing(trained: Workspace, registered: None) -> None:
    make(trained, "predict", name="two_photos")
    rows = pd.read_parquet(trained.path(Ref("predictions", "derm", "two_photos")) / "table.parquet")
    rows = rows[rows["level"] == "image"].set_index("case_id")
    assert rows.loc["5", "reason"] == "view_missing"
    assert (rows.drop("5")["status"] == "ok").all()


def test_every_photo_is_explained(trained: Workspace, registered: None) -> None:
    make(trained, "explain", name="two_photos", limit=3)
    place = trained.path(Ref("explanations", "derm", "two_photos"))
    rows = pd.read_parquet(place / "table.parquet")
    rows = rows[rows["status"] == "ok"]
    assert len(rows)
    for column in ("heatmap_file", "heatmap_clinical_file"):
        assert all((place / file).is_file() for file in rows[column])
    assert rows["heatmap_dermoscopic_file"].isna().all(), "the dermoscopic photo is the primary one"


def test_the_clinic_card_shows_both_photos(trained: Workspace, registered: None) -> None:
    make(trained, "report", audience="clinic", cohorts=("derm",))
    page = (trained.root / "artifacts" / "report" / "clinic-derm" / "index.html").read_text()
    assert page.count("clinical view") >= 2, "the photo and its heatmap"


def test_a_leak_through_the_second_photo_is_refused(trained: Workspace, registered: None) -> None:
    ours, theirs = trained.root / "derm7pt" / "release_v0", trained.root / "elsewhere" / "release_v0"
    (theirs / "images").mkdir(parents=True)
    (theirs / "images" / "99c.png").write_bytes((ours / "images" / "0c.png").read_bytes())
    rgb, _ = small_cohort.draw(np.random.default_rng(99), "nevus")
    Image.fromarray(rgb).save(theirs / "images" / "99d.png")
    write_derm7pt(theirs, [("99", "nevus", "99c.png", "99d.png", "")])
    with (trained.root / "skinkit.toml").open("a") as stream:
        stream.write('[cohorts.elsewhere]\nrole = "external"\nsource = "derm7pt"\npath = "elsewhere"\n')
    with pytest.raises(RefusedError) as caught:
        make(load_workspace(trained.root), "evaluate", cohorts=("elsewhere",), name="two_photos")
    assert "identical" in caught.value.found


# ------------------------------------------------------------------------------------- one picture as several views
TWICE = range(0, 36, 4)


@pytest.mark.parametrize("copied", [False, True], ids=["one file", "two files of the same pixels"])
def test_nine_cases_whose_views_are_one_picture_stay_complete(copied: bool, tmp_path: Path, registered: None) -> None:
    """As in derm7pt: the clinical file of nine cases is the dermoscopic one."""
    rng, lines = np.random.default_rng(5), []
    folder = tmp_path / "derm7pt" / "release_v0"
    (folder / "images").mkdir(parents=True)
    for case in range(36):
        diagnosis = list(NAMES)[case % 3]
        photo = Image.fromarray(small_cohort.draw(rng, diagnosis)[0])
        photo.save(folder / "images" / f"{case}d.png")
        clinic = f"{case}c.png" if case not in TWICE else f"{case}copy.png" if copied else f"{case}d.png"
        if case in TWICE and copied:
            photo.save(folder / "images" / clinic)
        elif case not in TWICE:
            Image.fromarray(small_cohort.draw(rng, diagnosis)[0]).save(folder / "images" / clinic)
        notes = "clinic image is a derm image" if case in TWICE else ""
        lines.append((str(case), diagnosis, clinic, f"{case}d.png", notes))
    write_derm7pt(folder, lines)
    parts = {"train": range(18), "valid": range(18, 25), "test": range(25, 36)}
    for name, indexes in parts.items():
        (folder / "meta" / f"{name}_indexes.csv").write_text("indexes\n" + "\n".join(map(str, indexes)))
    (tmp_path / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "otsu"\nmodel = "two_photos"\nclasses = "pad6"\n'
        '[cohorts.derm]\nrole = "development"\nsource = "derm7pt"\npath = "derm7pt"\n'
        '[stage.train]\nallow_untrained = "seven validation cases"\n'
    )
    workspace = load_workspace(tmp_path)
    make(workspace, "ingest")
    cases = pd.read_parquet(workspace.path(Ref("cases", "derm")) / "table.parquet")
    assert (len(cases), set(cases["status"])) == (72, {"ok"})
    one = cases[cases["flags"].fillna("").str.contains(ONE_PICTURE)]
    assert sorted(one["image_id"]) == sorted(f"{case}-{view}" for case in TWICE for view in VIEWS)
    make(workspace, "split", protocol="derm7pt")
    part = pd.read_parquet(workspace.path(Ref("split", name="grouped")) / "table.parquet")["part"]
    assert part.value_counts().to_dict() == {"train": 18, "validation": 7, "held_out": 11}
    make(workspace, "train", model="two_photos", weights="none", attributes="isic")
    model = workspace.path(Ref("models", name="two_photos"))
    assert json.loads((model / "manifest.json").read_text())["info"]["barred"] == {}
    trained_on = pd.read_parquet(model / "trained_on.parquet")
    assert trained_on.groupby("part")["case_id"].nunique()[["train", "validation"]].tolist() == [18, 7]
    make(workspace, "predict", name="two_photos")
    rows = pd.read_parquet(workspace.path(Ref("predictions", "derm", "two_photos")) / "table.parquet")
    assert set(rows.loc[rows["level"] == "image", "status"]) == {"ok"}
    assert set(rows["case_id"]) == {str(case) for case in parts["test"]}
    make(workspace, "explain", name="two_photos", limit=len(parts["test"]))
    shown = pd.read_parquet(workspace.path(Ref("explanations", "derm", "two_photos")) / "table.parquet")
    assert set(shown["case_id"]) >= {"28", "32"}
    assert shown[["heatmap_file", "heatmap_clinical_file"]].notna().all(axis=None)  # each view has its own


def in_hospital(folder: Path, header: str, *lines: str) -> pd.DataFrame:
    """The cases of a hospital's table with the files a.png, b.png and c.png, of which a and b are one picture."""
    (folder / "in").mkdir(parents=True)
    rng = np.random.default_rng(8)
    one, other = (Image.fromarray(small_cohort.draw(rng, "nevus")[0]) for _ in range(2))
    for name, photo in (("a", one), ("b", one), ("c", other)):
        photo.save(folder / "in" / f"{name}.png")
    columns = "\n".join(f'{name} = "{name}"' for name in header.split(","))
    (folder / "in" / "cohort.toml").write_text(f'file = "t.csv"\n[columns]\n{columns}\n')
    table(folder / "in" / "t.csv", header, *lines)
    (folder / "skinkit.toml").write_text('[cohorts.in]\nrole = "inference"\nsource = "folder"\npath = "in"\n')
    workspace = load_workspace(folder)
    make(workspace, "ingest")
    frame = pd.read_parquet(workspace.path(Ref("cases", "in")) / "table.parquet").set_index("image_id")
    frame = frame[frame["reason"] != "row_absent"].astype(object)
    return frame.where(frame.notna(), None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a.png,1,clinical", "a.png,1,dermoscopic"], {"a": ONE_PICTURE, "a#dermoscopic": ONE_PICTURE}),
        (["a.png,1,clinical", "b.png,1,dermoscopic"], {"a": ONE_PICTURE, "b": ONE_PICTURE}),
        # Of different cases, of the same view or of no view they are repeats as ever.
        (["a.png,1,clinical", "a.png,2,dermoscopic"], {"a": "duplicate_id", "a#row3": "duplicate_id"}),
        (["a.png,1,clinical", "b.png,2,dermoscopic"], {"a": None, "b": "duplicate_content"}),
        (["a.png,1,clinical", "b.png,1,clinical"], {"a": None, "b": "duplicate_content"}),
        (["a.png,1,", "b.png,1,dermoscopic"], {"a": None, "b": "duplicate_content"}),
        (["a.png,,clinical", "a.png,,dermoscopic"], {"a": "duplicate_id", "a#row3": "duplicate_id"}),
        (
            ["a.png,1,clinical", "a.png,1,dermoscopic", "a.png,2,clinical"],
            {"a": "duplicate_id", "a#row3": "duplicate_id", "a#row4": "duplicate_id"},
        ),
        (
            ["a.png,1,clinical", "a.png,1,dermoscopic", "a,1,clinical"],
            {"a": ONE_PICTURE, "a#dermoscopic": ONE_PICTURE, "a#clinical": "duplicate_row"},
        ),
    ],
)  # fmt: skip
def test_one_picture_may_be_views_of_one_case_alone(
    lines: list[str], expected: dict[str, str | None], tmp_path: Path
) -> None:
    rows = in_hospital(tmp_path, "image,case_id,view", *lines)
    assert {name: row["reason"] or row["flags"] for name, row in rows.iterrows()} == expected


def test_an_id_of_two_files_is_refused_although_they_are_views(tmp_path: Path) -> None:
    rows = in_hospital(tmp_path, "image,image_id,case_id,view", "a.png,x,1,clinical", "c.png,x,1,dermoscopic")
    assert set(rows["reason"]) == {"duplicate_id"}


def test_a_picture_that_is_no_longer_shared_loses_the_flag(tmp_path: Path) -> None:
    assert set(in_hospital(tmp_path, "image,case_id,view", "a.png,1,clinical", "b.png,1,dermoscopic")["flags"]) == {
        ONE_PICTURE
    }
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "c.png").read_bytes())
    (tmp_path / "in" / "c.png").unlink()
    workspace = load_workspace(tmp_path)
    make(workspace, "ingest")
    rows = pd.read_parquet(workspace.path(Ref("cases", "in")) / "table.parquet")
    assert set(rows["status"]) == {"ok"}
    assert rows["flags"].isna().all()
