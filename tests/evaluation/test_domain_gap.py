"""The gap between two domains, on drawn features whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skinkit.evaluation.altered import BALANCED
from skinkit.evaluation.gap import ARMS, Domain, Gap, fitted, standardised

CLASSES = ("BCC", "MEL", "NEV")
DIRECTIONS = np.random.default_rng(9).normal(size=(3, 20)) * 1.2


def domain(name: str, n: int, seed: int, *, shift: float = 0.0, turned: bool = False) -> Domain:
    """Features of a class lie around its direction, on clinical photos partly in another one; light spoils some."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    directions = np.roll(DIRECTIONS, 1, axis=0) * 0.6 + DIRECTIONS * 0.4 if turned else DIRECTIONS
    light = rng.normal(shift, 1, n)
    noise = rng.normal(0, 1, (n, 20)) * (1 + 1.5 * (light > 1))[:, None]
    features = directions[labels] + noise + shift
    trained = rng.random(n) < 0.7
    patients = np.array([f"{name}{i // 2}" for i in range(n)])
    trained = trained[np.arange(n) // 2 * 2]  # patients stay together
    return Domain(name, features, labels, patients, trained, {"light": light, "other": rng.normal(size=n)})


def factors_of(gap: Gap) -> dict[str, Any]:
    return gap.factors(gap.said(())["FullDermoscopic"])


@pytest.fixture(scope="module")
def gap() -> Gap:
    d, c = standardised(domain("ham", 900, 1), domain("pad", 400, 2, shift=1.0, turned=True))
    return Gap(d, c, CLASSES, np.array([True, True, False]))


def test_the_gap_the_gain_and_the_cost_are_those_of_the_scores(gap: Gap) -> None:
    table = gap.table(gap.said())
    assert tuple(table["arms"]) == ARMS

    def score(arm: str, name: str) -> float:
        return float(next(row["estimate"] for row in table["arms"][arm][name] if row["metric"] == BALANCED))

    model = fitted("FullDermoscopic", *(x.rows(x.trained) for x in (gap.d, gap.c)), 3)
    held = gap.c.rows(~gap.c.trained)
    hit = model.probability(held.features).argmax(axis=1) == held.labels
    by_hand = np.mean([hit[held.labels == k].mean() for k in range(3)])
    assert score("FullDermoscopic", "pad") == pytest.approx(by_hand)
    found = table["gap"]["FullDermoscopic"][BALANCED]
    assert found["estimate"] == pytest.approx(score("FullDermoscopic", "ham") - score("FullDermoscopic", "pad"))
    assert 0 < found["lower"] < found["estimate"] < found["upper"]
    row = next(r for r in table["arms"]["FineClinic"]["pad"] if r["metric"] == BALANCED)
    assert row["difference"] == pytest.approx(score("FineClinic", "pad") - score("FullClinical", "pad"))
    assert score("FullClinical", "pad") > score("FullDermoscopic", "pad") + 0.1
    assert score("FineFull", "pad") > score("FullDermoscopic", "pad")
    one = next(r for r in table["arms"]["FullClinical"]["pad"] if r["metric"] == BALANCED)
    assert one["difference"] == 0


def test_held_out_cases_teach_nothing(gap: Gap) -> None:
    spoilt = gap.c.labels.copy()
    spoilt[~gap.c.trained] = (spoilt[~gap.c.trained] + 1) % 3
    other = Domain("pad", gap.c.features, spoilt, gap.c.groups, gap.c.trained, gap.c.factors)
    for arm in ARMS:
        one, two = (fitted(arm, gap.d.rows(gap.d.trained), c.rows(c.trained), 3) for c in (gap.c, other))
        np.testing.assert_array_equal(one.weight, two.weight)


def test_what_goes_with_a_property_is_that_property_s(gap: Gap) -> None:
    """Light spoils photos, and differs between the domains; the other property does neither."""
    found = factors_of(gap)
    assert sum(found["shares"].values()) == pytest.approx(found["gap"] - found["matched"])
    assert found["shares"]["light"] > 3 * abs(found["shares"]["other"])
    assert 10 < found["effective"] <= found["n"][0]


def test_more_clinical_patients_teach_more_and_the_curve_is_repeatable(gap: Gap) -> None:
    rows = gap.curve((0.1, 1.0), (0, 1, 2))
    assert rows == gap.curve((0.1, 1.0), (0, 1, 2))
    alone = {
        share: [r["value"] for r in rows if r["arm"] == "Clinical30" and r["share"] == share] for share in (0.1, 1.0)
    }
    assert len(alone[0.1]) == 3
    assert len(alone[1.0]) == 1
    assert np.mean(alone[0.1]) < alone[1.0][0]


def test_distances_see_the_shift_and_a_case_of_the_other_kind(gap: Gap) -> None:
    found = gap.distances()
    assert found["proxy_a_distance"] > 1.0
    assert found["mmd2"] > 0.01
    assert len(found["log_odds"]["ham"]) == 900
    assert np.mean(found["log_odds"]["pad"] > 0) > 0.8


def test_another_mix_of_classes_is_no_property_of_the_photos() -> None:
    """Only the mix differs; what a class looks like and what its photos are like is the same in both domains."""

    def drawn(name: str, mix: tuple[float, ...], seed: int) -> Domain:
        rng = np.random.default_rng(seed)
        labels = rng.choice(3, 1500, p=mix)
        features = DIRECTIONS[labels] + rng.normal(0, 1.5, (1500, 20))
        of_class = labels + rng.normal(0, 0.5, 1500)
        patients = np.array([f"{name}{i}" for i in range(1500)])
        return Domain(name, features, labels, patients, rng.random(1500) < 0.5, {"of_class": of_class})

    d, c = standardised(drawn("a", (0.2, 0.2, 0.6), 3), drawn("b", (0.6, 0.3, 0.1), 4))
    found = factors_of(Gap(d, c, CLASSES, np.array([True, True, False])))
    assert abs(found["gap"]) < 0.06
    assert abs(found["shares"]["of_class"]) < 0.03


def test_properties_that_one_side_lacks_are_left_out_and_too_few_cases_said(gap: Gap) -> None:
    lacking = Domain(**{**vars(gap.c), "factors": {"other": gap.c.factors["other"]}})
    assert set(factors_of(Gap(gap.d, lacking, CLASSES, gap.malignant))["shares"]) == {"other"}
    blind = Domain(**{**vars(gap.c), "factors": {**gap.c.factors, "light": np.full(len(gap.c.labels), np.nan)}})
    assert set(factors_of(Gap(gap.d, blind, CLASSES, gap.malignant))["shares"]) == {"other"}
    few = gap.c.rows(np.flatnonzero(~gap.c.trained)[:10].tolist() + np.flatnonzero(gap.c.trained).tolist())
    assert factors_of(Gap(gap.d, few, CLASSES, gap.malignant))["gap"] is None


def test_a_patient_with_photos_in_both_domains_is_left_out_of_both_at_once() -> None:
    one, two = domain("same", 300, 5), domain("same", 300, 5)
    d, c = standardised(one, Domain(**{**vars(two), "name": "again"}))
    both = Gap(d, c, CLASSES, np.array([True, True, False]))
    found = both.table(both.said(()), ("FullDermoscopic",))["gap"]["FullDermoscopic"]
    assert found[BALANCED]["estimate"] == 0
    ends = [found[BALANCED][end] for end in ("lower", "upper")]
    assert all(np.isnan(end) or abs(end) < 1e-6 for end in ends)  # the same photos: no difference is possible


def test_as_many_dermoscopic_cases_hold_every_class() -> None:
    labels = np.array([0] * 98 + [1, 2])
    features = np.eye(3, 20)[labels]
    d = Domain("d", features, labels, np.arange(100).astype(str), np.ones(100, bool))
    c = Domain("c", features[-3:], labels[-3:], np.arange(3).astype(str), np.ones(3, bool))
    assert np.isfinite(fitted("EqualDermoscopic", d, c, 3).weight).all()
