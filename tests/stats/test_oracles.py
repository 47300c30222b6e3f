"""The field's own checks: figures that its libraries and ours both have.

``isic-challenge-scoring`` (the metrics of the ISIC challenges), ``dcurves`` (decision curves by the authors of the
method) and ``statsmodels`` are installed for development alone; what ``netcal`` gives is kept as constants
(netcal_figures.py).
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from netcal_figures import drawn

from skinkit.evaluation.comparison import mcnemar
from skinkit.evaluation.decision import THRESHOLDS, Decided, decision_curve
from skinkit.evaluation.metric_table import ScoredCases, measure, replicated
from skinkit.evaluation.overlap import overlap
from skinkit.signature.selection import welch
from skinkit.stats import cross_fit, metrics
from skinkit.stats.calibration import Recalibration
from skinkit.stats.intervals import LeaveOut, exact_interval, jackknife
from skinkit.stats.paired import paired_difference

NAMES = ("ACK", "BCC", "MEL", "NEV")


def library(name: str) -> Any:
    """A module of a library that is installed for development, whatever it warns of as it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name.partition(".")[0])
        return importlib.import_module(name)


def scored(seed: int, n: int = 400) -> ScoredCases:
    """Drawn predictions, two cases a patient; BCC and MEL are malignant; thresholds of 0.5, as in ISIC challenges."""
    p, truth = drawn(seed, n)
    malignancy = p[:, 1:3].sum(axis=1)
    return ScoredCases(
        NAMES, truth, p, np.array([f"p{i // 2:04d}" for i in range(n)]), np.array([False, True, True, False]),
        malignancy, malignancy >= 0.3, 0.3, "given", dict.fromkeys(NAMES, (0.5, "given")),
    )  # fmt: skip


