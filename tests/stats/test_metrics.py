"""Metrics against hand-worked cases, scikit-learn and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from skinkit.evaluation import metric_table
from skinkit.stats import metrics

CLASSES = ("ACK", "BCC", "MEL", "NEV")


def made_up(n: int = 300, seed: int = 0, ties: bool = True) -> metric_table.ScoredCases:
    """Predictions of four classes, some tied, three cases a patient; BCC and MEL are malignant."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, size=n, p=[0.4, 0.3, 0.1, 0.2])
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), truth] += 1.2
    probability = metrics.softmax(logits)
    if ties:
        probability = np.round(probability, 1) + 0.025
        probability /= probability.sum(axis=1, keepdims=True)
    malignant = np.array([False, True, True, False])
    malignancy = probability[:, malignant].sum(axis=1)
    return metric_table.ScoredCases(
        classes=CLASSES,
        truth=truth,
        probability=probability,
        cluster=np.array([f"p{i // 3:03d}" for i in range(n)]),
        malignant=malignant,
        malignancy=malignancy,
        called=malignancy >= 0.3,
        veto=0.3,
        veto_source="model",
        thresholds={"BCC": (0.35, "validation:youden"), "MEL": (0.2, "validation:youden")},
    )


def figures(scored: metric_table.ScoredCases, **settings: int) -> dict[metric_table.Key, dict[str, Any]]:
    rows = metric_table.measure(scored, **settings)
    keyed = {(r["class"], r["average"], r["decision_rule"], r["metric"]): r for r in rows}
    assert len(keyed) == len(rows)
    return keyed


def test_auroc_by_hand_with_a_tie() -> None:
    # Pairs (positive, negative): 0.9>0.5, 0.9>0.1, 0.5=0.5 counts one half, 0.5>0.1: 3.5 of 4.
    assert metrics.auroc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == 3.5 / 4
    assert math.isnan(metrics.auroc([0.9, 0.5], [1, 1]))
    assert math.isnan(metrics.auroc([], []))


