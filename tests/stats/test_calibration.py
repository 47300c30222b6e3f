"""Calibration: slope and intercept, prevalence, isotonic maps, reliability and conformal sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from skinkit.stats import calibration, metrics


def drawn(n: int, slope: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and truths whose log-odds are shift + slope * theirs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, 1.5, size=n)
    return expit(x), rng.random(n) < expit(shift + slope * x)


def test_slope_is_that_of_scikit_learns_logistic_regression() -> None:
    p, y = drawn(400, slope=0.6, shift=0.4)
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(np.log(p / (1 - p))[:, None], y)
    slope, intercept = calibration.Recalibration(p, y).values(metrics.once(400))
    assert slope[0] == pytest.approx(model.coef_[0, 0], rel=1e-4)
    # Calibration in the large: with it, as many are expected as there are.
    assert expit(intercept[0] + np.log(p / (1 - p))).sum() == pytest.approx(y.sum(), rel=1e-6)


def test_planted_miscalibration_is_found_in_its_size() -> None:
    p, y = drawn(20_000, slope=0.5, shift=-1.0, seed=1)
    slope, _ = calibration.Recalibration(p, y).values(metrics.once(len(p)))
    assert slope[0] == pytest.approx(0.5, abs=0.05)
    p, y = drawn(20_000, shift=-1.0, seed=2)
    slope, intercept = calibration.Recalibration(p, y).values(metrics.once(len(p)))
    assert (slope[0], intercept[0]) == pytest.approx((1, -1), abs=0.08)


def test_very_wrong_probabilities_have_a_slope_too() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1.5, 600)
    y = rng.random(600) < expit(x)
    p = expit(2 * (x + 2.5 * rng.normal(size=600)) - 1.5)
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(calibration.log_odds(p)[:, None], y)
    told = calibration.Recalibration(p, y)
    assert told.values(metrics.once(600))[0][0] == pytest.approx(model.coef_[0, 0], rel=1e-4)
    weights = rng.multinomial(600, np.full(600, 1 / 600), size=50).astype(float)
    assert np.isfinite(told.values(weights)[0]).all()


def test_replicates_are_those_of_the_repeated_cases_and_separation_gives_none() -> None:
    p, y = drawn(120)
    weights = np.random.default_rng(1).multinomial(120, np.full(120, 1 / 120), size=5).astype(float)
    slopes, intercepts = calibration.Recalibration(p, y).values(weights)
    for w, slope, intercept in zip(weights, slopes, intercepts, strict=True):
        rows = np.repeat(np.arange(120), w.astype(int))
        again = calibration.Recalibration(p[rows], y[rows]).values(metrics.once(len(rows)))
        assert (slope, intercept) == pytest.approx((again[0][0], again[1][0]), abs=1e-5)
    slope, intercept = calibration.Recalibration([0.9, 0.8, 0.2], [1, 1, 0]).values(metrics.once(3))
    assert np.isnan(slope[0])
    assert np.isfinite(intercept[0])
    assert np.isnan(calibration.Recalibration([0.9, 0.8], [1, 1]).values(metrics.once(2))[1][0])


def test_the_shift_to_another_prevalence_is_bayes_rule() -> None:
    # 40 % malignant where the model was made, 2 % where it is used: the odds shrink by (0.02/0.98)/(0.4/0.6).
    shifted = calibration.shift_malignancy([0.5, 0.9], 0.4, 0.02)
    factor = (0.02 / 0.98) / (0.4 / 0.6)
    np.testing.assert_allclose(shifted / (1 - shifted), np.array([1, 9]) * factor)
    p = np.array([[0.1, 0.3, 0.6], [0.5, 0.25, 0.25]])
    malignant = np.array([False, True, True])
    classes = calibration.shift_classes(p, malignant, 0.4, 0.02)
    np.testing.assert_allclose(classes.sum(axis=1), 1)
    np.testing.assert_allclose(
        classes[:, malignant].sum(axis=1), calibration.shift_malignancy(p[:, 1:].sum(1), 0.4, 0.02)
    )
    np.testing.assert_allclose(classes[:, 1] / classes[:, 2], p[:, 1] / p[:, 2])


def test_calibrated_probabilities_stay_calibrated_at_another_prevalence() -> None:
    p, y = drawn(40_000, seed=3)
    here = y.mean()
    rng = np.random.default_rng(0)
    keep = y | (rng.random(len(y)) < 0.2)  # four of five benign cases never come to this clinic
    there = y[keep].mean()
    moved = calibration.shift_malignancy(p[keep], here, there)
    slope, intercept = calibration.Recalibration(moved, y[keep]).values(metrics.once(int(keep.sum())))
    assert (slope[0], intercept[0]) == pytest.approx((1, 0), abs=0.08)


def test_isotonic_is_scikit_learns_class_by_class_and_survives_json() -> None:
    rng = np.random.default_rng(0)
    p = metrics.softmax(rng.normal(size=(200, 3)))
    y = np.array([rng.choice(3, p=row**2 / (row**2).sum()) for row in p])
    fitted = calibration.Isotonic.from_dict(calibration.Isotonic.fit(p, y).as_dict())
    one = [IsotonicRegression(out_of_bounds="clip").fit(p[:, k], y == k).predict(p[:, k]) for k in range(3)]
    want = np.stack(one, axis=1)
    rows = want.sum(axis=1) > 0
    np.testing.assert_allclose(fitted.apply(p)[rows], (want / want.sum(axis=1, keepdims=True))[rows])
    np.testing.assert_allclose(fitted.apply(p).sum(axis=1), 1)
    nobody = calibration.Isotonic.fit(np.zeros((0, 3)), np.zeros(0))
    np.testing.assert_allclose(nobody.apply(p), p)


def test_conformal_level_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    # Scores 1 - p(true) are 0.1, 0.2, 0.3, 0.6; ceil(5 * 0.6) = 3rd smallest is 0.3.
    assert calibration.conformal_level(p, [0, 0, 0, 0], 0.6) == pytest.approx(0.7)
    assert calibration.conformal_level(p, [0, 0, 0, 0], 0.9) == 0  # four rows cannot promise 90 %
    eleven = np.linspace(0.5, 1.0, 11)
    p = np.stack([eleven, 1 - eleven], axis=1)
    # ceil(12 * 0.9) = 11: the largest of the eleven scores; ceil(12 * 0.8) = 10: the one before it.
    assert calibration.conformal_level(p, [0] * 11, 0.9) == pytest.approx(0.5)
    assert calibration.conformal_level(p, [0] * 11, 0.8) == pytest.approx(0.55)
    assert calibration.conformal_level(p[1:], [0] * 10, 0.9) == 0
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    sets = calibration.prediction_sets(p, 0.25)
    assert [calibration.set_of(["A", "B"], row) for row in sets] == ["A", "A", "A,B", "A,B"]
    assert calibration.prediction_sets(p, 0.95).sum(axis=1).tolist() == [1, 1, 1, 1]
    assert calibration.parse_sets(["A,B", "B", None], ["A", "B"]).tolist() == [[True] * 2, [False, True], [False] * 2]


def test_conformal_sets_hold_the_truth_as_often_as_promised() -> None:
    rng = np.random.default_rng(5)

    def cases(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(4, size=n)
        z = rng.normal(size=(n, 4)) * 1.5
        z[np.arange(n), y] += 1.5
        return metrics.softmax(z, 0.4), y  # overconfident: the promise does not need calibration

    held = []
    for _ in range(60):
        p, y = cases(150)
        level = calibration.conformal_level(p, y, 0.9)
        q, t = cases(300)
        held.append(calibration.prediction_sets(q, level)[np.arange(300), t].mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.015)


def test_reliability_bins_by_hand() -> None:
    p, y = np.repeat([0.1, 0.9], 10), np.r_[np.zeros(9), 1, np.ones(8), 0, 0].astype(bool)
    cluster = np.arange(20)
    bins = calibration.reliability(p, y, cluster, bins=2)
    assert [(b["predicted"], b["observed"], b["n"]) for b in bins] == [
        (pytest.approx(0.1), pytest.approx(0.1), 10),
        (pytest.approx(0.9), pytest.approx(0.8), 10),
    ]
    assert all(b["lower"] < b["observed"] < b["upper"] for b in bins)