def estimates(cases: ScoredCases) -> dict[tuple[str, str, str, str], float]:
    return {
        (row["class"], row["average"], row["decision_rule"], row["metric"]): row["estimate"]
        for row in measure(cases, bootstrap=0)
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_of_the_isic_challenges(seed: int) -> None:
    isic = library("isic_challenge_scoring.metrics")
    confusion = library("isic_challenge_scoring.confusion").create_binary_confusion_matrix
    cases = scored(seed)
    got = estimates(cases)
    truth = pd.DataFrame(np.eye(4)[cases.truth], columns=NAMES)
    predicted, weights = pd.DataFrame(cases.probability, columns=NAMES), pd.Series(np.ones(len(cases)))
    balanced = isic.balanced_multiclass_accuracy(truth, predicted, weights)
    assert got["all", "macro", "argmax", "balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
    of_class = {}
    for name in NAMES:
        one = (truth[name], predicted[name], weights)
        table = confusion(truth[name].to_numpy() > 0.5, predicted[name].to_numpy() > 0.5, weights.to_numpy(), name)
        want = {
            ("none", "auroc"): isic.auc(*one),
            ("none", "average_precision"): isic.average_precision(*one),
            ("frozen_threshold", "sensitivity"): isic.binary_sensitivity(table),
            ("frozen_threshold", "specificity"): isic.binary_specificity(table),
            ("frozen_threshold", "precision"): isic.binary_ppv(table),
            ("frozen_threshold", "accuracy"): isic.binary_accuracy(table),
            ("frozen_threshold", "f1"): isic.binary_dice(table),
        }
        for (rule, metric), value in want.items():
            assert got[name, "none", rule, metric] == pytest.approx(value, abs=1e-12), (name, metric)
        of_class[name] = want["none", "auroc"]
        # Theirs is the area under the curve from where it reaches 0.8; ours, that of ISIC 2024, lies above the line.
        roc = metrics.roc_curve(predicted[name], truth[name])
        above = isic.auc_above_sensitivity(*one, 0.8)
        at = int(np.searchsorted(roc["tpr"], 0.8))
        start = np.interp(0.8, roc["tpr"][at - 1 : at + 1], roc["fpr"][at - 1 : at + 1])
        assert got[name, "none", "none", metrics.PAUC] == pytest.approx(above - 0.8 * (1 - start), abs=1e-12)
    assert got["all", "macro", "none", "auroc"] == pytest.approx(np.mean(list(of_class.values())), abs=1e-12)


def test_the_overlap_of_masks_as_the_isic_challenges_score_it() -> None:
    isic = library("isic_challenge_scoring.metrics")
    confusion = library("isic_challenge_scoring.confusion").create_binary_confusion_matrix
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.6):
        truth, mask = rng.random((40, 40)) < share, rng.random((40, 40)) < share
        mask = truth ^ (rng.random((40, 40)) < 0.05) if share == 0.6 else mask
        table = confusion(truth.ravel(), mask.ravel(), np.ones(truth.size), "lesion")
        assert metrics.dice(truth, mask) == pytest.approx(isic.binary_dice(table))
        assert metrics.iou(truth, mask) == pytest.approx(isic.binary_jaccard(table))
        agreement = overlap({"iou": [metrics.iou(truth, mask)]}, ["p"])
        thresholded = isic.binary_threshold_jaccard(table, threshold=0.65)
        assert agreement["iou_thresholded"]["estimate"] == pytest.approx(thresholded)


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_net_benefit_is_that_of_its_authors(prevalence: float | None) -> None:
    dcurves = library("dcurves")
    cases = scored(0)
    sick = cases.is_malignant
    assert cases.malignancy is not None
    called, by_class = cases.malignancy >= 0.3, np.zeros(len(cases), dtype=bool)
    nobody = LeaveOut(cases.cluster, draws=0)
    ours = decision_curve(
        Decided(cases.malignancy, sick, called, by_class, cases.cluster, 0.3, nobody),
        np.nan if prevalence is None else prevalence,
    )
    table = pd.DataFrame({"sick": sick.astype(int), "model": cases.malignancy})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dcurves.dca(
            data=table, outcome="sick", modelnames=["model"], thresholds=THRESHOLDS.tolist(), prevalence=prevalence
        )
    for name in ("model", "all"):
        want = theirs[theirs["model"] == name].sort_values("threshold")["net_benefit"].to_numpy()
        np.testing.assert_allclose(ours[name], want, atol=1e-9)


@pytest.mark.parametrize(
    ("seed", "top", "first"),
    [
        (0, 0.23830760680459562, 0.10992850437698949),
        (1, 0.25449854431950203, 0.15179550682230022),
        (2, 0.254042238321188, 0.14557256505512453),
    ],
)
def test_the_calibration_error_is_that_of_netcal(seed: int, top: float, first: float) -> None:
    p, truth = drawn(seed)
    once = metrics.once(len(p))
    assert metrics.weighted_ece(once, p.max(axis=1), (p.argmax(axis=1) == truth).astype(float)) == pytest.approx(
        [top], abs=1e-12
    )
    assert metrics.weighted_ece(once, p[:, 0], (truth == 0).astype(float)) == pytest.approx([first], abs=1e-12)
    assert estimates(scored(seed))["all", "none", "none", "ece"] == pytest.approx(top, abs=1e-12)


def test_holm_and_exact_ends_of_proportions() -> None:
    multitest, proportion = library("statsmodels.stats.multitest"), library("statsmodels.stats.proportion")
    p = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(cross_fit.holm(p), multitest.multipletests(p, method="holm")[1])
    for n in (3, 26, 400):
        for hits in (0, n):
            want = proportion.proportion_confint(hits, n, method="beta")
            assert exact_interval(hits / n, n) == pytest.approx(want)


def test_mcnemar_of_one_case_a_patient() -> None:
    tables = library("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(0)
    for share in (0.5, 0.7, 0.9):
        a, b = rng.random(80) < 0.7, rng.random(80) < share
        counts = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        want = tables.mcnemar(np.array(counts), exact=True).pvalue
        assert mcnemar(a, b, np.arange(80))["p"] == pytest.approx(float(want))


def test_calibration_slope_and_intercept_are_those_of_a_logistic_regression() -> None:
    api = library("statsmodels.api")
    cases = scored(1)
    assert cases.malignancy is not None
    odds, sick = np.log(cases.malignancy / (1 - cases.malignancy)), cases.is_malignant.astype(float)
    slope, intercept = (float(value[0]) for value in Recalibration(cases.malignancy, sick).values(np.ones((1, 400))))
    binomial = api.families.Binomial()
    assert slope == pytest.approx(
        float(api.GLM(sick, api.add_constant(odds), family=binomial).fit().params[1]), abs=1e-5
    )
    alone = api.GLM(sick, np.ones((400, 1)), family=binomial, offset=odds).fit()
    assert intercept == pytest.approx(float(alone.params[0]), abs=1e-5)


def test_the_jackknife_of_patients_errs_as_generalised_estimating_equations_do() -> None:
    api = library("statsmodels.api")
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(150), rng.integers(1, 12, 150))
    easy = 1 / (1 + np.exp(-1.5 * rng.normal(size=150)))[patient]
    right = rng.random(len(patient)) < easy
    truth = np.ones(len(patient), dtype=np.int64)
    p = np.where(right[:, None], [0.1, 0.9], [0.9, 0.1])
    cases = ScoredCases(("NEV", "MEL"), truth, p, patient)
    key = ("MEL", "none", "argmax", "sensitivity")
    spread = jackknife(float(right.mean()), replicated(cases, LeaveOut(patient)).replicates[key])
    assert spread is not None
    gee = api.GEE(
        right.astype(float), np.ones((len(patient), 1)), groups=patient, cov_struct=api.cov_struct.Independence()
    ).fit()
    assert float(gee.params[0]) == pytest.approx(right.mean())
    assert spread.error == pytest.approx(float(gee.bse[0]), rel=0.08)
    one_by_one = np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    assert spread.error > 1.3 * one_by_one  # what photos taken as independent would claim


def test_a_feature_s_p_is_that_of_patient_means() -> None:
    weightstats, api = library("statsmodels.stats.weightstats"), library("statsmodels.api")
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), rng.integers(1, 15, 60))
    sick = patient < 25
    x = rng.normal(size=60)[patient] + 0.4 * sick + rng.normal(size=len(patient))
    tests = welch(x[:, None], np.where(sick, "A", "B"), patient)
    means = pd.Series(x).groupby(patient).mean().to_numpy()
    t, p, df = weightstats.ttest_ind(means[:25], means[25:], usevar="unequal")
    assert (tests.statistic[0, 0], tests.p[0, 0], tests.freedom[0, 0]) == pytest.approx((t, p, df))
    # Equations with photos as the unit and patients as clusters weigh patients by their photos, and see about as much.
    gee = api.GEE(
        x, api.add_constant(sick.astype(float)), groups=patient, cov_struct=api.cov_struct.Exchangeable()
    ).fit()
    assert tests.statistic[0, 0] == pytest.approx(float(gee.tvalues[1]), rel=0.2)


def test_two_one_sided_tests_of_pairs() -> None:
    weightstats = library("statsmodels.stats.weightstats")
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    b = a + 0.02 + 0.2 * rng.normal(size=60)
    left_out = ((b - a).sum() - (b - a)) / 59
    found = paired_difference(float((b - a).mean()), left_out, 60)
    lower, upper = weightstats.DescrStatsW(b - a).tconfint_mean(0.05)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=0.003)
    assert found.p == pytest.approx(float(weightstats.DescrStatsW(b - a).ttest_mean(0)[1]), rel=0.1)
    worst, low, high = weightstats.ttost_paired(b, a, -0.1, 0.1)
    turned = paired_difference(-found.estimate, -left_out, 60)
    ours = found.p_above(-0.1), turned.p_above(-0.1)
    assert ours == pytest.approx((float(low[1]), float(high[1])), rel=0.35)
    assert max(ours) == pytest.approx(float(worst), rel=0.35)
