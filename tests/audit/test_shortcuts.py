"""The shortcut audit: what was planted is found and sized, and where nothing was planted nothing is flagged."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from skinkit.artifacts.tables import read_table
from skinkit.audit import file_cues, shortcuts
from skinkit.cli import main
from skinkit.data import phantoms
from skinkit.errors import CaseError
from skinkit.images.encode import jpeg_bytes
from skinkit.stats import cross_fit

N = 400


def cohort(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Cases of 200 patients whose attributes are missing by chance alone, and which of them are malignant."""
    rng = np.random.default_rng(seed)
    malignant = rng.random(N) < 0.4
    table = pd.DataFrame(
        {
            "patient_id": [f"P{i // 2}" for i in range(N)],
            **{
                name: np.where(rng.random(N) < 0.3, None, rng.choice(["True", "False"], N)).tolist()
                for name in ("smoke", "itch", "bleed", "site")
            },
            "modality": rng.choice(["clinical", "dermoscopic"], N),
            "width_px": rng.integers(300, 900, N).astype(float),
            "jpeg_quality": rng.integers(60, 95, N).astype(float),
            "file_format": rng.choice(["JPEG", "PNG"], N),
        }
    )
    return table, malignant


def audited(table: pd.DataFrame, malignant: np.ndarray, **more: Any) -> pd.DataFrame:
    cluster = table["patient_id"].to_numpy(dtype=str)
    setting = shortcuts.Setting("pad")
    return shortcuts.audit(shortcuts.cues_of(table), malignant, cluster, setting, **more)


def row_of(rows: pd.DataFrame, cue: str, family: str = "") -> pd.Series:
    hit = rows[(rows["cue"] == cue) & ((rows["family"] == family) | (not family))]
    return hit.iloc[0]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_planted_is_nothing_flagged(seed: int) -> None:
    rows = audited(*cohort(seed))
    assert not rows["verdict"].isin(("strong", "some")).any(), rows[["cue", "auroc", "p_holm", "verdict"]]
    assert set(rows["family"]) == {"missing", "file", "origin", "everything"}
    assert "No shortcut was found" in shortcuts.overall(rows, "pad")
    assert "set 'pad'" in shortcuts.overall(rows, "pad")


def test_planted_missingness_is_found_and_sized() -> None:
    table, malignant = cohort()
    rng = np.random.default_rng(1)
    known = np.where(malignant, True, rng.random(N) < 0.3)
    table["sex"] = np.where(known, "female", None).tolist()
    rows = audited(table, malignant)
    row = row_of(rows, "sex")
    share = known[~malignant].mean()
    assert row["auroc"] == pytest.approx(0.5 + 0.5 * (1 - share))
    assert row["auroc"] == pytest.approx(roc_auc_score(malignant, known))
    assert row["lower"] < row["auroc"] < row["upper"]
    assert (row["verdict"], row["direction"], row["how"], row["malignant_set"]) == ("strong", "known", "ranked", "pad")
    assert json.loads(row["levels"])[0]["n"] == known.sum()
    assert "whether `sex` is known" in shortcuts.sentence(row)
    assert "the model may do the same" in shortcuts.overall(rows, "pad")
    assert row_of(rows, "together", "missing")["verdict"] == "strong"
    assert row_of(rows, "smoke")["verdict"] in ("none", "open")


def test_a_shortcut_that_runs_the_other_way_or_in_a_bow_is_found() -> None:
    table, malignant = cohort()
    rng = np.random.default_rng(2)
    table["width_px"] = np.where(malignant, rng.normal(500, 60, N), rng.normal(600, 60, N))
    bow = np.where(malignant, rng.choice([-1.0, 1.0], N), 0.0) + rng.normal(0, 0.25, N)
    table["jpeg_quality"] = 75 + 10 * bow
    rows = audited(table, malignant)
    assert row_of(rows, "width_px")["direction"] == "low"
    assert row_of(rows, "width_px")["auroc"] == pytest.approx(roc_auc_score(malignant, -table["width_px"]))
    assert row_of(rows, "jpeg_quality")["verdict"] in ("none", "open")
    assert row_of(rows, "together", "file")["auroc"] > 0.95