def test_average_precision_by_hand() -> None:
    # Positives at ranks 1 and 3: 0.5 * 1/1 + 0.5 * 2/3.
    assert metrics.average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(0.5 + 1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_areas_and_curves_agree_with_scikit_learn(seed: int) -> None:
    scored = made_up(seed=seed)
    score, positive = scored.probability[:, 2], scored.truth == 2
    assert metrics.auroc(score, positive) == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    assert metrics.average_precision(score, positive) == pytest.approx(
        sk.average_precision_score(positive, score), abs=1e-12
    )
    roc = metrics.roc_curve(score, positive)
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    theirs = {(round(x, 9), round(y, 9)) for x, y in zip(fpr, tpr, strict=True)}
    assert {(round(x, 9), round(y, 9)) for x, y in zip(roc["fpr"], roc["tpr"], strict=True)} <= theirs
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    pr = metrics.pr_curve(score, positive)
    precision, recall, _ = sk.precision_recall_curve(positive, score)
    np.testing.assert_allclose(pr["precision"][1:], precision[::-1][1:])
    np.testing.assert_allclose(pr["recall"], recall[::-1])


def test_every_estimate_agrees_with_scikit_learn() -> None:
    s = made_up()
    got = {key: row["estimate"] for key, row in figures(s, bootstrap=0).items()}
    top, y = s.predicted, s.truth
    want: dict[metric_table.Key, float] = {
        ("all", "none", "argmax", "accuracy"): sk.accuracy_score(y, top),
        ("all", "macro", "argmax", "balanced_accuracy"): sk.balanced_accuracy_score(y, top),
        ("all", "none", "none", "log_loss"): sk.log_loss(y, s.probability),
    }
    one_hot = np.eye(4)[y]
    want["all", "none", "none", "brier"] = float(np.mean(np.sum((s.probability - one_hot) ** 2, axis=1)))
    for average in ("macro", "weighted", "micro"):
        want["all", average, "none", "auroc"] = sk.roc_auc_score(
            one_hot, s.probability, average=average, multi_class="ovr"
        )
        want["all", average, "none", "average_precision"] = sk.average_precision_score(
            one_hot, s.probability, average=average
        )
        want["all", average, "argmax", "f1"] = sk.f1_score(y, top, average=average)
        want["all", average, "argmax", "sensitivity"] = sk.recall_score(y, top, average=average)
        want["all", average, "argmax", "precision"] = sk.precision_score(y, top, average=average)
    for c, name in enumerate(CLASSES):
        is_c, called = y == c, top == c
        want[name, "none", "none", "auroc"] = sk.roc_auc_score(is_c, s.probability[:, c])
        want[name, "none", "argmax", "sensitivity"] = sk.recall_score(is_c, called)
        want[name, "none", "argmax", "specificity"] = sk.recall_score(~is_c, ~called)
        want[name, "none", "argmax", "precision"] = sk.precision_score(is_c, called)
        want[name, "none", "argmax", "f1"] = sk.f1_score(is_c, called)
        want[name, "none", "argmax", "accuracy"] = sk.accuracy_score(is_c, called)
    for name, threshold in (("BCC", 0.35), ("MEL", 0.2)):
        c = CLASSES.index(name)
        is_c, called = y == c, s.probability[:, c] >= threshold
        want[name, "none", "frozen_threshold", "sensitivity"] = sk.recall_score(is_c, called)
        want[name, "none", "frozen_threshold", "specificity"] = sk.recall_score(~is_c, ~called)
        want[name, "none", "frozen_threshold", "precision"] = sk.precision_score(is_c, called)
        want[name, "none", "frozen_threshold", "accuracy"] = sk.accuracy_score(is_c, called)
    sick = np.isin(y, [1, 2])
    assert s.malignancy is not None
    want["malignant", "none", "none", "auroc"] = sk.roc_auc_score(sick, s.malignancy)
    want["malignant", "none", "none", "average_precision"] = sk.average_precision_score(sick, s.malignancy)
    want["malignant", "none", "none", "brier"] = sk.brier_score_loss(sick, s.malignancy)
    want["malignant", "none", "none", "log_loss"] = sk.log_loss(sick, s.malignancy)
    for rule, called in (("veto", s.malignancy >= 0.3), ("argmax", np.isin(top, [1, 2]))):
        want["malignant", "none", rule, "sensitivity"] = sk.recall_score(sick, called)
        want["malignant", "none", rule, "specificity"] = sk.recall_score(~sick, ~called)
        want["malignant", "none", rule, "ppv"] = sk.precision_score(sick, called)
        want["malignant", "none", rule, "npv"] = sk.precision_score(~sick, ~called)
        want["malignant", "none", rule, "accuracy"] = sk.accuracy_score(sick, called)
        want["malignant", "none", rule, "balanced_accuracy"] = sk.balanced_accuracy_score(sick, called)
        want["malignant", "none", rule, "f1"] = sk.f1_score(sick, called)
    for key, value in want.items():
        assert got[key] == pytest.approx(value, abs=1e-10), key


def test_averages_at_frozen_thresholds_are_named_means_of_their_rows() -> None:
    s = made_up()
    got = figures(s, bootstrap=0)
    rows = [got[name, "none", "frozen_threshold", "sensitivity"] for name in ("BCC", "MEL")]
    estimates, sizes = [r["estimate"] for r in rows], [r["n_positive"] for r in rows]
    assert got["all", "macro", "frozen_threshold", "sensitivity"]["estimate"] == pytest.approx(np.mean(estimates))
    weighted = np.average(np.array(estimates, float), weights=np.array(sizes, float))
    assert got["all", "weighted", "frozen_threshold", "sensitivity"]["estimate"] == pytest.approx(weighted)
    assert got["all", "micro", "frozen_threshold", "sensitivity"]["estimate"] == pytest.approx(weighted)
    assert rows[0]["threshold"] == 0.35
    assert rows[0]["threshold_source"] == "validation:youden"


def test_cases_may_have_thresholds_of_their_own() -> None:
    s = made_up()
    own = np.where(np.arange(len(s)) < 100, 0.2, 0.5)
    mixed = replace(s, thresholds={"MEL": (own, "validation:youden")})
    row = figures(mixed, bootstrap=0)["MEL", "none", "frozen_threshold", "specificity"]
    called = s.probability[:, 2] >= own
    assert row["estimate"] == pytest.approx(sk.recall_score(s.truth != 2, ~called))
    assert row["threshold"] == pytest.approx(0.4)
    first = figures(mixed.take(np.arange(100)), bootstrap=0)["MEL", "none", "frozen_threshold", "specificity"]
    assert first["threshold"] == pytest.approx(0.2)


def test_a_replicate_equals_the_metric_of_the_repeated_cases() -> None:
    """Weighting a case k times is the same as listing it k times."""
    s = made_up(90)
    weights = next(metrics.cluster_weights(s.cluster, 4, seed=3))
    values = {key: value for key, value, _ in metric_table.MetricTable(s).values(weights)}
    for replicate in range(4):
        rows = np.repeat(np.arange(len(s)), weights[replicate].astype(int))
        repeated = {k: v["estimate"] for k, v in figures(s.take(rows), bootstrap=0, minimum=1).items()}
        for key, value in values.items():
            assert value[replicate] == pytest.approx(repeated[key], abs=1e-8, nan_ok=True), key


def test_whole_clusters_are_drawn() -> None:
    cluster = np.array(["b", "a", "b", "c", "a", "b"])
    weights = np.vstack(list(metrics.cluster_weights(cluster, 200, seed=1)))
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 0], weights[:, 5])
    assert np.array_equal(weights[:, 1], weights[:, 4])
    per_cluster = weights[:, [0, 1, 3]].sum(axis=1)
    assert np.all(per_cluster == 3)
    assert weights[:, 3].mean() == pytest.approx(1, abs=0.2)


