"""From inside to outside: a planted fall, a planted mix, planted shifts and odd cases are found and sized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from skinkit.audit import drift
from skinkit.stats import novelty


def scored(
    n: int,
    *,
    shift: float,
    shares: dict[str, float],
    seed: int,
    spread: float = 1.0,
    labels: dict[str, float] | None = None,
) -> pd.DataFrame:
    """Cases of two per patient whose malignancy is normal about a mean of the class."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(shares), n, p=list(shares.values()))
    means = labels or {"MEL": shift, "NEV": 0.0}
    value = np.array([means[name] for name in names]) + rng.normal(0, spread, n)
    return pd.DataFrame(
        {
            "level": "image",
            "case_id": [f"c{i}" for i in range(n)],
            "group_id": [f"p{i // 2}" for i in range(n)],
            "class": names,
            "malignancy": 1 / (1 + np.exp(-value)),
            "call": np.where(value > 0.5, "malignant", "benign"),
        }
    )


EVEN = {"MEL": 0.4, "NEV": 0.6}


def test_a_planted_fall_is_sized() -> None:
    inside, outside = scored(600, shift=2.0, shares=EVEN, seed=0), scored(400, shift=0.8, shares=EVEN, seed=1)
    rows = drift.drop(*(drift.ScoredCohort.of(t, ["MEL"]) for t in (inside, outside)))
    row = next(r for r in rows if r["metric"] == "auroc" and not r["adjusted"])
    areas = [roc_auc_score(t["class"] == "MEL", t["malignancy"]) for t in (inside, outside)]
    assert row["inside"] == pytest.approx(areas[0])
    assert row["outside"] == pytest.approx(areas[1])
    assert row["difference"] == pytest.approx(areas[0] - areas[1])
    # AUROC of two unit normals d apart is Phi(d / sqrt 2): 0.921 and 0.714.
    assert row["lower"] < 0.921 - 0.714 < row["upper"]
    assert row["lower"] > 0.1
    assert {r["metric"] for r in rows} == {"auroc", "sensitivity", "specificity"}


def test_no_fall_is_no_fall() -> None:
    sides = [drift.ScoredCohort.of(scored(400, shift=1.5, shares=EVEN, seed=s), ["MEL"]) for s in (2, 3)]
    for row in drift.drop(*sides):
        assert row["lower"] < 0 < row["upper"], row


def test_the_interval_of_the_difference_holds_its_level() -> None:
    covered = 0
    for seed in range(40):
        sides = [drift.ScoredCohort.of(scored(120, shift=1.0, shares=EVEN, seed=2 * seed + k), ["MEL"]) for k in (0, 1)]
        row = drift.drop(*sides, seed=seed)[0]
        covered += row["lower"] <= 0 <= row["upper"]
    assert covered >= 34  # 38 expected; fewer than 34 has probability 0.003 at 95 %


def test_a_fall_that_is_only_another_mix_of_diagnoses_vanishes_when_adjusted() -> None:
    """Seborrheic keratoses are easy and nevi hard; outside there are hardly any easy ones."""
    means = {"MEL": 1.2, "NEV": 0.6, "SEK": -1.5}
    inside = scored(1500, shift=0, shares={"MEL": 0.3, "NEV": 0.2, "SEK": 0.5}, seed=0, labels=means)
    outside = scored(1500, shift=0, shares={"MEL": 0.3, "NEV": 0.6, "SEK": 0.1}, seed=1, labels=means)
    rows = drift.drop(*(drift.ScoredCohort.of(t, ["MEL"]) for t in (inside, outside)))
    plain, adjusted = (next(r for r in rows if r["metric"] == "auroc" and r["adjusted"] is a) for a in (False, True))
    assert plain["lower"] > 0.05
    assert adjusted["lower"] < 0 < adjusted["upper"]
    weights = drift.reweighted(inside["class"].to_numpy(str), outside["class"].to_numpy(str))
    assert weights is not None
    for name in means:
        share = weights[inside["class"] == name].sum() / weights.sum()
        assert share == pytest.approx((outside["class"] == name).mean())
    assert drift.reweighted(np.array(["a"]), np.array(["a", "b"])) is None


def table(n: int, seed: int, *, bright: float = 0.0, male: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "status": "ok",
            "group_id": [f"p{i // 2}" for i in range(n)],
            "age_years": rng.normal(50, 10, n),
            "sex": np.where(rng.random(n) < male, "male", "female"),
            "original_firstorder_Mean": rng.normal(100 + bright, 10, n),
            "original_glcm_Contrast": rng.normal(3, 1, n),
        }
    )


def test_planted_shifts_of_the_inputs_are_found_and_no_others() -> None:
    found = drift.compare(None, (table(300, 0), table(200, 1, bright=15, male=0.95)), ["MEL"])
    rows = {row["column"]: row for row in found["inputs"]}
    assert {name for name, row in rows.items() if row["shifted"]} == {"original_firstorder_Mean", "sex"}
    assert rows["original_firstorder_Mean"]["smd"] == pytest.approx(1.5, abs=0.25)
    assert rows["age_years"]["psi"] < 0.2
    assert found["domain"]["auroc"] > 0.85
    assert "2 of 4 inputs shifted" in found["text"]
    same = drift.compare(None, (table(300, 0), table(200, 5)), ["MEL"])
    assert not any(row["shifted"] for row in same["inputs"])
    assert same["domain"]["lower"] < 0.5 < same["domain"]["upper"]


def test_photos_alike_within_patients_do_not_shift_an_input() -> None:
    # Twenty photos a patient, all of them alike, and patients of both cohorts from one population: with photos as units
    # most of these columns would be called different.
    rng = np.random.default_rng(0)
    p: list[float] = []
    for _ in range(8):
        sides = []
        for patients in (40, 25):
            person = np.repeat(np.arange(patients), 20)
            numbers = rng.normal(size=(patients, 20))[person] + 0.1 * rng.normal(size=(len(person), 20))
            side = pd.DataFrame(numbers, columns=[f"original_glcm_F{i}" for i in range(20)])
            side["sex"] = rng.choice(["male", "female"], patients)[person]
            sides.append(side.assign(group_id=[f"p{i}" for i in person]))
        p += drift.inputs(*sides, [*sides[0].columns[:20], "sex"])["p"].tolist()
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_unlike_the_training_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 40))

    def draw(n: int) -> np.ndarray:
        """Forty columns that six directions explain, and one that never varies."""
        return np.column_stack([rng.normal(size=(n, 6)) @ mixing + 0.1 * rng.normal(size=(n, 40)), np.ones(n)])

    fitted = novelty.Novelty.fit(draw(400), draw(300))
    assert fitted is not None
    own = fitted.percentile(draw(300))
    assert 40 < own.mean() < 60
    assert (own >= 99).mean() < 0.06
    along = draw(50) + 8 * np.r_[mixing[0], 0]
    off = draw(50) + np.r_[rng.normal(size=40), 0] * 2
    assert (fitted.percentile(along) >= 99).all()
    assert (fitted.percentile(off) >= 99).all()
    fitted.save(tmp_path)
    again = novelty.Novelty.load(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.percentile(along), fitted.percentile(along))
    assert novelty.Novelty.load(tmp_path / "nowhere") is None
    assert novelty.Novelty.fit(draw(10), draw(300)) is None
