"""Decisions, gaps between subgroups, and two models on the same cases."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from compared_models import CLASSES, MALIGNANT, cases, side
from sklearn.metrics import roc_auc_score

from skinkit import cli
from skinkit.errors import ConfigError, RefusedError
from skinkit.evaluation import comparison, decision, endpoint, scoring
from skinkit.stats.cross_fit import holm
from skinkit.stats.intervals import LeaveOut


def scores(table: pd.DataFrame, **settings: Any) -> scoring.Scores:
    asked = scoring.ScoringSettings(**{"bootstrap": 100, "seed": 0, "minimum": 5, "subgroups": True, **settings})
    return side("m", table).evaluation.scores(asked, cohort="c", model="m")


# ----------------------------------------------------------------------------------------------------- decisions


def decided(
    malignancy: list[float], truth: list[int], threshold: float = 0.3, by_class: list[int] | None = None
) -> decision.Decided:
    m, n = np.array(malignancy), len(malignancy)
    chosen = np.array(by_class or [0] * n, dtype=bool)
    cluster = np.arange(n)
    return decision.Decided(
        m,
        np.array(truth, dtype=bool),
        (m >= threshold) | chosen,
        chosen,
        cluster,
        threshold,
        LeaveOut(cluster),
    )


def test_net_benefit_by_hand() -> None:
    d = decided([0.9, 0.6, 0.4, 0.2, 0.1], [1, 0, 1, 0, 0])
    curve = decision.decision_curve(d)
    at = curve["threshold"].index(0.3)
    # Treated from 0.3: two malignant, one benign of five; a false alarm costs 0.3 / 0.7.
    assert curve["model"][at] == pytest.approx(2 / 5 - 1 / 5 * 0.3 / 0.7)
    assert curve["all"][at] == pytest.approx(2 / 5 - 3 / 5 * 0.3 / 0.7)
    assert curve["point"] == [0.3, pytest.approx(curve["model"][at])]
    rare = decision.decision_curve(d, 0.02)
    assert rare["model"][at] == pytest.approx(0.02 - 0.98 * (1 / 3) * 0.3 / 0.7)
    assert curve["lower"][at] is None  # five patients
    more = decision.decision_curve(decided([0.9, 0.6, 0.4, 0.2, 0.1] * 8, [1, 0, 1, 0, 0] * 8))
    assert more["model"][at] == pytest.approx(curve["model"][at])
    assert more["lower"][at] < more["model"][at] < more["upper"][at]


def test_referral_curve_by_hand() -> None:
    d = decided([0.9, 0.6, 0.2, 0.1], [1, 0, 1, 0])
    right = np.array([True, False, False, True])
    curve = decision.referral_curve(d, right, np.array([0.1, 0.8, 0.9, 0.2]), np.array([True, True, True, False]))
    half = curve["referred"].index(0.5)
    assert (curve["accuracy"][0], curve["accuracy"][half]) == (0.5, 1)
    # The malignant case that was not called is the most uncertain one: referring a quarter finds it.
    assert (curve["sensitivity"][0], curve["sensitivity"][curve["referred"].index(0.25)]) == (0.5, 1)
    assert curve["points"] == {"veto": [0.5, 0.5], "refer": [0.75, 1]}


def test_the_veto_sweep_holds_the_veto_in_use_and_keeps_its_rule() -> None:
    d = decided([0.9, 0.6, 0.2, 0.1], [1, 0, 1, 0], by_class=[1, 0, 1, 0])
    rows = {row["threshold"]: row for row in decision.veto_sweep(d)}
    assert rows[0.3]["in_use"]
    assert (rows[0.3]["sensitivity"], rows[0.3]["specificity"], rows[0.3]["referrals_per_100"]) == (1, 0.5, 75)
    assert (rows[0.95]["sensitivity"], rows[0.95]["specificity"]) == (1, 1)
    assert {row["rule"] for row in decision.veto_sweep(d)} == {"veto"}
    others = decision.veto_sweep(replace(d, called=d.malignancy >= 0.3))
    assert [row["sensitivity"] for row in others] == [row["sensitivity"] for row in rows.values()]


def test_the_sweep_by_class_tells_who_would_be_called() -> None:
    d = decided([0.9, 0.6, 0.2, 0.1], [1, 0, 1, 0], by_class=[1, 0, 1, 0])
    rows = decision.veto_by_class(d, np.array([0, 1, 0, 1]), ("MEL", "NEV", "SCC"))
    called = {(row["class"], row["threshold"]): row["called"] for row in rows}
    # Melanomas are called by their most probable class, whatever the threshold; nobody is an SCC.
    assert called["MEL", 0.3] == called["MEL", 0.95] == 1
    assert (called["NEV", 0.05], called["NEV", 0.3], called["NEV", 0.65]) == (1, 0.5, 0)
    assert {row["class"] for row in rows} == {"MEL", "NEV"}
    assert next(row for row in rows if row["in_use"])["threshold"] == 0.3


def test_cases_with_thresholds_of_their_own_have_none_in_use() -> None:
    d = replace(decided([0.9, 0.6, 0.2, 0.1], [1, 0, 1, 0]), threshold=float("nan"))
    assert not any(row["in_use"] for row in decision.veto_sweep(d))


# ------------------------------------------------------------------------------------------- gaps and endpoints


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03]), [0.03, np.nan, 0.06, 0.06])
    assert holm([]).shape == (0,)


def test_a_planted_gap_is_sized_right_and_nothing_else_is_flagged() -> None:
    n = 800
    sex = np.repeat(np.random.default_rng(1).choice(["female", "male"], n // 2), 2)
    site = np.random.default_rng(2).choice(["face", "torso", "arm"], n)
    fair = scores(cases(n, sex=sex, site=site))
    assert not fair.gaps["flagged"].any()
    table = cases(n, sex=sex, site=site, skill=np.where(sex == "male", 0.8, 3.0))
    gaps = scores(table).gaps
    named = gaps.set_index(["subgroup", "metric"])
    males = [name for name in gaps["subgroup"].unique() if name.startswith("sex=")]
    assert len(males) == 1  # female against male is the same gap
    sign = -1 if males == ["sex=male"] else 1
    gap = named.loc[(males[0], "auroc")]
    m = table[[f"p__diagnosis__{c}" for c, bad in zip(CLASSES, MALIGNANT, strict=True) if bad]].sum(axis=1)
    sick = table["diagnosis"].isin(["BCC", "MEL", "SCC"])
    areas = {name: roc_auc_score(sick[sex == name], m[sex == name]) for name in ("female", "male")}
    assert gap["gap"] == pytest.approx(sign * (areas["female"] - areas["male"]))
    assert gap["flagged"]
    assert gap["lower"] < gap["gap"] < gap["upper"]
    assert set(gaps.loc[gaps["flagged"], "subgroup"]) == set(males)


def test_a_subgroup_of_a_few_perfect_cases_is_not_flagged() -> None:
    table = cases(600, skill=1.0)
    table["centre"] = "A"
    sick = table.index[table["diagnosis"].isin(["BCC", "MEL", "SCC"])][:20]
    well = table.index[table["diagnosis"].isin(["NEV", "ACK", "SEK"])][:20]
    table.loc[[*sick, *well], "centre"] = "B"
    p = [f"p__diagnosis__{c}" for c in CLASSES]
    table.loc[sick, p] = [0.01, 0.01, 0.95, 0.01, 0.01, 0.01]
    table.loc[well, p] = [0.01, 0.01, 0.01, 0.95, 0.01, 0.01]
    gaps = scores(table).gaps.set_index(["subgroup", "metric"])
    assert gaps.loc[("centre=B", "sensitivity"), "estimate"] == 1
    assert gaps.loc[("centre=B", "sensitivity"), "p_holm"] > 0.05
    assert gaps.loc[("centre=B", "auroc"), "p_holm"] > 0.05


def test_the_primary_endpoint_is_marked_and_misnaming_it_is_told() -> None:
    told = scores(cases(), primary="malignant sensitivity @ veto", subgroups=False)
    marked = told.rows[told.rows["primary"]]
    assert marked[["subgroup", "class", "decision_rule", "metric"]].to_numpy().tolist() == [
        ["all", "malignant", "veto", "sensitivity"]
    ]
    assert endpoint.parse("all auroc macro") == ("all", "macro", "none", "auroc")
    assert (
        endpoint.text_of(endpoint.parse("MEL sensitivity @ frozen_threshold")) == "MEL sensitivity @ frozen_threshold"
    )
    with pytest.raises(ConfigError, match="malignant sensitivty"):
        scores(cases(60), primary="malignant sensitivty @ veto", subgroups=False)
    with pytest.raises(ConfigError, match="CLASS METRIC"):
        endpoint.parse("sensitivity")


# ---------------------------------------------------------------------------------------------------- comparison


def test_mcnemar_by_hand() -> None:
    a, b = np.array([1, 1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 0, 0, 1, 1], bool)
    # Six discordant cases, one for B: 2 * (1 + 6) / 64.
    alone = np.arange(7)
    counts = {"n": 7, "only_a_right": 5, "only_b_right": 1}
    assert comparison.mcnemar(a, b, alone) == {**counts, "n_clusters": 7, "p": pytest.approx(14 / 64)}
    assert comparison.mcnemar(a, a, alone)["p"] == 1
    # Patients with net counts -3, -2 and +1: of eight sign assignments four have a sum of at least 4 in size.
    patients = comparison.mcnemar(a, b, np.array([0, 0, 0, 1, 1, 2, 2]))
    assert patients == {**counts, "n_clusters": 3, "p": pytest.approx(4 / 8)}
    assert comparison.mcnemar(a, b, np.zeros(7))["p"] == 1  # one patient is no evidence


def test_the_better_model_is_found_and_equal_ones_are_not_told_apart() -> None:
    weak, strong = side("weak", cases(skill=0.8, model=1)), side("strong", cases(skill=3.0, model=2))
    asked = {"seed": 0, "common": False, "minimum": 5}
    result = comparison.compare(weak, strong, **asked)
    rows = {row["name"]: row for row in result["differences"]}
    auroc = rows["malignant: AUROC"]
    assert auroc["difference"] == pytest.approx(auroc["b"] - auroc["a"])
    assert 0 < auroc["lower"] < auroc["difference"] < auroc["upper"]
    assert auroc["p"] < 0.05
    assert next(t for t in result["mcnemar"] if t["name"] == "most probable class")["p"] < 1e-4
    assert {row["verdict"] for row in result["differences"] if row["name"] != "malignant: ECE"} == {"b_better"}
    assert "B - A" in comparison.text_of(result)
    turned = comparison.compare(strong, weak, **asked)
    # Less is better of a Brier score, a log loss and an ECE.
    assert {row["verdict"] for row in turned["differences"] if row["name"] != "malignant: ECE"} == {"a_better"}
    assert {r["metric"] for r in turned["differences"] if not r["higher_is_better"]} == {"brier", "log_loss", "ece"}
    brier = next(line for line in comparison.text_of(turned).splitlines() if "malignant: Brier" in line)
    assert "less is better" in brier
    assert brier.endswith("A better")


def test_identical_predictions_are_said_to_be_identical() -> None:
    table = cases(skill=0.8, model=1)
    asked = {"seed": 0, "common": False, "minimum": 5, "margins": {"auroc": 0.02}}
    same = comparison.compare(side("one", table), side("twin", table.copy()), **asked)
    assert same["identical"]
    assert {(row["verdict"], row["lower"], row["difference"]) for row in same["differences"]} == {
        ("identical", None, 0)
    }
    told = comparison.text_of(same)
    assert "0.000 to" not in told
    assert "they are identical" in told


def test_no_interval_has_no_width() -> None:
    table = cases(skill=2.0, model=1)
    p = [f"p__diagnosis__{c}" for c in CLASSES]
    other = table.copy()
    sharper = table[p].to_numpy() ** 1.0001
    other[p] = sharper / sharper.sum(axis=1, keepdims=True)
    asked = {"seed": 0, "common": False, "minimum": 5}
    result = comparison.compare(side("one", table), side("sharper", other), **asked)
    rows = {row["name"]: row for row in result["differences"]}
    assert not result["identical"]
    assert rows["log loss"]["lower"] < rows["log loss"]["upper"]
    # The same calls in every case: the interval is what 240 cases of 120 patients allow for, not nothing.
    reach = 1 - 0.025 ** (1 / 120)
    assert rows["accuracy"]["verdict"] == "no_difference_shown"
    assert (rows["accuracy"]["lower"], rows["accuracy"]["upper"]) == pytest.approx((-reach, reach))
    for line in comparison.text_of(result).splitlines():
        ends = re.search(r"([+-][\d.]+) to ([+-][\d.]+)", line)
        assert ends is None or ends[1] != ends[2]
        assert ends is None or float(ends[1]) != float(ends[2])


def test_an_interval_stays_within_what_is_possible() -> None:
    few, other = side("few", cases(12, skill=1.5)), side("other", cases(12, skill=1.5, model=3))
    result = comparison.compare(few, other, seed=0, common=False, minimum=1)
    for row in result["differences"]:
        most = {"pauc_above_80_sensitivity": 0.2, "mcc": 2, "log_loss": math.inf}.get(row["metric"], 1)
        if row["class"] == "all" and row["metric"] == "brier":
            most = 2
        if row["lower"] is not None:
            assert -most <= row["lower"] <= row["difference"] <= row["upper"] <= most, row["name"]


def test_a_margin_shows_equivalence_or_the_lack_of_evidence_for_it() -> None:
    asked = {"seed": 0, "common": False, "minimum": 5}
    one, other = side("one", cases(900, skill=2.0, model=1)), side("other", cases(900, skill=2.0, model=2))
    wide = comparison.compare(one, other, **asked, margins={"auroc": 0.2, "brier": 0.001})
    rows = {row["name"]: row for row in wide["differences"]}
    auroc, brier = rows["malignant: AUROC"], rows["malignant: Brier score"]
    assert auroc["equivalent"]
    assert auroc["p_equivalent"] < 1e-6
    assert not brier["equivalent"]
    assert brier["p_equivalent"] > 0.025
    assert rows["log loss"]["equivalent"] is None
    told = comparison.text_of(wide)
    assert "equivalent within 0.2" in told
    assert "equivalence within 0.001 not shown" in told
    assert "declared before" in told
    weak = side("weak", cases(900, skill=1.0, model=3))
    worse = comparison.compare(one, weak, **asked, margins={"auroc": 0.01, "log_loss": 0.01})
    rows = {row["name"]: row for row in worse["differences"]}
    for name in ("malignant: AUROC", "log loss"):  # more is better of one, less of the other
        assert (rows[name]["a_not_inferior"], rows[name]["b_not_inferior"]) == (True, False)
        assert rows[name]["verdict"] == "a_better"


def test_p_below_5_percent_and_an_interval_without_0_are_the_same() -> None:
    for seed in range(6):
        a, b = side("a", cases(80, seed, skill=1.5, model=1)), side("b", cases(80, seed, skill=2.2, model=2))
        for row in comparison.compare(a, b, seed=seed, common=False, minimum=5)["differences"]:
            if row["lower"] is not None:
                assert (row["p"] < 0.05) == (not row["lower"] <= 0 <= row["upper"]), row["name"]
                assert (row["verdict"] in ("a_better", "b_better")) == (row["p"] < 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [12, 40])
def test_equal_models_are_seldom_told_apart(patients: int) -> None:
    # Ten photos a patient, two models whose errors hang on the patient: neither is better.
    rejected: dict[str, list[bool]] = {}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        person = np.repeat(np.arange(patients), 10)
        sick = rng.permutation(np.arange(patients) < patients // 2)[person]
        sides = []
        for name in "ab":
            score = 1.5 * sick + rng.normal(size=patients)[person] + rng.normal(size=len(person))
            p = 1 / (1 + np.exp(-score + 0.75))
            of = {"MEL": p, "NEV": 1 - p}
            table = pd.DataFrame({f"p__diagnosis__{c}": of.get(c, 0.0 * p) for c in CLASSES})
            sides.append(
                side(
                    name,
                    table.assign(
                        case_id=[f"C{i}" for i in range(len(person))],
                        patient_id=person.astype(str),
                        diagnosis=np.where(sick, "MEL", "NEV"),
                    ),
                )
            )
        result = comparison.compare(*sides, seed=seed, common=False, minimum=5)
        for row in result["differences"]:
            if row["p"] is not None:
                rejected.setdefault(row["name"], []).append(row["p"] < 0.05)
        for row in result["mcnemar"]:
            rejected.setdefault(row["name"], []).append(row["p"] < 0.05)
    rates = {name: float(np.mean(of)) for name, of in rejected.items()}
    assert max(rates.values()) < 0.11, rates  # more than three standard errors above 5 %


@pytest.fixture
def two_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder one is in, with ``a.csv`` and ``b.csv``, answers of two models to the same cases."""
    monkeypatch.chdir(tmp_path)
    cases(model=1).to_csv("a.csv", index=False)
    cases(model=2).to_csv("b.csv", index=False)
    return tmp_path


