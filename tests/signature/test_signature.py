"""A signature from every side: stability, reliability of its features, correlations, trees, and the command."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.cli import main
from skinkit.commands import Context
from skinkit.commands import signature as command
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.evaluation.overlap import overlap
from skinkit.signature import correlation, reliability, selection, stability, trees
from skinkit.workspace import Ref, Workspace

# ---------------------------------------------------------------------------------------------------- stability


def test_stability_by_hand() -> None:
    # Three choices among four features: p = (1, 2/3, 1/3, 0), k = 2, so k/d = 1/2 and
    # 1 - (1/4)(0 + 3/2 * 2/9 + 3/2 * 2/9 + 0) / (1/4) = 1 - 2/3.
    z = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
    found = stability.stability(z)
    assert found.estimate == pytest.approx(1 / 3)
    assert found.jaccard == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert found.choices == 3
    assert found.lower < found.estimate < found.upper


def test_stability_is_one_for_equal_choices_and_about_zero_by_lot() -> None:
    same = stability.stability(np.tile([True, False, False, True], (7, 1)))
    assert (same.estimate, same.lower, same.upper) == pytest.approx((1, 1, 1))
    rng = np.random.default_rng(0)
    lot = np.zeros((200, 40), dtype=bool)
    for row in lot:
        row[rng.permutation(40)[:9]] = True
    found = stability.stability(lot)
    assert abs(found.estimate) < 0.02
    assert np.isnan(stability.stability(lot[:1]).estimate)
    assert np.isnan(stability.stability(np.ones((3, 4), dtype=bool)).estimate)


def test_the_interval_of_stability_is_as_wide_as_the_jackknife_says() -> None:
    rng = np.random.default_rng(1)
    z = rng.random((80, 30)) < np.linspace(0.02, 0.9, 30)
    found = stability.stability(z)
    without = np.array([stability.stability(np.delete(z, i, axis=0)).estimate for i in range(len(z))])
    spread = np.sqrt((len(z) - 1) / len(z) * ((without - without.mean()) ** 2).sum())
    assert (found.upper - found.lower) / (2 * 1.959964) == pytest.approx(spread, rel=0.05)


def test_patients_are_drawn_whole_and_what_tells_classes_apart_is_chosen_again() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat([f"P{i:02d}" for i in range(60)], 2)
    labels = np.repeat(rng.choice(["A", "B"], 60), 2)
    x = rng.normal(size=(120, 6))
    x[:, 2] += 3 * (labels == "B")
    names = [f"original_glcm_F{i}" for i in range(6)]
    told = {"bootstrap": 12, "seed": 3}
    held = stability.drawn_again(x, labels, patient, names, selection.SignatureRule(), **told)
    assert held.shape == (12, 6)
    assert held[:, 2].all()
    assert held[:, [0, 1, 3, 4, 5]].mean() < 0.2
    order = rng.permutation(120)
    again = stability.drawn_again(x[order], labels[order], patient[order], names, selection.SignatureRule(), **told)
    np.testing.assert_array_equal(held, again)  # the order of the rows is no matter


# --------------------------------------------------------------------------------------------------- reliability

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
"""Table 2 of Shrout & Fleiss 1979: six targets, four judges; their table 4 has ICC(2,1) = 0.29."""


def test_icc_of_the_published_example() -> None:
    assert round(reliability.icc(SHROUT_FLEISS), 2) == 0.29
    # The published mean squares: targets 11.24, judges 32.49, error 1.02.
    by_hand = (11.24 - 1.02) / (11.24 + 3 * 1.02 + 4 / 6 * (32.49 - 1.02))
    assert reliability.icc(SHROUT_FLEISS) == pytest.approx(by_hand, abs=1e-3)


def test_icc_counts_a_shift_as_disagreement_and_does_not_depend_on_the_unit() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert reliability.icc(np.stack([values, values], axis=1)) == pytest.approx(1)
    shifted = np.stack([values, values + 2], axis=1)
    assert reliability.icc(shifted) < 0.5
    assert reliability.icc(1e6 * shifted + 1e9) == pytest.approx(reliability.icc(shifted), rel=1e-4)
    assert np.isnan(reliability.icc(np.ones((5, 2))))


def test_reliability_of_features_with_intervals_over_patients() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(80, 2))
    one = pd.DataFrame({"steady": truth[:, 0], "loose": truth[:, 1]})
    two = pd.DataFrame({"steady": truth[:, 0] + 0.1 * rng.normal(size=80), "loose": rng.normal(size=80)})
    two.loc[:4, "steady"] = np.nan
    patients = np.repeat(np.arange(40), 2)
    table = reliability.reliability([one, two], ["steady", "loose"], patients).set_index("feature")
    assert table["n"].tolist() == [75, 80]
    assert table["flagged"].tolist() == [False, True]
    assert table.loc["steady", "icc"] == pytest.approx(
        reliability.icc(np.stack([one["steady"][5:], two["steady"][5:]], axis=1))
    )
    assert (table["lower"] < table["icc"]).all()
    assert (table["icc"] < table["upper"]).all()
    assert table.loc["steady", "lower"] > 0.95
    assert table.loc["loose", "lower"] < 0 < table.loc["loose", "upper"]


def test_weights_of_a_draw_are_rows_taken_more_than_once() -> None:
    weights = np.array([[2.0, 1, 0, 1, 1, 1]])
    expanded = SHROUT_FLEISS[[0, 0, 1, 3, 4, 5]]
    assert reliability._icc(SHROUT_FLEISS.astype(float), weights)[0] == pytest.approx(reliability.icc(expanded))


# ---------------------------------------------------------------------------------- correlations, overlap, trees


def test_correlations_agree_with_pandas_and_are_counted_by_category() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    names = ["original_firstorder_Mean", "original_firstorder_Median", "original_glcm_Id", "red_original_glcm_Id"]
    x = np.stack([base, np.exp(base), rng.normal(size=40), -base], axis=1)
    x[:3, 2] = np.nan
    r = correlation.correlations(x)
    np.testing.assert_allclose(r, pd.DataFrame(x).corr(method="spearman").to_numpy(), atol=1e-12)
    table = correlation.between_categories(r, names).set_index(["a", "b"])
    alike = table.loc[("firstorder", "firstorder"), ["pairs", "median_abs_r", "share_high"]].tolist()
    assert alike == pytest.approx([1, 1, 1])
    assert table.loc[("firstorder", "glcm"), "pairs"] == 2
    assert table.loc[("firstorder", "red glcm"), "median_abs_r"] == pytest.approx(1)
    assert table["pairs"].sum() == 6


def test_extremes_are_counted_by_kind_of_feature() -> None:
    names = [
        "original_firstorder_Mean",
        "original_shape2D_Sphericity",
        "original_glcm_Id",
        "red_original_ngtdm_Busyness",
    ]
    assert [correlation.kind(name) for name in names] == ["intensity", "shape", "texture", "texture"]
    x = np.zeros((100, 4))
    x[:50] = 1
    x[0, 2] = 1000  # far from the other 99
    x[:20, 1] = np.nan
    x[:, 3] = 7  # constant: left out
    assert correlation.extremes(x, names) == {"intensity": 0, "shape": 0, "texture": 0.01}


def test_overlap_of_few_patients_has_no_interval() -> None:
    iou = np.array([0.2, 0.9, 0.5, 0.8])
    found = overlap({"iou": iou}, np.array(["a", "a", "b", "c"]))
    assert found["iou_mean"]["estimate"] == pytest.approx(0.6)
    assert found["iou_median"]["estimate"] == pytest.approx(0.65)
    assert np.isnan(found["iou_mean"]["lower"])  # three patients


def test_shapley_values_add_up_to_the_log_odds_and_follow_the_planted_feature() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    positive = x[:, 1] + 0.2 * rng.normal(size=300) > 0
    parts = [trees.SplitRows(x[rows], positive[rows]) for rows in (slice(0, 200), slice(200, 250))]
    found = trees.explain(*parts, x[250:])
    assert found.phi.shape == (50, 3)
    strength = np.abs(found.phi).mean(axis=0)
    assert strength[1] > 5 * max(strength[0], strength[2])
    assert ((found.log_odds > 0) == positive[250:]).mean() > 0.8
    one = trees.most_typical(found.phi, positive[250:])
    assert positive[250:][one]


# ------------------------------------------------------------------------------------------------- as a command


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small_cohort.make(tmp_path_factory.mktemp("signature") / "ws", folds=2, patients=60)
    written_artifacts.run_stage(workspace, "select")
    return workspace


def pixels(file: Path) -> np.ndarray[Any, Any]:
    with Image.open(file) as picture:
        return np.array(picture)


def run(workspace: Workspace, **given: Any) -> dict[str, Any]:
    given = {"bootstrap": 3, **given}
    return dict(command.run(command.Config(**given), Context(workspace.root, Console(quiet=True), upstream=False)))


def test_the_signature_stage_writes_every_test_and_what_was_chosen(workspace: Workspace) -> None:
    artifact = open_artifact(workspace.path(Ref("signature", name="grouped/truth")))
    told = artifact.json("signature.json")
    tests, table = read_table(artifact.path / "tests.parquet"), artifact.table()
    for fold in told["folds"]:
        mine = table[(table["fold"] == fold["fold"]) & table["selected"]].sort_values("rank")
        assert fold["selected"] == mine["feature"].tolist()
        assert sum(fold["rows_of_class"].values()) == fold["training_rows"]
        assert sum(fold["dropped"].values()) + len(mine) == told["features_tested"]
        best = mine.merge(tests, left_on=["fold", "feature", "best_class"], right_on=["fold", "feature", "class"])
        np.testing.assert_allclose(best["p_x"], best["p_y"])
        np.testing.assert_allclose(best["statistic_x"], best["statistic_y"])
    assert told["settings"] == {"limit": 9, "alpha": 0.05, "max_correlation": 0.9}
    assert set(tests["class"]) == {"NEV", "MEL", "BCC"}


def test_the_command_writes_its_figures_and_says_what_they_rest_on(workspace: Workspace) -> None:
    answer = run(workspace)
    folder = Path(answer["folder"])
    assert folder == workspace.root / "signature" / "grouped" / "truth"
    for name in ("heatmap", "correlation", "stability", "waterfall", "waterfall_positive", "beeswarm"):
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 600
    names = [row["feature"] for row in answer["signature"]["chosen"]]
    assert names
    assert all(name.removeprefix("original_") in answer["text"] for name in names)
    assert answer["stability"]["patients"]["choices"] == 3
    assert answer["stability"]["folds"]["choices"] == 2
    one = answer["trees"]
    assert one["case"]["log_odds"] == pytest.approx(one["base"] + sum(one["case"]["shap"].values()))
    assert one["part"] == "held_out"
    saved = json.loads((folder / "signature.json").read_text())
    assert saved["trees"]["auroc"] == one["auroc"]
    frequency = pd.read_csv(folder / "stability.csv").set_index("feature")["frequency"]
    assert frequency.between(0, 1).all()


def test_two_outlines_of_the_same_photos(workspace: Workspace) -> None:
    masks = workspace.root / "clinic" / "other"
    masks.mkdir(exist_ok=True)
    for place, file in enumerate(sorted((workspace.root / "clinic" / "outlines").glob("*.png"))):
        if place % 6:  # this annotator left some out and drew the others a little smaller
            mask = pixels(file)
            mask[:, : mask.shape[1] // 2 - 6] = 0
            Image.fromarray(mask).save(masks / file.name)
    written_artifacts.run_stage(workspace, "segment", cohorts=["clinic"], model="truth", name="first")
    (second,), said = written_artifacts.run_stage(
        workspace, "segment", cohorts=["clinic"], model="truth", name="second", settings=("masks=other",)
    )
    rows = second.table()
    assert (rows["status"] == "ok").sum() == 100
    assert set(rows.loc[rows["status"] == "failed", "reason"]) == {"truth_mask_absent"}
    assert 0.5 < rows["iou"].mean() < 0.95
    assert re.search(r"against 100 masks drawn by people: IoU mean 0\.\d+ \(0\.\d+ to 0\.\d+\), median", said)
    for name in ("first", "second"):
        written_artifacts.run_stage(workspace, "radiomics", cohorts=["clinic"], masks=name, name=name)
    answer = run(workspace, outlines=("first", "second"))
    told = answer["reliability"]
    assert (told["n"], told["n_clusters"]) == (100, 60)
    assert len(told["icc"]) == sum(told["counts"].values()) == 102
    assert told["icc"]["original_firstorder_Mean"]["icc"] > told["icc"]["original_shape2D_Sphericity"]["icc"]
    assert "ICC(2,1) between first and second, 100 lesions of 60 patients" in answer["text"]
    assert (Path(answer["folder"]) / "reliability.png").is_file()
    with pytest.raises(InputError) as error:
        written_artifacts.run_stage(
            workspace, "segment", cohorts=["clinic"], model="truth", name="third", settings=("masks=nowhere",)
        )
    assert "mask at 'nowhere'" in error.value.found


def test_a_changed_mask_of_the_second_annotator_is_read_again(tmp_path: Path, workspace: Workspace) -> None:
    root = tmp_path / "ws"
    shutil.copytree(workspace.root, root)
    from skinkit.workspace import load_workspace

    copy = load_workspace(root)
    folder = root / "clinic" / "again"
    shutil.copytree(root / "clinic" / "outlines", folder)
    given: dict[str, Any] = {"cohorts": ["clinic"], "model": "truth", "name": "again", "settings": ("masks=again",)}
    (first,), _ = written_artifacts.run_stage(copy, "segment", **given)
    assert first.table()["iou"].eq(1).all()
    file = sorted(folder.glob("*.png"))[0]
    mask = pixels(file)
    mask[: mask.shape[0] // 2] = 0
    Image.fromarray(mask).save(file)
    (second,), said = written_artifacts.run_stage(copy, "segment", **given)
    assert "up to date" not in said
    assert second.manifest["counts"]["kept"] == len(second.table()) - 1
    assert second.table()["iou"].min() < 0.8


def test_a_signature_without_features_is_looked_at_too(tmp_path: Path, workspace: Workspace) -> None:
    from skinkit.workspace import load_workspace

    shutil.copytree(workspace.root, tmp_path / "ws")
    copy = load_workspace(tmp_path / "ws")
    written_artifacts.run_stage(copy, "select", alpha=1e-300)
    answer = run(copy, bootstrap=2)
    assert answer["signature"]["chosen"] == []
    assert set(answer["signature"]["dropped"]) <= {"not_significant", "constant", "missing"}
    assert answer["stability"]["patients"]["estimate"] is None
    assert "trees" not in answer
    assert "0 of 102 features" in answer["text"]


def test_misuse_of_the_command_is_told(workspace: Workspace) -> None:
    for given, found in (
        ({"bootstrap": 1}, "--bootstrap 1"),
        ({"outlines": ("truth",)}, "--outlines truth"),
        ({"fold": 7}, "--fold 7"),
        ({"target": "melanom"}, "--target 'melanom'"),
        ({"case": "nobody"}, "--case 'nobody'"),
        ({"target": "SCC"}, "0 of"),
    ):
        with pytest.raises(ConfigError, match=re.escape(found)):
            run(workspace, **given)


def test_the_command_line_answers_in_json(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["signature", "-w", str(workspace.root), "--no-upstream", "--bootstrap", "0", "--target", "NEV"]
    assert main([*arguments, "--json", "--fold", "1"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["fold"], body["trees"]["target"], body["stability"]["patients"]) == (1, "NEV", None)
