"""The radiomic signature: planted effects are found, on training rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from written_artifacts import make_workspace, run_stage, write

from skinkit.artifacts.artifact import Artifact
from skinkit.errors import ConfigError, InputError
from skinkit.signature import selection
from skinkit.stats import cross_fit
from skinkit.workspace import Ref, Workspace

STRONG, COPY, SECOND, WEAK = (f"original_firstorder_{n}" for n in ("Mean", "Median", "Energy", "Entropy"))
NOISE = [f"original_glcm_Noise{i}" for i in range(8)]
CLASSES = ["BCC", "MEL", "NEV"]


def planted(n: int = 240, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Mean tells MEL apart, Median repeats it (monotonously), Energy tells BCC apart less well, the rest is noise."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n)
    x = {name: rng.normal(size=n) for name in NOISE}
    strong = rng.normal(size=n) + 3 * (labels == "MEL")
    x |= {
        STRONG: strong,
        COPY: np.exp(strong + rng.normal(size=n) * 0.01),
        SECOND: rng.normal(size=n) + 1.5 * (labels == "BCC"),
        WEAK: rng.normal(size=n) + 0.9 * (labels == "NEV"),
        "original_shape2D_Constant": np.full(n, 7.0),
        "original_shape2D_Missing": np.where(np.arange(n) < 40, rng.normal(size=n), np.nan),
    }
    return pd.DataFrame(x), labels


def chosen(features: pd.DataFrame, labels: Any, **rule: Any) -> pd.DataFrame:
    names = list(features.columns)
    patients = np.arange(len(labels))
    return selection.choose(features.to_numpy(), labels, patients, names, selection.SignatureRule(**rule)).table(names)


def reasons(table: pd.DataFrame) -> dict[str, Any]:
    return dict(zip(table["feature"], table["drop_reason"], strict=True))


def test_every_feature_gets_its_reason() -> None:
    features, labels = planted()
    table = chosen(features, labels)
    assert table.loc[table["selected"], "feature"].tolist() == [STRONG, SECOND, WEAK]
    row = table.set_index("feature")
    assert row.loc[STRONG, "best_class"] == "MEL"
    assert row.loc[SECOND, "best_class"] == "BCC"
    assert row.loc[STRONG, "rank"] == 1
    assert row.loc[COPY, "correlated_with"] == STRONG
    found = reasons(table)
    assert found[COPY] == "correlated"
    assert found["original_shape2D_Constant"] == "constant"
    assert found["original_shape2D_Missing"] == "missing"
    assert {found[name] for name in NOISE} == {"not_significant"}
    assert {found[name] for name in (STRONG, SECOND, WEAK)} == {None}


def test_the_limit_cuts_after_the_best() -> None:
    features, labels = planted()
    found = reasons(chosen(features, labels, limit=1))
    assert found[STRONG] is None
    assert found[COPY] == "correlated"
    assert found[SECOND] == "beyond_limit"
    loose = chosen(features, labels, max_correlation=1.0)
    assert loose.loc[loose["selected"], "feature"].tolist() == [STRONG, COPY, SECOND, WEAK]


def test_t_and_p_agree_with_scipy_where_values_are_missing() -> None:
    features, labels = planted(120)
    x = features.to_numpy().copy()
    x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    tests = selection.welch(x, labels, np.arange(120))
    assert tests.classes.tolist() == CLASSES
    for column, name in enumerate(CLASSES):
        for f in range(len(NOISE) + 4):
            want = stats.ttest_ind(x[labels == name, f], x[labels != name, f], equal_var=False, nan_policy="omit")
            assert tests.statistic[f, column] == pytest.approx(float(want.statistic))
            assert tests.freedom[f, column] == pytest.approx(float(want.df))
            assert tests.p[f, column] == pytest.approx(float(want.pvalue), rel=1e-8)


def test_welch_and_cohen_by_hand() -> None:
    # A 1 2 3 2, B 5 7 9 11: means 2 and 8, variances 2/3 and 20/3, so t = -6 / sqrt(1/6 + 5/3), pooled variance 22 / 6,
    # df = (11/6)^2 / ((1/6)^2 / 3 + (5/3)^2 / 3).
    x = np.array([[1.0], [2.0], [3.0], [2.0], [5.0], [7.0], [9.0], [11.0]])
    tests = selection.welch(x, np.repeat(["A", "B"], 4), np.arange(8))
    assert tests.statistic[0, 0] == pytest.approx(-6 / np.sqrt(11 / 6))
    assert tests.freedom[0, 0] == pytest.approx(363 / 101)
    assert tests.difference[0].tolist() == pytest.approx([-6, 6])
    assert tests.effect[0].tolist() == pytest.approx([-6 / np.sqrt(11 / 3), 6 / np.sqrt(11 / 3)])
    assert np.isnan(selection.welch(x[1:], np.repeat(["A", "B"], [3, 4]), np.arange(7)).p).all()  # three patients


def test_photos_of_a_patient_count_as_one_patient() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), rng.integers(1, 60, 30))
    x = rng.normal(size=(30, 3))[patient] + 0.1 * rng.normal(size=(len(patient), 3))
    x[rng.random(x.shape) < 0.1] = np.nan
    sick = patient < 9
    means = pd.DataFrame(x).groupby(patient).mean().to_numpy()
    tests = selection.welch(x, np.where(sick, "A", "B"), patient)
    want = stats.ttest_ind(means[:9], means[9:], equal_var=False, nan_policy="omit")
    np.testing.assert_allclose(tests.statistic[:, 0], want.statistic)
    np.testing.assert_allclose(tests.freedom[:, 0], want.df)
    np.testing.assert_allclose(tests.p[:, 0], want.pvalue)
    assert tests.n_clusters.tolist() == [9, 21]
    # Every patient on both sides: the paired test.
    left = rng.random(len(patient)) < 0.5
    whole = np.isin(patient, [p for p in range(30) if {*left[patient == p]} == {True, False}])
    x, left, patient = np.nan_to_num(x[whole]), left[whole], patient[whole]
    pairs = [pd.DataFrame(x[side]).groupby(patient[side]).mean().to_numpy() for side in (left, ~left)]
    tests = selection.welch(x, np.where(left, "A", "B"), patient)
    rel = stats.ttest_rel(*pairs)
    np.testing.assert_allclose(tests.statistic[:, 0], rel.statistic)
    np.testing.assert_allclose(tests.freedom[:, 0], rel.df)


def null_rate(sick: int, well: int, alike: float, *, mixed: bool, runs: int = 40, features: int = 300) -> float:
    """Share of p below 0.05 where no feature tells anything, of patients with 1 to 200 photos each.

    Args:
        sick: patients of the class.
        well: the others.
        alike: correlation of a feature within a patient.
        mixed: whether a patient has photos of both.
        runs: simulated cohorts.
        features: of each.
    """
    rng = np.random.default_rng(sick * 1000 + well * 10 + int(10 * alike) + mixed)
    hits = []
    for run in range(runs):
        n = sick + well
        photos = rng.geometric(1 / 8, n) if run % 2 else np.r_[200, rng.integers(1, 4, n - 1)]
        patient = np.repeat(np.arange(n), photos)
        x = np.sqrt(alike) * rng.normal(size=(n, features))[patient]
        x += np.sqrt(1 - alike) * rng.normal(size=(len(patient), features))
        of_class = rng.random(len(patient)) < sick / n if mixed else np.isin(patient, rng.permutation(n)[:sick])
        p = selection.welch(x, np.where(of_class, "A", "B"), patient).p[:, 0]
        hits.append(np.mean(p[~np.isnan(p)] < 0.05))
    return float(np.mean(hits))


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("sick", "well", "mixed"), [(5, 20, False), (8, 100, False), (12, 12, False), (10, 40, True)])
def test_false_positives_are_near_nominal_with_many_photos_a_patient(
    sick: int, well: int, mixed: bool, alike: float
) -> None:
    assert 0.035 < null_rate(sick, well, alike, mixed=mixed) < 0.07


def test_photos_alike_within_patients_are_no_evidence() -> None:
    assert null_rate(8, 30, 0.8, mixed=False, runs=10) < 0.09  # with photos as units it is 0.5


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1, made monotone; the missing test does not count.
    p = np.array([[0.02, 0.5], [0.01, np.nan], [0.03, np.nan]])
    want = np.array([[0.06, 0.5], [0.04, np.nan], [0.06, np.nan]])
    np.testing.assert_allclose(cross_fit.holm(p), want)


def test_spearman_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 10, size=(60, 3)).astype(float)
    x[rng.random(60) < 0.2, 2] = np.nan
    ours = selection.Spearman(x)
    assert ours(0, 1) == pytest.approx(float(stats.spearmanr(x[:, 0], x[:, 1]).statistic))
    known = ~np.isnan(x[:, 2])
    assert ours(0, 2) == pytest.approx(float(stats.spearmanr(x[known, 0], x[known, 2]).statistic))


def test_with_so_many_cases_that_p_is_zero_the_stronger_effect_goes_first() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["BCC", "MEL"], 4000)
    shift = (labels == "MEL").astype(float)
    features = pd.DataFrame({WEAK: rng.normal(size=8000) + 4 * shift, STRONG: rng.normal(size=8000) + 8 * shift})
    table = chosen(features, labels)
    assert (table["p"] == 0).all()
    assert table.set_index("feature")["rank"].to_dict() == {STRONG: 1, WEAK: 2}


# ------------------------------------------------------------------------------------------------- as a stage


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", {"pad": "development"})


def inputs(workspace: Workspace, features: pd.DataFrame, labels: Any, parts: Any, folds: int = 1) -> None:
    ids = [f"c{i:04d}" for i in range(len(labels))]
    rows = [
        {
            "fold": fold,
            "cohort": "pad",
            "case_id": id_,
            "image_id": id_,
            "group_id": id_,
            "class": label,
            "part": part,
        }
        for fold in range(folds)
        for id_, label, part in zip(ids, labels, np.roll(parts, 40 * fold), strict=True)
    ]
    write(workspace, Ref("split", name="grouped"), rows, {"classes": {"name": "three"}})
    write(
        workspace, Ref("fused", "pad", "otsu"), features.assign(case_id=ids, image_id=ids, status="ok", age_years=50.0)
    )


def one(workspace: Workspace, **given: Any) -> tuple[pd.DataFrame, Artifact, str]:
    made, said = run_stage(workspace, "select", **given)
    return made[0].table(), made[0], said


PARTS = np.array(["train"] * 160 + ["validation"] * 40 + ["held_out"] * 40)


def test_the_stage_writes_a_signature_for_each_fold(workspace: Workspace) -> None:
    features, labels = planted()
    inputs(workspace, features, labels, PARTS, folds=2)
    table, artifact, _ = one(workspace)
    assert workspace.path(Ref("signature", name="grouped/otsu")) == artifact.path
    assert set(table["fold"]) == {0, 1}
    assert len(table) == 2 * features.shape[1]
    assert "age_years" not in set(table["feature"])
    assert [fold["training_rows"] for fold in artifact.info["folds"]] == [160, 160]
    first, second = (table[table["fold"] == fold].set_index("feature")["p"] for fold in (0, 1))
    assert not first.equals(second)


def test_rows_outside_training_cannot_change_the_signature(workspace: Workspace) -> None:
    features, labels = planted()
    inputs(workspace, features, labels, PARTS)
    before = one(workspace)[1].manifest["files"]
    outside = PARTS != "train"
    changed = features.copy()
    changed.loc[outside] = 1e6 * np.random.default_rng(9).normal(size=(int(outside.sum()), features.shape[1]))
    other = labels.copy()
    other[outside] = "MEL"
    inputs(workspace, changed, other, PARTS)
    _, artifact, said = one(workspace)
    assert "up to date" not in said
    assert artifact.manifest["files"] == before
    changed.loc[~outside] += np.random.default_rng(9).normal(size=(int((~outside).sum()), features.shape[1]))
    inputs(workspace, changed, other, PARTS)
    assert one(workspace)[1].manifest["files"] != before


def test_where_nothing_is_significant_the_signature_is_empty_and_says_so(workspace: Workspace) -> None:
    features, labels = planted()
    inputs(workspace, features[NOISE], labels, PARTS)
    table, artifact, said = one(workspace)
    assert not table["selected"].any()
    assert "no radiomic feature is significant" in said
    assert artifact.info["folds"][0]["selected"] == []


def test_rows_whose_features_failed_have_no_say(workspace: Workspace) -> None:
    features, labels = planted()
    features.loc[:9] = np.nan
    inputs(workspace, features, labels, PARTS)
    assert one(workspace)[1].info["folds"][0]["training_rows"] == 150


def test_channels_are_features_too_and_others_are_not(workspace: Workspace) -> None:
    features, labels = planted()
    features = features[[STRONG]].rename(columns={STRONG: "lab_l_original_firstorder_Mean"})
    inputs(workspace, features.assign(area_share=0.5, original="x"), labels, PARTS)
    assert one(workspace)[0]["feature"].tolist() == ["lab_l_original_firstorder_Mean"]


def test_misuse_is_told(workspace: Workspace) -> None:
    features, labels = planted()
    inputs(workspace, features, labels, PARTS)
    with pytest.raises(ConfigError, match="limit = 0"):
        one(workspace, limit=0)
    with pytest.raises(ConfigError, match=r"alpha = 0\.0"):
        one(workspace, alpha=0.0)
    with pytest.raises(InputError, match="no split/grouped2"):
        one(workspace, name="grouped2/otsu")
    inputs(workspace, pd.DataFrame({"area_share": np.ones(len(labels))}), labels, PARTS)
    with pytest.raises(InputError, match="no radiomic feature"):
        one(workspace)
