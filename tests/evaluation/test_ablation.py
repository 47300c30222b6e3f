"""Ablations of published systems: pairs and tables by hand, and the whole command on a small cohort."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts
from compared_models import cases, side
from configured import configured
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from skinkit import cli
from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.commands.ablate import TOGETHER
from skinkit.errors import ConfigError
from skinkit.evaluation import ablation, class_table, endpoint, task_average
from skinkit.evaluation.scoring import HEADLINE
from skinkit.models import Network, load_model, model_config, registered
from skinkit.stats.cross_fit import holm
from skinkit.stats.metrics import ALL, MALIGNANT, roc_curve
from skinkit.studies import Study, load_study, studies
from skinkit.studies.study import OF_TASKS
from skinkit.taxonomy import class_set
from skinkit.workspace import Ref, Workspace, load_workspace

pytestmark = pytest.mark.usefixtures("narrow_hybrid")
SKILLS = {"poor": 0.3, "better": 2.6, "good": 2.6}
TINY = "--settings=side_px=32,image_epochs=0,recipe.epochs=1,recipe.batch=8,branch_width=8"


def ablate(workspace: Workspace, *more: str) -> int:
    return cli.main(
        ["ablate", "wang2024", "--weights", "none", "--bootstrap", "30", "--no-upstream", "--jobs", "1",
         "--device", "cpu", "--quiet", "-w", str(workspace.root), TINY, *more]
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the studies


@pytest.mark.parametrize("name", studies())
def test_a_study_hangs_together(name: str) -> None:
    study = load_study(name)
    arms = [arm.name for arm in (*study.arms, *study.comparators)]
    assert len(set(arms)) == len(arms)
    assert {other for arm in study.arms for other in arm.extends} <= set(arms)
    # An arm comes after those it extends, and the last one has everything.
    assert all(arms.index(other) < arms.index(arm.name) for arm in study.arms for other in arm.extends)
    assert study.whole.extends
    classes = class_set(study.classes, study.malignant).classes
    cohorts, parts = {c.name for c in study.cohorts}, {p.name for p in study.parts}
    for number in study.published:
        assert number.cohort in cohorts or (number.printed_only and not number.cohort)
        assert number.part in parts
        assert study.arm(number.arm)
        assert number.source
        if number.printed_only or study.part(number.part).kind in ("segmentation", "faithfulness", "halves"):
            continue
        assert 0 < number.value <= 1
        if number.figure.startswith(OF_TASKS):
            assert study.arm(number.arm).tasks
            continue
        named, word, *rest = number.figure.split()
        if word == "called":
            assert {named, *rest} <= set(classes)
        elif rest == ["@", class_table.TUNED]:
            assert (named in classes, word) == (True, "threshold")
        else:
            assert endpoint.parse(number.figure)[0] in (*classes, ALL, MALIGNANT)
    assert not study.protocols[0].leaks
    assert set(study.figures) <= set(HEADLINE)
    assert set(study.watched) <= set(classes)
    assert not study.presets or study.preset in study.presets


@pytest.mark.parametrize("name", studies())
def test_the_networks_of_a_study_have_its_presets_and_settings(name: str) -> None:
    study = load_study(name)
    for arm in (*study.arms, *study.comparators):
        if arm.model not in registered():
            continue
        model = load_model(arm.model, "classify")
        own = {name.partition(".")[0] for name in arm.settings} - {"objective"}
        assert own <= set(model.CONFIG.__dataclass_fields__)
        for preset in study.presets or [study.preset]:
            chosen = study.preset_of(arm, preset) if study.presets else arm.preset
            assert chosen in model.PRESETS if issubclass(model, Network) else not chosen


@pytest.mark.parametrize("name", studies())
def test_the_steps_of_a_study_have_its_presets_and_settings(name: str) -> None:
    study = load_study(name)
    for step in study.steps:
        if step.stage == "synthesise" or step.model not in registered():
            continue
        model = load_model(step.model)
        for preset in study.presets or [study.preset]:
            model_config(model, [f"{key}={value}" for key, value in step.settings.items()],
                         preset=study.preset_of(step, preset))  # fmt: skip


def test_a_watched_class_is_compared_beside_the_usual_figures() -> None:
    sides = {name: side(name, cases(180, skill=skill, model=i)) for i, (name, skill) in enumerate(SKILLS.items())}
    rows, _ = ablation.compare_pairs(sides, {("poor", "good"): "why"}, seed=0, minimum=5, watched=["SCC"])
    of = {row["figure"]: row for row in rows}
    p = {name: one.cases["p__diagnosis__SCC"] for name, one in sides.items()}
    truth = sides["poor"].cases["class"] == "SCC"
    areas = {name: roc_auc_score(truth, values) for name, values in p.items()}
    assert of["SCC: AUROC"]["difference"] == pytest.approx(areas["good"] - areas["poor"])
    assert of["SCC: AUROC"]["lower"] > 0
    assert "SCC: sensitivity, most probable class" in of
    assert "SCC: AUROC" not in {
        row["figure"] for row in ablation.compare_pairs(sides, {("poor", "good"): "w"}, seed=0, minimum=5)[0]
    }


def test_the_numbers_of_wang_2024_are_those_printed() -> None:
    study = load_study("wang2024")
    of = {(n.part, n.cohort, n.arm, n.figure): (n.value, n.sd) for n in study.published}
    assert of["fig7", "longhua", "image-metadata", "all auroc macro"] == (0.885, None)
    assert of["fig7", "isic-2018", "full", "malignant auroc"] == (0.99, None)
    value, sd = of["table2", "isic-2018", "full", "MM sensitivity @ frozen_threshold"]
    assert (value, sd) == (pytest.approx(0.715), pytest.approx(0.033))
    assert ("table2", "longhua", "full", "SCC auroc") not in of
    # Eight classes and Overall; AUROC, sensitivity, specificity and threshold; three cohorts; no SCC of Longhua.
    assert len(study.numbers("table2")) == 9 * 4 * 3 - 4
    assert of["table2", "isic-2018", "full", "MM threshold @ tuned_on_scored"] == (0.0406, 0.06)
    assert of["table2", "longhua", "full", "Overall threshold"] == (0.0449, 0.05)
    assert len(study.numbers("fig7")) == 18
    assert of["fig5", "isic-2018", "full", "BKL called MM"] == (pytest.approx(0.07), None)
    assert of["fig3", "jinan", "full", "mean iou"] == (pytest.approx(0.924), pytest.approx(0.0001))
    # The waterfall starts at the base value; four named features do not add up to its end: five more are not named.
    shap = {n.figure: n.value for n in study.numbers("fig4") if n.unit == "SHAP"}
    assert (shap.pop("base value"), shap.pop("output")) == (0.452, 0.722)
    assert sum(shap.values()) == pytest.approx(0.17)


def test_the_numbers_of_dermacalibra_are_those_printed() -> None:
    study = load_study("dermacalibra")
    of = {(n.part, n.cohort, n.arm, n.figure): n.value for n in study.published}
    assert of["table3", "pad", "full", "insertion gfa"] == 0.842
    assert of["table6", "changzhou", "full", "all accuracy @ argmax"] == 0.85
    assert next(n.value for n in study.numbers("methods") if n.unit == "s") == 0.041
    # Correct images by class give the printed balanced accuracy of ISIC 2019.
    shares = [of["table6", "isic-2019", "full", f"{c} sensitivity @ argmax"] for c in class_set("pad6").classes]
    printed = of["table6", "isic-2019", "full", "all balanced_accuracy macro @ argmax"]
    assert sum(shares) / len(shares) == pytest.approx(printed, abs=0.0005)


def test_the_preset_of_wang_2024_is_the_recipe_of_the_paper() -> None:
    config = model_config(load_model("hybrid_resnet50"), (), preset="wang2024")
    printed = {"side_px": 128, "branch_width": 1024, "image_epochs": 51, "epochs": 92, "batch": 8, "optimiser": "sgd",
               "learning_rate": 0.002, "momentum": 0.9, "weight_decay": 1e-4}  # fmt: skip
    ours = {"head_learning_rate": 0.0, "schedule": "cosine", "final_rate": 1e-5, "patience": 15,
            "class_weights": "inverse", "rotation_deg": 180.0, "smallest_scale": 0.9, "largest_scale": 1.1,
            "colour_jitter": 0.1, "label_smoothing": 0.0, "dropped": 0.0, "mirrored": False}  # fmt: skip
    assert config == configured(load_model("hybrid_resnet50"), **printed, **ours)


# -------------------------------------------------------------------------------------------------- what is compared


def test_pairs_are_what_adds_one_thing_and_everything_against_the_whole() -> None:
    arms = {"image": (), "metadata": (), "both": ("image", "metadata"), "whole": ("both",)}
    assert ablation.pairs(arms, "whole") == {
        ("image", "both"): ablation.EXTENDS,
        ("metadata", "both"): ablation.EXTENDS,
        ("both", "whole"): ablation.EXTENDS,
        ("image", "whole"): ablation.WHOLE,
        ("metadata", "whole"): ablation.WHOLE,
    }
    # An arm that was left out is skipped, not replaced.
    assert ablation.pairs({"image": (), "whole": ("both",)}, "whole") == {("image", "whole"): ablation.WHOLE}


def test_pairs_are_corrected_together_figure_by_figure() -> None:
    sides = {name: side(name, cases(120, skill=skill, model=i)) for i, (name, skill) in enumerate(SKILLS.items())}
    chosen = ablation.pairs({"poor": (), "better": ("poor",), "good": ("better",)}, "good")
    rows, refused = ablation.compare_pairs(sides, chosen, seed=0, minimum=5)
    assert not refused
    table = pd.DataFrame(rows)
    for _, of in table.groupby("figure"):
        assert len(of) == 3
        np.testing.assert_allclose(of["p_holm"].astype(float), holm(of["p"]))
    auroc = table[table["figure"] == "AUROC, macro"].set_index(["a", "b"])
    assert auroc.loc[("poor", "good"), "why"] == ablation.WHOLE
    assert auroc.loc[("poor", "good"), "p_holm"] < 0.05 < auroc.loc[("better", "good"), "p_holm"]
    value = auroc.loc[("poor", "better"), "value_b"] - auroc.loc[("poor", "better"), "value_a"]
    assert auroc.loc[("poor", "better"), "difference"] == pytest.approx(value)


def test_a_pair_of_different_malignant_sets_is_told_and_the_others_are_compared() -> None:
    sides = {"a": side("a", cases(60)), "b": side("b", cases(60, model=2)), "c": side("c", cases(60), "BCC,MEL")}
    rows, refused = ablation.compare_pairs(sides, {("a", "b"): "why", ("a", "c"): "why"}, seed=0, minimum=5)
    assert {(row["a"], row["b"]) for row in rows} == {("a", "b")}
    assert "malignant" in refused["a", "c"]


def test_the_area_under_the_macro_curve_is_the_mean_of_the_areas() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    score = rng.normal(size=(300, 3)) + 1.2 * np.eye(3)[truth]
    curves = {str(c): roc_curve(score[:, c], truth == c) for c in range(3)}
    curves["malignant"] = roc_curve(-score[:, 0], truth == 0)  # a curve that must not enter
    mean = ablation.macro_roc(curves)
    areas = [roc_auc_score(truth == c, score[:, c]) for c in range(3)]
    assert np.trapezoid(mean["tpr"], mean["fpr"]) == pytest.approx(np.mean(areas), abs=1e-12)
    assert (mean["fpr"][0], mean["tpr"][0], mean["fpr"][-1], mean["tpr"][-1]) == (0, 0, 1, 1)
    assert (np.diff(mean["tpr"]) >= 0).all()


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small_cohort.make(tmp_path_factory.mktemp("ablate") / "w", folds=1, patients=45)
    assert ablate(workspace, "--arms", "metadata,image-metadata") == 0
    return workspace


def test_the_table_of_classes_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8], [0.55, 0.45]])
    scored = pd.DataFrame({"p__diagnosis__A": p[:, 0], "p__diagnosis__B": p[:, 1]}).assign(
        level="image", fold=[0, 0, 0, 1, 1, 1], **{"class": list("AABBAB")}
    )
    fold = {"class_thresholds": {"A": {"threshold": 0.5}, "B": {"threshold": None}}}
    about = {
        "classes": {"classes": ["A", "B"]},
        "folds": [
            {"fold": 0, **fold},
            {"fold": 1, "class_thresholds": {"A": {"threshold": 0.6}, "B": {"threshold": None}}},
        ],
    }
    rows = class_table.class_table(_no_metrics(), scored, about)
    of = {(row["mode"], row["class"], row["average"]): row for row in rows}
    frozen = of["frozen_threshold", "A", "none"]
    assert (frozen["n"], frozen["threshold"], frozen["folds"]) == (3, pytest.approx(0.55), 2)
    assert frozen["threshold_sd"] == pytest.approx(0.1 / np.sqrt(2))
    # Fold 0 finds both cases of A and calls no other; fold 1 misses its one case and calls no other.
    assert frozen["sensitivity_sd"] == pytest.approx(1 / np.sqrt(2))
    assert frozen["specificity_sd"] == 0
    assert of["frozen_threshold", "B", "none"]["threshold"] is None
    tuned = of["tuned_on_scored", "A", "none"]
    # A at 0.9 and 0.8 against B at 0.55: half-way between, and one A is missed.
    assert tuned["threshold"] == pytest.approx((0.8 + 0.55) / 2)
    assert (tuned["sensitivity"], tuned["specificity"]) == (pytest.approx(2 / 3), 1)
    assert tuned["sensitivity_lower"] is None
    assert of["argmax", "A", "none"]["threshold"] is None
    # Where no fold could fit a threshold nothing was decided.
    assert of["frozen_threshold", "B", "none"]["sensitivity_sd"] is None
    assert "NOT A RESULT" in class_table.MODES["tuned_on_scored"]
    assert "0.5500 ± 0.0707" in class_table.markdown_of(rows, "frozen_threshold")


def test_on_an_external_cohort_the_spread_is_that_of_the_folds_alone() -> None:
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    scored = pd.DataFrame({"p__diagnosis__A": p[:, 0], "p__diagnosis__B": p[:, 1]}).assign(
        level="image", fold=None, **{"class": list("AABB")}
    )
    folds = [{"fold": k, "class_thresholds": {c: {"threshold": 0.5} for c in "AB"}} for k in (0, 1)]
    about = {"classes": {"classes": ["A", "B"]}, "folds": folds}
    other = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    alone = class_table.class_table(_no_metrics(), scored, about)
    each = class_table.class_table(_no_metrics(), scored, about, [p, other])
    first = {
        mode: (next(r for r in rows if r["class"] == "A"), len(rows)) for mode, rows in (("no", alone), ("yes", each))
    }
    assert (first["no"][0]["folds"], first["no"][0]["auroc_sd"]) == (0, None)
    # AUROC of A: 3 of 4 pairs in the first fold, all in the second; it finds one of two, then both.
    assert first["yes"][0]["auroc_sd"] == pytest.approx(np.std([0.75, 1], ddof=1))
    assert first["yes"][0]["sensitivity_sd"] == pytest.approx(np.std([0.5, 1], ddof=1))


def test_each_fold_is_asked_by_itself_when_told_to(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "w", folds=2)
    assert ablate(workspace, "--arms", "metadata", "--each-fold") == 0
    rows = read_table(workspace.root / "ablate" / "wang2024" / "by_class.parquet")
    seen = rows[(rows["n"] > 0) & (rows["average"] == "none") & (rows["mode"] == "argmax")]
    assert set(seen["cohort"]) == {"clinic", "jinan"}
    assert (seen["folds"] == 2).all()
    assert seen["auroc_sd"].notna().all()


def _no_metrics() -> pd.DataFrame:
    columns = ("subgroup", "class", "average", "decision_rule", "metric", *("estimate", "lower", "upper"))
    return pd.DataFrame(columns=[*columns, "n", "n_positive", "n_clusters", "threshold"])


def test_every_arm_learnt_from_the_same_split_and_is_told_with_intervals(ablated: Workspace) -> None:
    folder = ablated.root / "ablate" / "wang2024"
    told = json.loads((folder / "ablation.json").read_text())
    models = [told["arms"][arm]["model"] for arm in ("metadata", "image-metadata")]
    assert models == ["wang2024-metadata", "wang2024-image-metadata"]
    abouts = [open_artifact(ablated.path(Ref("models", name=m))).json("model.json") for m in models]
    assert len({about["split"]["identity"] for about in abouts}) == 1
    assert [about["model"] for about in abouts] == ["logistic", "hybrid_resnet50"]
    assert [about["attributes"] for about in abouts] == ["isic", "isic"]
    assert all(about["radiomics"]["selection"] == "none" for about in abouts)
    assert {cohort: of["role"] for cohort, of in told["cohorts"].items()} == {
        "clinic": "development",
        "jinan": "external",
    }
    held_out = told["cohorts"]["clinic"]["arms"]["image-metadata"]
    assert held_out["n"] < 45
    area = held_out["malignant_auroc"]
    assert 0 <= area["estimate"] <= 1
    assert area["lower"] is None or area["lower"] <= area["estimate"] <= area["upper"]
    pairs = {(row["a"], row["b"]) for row in told["cohorts"]["clinic"]["differences"]}
    assert pairs == {("metadata", "image-metadata")}


def test_differences_are_those_of_the_arms(ablated: Workspace) -> None:
    folder = ablated.root / "ablate" / "wang2024"
    arms = read_table(folder / "arms.parquet").set_index(
        ["cohort", "arm", "class", "average", "decision_rule", "metric"]
    )
    rows = read_table(folder / "differences.parquet")
    key = ("all", "macro", "none", "auroc")
    macro = rows[(rows["figure"] == "AUROC, macro") & (rows["cohort"] == "clinic")]
    for row in macro.to_dict("records"):
        values = [arms.loc[("clinic", row[side], *key), "estimate"] for side in ("a", "b")]
        assert row["difference"] == pytest.approx(values[1] - values[0])
        assert np.isnan(row["lower"]) or row["lower"] <= row["difference"] <= row["upper"]
    assert len(macro) == 1


def test_tables_and_panels_can_be_read(ablated: Workspace) -> None:
    folder = ablated.root / "ablate" / "wang2024"
    page = (folder / "ablation.md").read_text()
    assert "| image + metadata | " in page
    assert "p (Holm)" in page
    classes = (folder / "by_class.md").read_text()
    assert classes.count("NOT A RESULT") == 4  # two arms, two cohorts
    rows = read_table(folder / "by_class.parquet")
    assert set(rows["mode"]) == {"frozen_threshold", "argmax", "tuned_on_scored"}
    tuned = rows[(rows["mode"] == "tuned_on_scored") & (rows["average"] == "none") & (rows["n"] > 0)]
    assert tuned["threshold"].notna().all()
    svg = (folder / "roc.svg").read_text()
    assert "malignant or benign" in svg
    assert "clinic, held out" in svg
    assert (folder / "roc.png").read_bytes()[:4] == b"\x89PNG"


def test_several_development_cohorts_are_also_told_together(tmp_path: Path) -> None:
    names = {"clinic": "development", "second": "development"}
    defaults = {"segmenter": "truth", "model": "lightgbm", "classes": "pad6", "allow_untrained": small_cohort.FEW}
    workspace = written_artifacts.make_workspace(tmp_path / "w", names, **defaults)
    for seed, name in enumerate(names, 1):
        small_cohort.write_cohort(workspace, name, 9, seed=seed)
    written_artifacts.run_stage(workspace, "split", folds=2, validation=0.34)
    assert ablate(workspace, "--arms", "metadata") == 0
    folder = workspace.root / "ablate" / "wang2024"
    cohorts = json.loads((folder / "ablation.json").read_text())["cohorts"]
    assert list(cohorts) == [TOGETHER, "clinic", "second"]
    whole, *parts = (of["arms"]["metadata"]["n"] for of in cohorts.values())
    assert whole == sum(parts) == 36
    scored = pd.concat(
        read_table(workspace.path(Ref("metrics", name, "wang2024-metadata")) / "scored.parquet") for name in names
    )
    images = scored[scored["level"] == "image"]
    area = roc_auc_score(images["class"].isin(["MEL", "BCC"]), images["malignancy"])
    assert cohorts[TOGETHER]["arms"]["metadata"]["malignant_auroc"]["estimate"] == pytest.approx(area)
    svg = (folder / "roc.svg").read_text()
    assert f"{TOGETHER}, held out" in svg
    assert "clinic, held out" not in svg


def test_a_second_run_trains_nothing_and_says_the_same(ablated: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    models = ablated.path(Ref("models", name="wang2024-metadata"))
    before = ((models / "manifest.json").stat().st_mtime_ns, (ablated.root / "test_access_log.jsonl").read_bytes())
    page = (ablated.root / "ablate" / "wang2024" / "ablation.md").read_bytes()
    assert ablate(ablated, "--arms", "metadata,image-metadata", "--json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["system"] == "wang2024"
    after = ((models / "manifest.json").stat().st_mtime_ns, (ablated.root / "test_access_log.jsonl").read_bytes())
    assert after == before
    assert (ablated.root / "ablate" / "wang2024" / "ablation.md").read_bytes() == page


def test_an_arm_of_another_configuration_is_refused(ablated: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(ablated, "--arms", "metadata", "--seed", "1") == 5
    assert "--replace" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (["--system", "wang204"], 2, "did you mean 'wang2024'"),
        ([], 2, "no study was named"),
        (["--system", "wang2024", "--arms", "imag"], 2, "did you mean 'image'"),
        (["--system", "wang2024", "--bootstrap", "0"], 2, "--bootstrap 0"),
        (["--system", "wang2024", "--preset", "quik"], 2, "did you mean 'quick'"),
        (["--system", "wang2024", "--settings", "recipe.epoch=1"], 2, "did you mean 'epochs'"),
    ],
)
def test_what_is_wrong_is_said(
    ablated: Workspace, arguments: list[str], code: int, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ablate", "-w", str(ablated.root), *arguments]) == code
    assert found in capsys.readouterr().err


def test_a_study_knows_its_arms_and_parts() -> None:
    study: Study = load_study("wang2024")
    assert study.whole.name == "full"
    with pytest.raises(ConfigError, match="did you mean 'table2'"):
        study.part("table-2")


def test_a_table_of_one_arm_has_no_pairs() -> None:
    rows, refused = ablation.compare_pairs({}, {("a", "b"): "why"}, seed=0, minimum=1)
    assert (rows, refused) == ([], {})
    assert ablation.summary(_no_metrics())["macro_auroc"]["estimate"] is None


# ----------------------------------------------------------------------------------------------------- several seeds


@pytest.fixture(scope="module")
def seeded(ablated: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same ablation with one seed, and then with three of the arm that adds something."""
    workspace = load_workspace(shutil.copytree(ablated.root, tmp_path_factory.mktemp("seeds") / "w"))
    assert ablate(workspace, "--arms", "metadata,image-metadata", "--seeds", "0,1,4", "--one-seed", "metadata") == 0
    return workspace


