"""segment, radiomics and fuse, on drawn lesions whose masks are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_here
from PIL import Image
from written_artifacts import run_stage, write, write_cases

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.files import file_sha256
from skinkit.data.phantoms import HEIGHT_PX, RULES, WIDTH_PX, Hospital, draw, write_cohort
from skinkit.errors import ConfigError
from skinkit.images.decode import read_mask, read_rgb
from skinkit.images.masks import agreement
from skinkit.models import otsu
from skinkit.radiomics import extract
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.radiomics.refusal import RadiomicsRefusal
from skinkit.schemas import FUSED
from skinkit.stages.segment import measured
from skinkit.workspace import Ref, Workspace, load_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six drawn photos with truth masks, ingested."""
    (tmp_path / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "otsu"\n[cohorts.a]\nrole = "development"\nsource = "folder"\npath = "a"\n'
    )
    workspace = load_workspace(tmp_path)
    root = tmp_path / "a"
    rows = write_cohort(root, Hospital("T"), 6, seed=3)[:6]
    cases = []
    for row in rows:
        stem = Path(row["file"]).stem
        cases.append(
            {
                "image_id": stem,
                "patient_id": row["patient"],
                "image_path": f"images/{stem}.jpg",
                "image_sha256": file_sha256(root / "images" / f"{stem}.jpg"),
                "truth_mask_path": f"masks/{stem}.png",
                "truth_mask_sha256": file_sha256(root / "masks" / f"{stem}.png"),
                "width_px": WIDTH_PX,
                "height_px": HEIGHT_PX,
                "diagnosis": row["diagnosis"],
            }
        )
    write_cases(workspace, "a", cases)
    return workspace


@pytest.mark.parametrize("diagnosis", RULES)
def test_otsu_finds_phantoms(diagnosis: str) -> None:
    chance = np.random.default_rng(5)
    found = []
    for _ in range(6):
        rgb, mask = draw(chance, diagnosis, np.array([208.0, 160, 132]), Hospital("T"))
        found.append(agreement(otsu.Otsu.draw(rgb, otsu.Config()), mask)["dice"])
    assert np.median(found) > 0.8


def test_otsu_of_a_plain_picture_is_empty_or_failed() -> None:
    mask = otsu.Otsu.draw(np.full((90, 120, 3), 180, np.uint8), otsu.Config())
    assert mask.shape == (90, 120)
    assert measured(mask)["mask_failed"]


def test_otsu_ignores_the_dark_corners_of_a_dermatoscope() -> None:
    rgb, mask = draw(np.random.default_rng(1), "nevus", np.array([208.0, 160, 132]), Hospital("T", vignette=0.0))
    rows, columns = np.indices(mask.shape)
    field = (rows - HEIGHT_PX / 2) ** 2 + (columns - WIDTH_PX / 2) ** 2 < (0.62 * HEIGHT_PX) ** 2
    rgb[~field] = 4
    assert agreement(otsu.Otsu.draw(rgb, otsu.Config()), mask)["dice"] > 0.8


def test_measured_and_agreement_by_hand() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:5, 3:9] = True
    assert measured(mask) == {
        "width_px": 20, "height_px": 10, "area_px": 18, "area_share": 0.09, "left_px": 3, "top_px": 2, "right_px": 9,
        "bottom_px": 5, "mask_failed": False,
    }  # fmt: skip
    other = np.zeros_like(mask)
    other[2:5, 6:12] = True  # 9 pixels shared, 18 in each, 27 in either
    assert agreement(mask, other) == {"dice": 0.5, "iou": pytest.approx(1 / 3)}
    assert agreement(~mask & False, mask & False) == {"dice": 1.0, "iou": 1.0}
    assert measured(np.zeros((10, 10), bool))["mask_failed"]
    assert measured(np.ones((10, 10), bool))["mask_failed"]


def test_masks_lie_beside_their_rows_at_the_size_of_the_image(workspace: Workspace) -> None:
    (masks,), _ = run_stage(workspace, "segment")
    table = masks.table()
    assert table["status"].tolist() == ["ok"] * 6
    assert table["iou"].between(0.1, 1).all()
    for row in table.itertuples():
        with Image.open(masks.path / row.mask_file) as png:
            assert (png.mode, png.size) == ("L", (WIDTH_PX, HEIGHT_PX))
        assert int(read_mask(masks.path / row.mask_file).sum()) == row.area_px
        assert file_sha256(masks.path / row.mask_file) == row.mask_sha256
    assert masks.config["model"] == "otsu"