def test_intervals_do_not_depend_on_the_order_of_the_cases_or_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    s = made_up(120)
    order = np.random.default_rng(5).permutation(len(s))
    first, second = figures(s, bootstrap=60), figures(s.take(order), bootstrap=60)
    monkeypatch.setattr(metrics, "_CHUNK_CELLS", 5000)
    third = figures(s, bootstrap=60)
    for key, row in first.items():
        for other in (second, third):
            assert other[key]["lower"] == pytest.approx(row["lower"], abs=1e-9, nan_ok=True), key
            assert other[key]["upper"] == pytest.approx(row["upper"], abs=1e-9, nan_ok=True), key


def test_too_few_cases_give_no_number_but_their_count() -> None:
    s = made_up(90, seed=2)
    rare = np.flatnonzero(s.truth == 2)
    s = s.take(np.r_[np.flatnonzero(s.truth != 2), rare[:3]])
    got = figures(s, bootstrap=50)
    row = got["MEL", "none", "none", "auroc"]
    assert math.isnan(float(row["estimate"]))
    assert (row["note"], row["n_positive"]) == ("insufficient_n", 3)
    assert not math.isnan(float(got["MEL", "none", "argmax", "specificity"]["estimate"]))
    assert got["MEL", "none", "argmax", "specificity"]["n_positive"] == 3
    assert not math.isnan(float(figures(s, bootstrap=0, minimum=1)["MEL", "none", "none", "auroc"]["estimate"]))


def test_a_class_of_one_patient_gets_no_interval() -> None:
    s = made_up(60, seed=4)
    cluster = s.cluster.copy()
    cluster[s.truth == 2] = "one patient"
    s = metric_table.ScoredCases(s.classes, s.truth, s.probability, cluster)
    row = figures(s, bootstrap=200, minimum=1)["MEL", "none", "argmax", "sensitivity"]
    assert row["note"] == "no_interval"
    assert not math.isnan(float(row["estimate"]))
    assert math.isnan(float(row["lower"]))


def test_a_proportion_of_nothing_or_everything_is_not_certain() -> None:
    s = made_up(240)
    s = replace(s, called=np.ones(240, dtype=bool))
    row = figures(s, bootstrap=50)["malignant", "none", "veto", "sensitivity"]
    sick = len(np.unique(s.cluster[s.is_malignant]))
    assert (row["estimate"], row["upper"], row["note"]) == (1, 1, "exact_interval")
    assert row["lower"] == pytest.approx(float(binomtest(sick, sick).proportion_ci(method="exact").low))
    none = figures(s, bootstrap=50)["malignant", "none", "veto", "specificity"]
    well = len(np.unique(s.cluster[~s.is_malignant]))
    assert none["upper"] == pytest.approx(float(binomtest(0, well).proportion_ci(method="exact").high))
    never = replace(s, thresholds={"NEV": (1.0, "given")})
    unseen = figures(never, bootstrap=50)["NEV", "none", "frozen_threshold", "sensitivity"]
    assert (unseen["lower"], unseen["note"]) == (0, "exact_interval")
    assert 0.03 < unseen["upper"] < 0.3


