"""Distances of domains against closed forms, Shapley shares by hand, and a regression that is drawn back."""

from __future__ import annotations

import numpy as np
import pytest

from skinkit.stats import domains
from skinkit.stats.regression import balanced_regression
from skinkit.stats.shapley import exact_shapley_values


def test_the_frechet_distance_is_that_of_two_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (200_000, 2)) * [1.0, 2.0]
    b = rng.normal(0, 1, (200_000, 2)) * [3.0, 2.0] + [0.0, 4.0]
    # |m|^2 + (1 - 3)^2 + (2 - 2)^2 for independent components
    assert domains.frechet_distance(a, b) == pytest.approx(16 + 4, rel=0.01)
    assert domains.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert domains.frechet_distance(a @ turn, b @ turn) == pytest.approx(domains.frechet_distance(a, b))


def test_mmd_is_about_zero_for_one_distribution_and_by_the_definition_otherwise() -> None:
    rng = np.random.default_rng(1)
    same = [domains.mmd2(rng.normal(size=(60, 3)), rng.normal(size=(50, 3))) for _ in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40) + 1e-3
    a, b = rng.normal(size=(5, 2)), rng.normal(1, 1, size=(4, 2))
    every = np.concatenate([a, b])
    pairs = [np.linalg.norm(every[i] - every[j]) for i in range(9) for j in range(i)]
    sigma2 = np.median(np.array(pairs) ** 2)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / (2 * sigma2)))

    by_hand = (
        np.mean([k(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
        + np.mean([k(b[i], b[j]) for i in range(4) for j in range(4) if i != j])
        - 2 * np.mean([k(x, y) for x in a for y in b])
    )
    assert domains.mmd2(a, b) == pytest.approx(by_hand)


def test_domains_are_told_apart_by_cases_of_other_patients() -> None:
    """A feature that names the patient tells nothing of patients that were not seen."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(60), 4)
    domain = np.repeat(np.arange(60) % 2 == 1, 4)
    of_patient = rng.normal(size=(60, 40))[groups]
    alike = domains.domain_log_odds(of_patient, domain, groups)
    assert abs(domains.proxy_a_distance(alike, domain)) < 0.8
    shifted = domains.domain_log_odds(of_patient + 3 * domain[:, None], domain, groups)
    assert domains.proxy_a_distance(shifted, domain) > 1.8
    assert domains.proxy_a_distance(np.where(domain, 1.0, -1.0), domain) == 2.0
    assert domains.proxy_a_distance(np.where(domain, -1.0, 1.0), domain) == -2.0
    few = domains.domain_log_odds(of_patient[:14], domain[:14], groups[:14])  # two patients of one, two of the other
    assert np.isfinite(few).all()
    with pytest.raises(ValueError, match="fewer than two"):
        domains.domain_log_odds(of_patient[:8], domain[:8], groups[:8])


def test_weights_spread_a_factor_as_in_the_other_domain() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, (4000, 1)), rng.normal(0.7, 0.8, (3000, 1))
    weights = domains.matched_weights(a, b)
    assert weights.mean() == pytest.approx(1)
    mean = float((weights * a[:, 0]).sum() / weights.sum())
    sd = float(np.sqrt((weights * (a[:, 0] - mean) ** 2).sum() / weights.sum()))
    assert mean == pytest.approx(0.7, abs=0.06)
    assert sd == pytest.approx(0.8, abs=0.06)
    assert domains.matched_weights(a[:, :0], b[:, :0]).tolist() == [1.0] * 4000


def test_exact_shapley_values_add_up_and_share_what_is_joint() -> None:
    def worth(present: np.ndarray) -> np.ndarray:
        light, blur, _ = present.T.astype(float)
        return 4.0 * light * blur + light

    assert exact_shapley_values(worth, 3).tolist() == pytest.approx([3.0, 2.0, 0.0])


def test_a_regression_drawn_back_stays_where_it_started_or_goes_all_the_way() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(90) % 3
    u = rng.normal(size=(90, 5)) + np.eye(3, 5)[labels] * 2
    start, bias = rng.normal(size=(3, 5)), rng.normal(size=3)
    near, near_bias = domains.regression_towards(u, labels, 1e-9, start, bias)
    np.testing.assert_allclose(near, start, atol=1e-4)
    from_zero, b = domains.regression_towards(u, labels, 0.1, np.zeros((3, 5)), np.zeros(3))
    peer, peer_bias = balanced_regression(u, labels, 3, 0.1)
    np.testing.assert_allclose(from_zero, peer, atol=2e-3)
    np.testing.assert_allclose(b - b.mean(), peer_bias - peer_bias.mean(), atol=5e-3)
    two = labels < 2
    _, kept = domains.regression_towards(u[two], labels[two], 0.1, start, bias)
    assert kept[2] == pytest.approx(bias[2])  # a class without a row
    # ... is not driven out by those that have some: theirs do not rise to beat it.
    _, others = domains.regression_towards(u[two], labels[two], 0.1, np.zeros((3, 5)), np.array([0.0, 0.0, 8.0]))
    assert np.abs(others[:2]).max() < 2
    assert np.isfinite(near_bias).all()