def test_one_mask_gets_one_answer_from_every_way_to_measure_it(tmp_path: Path) -> None:
    """The command, the function and a cohort agree, also where the lesion is tiny or nearly the whole photo."""
    rng = np.random.default_rng(4)
    masks = {name: np.zeros((HEIGHT_PX, WIDTH_PX), bool) for name in ("tiny", "dots", "line", "empty", "usual")}
    masks["tiny"][50:55, 60:64] = True  # 20 pixels
    masks["dots"][[40, 41], [30, 31]] = True
    masks["line"][40, 30:32] = True
    masks["usual"][30:80, 40:100] = True
    masks |= {"most": np.ones((HEIGHT_PX, WIDTH_PX), bool), "whole": np.ones((HEIGHT_PX, WIDTH_PX), bool)}
    masks["most"][:2, :3] = False
    for folder in ("photos", "masks"):
        (tmp_path / "a" / folder).mkdir(parents=True)
    for name, mask in masks.items():
        photo = rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / "a" / "photos" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "a" / "masks" / f"{name}.png")
    (tmp_path / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "truth"\n'
        '[cohorts.a]\nrole = "inference"\nsource = "folder"\npath = "a"\ntable = ""\nmasks = "masks"\n'
    )
    answer = run_here("radiomics", "-w", tmp_path, "--jobs", "1")
    assert answer.returncode == 3, answer.stderr
    rows = open_artifact(tmp_path / "artifacts/a/masks/truth").table().set_index("image_id")
    measured_rows = open_artifact(tmp_path / "artifacts/a/features/truth").table().set_index("image_id")
    for name, mask in masks.items():
        files = [tmp_path / "a" / folder / f"{name}.png" for folder in ("photos", "masks")]
        alone = run_here("radiomics", "--image", files[0], "--mask", files[1], "--json")
        told = json.loads(alone.stdout, parse_constant=pytest.fail)
        if name in ("line", "empty", "whole"):
            with pytest.raises(RadiomicsRefusal) as refusal:
                extract(read_rgb(files[0]), mask)
            reason = refusal.value.reason
            assert rows.loc[f"photos/{name}", ["status", "reason"]].tolist() == ["failed", reason]
            assert alone.returncode == 4
            assert reason in told["error"]["found"]
            continue
        expected = extract(read_rgb(files[0]), mask)
        assert alone.returncode == 0, alone.stderr
        assert rows.loc[f"photos/{name}", "area_px"] == mask.sum()
        assert not rows.loc[f"photos/{name}", "mask_failed"]
        assert (rows.loc[f"photos/{name}", "flags"] == "fills_frame") == (name == "most")
        assert told["flags"] == (["fills_frame"] if name == "most" else [])
        for feature, value in expected.items():
            of_cohort, of_command = measured_rows.loc[f"photos/{name}", feature], told["features"][feature]
            assert of_cohort == pytest.approx(value, nan_ok=True), (name, feature)
            assert of_command == (pytest.approx(value) if np.isfinite(value) else None), (name, feature)


def test_a_label_and_a_polarity_of_the_cohort(tmp_path: Path) -> None:
    for folder in ("photos", "masks"):
        (tmp_path / "a" / folder).mkdir(parents=True)
    photo = np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "a" / "photos" / "x.png")
    labels = np.zeros((40, 60), np.uint8)
    labels[5:15, 10:30], labels[20:35, 10:50] = 1, 2
    cohort = '[cohorts.a]\nrole = "inference"\nsource = "folder"\npath = "a"\ntable = ""\nmasks = "masks"\n'

    def area(values: np.ndarray, option: str, *settings: str) -> object:
        Image.fromarray(values).save(tmp_path / "a" / "masks" / "x.png")
        (tmp_path / "skinkit.toml").write_text(cohort + option)
        workspace = load_workspace(tmp_path)
        run_stage(workspace, "ingest")
        (masks,), _ = run_stage(workspace, "segment", model="truth", settings=settings)
        (row,) = masks.table().to_dict("records")
        return row["area_px"] if row["status"] == "ok" else row["reason"]

    assert area(labels, "") == "mask_labels"
    assert area(labels, "label = 1\n") == 200
    assert area(labels, "label = 2\n") == 600  # the same file, read anew
    assert area(labels, "label = 2\n", "label=1") == 200
    assert area((labels == 0).astype(np.uint8), "") == "mask_inverted"
    assert area((labels == 0).astype(np.uint8), 'mask_polarity = "dark"\n') == 800
    with pytest.raises(ConfigError, match="no number"):
        area(labels, 'label = "no number"\n')


def test_truth_passes_on_what_a_person_drew(workspace: Workspace) -> None:
    (masks,), _ = run_stage(workspace, "segment", model="truth")
    assert masks.path.name == "truth"
    table = masks.table()
    assert table["iou"].tolist() == [1.0] * 6
    drawn = read_mask(workspace.cohort("a").root / "masks" / f"{table['image_id'][0]}.png")
    assert np.array_equal(read_mask(masks.path / table["mask_file"][0]), drawn)


def test_a_case_without_truth_fails_with_its_reason_and_is_new_only_once(workspace: Workspace) -> None:
    cases = open_artifact(workspace.path(Ref("cases", "a"))).table()
    cases.loc[0, ["truth_mask_path", "truth_mask_sha256"]] = None
    write(workspace, Ref("cases", "a"), cases)
    (masks,), _ = run_stage(workspace, "segment", model="truth")
    assert masks.table()["reason"].tolist()[0] == "truth_mask_absent"
    assert masks.manifest["counts"]["newly_failed"] == 1


