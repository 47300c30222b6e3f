"""Metrics against hand-worked cases, scikit-learn and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as sk

from skinkit.evaluation import metric_table
from skinkit.stats import intervals, metrics

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
    s = replace(s, thresholds=dict.fromkeys(CLASSES, (0.35, "validation:youden")))
    got = figures(s, bootstrap=0)
    rows = [got[name, "none", "frozen_threshold", "sensitivity"] for name in CLASSES]
    estimates, sizes = [r["estimate"] for r in rows], [r["n_positive"] for r in rows]
    assert got["all", "macro", "frozen_threshold", "sensitivity"]["estimate"] == pytest.approx(np.mean(estimates))
    weighted = np.average(np.array(estimates, float), weights=np.array(sizes, float))
    assert got["all", "weighted", "frozen_threshold", "sensitivity"]["estimate"] == pytest.approx(weighted)
    assert got["all", "micro", "frozen_threshold", "sensitivity"]["estimate"] == pytest.approx(weighted)
    assert rows[0]["threshold"] == 0.35
    assert rows[0]["threshold_source"] == "validation:youden"


@pytest.mark.parametrize("names", [("MEL",), ("BCC", "NEV"), CLASSES[1:]])
def test_thresholds_of_some_classes_give_no_average_over_classes(names: tuple[str, ...]) -> None:
    s = replace(made_up(), thresholds=dict.fromkeys(names, (0.1, "given")))
    frozen = {(class_, average) for class_, average, rule, _ in figures(s, bootstrap=0) if rule == "frozen_threshold"}
    assert frozen == {(name, "none") for name in names}


def test_an_average_needs_thresholds_of_the_classes_that_occur() -> None:
    s = replace(made_up(), thresholds=dict.fromkeys(CLASSES[1:], (0.1, "given")))
    got = figures(s.take(s.truth != 0), bootstrap=0)
    assert ("all", "macro", "frozen_threshold", "sensitivity") in got
    assert ("all", "micro", "frozen_threshold", "sensitivity") not in got


def test_each_missing_figure_says_which_of_four_reasons_it_has() -> None:
    def slope(malignancy: npt.ArrayLike, truth: npt.ArrayLike, minimum: int = 5) -> tuple[str | None, bool]:
        sick, p = np.asarray(truth, dtype=bool), np.asarray(malignancy, dtype=float)
        scored = metric_table.ScoredCases(
            ("NEV", "MEL"), sick.astype(int), np.stack([1 - p, p], axis=1), np.arange(len(p)).astype(str),
            malignant=np.array([False, True]), malignancy=p, called=p >= 0.3,
        )  # fmt: skip
        row = figures(scored, bootstrap=0, minimum=minimum)["malignant", "none", "none", "calibration_slope"]
        return row["note"], math.isnan(row["estimate"])

    rng = np.random.default_rng(0)
    sick = np.repeat([False, True], 40)
    close = 0.5 + 0.001 * (sick - 0.5) + rng.normal(0, 0.0005, 80)  # overlapping, and far too timid
    assert slope(np.where(sick, 0.9, 0.1), sick) == ("separable", True)
    assert slope(np.where(sick, 1.0, 0.0), sick) == ("separable", True)
    assert slope(np.where(sick, 0.1, 0.9), sick) == ("separable", True)
    assert slope(close, sick) == ("beyond_bounds", True)
    assert slope(rng.random(80), np.zeros(80)) == ("undefined", True)
    assert slope(np.full(80, 0.4), sick) == ("undefined", True)
    assert slope(rng.random(80), np.arange(80) < 3) == ("too_few", True)
    assert slope(rng.random(80), sick) == (None, False)


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
    weights = np.random.default_rng(3).integers(0, 3, size=(4, 30)).astype(float)[:, np.arange(90) // 3]
    values = {key: value for key, value, _ in metric_table.MetricTable(s).values(weights)}
    for replicate in range(4):
        rows = np.repeat(np.arange(len(s)), weights[replicate].astype(int))
        repeated = {k: v["estimate"] for k, v in figures(s.take(rows), bootstrap=0, minimum=1).items()}
        for key, value in values.items():
            assert value[replicate] == pytest.approx(repeated[key], abs=1e-6, nan_ok=True), key


def test_intervals_do_not_depend_on_the_order_of_the_cases_or_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    s = made_up(120)
    order = np.random.default_rng(5).permutation(len(s))
    first, second = figures(s, bootstrap=60), figures(s.take(order), bootstrap=60)
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 5000)
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
    assert (row["note"], row["n_positive"]) == ("too_few", 3)
    assert not math.isnan(float(got["MEL", "none", "argmax", "specificity"]["estimate"]))
    assert got["MEL", "none", "argmax", "specificity"]["n_positive"] == 3
    assert not math.isnan(float(figures(s, bootstrap=0, minimum=1)["MEL", "none", "none", "auroc"]["estimate"]))


def test_a_class_of_one_patient_gets_no_interval() -> None:
    s = made_up(60, seed=4)
    cluster = s.cluster.copy()
    cluster[s.truth == 2] = "one patient"
    s = metric_table.ScoredCases(s.classes, s.truth, s.probability, cluster)
    row = figures(s, bootstrap=200, minimum=1)["MEL", "none", "argmax", "sensitivity"]
    assert row["note"] == "too_few_patients"
    assert not math.isnan(float(row["estimate"]))
    assert math.isnan(float(row["lower"]))
    macro = figures(s, bootstrap=200, minimum=1)["all", "macro", "argmax", "sensitivity"]
    assert (macro["note"], math.isnan(float(macro["lower"]))) == ("too_few_patients", True)


def kish(cluster: np.ndarray) -> float:
    sizes = np.unique(cluster, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def test_a_proportion_of_nothing_or_everything_is_not_certain() -> None:
    s = made_up(240)
    s = replace(s, called=np.ones(240, dtype=bool))
    row = figures(s, bootstrap=50)["malignant", "none", "veto", "sensitivity"]
    assert (row["estimate"], row["upper"], row["note"]) == (1, 1, "exact_interval")
    # Clopper and Pearson's 0.025 ** (1 / n) with Kish's effective number of patients.
    assert row["lower"] == pytest.approx(0.025 ** (1 / kish(s.cluster[s.is_malignant])))
    none = figures(s, bootstrap=50)["malignant", "none", "veto", "specificity"]
    assert none["upper"] == pytest.approx(1 - 0.025 ** (1 / kish(s.cluster[~s.is_malignant])))
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
    assert got["MEL", "none", "none", "auroc"]["note"] == "undefined"


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
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    got = metrics.weighted_ece(weights, np.array([0.95, 0.95, 0.6]), np.array([1.0, 0.0, 1.0]), bins=10)
    assert got == pytest.approx([(2 * 0.45 + 0.4) / 3, (0.95 + 2 * 0.4) / 3])
    assert metrics.weighted_ece(metrics.once(1), np.array([1.0]), np.array([1.0])) == pytest.approx([0])


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


def test_noise_does_not_pass_for_miscalibration() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(150)
    y = rng.random(150) < p
    s = metric_table.ScoredCases(
        ("a", "b"), y.astype(int), np.stack([1 - p, p], axis=1), np.arange(150), np.array([False, True]), p
    )
    row = figures(s, bootstrap=200)["malignant", "none", "none", "ece"]
    assert row["estimate"] > 0.05
    assert row["lower"] < 0.02
    wrong = replace(s, malignancy=1 - p)
    assert figures(wrong, bootstrap=200)["malignant", "none", "none", "ece"]["lower"] > 0.3


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
    assert sure["malignant", "none", "veto", "npv_at_prevalence"]["note"] == "undefined"
    called = s.is_malignant | (np.arange(240) % 2 == 0)
    npv = figures(replace(s, called=called), bootstrap=50)["malignant", "none", "veto", "npv_at_prevalence"]
    assert npv["estimate"] == 1
    assert 0.99 < npv["lower"] < 1