def test_categories_are_learnt_out_of_fold() -> None:
    table, malignant = cohort()
    rng = np.random.default_rng(3)
    table["centre"] = np.where(malignant & (rng.random(N) < 0.7), "oncology", rng.choice(["ward", "practice"], N))
    # As many cameras as patients: in sample they tell everything, out of fold nothing.
    table["camera"] = table["patient_id"]
    rows = audited(table, malignant)
    assert row_of(rows, "centre")["auroc"] == pytest.approx(
        roc_auc_score(malignant, table["centre"] == "oncology"), abs=0.03
    )
    assert row_of(rows, "centre")["verdict"] == "strong"
    assert abs(row_of(rows, "camera")["auroc"] - 0.5) < 0.08
    assert row_of(rows, "camera")["verdict"] in ("none", "open")
    told = [level["level"] for level in json.loads(row_of(rows, "camera")["levels"])]
    assert told == ["other"]  # a category of few cases could name a patient


def test_confirmation_counts_apart_and_the_model_is_held_against_a_cue() -> None:
    table, malignant = cohort()
    table["confirmed_by"] = np.where(malignant, "histopathology", "clinical")
    known = malignant | (np.random.default_rng(4).random(N) < 0.2)
    table["sex"] = np.where(known, "male", None).tolist()
    rows = audited(table, malignant, model_score=known.astype(float))
    confirmed = row_of(rows, "confirmed_by")
    assert (confirmed["family"], confirmed["verdict"]) == ("confirmation", "strong")
    assert "not confirmed the same way" in shortcuts.sentence(confirmed)
    everything = row_of(rows, "together", "everything")
    assert everything["auroc"] < confirmed["auroc"]
    # A model that reads nothing but the cue has nothing left once the cue is held constant.
    assert row_of(rows, "sex")["model_auroc"] == pytest.approx(0.5)
    assert row_of(rows, "smoke")["model_auroc"] > 0.85


def test_few_patients_are_no_proof_however_many_photos_they_have() -> None:
    # Eight malignant and nine benign patients of 50 photos each, told apart without an error by a cue that knows the
    # patient: one of 24,310 ways to choose eight of them, in either direction. Of eight patients there is no p.
    patient = np.repeat(np.arange(17), 50)
    (area,) = cross_fit.areas([patient.astype(float)], patient < 8, patient.astype(str), seed=0)
    assert area.auroc == 0
    assert area.p == pytest.approx(2 / 24310)
    few = patient < 8
    (area,) = cross_fit.areas([patient[few] * 1.0], patient[few] < 3, patient[few].astype(str), seed=0)
    assert np.isnan([area.p, area.lower, area.upper]).all()
    (one,) = cross_fit.areas([patient.astype(float)], patient < 1, patient.astype(str), seed=0)
    assert np.isnan(one.p)


def test_patients_with_photos_of_both_sides_are_evidence_too() -> None:
    patient, positive = np.repeat(np.arange(40), 6), np.tile([True, False, True, False, False, False], 40)
    score = 1.5 * positive + np.random.default_rng(0).normal(size=240)
    (area,) = cross_fit.areas([score], positive, patient.astype(str), seed=0)
    assert area.p < 1e-6


def test_too_few_cases_make_no_verdict() -> None:
    table, malignant = cohort()
    table["sex"] = ["male"] * 3 + [None] * (N - 3)
    row = row_of(audited(table, malignant), "sex")
    assert np.isnan(row["auroc"])
    assert row["verdict"] == "too_few"
    assert "too few cases" in shortcuts.sentence(row)
    alone = audited(table[~malignant], malignant[~malignant])
    assert set(alone["verdict"]) == {"undefined"}
    assert shortcuts.sentence({**row, "verdict": "insufficient_n"}) != shortcuts.sentence(row)
    small = audited(table.iloc[:8], malignant[:8])
    assert not small["verdict"].isin(("strong", "some")).any()