def test_averages_leave_out_classes_absent_from_the_truth() -> None:
    s = made_up(200)
    s = s.take(s.truth != 2)
    got = figures(s, bootstrap=0)
    three = [0, 1, 3]
    areas = [sk.roc_auc_score(s.truth == c, s.probability[:, c]) for c in three]
    assert got["all", "macro", "none", "auroc"]["estimate"] == pytest.approx(np.mean(areas))
    assert got["all", "macro", "argmax", "f1"]["estimate"] == pytest.approx(
        sk.f1_score(s.truth, s.predicted, average="macro", labels=three)
    )
    assert got["MEL", "none", "none", "auroc"]["note"] == "insufficient_n"


def test_two_classes_named_malignant_and_benign_are_told_once() -> None:
    s = made_up(100)
    assert s.malignancy is not None
    binary = metric_table.ScoredCases(
        ("benign", "malignant"),
        s.is_malignant.astype(int),
        np.stack([1 - s.malignancy, s.malignancy], axis=1),
        s.cluster,
        np.array([False, True]),
        s.malignancy,
        s.called,
        0.3,
        "model",
    )
    got = figures(binary, bootstrap=20)
    assert got["malignant", "none", "none", "auroc"]["estimate"] == pytest.approx(
        sk.roc_auc_score(s.is_malignant, s.malignancy)
    )


def test_nothing_scored_gives_no_rows() -> None:
    assert metric_table.measure(made_up().take(np.zeros(300, dtype=bool))) == []


def test_expected_calibration_error_by_hand() -> None:
    # Bin [0.9, 1.0): confidence 0.95 twice, one right: |0.5 - 0.95|. Bin [0.6, 0.7): 0.6 right: 0.4.
    assert metrics.expected_calibration_error([0.95, 0.95, 0.6], [1, 0, 1], bins=10) == pytest.approx(
        (2 * 0.45 + 0.4) / 3
    )
    assert metrics.expected_calibration_error([1.0], [1]) == 0


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3)) * 2
    labels = np.array([rng.choice(3, p=p) for p in metrics.softmax(logits)])
    assert metrics.fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.05)
    assert metrics.fit_temperature(np.log(metrics.softmax(logits)) * 0.5, labels) == pytest.approx(0.5, rel=0.05)
    assert metrics.fit_temperature(np.zeros((0, 3)), []) == 1.0
    assert 0.05 <= metrics.fit_temperature(np.array([[0.0, -np.inf], [-np.inf, 0.0]]), [0, 1]) <= 20


def test_youden_threshold_by_hand() -> None:
    # 0.8 and 0.6 are positive, 0.4 and 0.2 negative: anything between 0.4 and 0.6 separates them.
    assert metrics.youden_threshold([0.8, 0.6, 0.4, 0.2], [1, 1, 0, 0]) == pytest.approx(0.5)
    # 0.9+ 0.7- 0.5+ 0.3-: J is 0.5 after the first and after the third; the more sensitive is taken.
    assert metrics.youden_threshold([0.9, 0.7, 0.5, 0.3], [1, 0, 1, 0]) == pytest.approx(0.4)
    assert math.isnan(metrics.youden_threshold([0.9, 0.7], [1, 1]))
    assert metrics.youden_threshold([0.5, 0.5], [1, 0]) == 0.5
    low, high = 0.5, math.nextafter(0.5, 1)
    assert metrics.youden_threshold([high, low], [1, 0]) == high


def test_youden_threshold_reaches_the_best_point_of_scikit_learns_curve() -> None:
    s = made_up()
    score, positive = s.probability[:, 1], s.truth == 1
    called = score >= metrics.youden_threshold(score, positive)
    fpr, tpr, _ = sk.roc_curve(positive, score)
    assert np.mean(called[positive]) - np.mean(called[~positive]) == pytest.approx(np.max(tpr - fpr))


def test_dice_and_iou_by_hand() -> None:
    a = np.array([[1, 1, 0], [0, 0, 0]])
    b = np.array([[0, 1, 1], [0, 0, 1]])
    assert metrics.dice(a, b) == pytest.approx(2 / 5)
    assert metrics.iou(a, b) == pytest.approx(1 / 4)
    assert metrics.dice(a * 0, b * 0) == 1
    assert metrics.iou(a * 0, b) == 0