def test_a_margin_is_read_from_the_command_line(two_tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["compare", "a.csv", "b.csv"]
    assert cli.main([*given, "--margin", "auroc=0.5", "--margin", "brier=0.01", "--out", "out", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["compare"]["tables"]
    assert answer["margins"] == {"auroc": 0.5, "brier": 0.01}
    assert any(row["equivalent"] for row in answer["differences"])
    assert "equivalent within 0.5" in (two_tables / "out" / "a-b.svg").read_text(encoding="utf-8")
    for wrong in ("aurco=0.1", "auroc", "auroc=-1", "auroc=inf"):
        assert cli.main([*given, "--margin", wrong]) == 2
    assert cli.main(["compare", "--seeds", "a.csv,b.csv", "--margin", "auroc=0.1"]) == 2


def of_seeds(name: str, models: tuple[int, ...], skill: float) -> comparison.ComparedModel:
    first, *again = (side(name, cases(model=model, skill=skill)).evaluation for model in models)
    return comparison.ComparedModel(name, first, tuple(again))


def test_models_of_several_seeds_are_compared_by_their_means() -> None:
    weak, strong = of_seeds("weak", (1, 2, 3), 1.0), of_seeds("strong", (4, 5, 6), 2.0)
    asked: dict[str, Any] = {"seed": 0, "common": False, "minimum": 5}
    result = comparison.compare(weak, strong, **asked)
    singles = [comparison.compare(a, b, **asked) for a, b in zip(weak.seeds(), strong.seeds(), strict=True)]
    for row in result["differences"]:
        of_each = [next(r for r in one["differences"] if r["name"] == row["name"]) for one in singles]
        assert row["by_seed"] == pytest.approx([one["difference"] for one in of_each])
        assert row["difference"] == pytest.approx(np.mean(row["by_seed"]))
        assert row["a"] == pytest.approx(np.mean([one["a"] for one in of_each]))
    area = next(row for row in result["differences"] if row["name"] == "AUROC, macro")
    assert area["verdict"] == comparison.B_BETTER
    # Errors of single trainings that differ average out, so the mean is known better than one of them.
    widths = [next(r for r in one["differences"] if r["name"] == "AUROC, macro") for one in singles]
    assert area["upper"] - area["lower"] < min(one["upper"] - one["lower"] for one in widths)
    assert result["mcnemar"] == []
    assert "by seed" in comparison.text_of(result)


def test_a_model_without_a_seed_is_compared_with_each_seed_of_the_other() -> None:
    probe, network = of_seeds("probe", (1,), 1.0), of_seeds("network", (4, 5, 6), 2.0)
    row = comparison.compare(probe, network, seed=0, common=False, minimum=5)["differences"][0]
    assert len(row["by_seed"]) == 3
    assert row["difference"] == pytest.approx(np.mean(row["by_seed"]))
    twice = comparison.ComparedModel("probe", probe.evaluation, (probe.evaluation,))
    again = comparison.compare(twice, network, seed=0, common=False, minimum=5)["differences"][0]
    assert (again["difference"], again["lower"]) == pytest.approx((row["difference"], row["lower"]))
    assert "by_seed" not in again  # two and three seeds make no pairs


def test_seeds_that_lack_a_case_are_refused() -> None:
    whole, table = side("a", cases(model=1)), cases(model=2)
    one = comparison.ComparedModel("b", side("b", table).evaluation, (side("b", table[:-2]).evaluation,))
    with pytest.raises(RefusedError) as error:
        comparison.compare(whole, one, seed=0, common=False, minimum=5)
    assert "2 cases" in error.value.found
    assert comparison.compare(whole, one, seed=0, common=True, minimum=5)["n"] == 238


def test_what_cannot_be_compared_is_refused() -> None:
    asked = {"seed": 0, "minimum": 5}
    a = side("a", cases())
    with pytest.raises(RefusedError) as error:
        comparison.compare(a, side("b", cases(model=2), malignant="wang"), **asked, common=False)
    assert "malignant, b" in error.value.found
    fewer = side("b", cases(model=2).iloc[:200])
    with pytest.raises(RefusedError) as error:
        comparison.compare(a, fewer, **asked, common=False)
    assert "40 cases" in error.value.found
    assert "by a alone" in error.value.found
    result = comparison.compare(a, fewer, **asked, common=True)
    assert (result["n"], result["left_out"]) == (200, {"a": 40, "b": 0})
    turned = cases(model=2)
    turned.loc[0, "diagnosis"] = "NEV" if turned.loc[0, "diagnosis"] in ("BCC", "MEL", "SCC") else "MEL"
    with pytest.raises(RefusedError) as error:
        comparison.compare(a, side("b", turned), **asked, common=False)
    assert "case C0000 is malignant" in error.value.found


def test_the_spread_over_seeds_by_hand() -> None:
    sides = [side(f"s{i}", cases(skill=1.5, model=i)) for i in range(3)]
    result = comparison.spread(sides, common=False)
    row = next(r for r in result["spread"] if r["name"] == "accuracy")
    assert row["sd"] == pytest.approx(np.std(row["values"], ddof=1))
    assert row["mean"] == pytest.approx(np.mean(row["values"]))
    assert len(set(row["values"])) == 3


def test_from_the_command_line(two_tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a.csv", "b.csv", "--out", "out", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["compare"]["tables"]["n"] == 240
    assert (two_tables / "out" / "a-b.json").is_file()
    assert "<svg" in (two_tables / "out" / "a-b.svg").read_text(encoding="utf-8")
    assert cli.main(["compare", "--seeds", "a.csv,b.csv"]) == 0
    said = capsys.readouterr().out
    assert "mean and SD" in said
    assert "no test access log" in said
    assert cli.main(["compare", "a.csv"]) == 2
    cases(model=2).drop(columns="case_id").to_csv("c.csv", index=False)
    assert cli.main(["compare", "a.csv", "c.csv"]) == 4
