"""The veto's threshold: numbers, rules on validation rows, and what the stages make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_cohort
from written_artifacts import run_stage

from skinkit import cli
from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError
from skinkit.stats.thresholds import ThresholdRule, choose, of_model, parse, threshold_of
from skinkit.workspace import Ref

MALIGNANCY = np.array([0.9, 0.7, 0.5, 0.2, 0.6, 0.4, 0.3, 0.1])
TRUTH = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
NEVER = np.zeros(8, bool)
PATIENT = np.arange(8)


def chosen(text: str, by_class: np.ndarray = NEVER) -> dict:
    rule = parse(text)
    assert isinstance(rule, ThresholdRule)
    return choose(rule, MALIGNANCY, by_class, TRUTH, PATIENT)


def test_a_number_is_a_threshold_and_a_rule_names_what_it_must_reach() -> None:
    assert parse(0.3) == parse("0.3") == 0.3
    assert parse("sensitivity=0.95") == ThresholdRule("sensitivity", 0.95)
    assert str(parse("specificity=0.90")) == "specificity=0.9"
    assert parse("youden") == ThresholdRule("youden")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.5", "0 to 1"), ("nan", "0 to 1"), ("sensitivty=0.9", "did you mean 'sensitivity'"),
        ("sensitivity", "SHARE"), ("sensitivity=2", "SHARE"), ("youden=0.5", "SHARE"), ("", "known:"),
    ],
)  # fmt: skip
def test_what_is_neither_is_refused(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        parse(text)


def test_sensitivity_takes_the_highest_threshold_that_reaches_it() -> None:
    # Three of four malignant cases lie at 0.5 and above; the next case below is the benign one at 0.4.
    told = chosen("sensitivity=0.75")
    assert told["threshold"] == pytest.approx(0.45)
    assert (told["sensitivity"]["estimate"], told["specificity"]["estimate"]) == (0.75, 0.75)
    assert told["sensitivity"]["lower"] is None  # four patients
    assert (told["n"], told["n_malignant"], told["n_clusters"], told["reached"]) == (8, 4, 8, True)
    assert chosen("sensitivity=0.76")["threshold"] == pytest.approx(0.15)
    assert chosen("sensitivity=1")["sensitivity"]["estimate"] == 1


def test_specificity_takes_the_lowest_threshold_that_reaches_it() -> None:
    told = chosen("specificity=0.75")
    assert told["threshold"] == pytest.approx(0.45)
    assert chosen("specificity=1")["threshold"] == pytest.approx(0.65)
    assert chosen("specificity=0.5")["threshold"] == pytest.approx(0.35)


def test_youden_takes_the_best_sum() -> None:
    told = chosen("youden")
    sums = [(MALIGNANCY[TRUTH] >= t).mean() + (MALIGNANCY[~TRUTH] < t).mean() for t in np.linspace(0, 1, 1001)]
    assert told["sensitivity"]["estimate"] + told["specificity"]["estimate"] == pytest.approx(max(sums))


def test_calls_by_the_most_probable_class_count() -> None:
    by_class = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    # Three malignant cases are called whatever the threshold, so 0.75 needs no veto at all.
    assert chosen("sensitivity=0.75", by_class)["threshold"] == 1
    # The benign case at 0.6 is called by its class: no threshold makes the specificity 1.
    told = chosen("specificity=1", by_class)
    assert not told["reached"]
    assert told["specificity"]["estimate"] == 0.75


def test_one_side_alone_cannot_choose() -> None:
    with pytest.raises(InputError, match="0 of 8"):
        choose(ThresholdRule("youden"), MALIGNANCY, NEVER, ~TRUTH & TRUTH, PATIENT)


def test_a_model_has_the_median_and_each_fold_its_own() -> None:
    folds = [{"fold": k, "veto": {"threshold": t}} for k, t in ((0, 0.1), (1, 0.4), (2, 0.2))]
    about = {**of_model("sensitivity=0.95", folds), "folds": folds}
    assert (about["threshold"], about["veto_rule"]) == (0.2, "sensitivity=0.95")
    assert [threshold_of(about, fold) for fold in (0, 1, 2, None)] == [0.1, 0.4, 0.2, 0.2]
    plain = {**of_model(0.3, [{"fold": 0}]), "folds": [{"fold": 0}]}
    assert (plain["veto_rule"], threshold_of(plain, 0)) == (None, 0.3)


def test_the_stages_carry_the_rule_from_validation_rows_to_every_call(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path, folds=2, patients=24)
    veto = "sensitivity=0.9"
    run_stage(workspace, "train", veto=veto, radiomics="none", settings=("rounds=25", "min_leaf=3"))
    about = open_artifact(workspace.path(Ref("models", name="lightgbm"))).json("model.json")
    own = {fold["fold"]: fold["veto"] for fold in about["folds"]}
    assert about["veto_rule"] == veto
    assert about["threshold"] == pytest.approx(np.median([told["threshold"] for told in own.values()]))
    trained = read_table(workspace.path(Ref("models", name="lightgbm")) / "trained_on.parquet")
    for fold, told in own.items():
        rows = trained[(trained["fold"] == fold) & (trained["part"] == "validation")]
        assert (told["rule"], told["n"]) == (veto, len(rows))
        assert told["sensitivity"]["estimate"] >= 0.9
    predictions = {}
    for cohort in ("clinic", "jinan"):
        (made,), _ = run_stage(workspace, "predict", cohorts=[cohort])
        predictions[cohort] = made.table()
    images = predictions["clinic"][predictions["clinic"]["level"] == "image"]
    assert {(f, t) for f, t in zip(images["fold"], images["threshold"], strict=True)} == {
        (fold, told["threshold"]) for fold, told in own.items()
    }
    assert set(predictions["jinan"]["threshold"]) == {about["threshold"]}
    for table in predictions.values():
        at = table["malignancy"] >= table["threshold"]
        assert (table["call"].eq("malignant") | ~at).all()
    (metrics,), _ = run_stage(workspace, "evaluate", cohorts=["clinic"], bootstrap=20, shortcuts=False)
    veto_rows = metrics.table().query("decision_rule == 'veto' and subgroup == 'all'")
    assert set(veto_rows["threshold_source"]) == {f"validation:{veto}"}
    (report,), _ = run_stage(workspace, "report")
    page = (report.path / "index.html").read_text(encoding="utf-8")
    assert f"by the rule {veto}" in page
    told = own[1]
    assert f"({told['n']} cases, {told['n_malignant']} malignant; sensitivity" in page
    sweep = read_table(metrics.path / "veto_by_class.parquet")
    assert set(sweep["class"]) == {"NEV", "MEL", "BCC"}
    for _, rows in sweep.groupby("class"):
        shares = rows.sort_values("threshold")["called"].to_numpy()
        assert (np.diff(shares) <= 0).all()
        assert (rows["lower"] <= rows["called"]).all()


def test_a_number_in_the_settings_file_and_a_wrong_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = small_cohort.make(tmp_path, folds=1, patients=6)
    with (workspace.root / "skinkit.toml").open("a") as stream:
        stream.write("\nveto = 0.25\n")  # the last table is that of training
    arguments = ["train", "--no-upstream", "-w", str(workspace.root)]
    assert cli.main([*arguments, "--veto", "sensitivty=0.9"]) == 2
    assert "did you mean 'sensitivity'" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    assert open_artifact(workspace.path(Ref("models", name="lightgbm"))).json("model.json")["threshold"] == 0.25