def test_small_helpers() -> None:
    s = made_up()
    assert metrics.macro_auroc(s.probability, s.truth) == pytest.approx(
        sk.roc_auc_score(np.eye(4)[s.truth], s.probability)
    )
    assert metrics.balanced_accuracy(s.truth, s.predicted) == pytest.approx(
        sk.balanced_accuracy_score(s.truth, s.predicted)
    )
    assert np.array_equal(
        metric_table.confusion_matrix(s.truth, s.predicted, 4),
        sk.confusion_matrix(s.truth, s.predicted, labels=range(4)),
    )


def auroc_interval(
    score: np.ndarray, truth: np.ndarray, cluster: np.ndarray, replicates: int, seed: int = 0
) -> tuple[float, float, float]:
    """AUROC with its interval, as the metrics table computes it."""
    ranking = metrics.Ranking(score, truth)
    area = float(ranking.areas(metrics.once(len(truth)))[0][0])
    areas = [ranking.areas(weights)[0] for weights in metrics.cluster_weights(cluster, replicates, seed)]
    rarer = min(len(np.unique(cluster[truth])), len(np.unique(cluster[~truth])))
    return area, *metrics.area_interval(area, np.concatenate(areas), rarer)


def coverage(simulations: int, patients: int = 80, replicates: int = 400) -> tuple[float, float]:
    """How often the intervals of AUROC and sensitivity hold the truth.

    Two lesions a patient; what they score is correlated 0.7; a score above 0 is called positive.
    """
    true_area, true_sensitivity = NormalDist().cdf(1 / math.sqrt(2)), NormalDist().cdf(1)
    rng = np.random.default_rng(42)
    held = np.zeros(2)
    for seed in range(simulations):
        truth = np.repeat(rng.random(patients) < 0.4, 2)
        shared, own = np.repeat(rng.normal(size=patients), 2), rng.normal(size=2 * patients)
        score = math.sqrt(0.7) * shared + math.sqrt(0.3) * own + truth
        cluster = np.repeat(np.arange(patients), 2)
        lower, upper = auroc_interval(score, truth, cluster, replicates, seed)[1:]
        hit = truth & (score > 0)
        drawn = [metrics.ratio(w @ hit, w @ truth) for w in metrics.cluster_weights(cluster, replicates, seed)]
        low, high = metrics.proportion_interval(
            hit.sum() / truth.sum(), np.concatenate(drawn), int(truth.sum()), int(truth.sum()) // 2
        )
        held += [lower <= true_area <= upper, low <= true_sensitivity <= high]
    return float(held[0] / simulations), float(held[1] / simulations)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    for share in coverage(200, replicates=200):
        assert 0.91 <= share <= 0.99


@pytest.mark.slow
def test_the_interval_covers_the_truth_over_many_simulations() -> None:
    for share in coverage(2000, replicates=1000):
        assert 0.93 <= share <= 0.97


def test_few_patients_widen_percentiles_and_noise_does_not_pass_for_miscalibration() -> None:
    drawn = np.linspace(0.4, 0.8, 1001)
    lower, upper = metrics.percentile_interval(drawn)
    wide = metrics.widened_interval(0.6, drawn, 10)
    # t with 9 degrees is 2.262; the sample's variance is too small by 9/10.
    factor = 2.262 / 1.96 * math.sqrt(10 / 9)
    assert wide == pytest.approx((0.6 - factor * (0.6 - lower), 0.6 + factor * (upper - 0.6)), rel=1e-3)
    assert metrics.widened_interval(0.6, drawn, 10_000) == pytest.approx((lower, upper), rel=1e-3)
    rng = np.random.default_rng(0)
    p = rng.random(150)
    y = rng.random(150) < p
    s = metric_table.ScoredCases(
        ("a", "b"), y.astype(int), np.stack([1 - p, p], axis=1), np.arange(150), np.array([False, True]), p
    )
    row = figures(s, bootstrap=200)["malignant", "none", "none", "ece"]
    assert row["estimate"] > 0.05
    assert row["lower"] < 0.02


# --------------------------------------------------------------------------------- thresholds, ranks and agreement


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [True, False])
def test_pauc_is_the_score_of_isic_2024(seed: int, ties: bool) -> None:
    s = made_up(seed=seed, ties=ties)
    positive, score = s.truth == 1, s.probability[:, 1]
    # As the organisers compute it: classes exchanged, scikit-learn's partial AUC, its scaling taken back.
    scaled = sk.roc_auc_score(~positive, -score, max_fpr=0.2)
    theirs = 0.5 * 0.2**2 + (0.2 - 0.5 * 0.2**2) / (1.0 - 0.5) * (scaled - 0.5)
    assert metrics.Ranking(score, positive).summary(metrics.once(len(s)))[metrics.PAUC][0] == pytest.approx(theirs)


