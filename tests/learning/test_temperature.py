"""Temperatures against exact posteriors: cases are drawn from known class densities, so what is right is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from written_artifacts import make

from skinkit.artifacts.artifact import open_artifact
from skinkit.stats import metrics
from skinkit.stats.calibration import conformal_level, prediction_sets
from skinkit.workspace import Ref, Workspace, load_workspace

DIAGNOSES = ("nevus", "seborrheic_keratosis", "melanoma")
MEANS = np.array([[1.0, 1.0], [1.5, 1.0], [3.0, 1.5]])
"""Of two exponentially distributed features, so that log odds are linear and classes differ in spread; melanoma is the
malignant class."""
FEATURES = ("original_firstorder_Mean", "original_firstorder_Entropy")
CLINIC, TOLERANCE = 0.02, 0.1
PARTS = ("held_out",) * 5 + ("validation",) * 6 + ("train",) * 14


def mix(malignant: float) -> np.ndarray:
    """Shares of the three classes."""
    return np.array([0.7 * (1 - malignant), 0.3 * (1 - malignant), malignant])


def posterior(x: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(n, 3) exact probabilities where the classes have these shares."""
    log_density = -(np.log(MEANS) + x[:, None] / MEANS).sum(axis=2)
    with np.errstate(divide="ignore"):
        return metrics.softmax(log_density + np.log(shares))


def drawn(n: int, malignant: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 2) and classes (n,)."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=mix(malignant))
    return rng.exponential(MEANS[truth]), truth


def write_cohort(workspace: Workspace, cohort: str, x: np.ndarray, truth: np.ndarray) -> None:
    """Cases of one patient each, with the drawn features as their radiomic ones."""
    ids = [f"{cohort}-{i:05d}" for i in range(len(x))]
    rows = [{"image_id": name, "diagnosis": DIAGNOSES[k]} for name, k in zip(ids, truth, strict=True)]
    cases = written.write_cases(workspace, cohort, rows).table()
    keys = ["image_id", "case_id", "patient_id", "lesion_id", "group_id", "image_path", "image_sha256", "pixel_sha256"]
    frame = cases[[*keys, "diagnosis"]].assign(segmenter="truth", mask_failed=False, status="ok", reason=None)
    small_cohort.write_fused(workspace, cohort, frame.assign(**dict(zip(FEATURES, x.T, strict=True))))


def trained(folder: Path, malignant: float, **options: Any) -> Workspace:
    """A workspace with a regression on the features of 2,000 cases, and 1,500 others of a clinic where 2 % are sick."""
    cohorts = {"study": "development", "clinic": "external"}
    workspace = written.make_workspace(folder / "w", cohorts, segmenter="truth", classes="pad6")
    write_cohort(workspace, "study", *drawn(2000, malignant, seed=1))
    write_cohort(workspace, "clinic", *drawn(1500, CLINIC, seed=2))
    settings = workspace.root / "skinkit.toml"
    text = settings.read_text(encoding="utf-8").replace("[cohorts.clinic]", f"[cohorts.clinic]\nprevalence = {CLINIC}")
    settings.write_text(text, encoding="utf-8")
    workspace = load_workspace(workspace.root)
    # Drawn cases need no stratifying: that of thousands of patients takes longer than the rest.
    parts = pd.DataFrame({"case_id": [f"study-{i:05d}" for i in range(2000)], "part": np.resize(PARTS, 2000)})
    parts.to_csv(workspace.root / "parts.csv", index=False)
    make(workspace, "split", import_file="parts.csv")
    given = {"model": "logistic", "radiomics": "all", "attributes": "none", **options}
    make(workspace, "train", name="probe", **given)
    return workspace


@pytest.mark.parametrize("malignant", [0.5, 0.2, 0.05])
def test_an_exact_posterior_needs_no_temperature_whatever_the_mix_of_the_rows(malignant: float) -> None:
    x, truth = drawn(30_000, malignant, seed=0)
    for supposed in (np.ones(3) / 3, mix(0.3)):
        logits = np.log(posterior(x, supposed))
        assert metrics.fit_temperature(logits, truth, supposed) == pytest.approx(1, abs=0.03)
        assert metrics.fit_temperature(logits * 2, truth, 7 * supposed) == pytest.approx(2, rel=0.03)


def test_without_the_mix_it_would_sharpen() -> None:
    x, truth = drawn(30_000, 0.05, seed=0)
    assert metrics.fit_temperature(np.log(posterior(x, np.ones(3))), truth) < 0.8


def test_weighted_rows_have_the_same_optimum() -> None:
    x, truth = drawn(60_000, 0.1, seed=3)
    logits = 1.7 * np.log(posterior(x, np.ones(3)))
    weight = (1 / np.bincount(truth))[truth]

    def loss(temperature: float) -> float:
        p = metrics.softmax(logits, temperature)[np.arange(len(truth)), truth]
        return float(-(weight * np.log(p)).sum())

    grid = np.arange(1.5, 1.9, 0.005)
    by_weight = grid[np.argmin([loss(t) for t in grid])]
    assert metrics.fit_temperature(logits, truth, np.ones(3)) == pytest.approx(by_weight, abs=0.04)