def of_seeds(workspace: Workspace, *inside: str) -> Path:
    return workspace.root.joinpath("ablate", "wang2024", "seeds", *inside)


def test_seed_0_is_the_model_of_a_run_without_seeds_and_the_others_are_trained_with_theirs(seeded: Workspace) -> None:
    told = json.loads(of_seeds(seeded, "ablation.json").read_text())
    assert told["seeds"] == [0, 1, 4]
    names = told["arms"]["image-metadata"]["models"]
    assert names == {
        "0": "wang2024-image-metadata",
        "1": "wang2024-image-metadata-s1",
        "4": "wang2024-image-metadata-s4",
    }
    assert told["arms"]["metadata"]["models"] == {"0": "wang2024-metadata"}
    abouts = {s: open_artifact(seeded.path(Ref("models", name=n))).json("model.json") for s, n in names.items()}
    assert {seed: about["seed"] for seed, about in abouts.items()} == {"0": 0, "1": 1, "4": 4}
    assert len({about["split"]["identity"] for about in abouts.values()}) == 1
    made = {path.name for path in (seeded.artifacts / "models").iterdir() if path.is_dir()}
    assert made == {"wang2024-metadata", *names.values()}


def test_a_row_is_the_mean_of_its_seeds_with_their_spread_and_their_number(seeded: Workspace) -> None:
    told = json.loads(of_seeds(seeded, "ablation.json").read_text())
    areas, sensitivities = [], []
    for name in told["arms"]["image-metadata"]["models"].values():
        scored = open_artifact(seeded.path(Ref("metrics", "clinic", name))).table(file="scored.parquet")
        images = scored[scored["level"] == "image"]
        malignant = images["class"].isin(["MEL", "BCC"])
        areas.append(roc_auc_score(malignant, images["malignancy"]))
        sensitivities.append((images["call"] == "malignant")[malignant].mean())
    row = told["cohorts"]["clinic"]["arms"]["image-metadata"]
    assert len(set(areas)) > 1  # seeds differ
    assert row["malignant_auroc"]["estimate"] == pytest.approx(np.mean(areas))
    assert row["malignant_auroc"]["sd"] == pytest.approx(np.std(areas, ddof=1))
    assert row["sensitivity"]["estimate"] == pytest.approx(np.mean(sensitivities))
    page = of_seeds(seeded, "ablation.md").read_text()
    assert "| arm | seeds | n |" in page
    assert "| image + metadata | 3 | " in page
    assert "| metadata | 1 | " in page
    assert "Trained with seed 0 alone: metadata" in page