def test_the_small_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    y = rng.random(300) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0, 0.2, 0]))
    theirs = LogisticRegression(C=1 / 10.0, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(cross_fit.logistic(x, y, ridge=10.0), theirs.coef_[0], atol=1e-5)


def test_area_within_strata_counts_only_pairs_of_one_stratum() -> None:
    score = np.array([0.9, 0.1, 0.8, 0.7, 0.2, 0.3])
    positive = np.array([True, False, False, True, True, False])
    stratum = np.array([0, 0, 0, 1, 1, 1])
    found = cross_fit.area_within(score, positive, stratum, np.arange(6).astype(str), seed=0)[0]
    assert found == pytest.approx((2 + 1) / 4)  # 0.9 above both; 0.7 above and 0.2 below 0.3


def test_file_traces(tmp_path: Path) -> None:
    rgb, _ = phantoms.draw(np.random.default_rng(0), "nevus", phantoms._SKIN[0], phantoms.Hospital("A"))
    picture = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "Phone 5"
    for quality in (30, 75, 95):
        picture.save(tmp_path / f"{quality}.jpg", quality=quality, exif=exif)
    framed = rgb.copy()
    framed[:, :8] = framed[:, -8:] = 0
    Image.fromarray(framed).save(tmp_path / "framed.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    names = ["30.jpg", "75.jpg", "95.jpg", "framed.png", "broken.jpg", None]
    images = pd.DataFrame({"image_id": [str(i) for i in range(6)], "image_path": names}, index=range(10, 16))
    found = file_cues.traced(images, tmp_path, most=10)
    assert found.index.tolist() == list(range(10, 16))
    assert found["jpeg_quality"].tolist()[:3] == [30, 75, 95]
    assert found["camera"].tolist()[:2] == ["Maker Phone 5"] * 2
    assert found["file_format"].tolist()[:4] == ["JPEG"] * 3 + ["PNG"]
    assert found["exif"].tolist()[2:4] == ["present", "absent"]
    assert found["width_px"].tolist()[0] == rgb.shape[1]
    assert found["bytes_per_pixel"].tolist()[0] == pytest.approx(
        (tmp_path / "30.jpg").stat().st_size / rgb[..., 0].size
    )
    assert found["dark_border"].tolist()[3] > 0.2 > found["dark_border"].tolist()[0]
    assert found.loc[[14, 15], list(file_cues.NUMBERS)].isna().all().all()
    assert file_cues.traced(images, tmp_path, most=2)["width_px"].notna().sum() <= 2
    with pytest.raises(CaseError):
        file_cues.trace({"image_id": "4", "path": str(tmp_path / "broken.jpg")})
    assert file_cues.jpeg_quality(Image.open(io.BytesIO(jpeg_bytes(rgb, 85))).quantization[0]) == 85


def test_the_command_audits_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, malignant = cohort()
    known = malignant | (np.random.default_rng(1).random(N) < 0.3)
    table["gender"] = np.where(known, "MALE", None).tolist()
    table["label"] = np.where(malignant, "BCC", "NEV")
    table.to_csv(tmp_path / "cases.csv", index=False)
    given = ["audit", "--table", str(tmp_path / "cases.csv"), "--truth-column", "label"]
    assert main([*given, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["audits"]["cases"]
    assert found["malignant_set"] == "pad"
    gender = next(cue for cue in found["cues"] if cue["cue"] == "gender")
    assert gender["auroc"] == pytest.approx(roc_auc_score(malignant, known))
    written = read_table(tmp_path / "out" / "shortcuts.parquet")
    assert len(written) == len(found["cues"])
    assert (tmp_path / "out" / "figures" / "shortcuts.svg").read_text().startswith("<?xml")
    assert main(given) == 0
    assert "gender" in capsys.readouterr().out
    assert main([*given[:3], "--truth-column", "diagnose"]) == 4