def test_classes_without_rows_and_rows_without_a_class_say_nothing() -> None:
    x, truth = drawn(2000, 0.3, seed=4)
    logits = np.log(posterior(x, np.ones(3)))
    two = truth < 2
    alone = metrics.fit_temperature(logits[two], truth[two], np.ones(3))
    assert alone == pytest.approx(metrics.fit_temperature(logits, truth, [1, 1, 0]))
    assert alone == pytest.approx(metrics.fit_temperature(logits[two][:, :2], truth[two], [1, 1]))
    assert metrics.fit_temperature(logits[truth == 0], truth[truth == 0], np.ones(3)) == 1


def test_what_is_said_of_a_class_that_a_row_cannot_have_does_not_count() -> None:
    x, truth = drawn(2000, 0.3, seed=5)
    logits = np.log(posterior(x, np.ones(3)))
    barred = (truth < 2) & (np.arange(2000) % 2 == 0)
    possible = np.where(barred[:, None], [True, True, False], True)
    found = metrics.fit_temperature(logits, truth, np.ones(3), possible=possible)
    assert metrics.fit_temperature(logits + np.outer(barred, [0, 0, 9]), truth, np.ones(3), possible=possible) == found


def test_few_rows_teach_no_extreme_temperature() -> None:
    found: dict[float, list[float]] = {spread: [] for spread in (np.inf, 0.5)}
    for seed in range(60):
        x, truth = drawn(30, 0.1, seed=seed)
        for spread, of in found.items():
            of.append(
                np.log(metrics.fit_temperature(np.log(posterior(x, np.ones(3))), truth, [1, 1, 1], spread=spread))
            )
    assert np.std(found[0.5]) < 0.8 * np.std(found[np.inf])
    assert np.abs(found[0.5]).max() < 1


@pytest.mark.parametrize("malignant", [0.5, 0.2, 0.05])
def test_malignancy_at_a_clinics_prevalence_is_that_of_the_exact_posterior(tmp_path: Path, malignant: float) -> None:
    workspace = trained(tmp_path, malignant)
    (fold,) = open_artifact(workspace.path(Ref("models", name="probe"))).json("model.json")["folds"]
    assert fold["temperature"] == pytest.approx(1, abs=0.12)
    assert fold["temperature_prior"] == fold["effective_class_prior"]
    table = make(workspace, "predict", name="probe", cohorts=["clinic"]).table()
    rows = table[table["level"] == "image"].sort_values("case_id")
    x, _ = drawn(1500, CLINIC, seed=2)
    even = posterior(x, np.ones(3))[:, 2]
    there = posterior(x, CLINIC * np.array([0, 0, 1]) + (1 - CLINIC) * np.array([0.5, 0.5, 0]))[:, 2]
    assert rows["effective_prevalence"].tolist() == pytest.approx([1 / 3] * 1500)
    assert rows["malignancy"].mean() == pytest.approx(even.mean(), rel=TOLERANCE)
    assert rows["malignancy_at_prevalence"].mean() == pytest.approx(there.mean(), rel=TOLERANCE)


def test_prediction_sets_hold_the_truth_as_often_as_they_claim_on_the_mix_of_the_validation_rows() -> None:
    held = []
    for seed in range(40):
        x, truth = drawn(600, 0.05, seed=seed)
        p = metrics.softmax(np.log(posterior(x, np.ones(3))), 1.4)  # of another mix, and badly calibrated
        level = conformal_level(p[:300], truth[:300], 0.9)
        held.append(prediction_sets(p[300:], level)[np.arange(300), truth[300:]].mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)


def test_isotonic_maps_give_the_mix_of_the_rows(tmp_path: Path) -> None:
    workspace = trained(tmp_path, 0.2, calibration="isotonic")
    (fold,) = open_artifact(workspace.path(Ref("models", name="probe"))).json("model.json")["folds"]
    assert fold["temperature"] == pytest.approx(1, abs=0.12)
    assert {code: share for code, share in fold["temperature_prior"].items() if share} == pytest.approx(
        {"MEL": 1 / 3, "NEV": 1 / 3, "SEK": 1 / 3}
    )
    assert fold["effective_class_prior"]["MEL"] == pytest.approx(0.2, abs=0.02)
    table = make(workspace, "predict", name="probe", cohorts=["clinic"]).table()
    x, _ = drawn(1500, CLINIC, seed=2)
    there = posterior(x, mix(CLINIC))[:, 2]
    rows = table[table["level"] == "image"]
    assert rows["malignancy_at_prevalence"].mean() == pytest.approx(there.mean(), rel=2 * TOLERANCE)