def test_pauc_of_a_perfect_and_of_a_blind_score() -> None:
    perfect = metrics.Ranking([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]).summary(metrics.once(4))
    assert perfect[metrics.PAUC][0] == pytest.approx(0.2)
    blind = metrics.Ranking([0.5] * 4, [1, 1, 0, 0]).summary(metrics.once(4))
    assert blind[metrics.PAUC][0] == pytest.approx(0.02)  # the triangle above 0.8


def test_sensitivity_at_fixed_specificity_and_the_reverse_are_points_of_scikit_learns_curve() -> None:
    s = made_up(seed=3)
    positive, score = s.truth == 0, s.probability[:, 0]
    fpr, tpr, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    got = metrics.Ranking(score, positive).summary(metrics.once(len(s)))
    for share in (0.95, 0.9):
        name = f"{100 * share:.0f}"
        assert got[f"sensitivity_at_{name}_specificity"][0] == pytest.approx(tpr[fpr <= 1 - share + 1e-9].max())
        assert got[f"specificity_at_{name}_sensitivity"][0] == pytest.approx((1 - fpr[tpr >= share - 1e-9]).max())


def test_matthews_coefficient_and_prevalence_agree_with_scikit_learn() -> None:
    s = made_up()
    got = figures(s, bootstrap=0)
    assert s.malignancy is not None
    assert got["all", "none", "argmax", "mcc"]["estimate"] == pytest.approx(sk.matthews_corrcoef(s.truth, s.predicted))
    called = s.malignancy >= 0.3
    assert got["malignant", "none", "veto", "mcc"]["estimate"] == pytest.approx(
        sk.matthews_corrcoef(s.is_malignant, called)
    )
    assert got["malignant", "none", "none", "prevalence"]["estimate"] == pytest.approx(s.is_malignant.mean())


def test_wilsons_interval_with_the_bootstraps_variance_by_hand() -> None:
    # Replicates with the binomial variance of 40 independent cases: Wilson's interval of 30 of 40.
    spread = math.sqrt(0.75 * 0.25 / 40)
    lower, upper = metrics.proportion_interval(0.75, [0.75 - spread, 0.75 + spread], 100, 50)
    want = binomtest(30, 40).proportion_ci(method="wilson")
    assert (lower, upper) == pytest.approx((want.low, want.high))
    # Less spread than the cases themselves allow counts as that many cases.
    lower, upper = metrics.proportion_interval(0.75, [0.75, 0.75], 40, 40)
    assert (lower, upper) == pytest.approx((want.low, want.high))


def test_a_perfect_auroc_is_not_certain() -> None:
    score, truth = np.r_[np.arange(20) + 100, np.arange(20)], np.repeat([True, False], 20)
    area, lower, upper = auroc_interval(score, truth, np.arange(40), 50)
    assert (area, upper) == (1, 1)
    assert lower == pytest.approx(float(binomtest(20, 20).proportion_ci(method="exact").low))


def test_predictive_values_at_a_stated_prevalence_by_hand() -> None:
    s = replace(made_up(240), prevalence=0.02)
    got = figures(s, bootstrap=50)
    sensitivity, specificity = (got["malignant", "none", "veto", m]["estimate"] for m in ("sensitivity", "specificity"))
    hits, alarms = 0.02 * sensitivity, 0.98 * (1 - specificity)
    row = got["malignant", "none", "veto", "ppv_at_prevalence"]
    assert row["estimate"] == pytest.approx(hits / (hits + alarms))
    assert row["lower"] < row["estimate"] < row["upper"] < got["malignant", "none", "veto", "ppv"]["estimate"]
    # Nobody missed: the NPV is 1, and how far below it may lie follows from how many there were to miss.
    sure = figures(replace(s, called=np.ones(240, dtype=bool)), bootstrap=50)
    assert sure["malignant", "none", "veto", "npv_at_prevalence"]["note"] == "insufficient_n"
    called = s.is_malignant | (np.arange(240) % 2 == 0)
    npv = figures(replace(s, called=called), bootstrap=50)["malignant", "none", "veto", "npv_at_prevalence"]
    assert npv["estimate"] == 1
    assert 0.99 < npv["lower"] < 1