def test_settings_of_the_segmenter_reach_it_and_unknown_ones_are_refused(workspace: Workspace) -> None:
    (masks,), _ = run_stage(workspace, "segment", name="coarse", model="otsu", settings=("work_px=32",))
    assert masks.path.name == "coarse"
    with pytest.raises(ConfigError, match="work_pixels"):
        run_stage(workspace, "segment", name="wrong", model="otsu", settings=("work_pixels=32",))


def test_features_are_those_of_extract_on_the_same_mask(workspace: Workspace) -> None:
    (masks,), _ = run_stage(workspace, "segment", model="truth")
    (features,), _ = run_stage(workspace, "radiomics", masks="truth", channels=("grey", "red"))
    table = features.table()
    assert [c for c in table.columns if c.startswith("original_")] == list(FEATURE_NAMES)
    assert len([c for c in table.columns if c.startswith("red_original_")]) == 93
    image = np.asarray(Image.open(workspace.cohort("a").root / "images" / f"{table['image_id'][2]}.jpg").convert("RGB"))
    mask = read_mask(masks.path / masks.table()["mask_file"][2])
    for name, value in extract(image, mask, channels=("grey", "red")).items():
        assert table[name][2] == pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True), name


def test_a_failed_mask_is_measured_over_the_whole_image(workspace: Workspace) -> None:
    ref = Ref("masks", "a", "otsu")
    run_stage(workspace, "segment")
    masks = open_artifact(workspace.path(ref))
    table = masks.table()
    files = {name: (masks.path / name).read_bytes() for name in table["mask_file"]}
    empty = Image.new("L", (WIDTH_PX, HEIGHT_PX))
    empty.save(workspace.root / "empty.png")
    files[table["mask_file"][0]] = (workspace.root / "empty.png").read_bytes()
    table.loc[0, ["area_px", "mask_failed", "mask_sha256"]] = [0, True, file_sha256(workspace.root / "empty.png")]
    write(workspace, ref, table, files=files)
    (features,), _ = run_stage(workspace, "radiomics")
    row = features.table().iloc[0]
    assert bool(row["mask_failed"])
    assert row["original_shape2D_PixelSurface"] == (WIDTH_PX - 2) * (HEIGHT_PX - 2)


def test_fuse_joins_everything_and_keeps_cases_without_features(workspace: Workspace) -> None:
    run_stage(workspace, "segment")
    run_stage(workspace, "radiomics")
    ref = Ref("features", "a", "otsu")
    table = open_artifact(workspace.path(ref)).table()
    table.loc[1, ["status", "reason"]] = ["failed", "mask_line"]
    write(workspace, ref, table)
    (fused,), _ = run_stage(workspace, "fuse")
    rows = fused.table()
    assert set(FUSED.names) <= set(rows.columns)
    assert rows["status"].tolist() == ["ok"] * 6
    assert rows["reason"].tolist() == [None, "features_missing", None, None, None, None]
    assert rows[FEATURE_NAMES[0]].isna().tolist() == [False, True, False, False, False, False]
    assert (workspace.root / rows["mask_path"][0]).is_file()
    assert (workspace.cohort("a").root / rows["image_path"][0]).is_file()


def test_two_views_of_a_case_are_one_row_and_the_dermoscopic_one_is_measured(workspace: Workspace) -> None:
    cases = open_artifact(workspace.path(Ref("cases", "a"))).table()
    cases.loc[[0, 1], "case_id"] = "both"
    cases.loc[[0, 1], "view"] = ["clinical", "dermoscopic"]
    write(workspace, Ref("cases", "a"), cases)
    run_stage(workspace, "segment")
    run_stage(workspace, "radiomics")
    (fused,), _ = run_stage(workspace, "fuse")
    rows = fused.table().set_index("case_id")
    assert len(rows) == 5
    assert rows.loc["both", "image_id"] == cases["image_id"][1]


def test_one_lesion_from_the_command_line_needs_no_workspace(tmp_path: Path) -> None:
    rgb, mask = draw(np.random.default_rng(2), "melanoma", np.array([208.0, 160, 132]), Hospital("T"))
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pair = ["--image", tmp_path / "photo.png", "--mask", tmp_path / "mask.png"]
    answer = run_here("radiomics", *pair, "--json", cwd=tmp_path)
    features = json.loads(answer.stdout)["features"]
    assert list(features) == list(FEATURE_NAMES)
    assert features["original_shape2D_PixelSurface"] == mask.sum()
    text = run_here("radiomics", *pair, cwd=tmp_path).stdout
    assert len(text.strip().splitlines()) == len(FEATURE_NAMES)
    Image.new("L", mask.shape[::-1]).save(tmp_path / "mask.png")
    answer = run_here("radiomics", *pair, cwd=tmp_path)
    assert answer.returncode == 4
    assert "mask_empty" in answer.stderr


def test_phantoms_are_the_same_for_the_same_seed_and_cover_every_class(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path / "a", Hospital("T"), 30, seed=1)
    write_cohort(tmp_path / "b", Hospital("T"), 30, seed=1)
    assert {row["diagnosis"] for row in rows} == set(RULES)
    for row in rows[:5]:
        one, two = (tmp_path / side / "images" / row["file"] for side in "ab")
        assert one.read_bytes() == two.read_bytes()