def test_differences_of_seeds_are_those_that_compare_gives(
    seeded: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = "wang2024-metadata", "wang2024-image-metadata+wang2024-image-metadata-s1+wang2024-image-metadata-s4"
    shared = ["--cohort", "clinic", "--no-upstream", "--jobs", "1", "--quiet", "--json", "-w", str(seeded.root)]
    assert cli.main(["compare", *sides, *shared]) == 0
    compared = json.loads(capsys.readouterr().out)["compare"]["clinic"]["differences"]
    expected = {row["name"]: [row[name] for name in ("difference", "lower", "upper", "p")] for row in compared}
    told = json.loads(of_seeds(seeded, "ablation.json").read_text())["cohorts"]["clinic"]["differences"]
    assert {row["figure"]: [row[name] for name in ("difference", "lower", "upper", "p")] for row in told} == expected
    area = next(row for row in told if row["figure"] == "AUROC, macro")
    assert len(area["by_seed"]) == 3
    assert area["difference"] == pytest.approx(np.mean(area["by_seed"]))


def test_files_of_seeds_stand_apart_and_hold_every_seed(seeded: Workspace) -> None:
    alone = json.loads((seeded.root / "ablate" / "wang2024" / "ablation.json").read_text())
    assert "seeds" not in alone
    rows = read_table(of_seeds(seeded, "arms.parquet"))
    assert set(rows.loc[rows["arm"] == "image-metadata", "seed"]) == {"0", "1", "4", "mean"}
    assert set(rows.loc[rows["arm"] == "metadata", "seed"]) == {"0"}
    classes = read_table(of_seeds(seeded, "by_class.parquet"))
    assert set(classes.loc[classes["arm"] == "image-metadata", "seed"]) == {0, 1, 4}
    assert "image + metadata, seed 4" in of_seeds(seeded, "by_class.md").read_text()
    assert "clinic, held out" in of_seeds(seeded, "roc.svg").read_text()


def test_several_seeds_again_train_nothing_and_say_the_same(seeded: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in seeded.artifacts.glob("models/*/manifest.json")}
    page = of_seeds(seeded, "ablation.md").read_bytes()
    arms = ("--arms", "metadata,image-metadata")
    assert ablate(seeded, *arms, "--seeds", "0,1,4", "--one-seed", "metadata") == 0
    assert {path: path.stat().st_mtime_ns for path in seeded.artifacts.glob("models/*/manifest.json")} == before
    assert of_seeds(seeded, "ablation.md").read_bytes() == page


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--seeds", "0"], "--seeds 0"),
        (["--seeds", "0,1,1"], "--seeds 0,1,1"),
        (["--seeds", "0,-1"], "--seeds 0,-1"),
        (["--seeds", "one,two"], "--seeds one,two"),
        (["--one-seed", "metadata"], "without --seeds"),
        (["--seeds", "0,1", "--one-seed", "metdata"], "did you mean 'metadata'"),
        (["--seeds", "0,1", "--one-seed", "full"], "--one-seed full"),
    ],
)
def test_wrong_seeds_are_told_before_any_work(
    ablated: Workspace, arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(ablated.artifacts.rglob("*"))
    assert ablate(ablated, "--arms", "metadata,image-metadata", *arguments) == 2
    assert found in capsys.readouterr().err
    assert sorted(ablated.artifacts.rglob("*")) == before


def test_means_over_tasks_of_several_seeds_are_means_of_means() -> None:
    each = [side("m", cases(120, model=model)).evaluation for model in (1, 2, 3)]
    alone = [task_average.averaged({"diagnosis": one})["accuracy"]["estimate"] for one in each]
    first, *again = ({"diagnosis": one} for one in each)
    mean = task_average.averaged(first, again=again)["accuracy"]
    assert mean["estimate"] == pytest.approx(np.mean(alone))
    assert mean["lower"] < mean["estimate"] < mean["upper"]


def test_several_seeds_of_several_cohorts_are_joined_seed_by_seed() -> None:
    sides = {
        cohort: replace(side("m", cases(90, seed=s)), again=(side("m", cases(90, seed=s, model=2)).evaluation,))
        for s, cohort in enumerate(("a", "b"))
    }
    joined = ablation.together("m", sides)
    assert [len(one.cases) for one in joined.seeds()] == [180, 180]
    first, second = (one.cases["p__diagnosis__MEL"].to_numpy() for one in joined.seeds())
    assert not np.array_equal(first, second)
    rows = ablation.mean_rows(joined, seed=0, minimum=5)
    area = endpoint_row(rows)
    areas = [endpoint_row(ablation.mean_rows(replace(one, again=(one.evaluation,)), seed=0, minimum=5))["estimate"]
             for one in joined.seeds()]  # fmt: skip
    assert area["estimate"] == pytest.approx(np.mean(areas))
    assert area["sd"] == pytest.approx(np.std(areas, ddof=1))
    assert area["lower"] < area["estimate"] < area["upper"]


def test_agreement_and_divergence_of_a_student_by_hand() -> None:
    teacher, student = side("t", cases(90)), side("s", cases(90, model=2))
    p, q = (one.cases[[c for c in one.cases if c.startswith("p__")]].to_numpy(float) for one in (teacher, student))
    found = ablation.agreement(teacher, student)
    assert found["n"] == 90
    assert found["agreement"]["estimate"] == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    assert found["divergence"]["estimate"] == pytest.approx(np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]))
    for figure in (found["agreement"], found["divergence"]):
        assert 0 < figure["lower"] < figure["estimate"] < figure["upper"]
    itself = ablation.agreement(teacher, teacher)
    assert (itself["agreement"]["estimate"], itself["divergence"]["estimate"]) == (1, 0)
    # A student of two seeds beside a teacher of one: the mean over its seeds.
    other = side("s", cases(90, model=3))
    both = ablation.agreement(teacher, replace(student, again=(other.evaluation,)))
    alone = [ablation.agreement(teacher, one)["agreement"]["estimate"] for one in (student, other)]
    assert both["agreement"]["estimate"] == pytest.approx(np.mean(alone))


def endpoint_row(rows: pd.DataFrame) -> Any:
    chosen = (rows["class"] == ALL) & (rows["average"] == "macro") & (rows["metric"] == "auroc")
    return rows[chosen].iloc[0]
