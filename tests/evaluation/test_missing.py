"""What models lose when metadata are missing, against the stages and independent libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from conftest import run_here
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import Context
from skinkit.commands import missing as command
from skinkit.errors import CaseError, ConfigError, InputError
from skinkit.evaluation import altered, missing
from skinkit.learning import forward
from skinkit.learning.examples import Examples
from skinkit.stats.encoders import PATIENT_ATTRIBUTES
from skinkit.stats.intervals import LeaveOut
from skinkit.workspace import Ref, Workspace, load_workspace

QUIET = written.Said()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two folds of 36 photos and 8 external ones, a regression on their attributes, scored."""
    made = small_cohort.make(tmp_path_factory.mktemp("missing") / "w", model="logistic")
    written.run_stage(made, "train", attributes="pad81", settings=("c=1.0",))
    for stage, options in (("predict", {}), ("evaluate", {"bootstrap": 60, "minimum": 1})):
        for cohort in ("clinic", "jinan"):
            written.run_stage(made, stage, cohorts=[cohort], **options)
    return made


def asked(workspace: Workspace, out: Path, **given: Any) -> dict[str, Any]:
    context = Context(workspace.root, QUIET, jobs=1, device="cpu", upstream=False)
    config = command.Config(**{"draws": 2, "out": str(out), **given})
    return dict(command.run(config, context))


@pytest.fixture(scope="module")
def answer(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asked(workspace, tmp_path_factory.mktemp("out"))


def rows_of(answer: dict[str, Any], cohort: str) -> pd.DataFrame:
    return pd.DataFrame(answer["missing"]["logistic"][cohort]["rows"])


@pytest.mark.parametrize("cohort", ["clinic", "jinan"])
def test_nothing_hidden_is_what_evaluate_says(workspace: Workspace, answer: dict[str, Any], cohort: str) -> None:
    metrics = open_artifact(workspace.path(Ref("metrics", cohort, "logistic"))).table()
    metrics = metrics[metrics["subgroup"] == "all"]
    keys = {
        "balanced_accuracy": ("all", "macro", "argmax", "balanced_accuracy"),
        "macro_auroc": ("all", "macro", "none", "auroc"),
        "malignant_auroc": ("malignant", "none", "none", "auroc"),
        "malignant_sensitivity": ("malignant", "none", "veto", "sensitivity"),
        "malignant_specificity": ("malignant", "none", "veto", "specificity"),
    }
    rows = rows_of(answer, cohort).query("variant == 'as_is'").set_index("metric")
    assert set(rows.index) == set(keys) == set(missing.FIGURES)
    columns = ["class", "average", "decision_rule", "metric"]
    for name, key in keys.items():
        told = metrics[(metrics[columns] == list(key)).all(axis=1)].iloc[0]
        expected = told[["estimate", "lower", "upper"]].astype(float)
        np.testing.assert_allclose(rows.loc[name, ["estimate", "lower", "upper"]].astype(float), expected, atol=1e-9)
    assert (rows["difference"] == 0).all()
    assert (rows["p"].dropna() == 1).all()  # none for too few patients


def test_hiding_is_predicting_a_table_without_the_values(
    workspace: Workspace, answer: dict[str, Any], tmp_path: Path
) -> None:
    """The same figures, by the stage predict on a fused table that never held the attribute, and scikit-learn."""
    import shutil

    shutil.copytree(workspace.root, tmp_path / "w")
    copy = load_workspace(tmp_path / "w")
    frame = open_artifact(copy.path(Ref("fused", "clinic", "truth"))).table()
    small_cohort.write_fused(copy, "clinic", frame.assign(bleed=None))
    (made,), _ = written.run_stage(copy, "predict", cohorts=["clinic"])
    table = made.table().query("level == 'image'").set_index("case_id")
    truth = (
        frame.set_index("case_id")
        .loc[table.index, "diagnosis"]
        .map({"nevus": "NEV", "melanoma": "MEL", "basal_cell_carcinoma": "BCC"})
    )
    rows = rows_of(answer, "clinic").query("variant == 'single' and attribute == 'bleed'").set_index("metric")
    assert rows.loc["balanced_accuracy", "estimate"] == pytest.approx(balanced_accuracy_score(truth, table["top1"]))
    sick = truth.isin(["MEL", "BCC"])
    assert rows.loc["malignant_auroc", "estimate"] == pytest.approx(roc_auc_score(sick, table["malignancy"]))
    called = table["call"] == "malignant"
    assert rows.loc["malignant_sensitivity", "estimate"] == pytest.approx(called[sick].mean())
    assert rows.loc["malignant_specificity", "estimate"] == pytest.approx((~called[~sick]).mean())


def test_what_a_model_rests_on_costs_most_and_ends_of_the_curve_meet(answer: dict[str, Any]) -> None:
    rows = rows_of(answer, "clinic")
    single = rows.query("variant == 'single' and metric == 'balanced_accuracy'")
    assert single["difference"].is_monotonic_increasing
    assert single.iloc[0]["attribute"] in ("age_years", "bleed")
    assert set(single["attribute"]) == set(answer["missing"]["logistic"]["clinic"]["attributes"])
    for share, kind in ((0.0, "as_is"), (1.0, "all")):
        ends = [
            rows[(rows["variant"] == name) & (rows["share"] == share)].set_index("metric")["estimate"]
            for name in ("random", kind)
        ]
        pd.testing.assert_series_equal(*ends)
    curve = rows.query("variant == 'random'").drop_duplicates("share").set_index("share")
    assert curve["draws"].to_dict() == {0.0: 1, 0.25: 2, 0.5: 2, 0.75: 2, 1.0: 1}
    nothing = rows.query("variant == 'all'").set_index("metric")["estimate"]
    assert nothing["malignant_auroc"] == pytest.approx(0.5, abs=0.35)  # two folds with constants of their own
    assert (
        nothing["balanced_accuracy"]
        < rows.query("variant == 'as_is'").set_index("metric").loc["balanced_accuracy", "estimate"]
    )


def test_variants_hide_what_they_say() -> None:
    attributes = ["smoke", "age_years", "region", "sex", "itch"]
    found = missing.variants(7, attributes, draws=3, seed=5)
    assert not found[0].hidden.any()
    block = next(v for v in found if v.kind == "patient_block")
    assert [n for n, h in zip(attributes, block.hidden[0], strict=True) if h] == ["smoke", "sex"]
    assert {"smoke", "sex"} < set(PATIENT_ATTRIBUTES)
    drawn = [v for v in found if v.kind == "random" and 0 < v.share < 1]
    assert len(drawn) == 9
    for variant in drawn:
        assert (variant.hidden.sum(axis=1) == round(variant.share * 5)).all()
    first = {v.share: v.hidden for v in drawn[:3]}
    assert (first[0.25] <= first[0.5]).all()
    assert (first[0.5] <= first[0.75]).all()
    assert not all((v.hidden == drawn[0].hidden).all() for v in drawn if v.share == drawn[0].share)
    again = missing.variants(7, attributes, draws=3, seed=5)
    assert all((a.hidden == b.hidden).all() for a, b in zip(found, again, strict=True))
    assert "patient_block" not in {v.kind for v in missing.variants(2, ["age_years"], draws=1, seed=0)}


def test_figures_of_a_replicate_are_those_of_the_drawn_cases() -> None:
    """The weighted figures against scikit-learn on the cases repeated as often as they were drawn."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    probability = rng.dirichlet(np.ones(3), 60) * 0.5 + 0.5 * np.eye(3)[truth] * rng.random((60, 1))
    probability /= probability.sum(axis=1, keepdims=True)
    cases = altered.CasesWithTruth(truth, np.arange(60).astype(str), np.array([False, True, False]), np.full(60, 0.4))
    resamples = LeaveOut(cases.cluster)
    _, drawn = cases.figures(probability, resamples)
    (weights,) = resamples.weights(cases.cluster, 3)
    for replicate, weight in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(60), weight)
        y, p = truth[rows], probability[rows]
        assert drawn["balanced_accuracy"][replicate] == pytest.approx(balanced_accuracy_score(y, p.argmax(axis=1)))
        assert drawn["macro_auroc"][replicate] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))
        assert drawn["malignant_auroc"][replicate] == pytest.approx(roc_auc_score(y == 1, p[:, 1]))


def test_files_and_words(answer: dict[str, Any], workspace: Workspace, tmp_path: Path) -> None:
    files = answer["missing"]["logistic"]["clinic"]["files"]
    assert sorted(files) == ["html", "json", "parquet", "png", "svg", "txt"]
    body = json.loads(Path(files["json"]).read_text())
    table = pd.read_parquet(files["parquet"])
    assert len(body["rows"]) == len(table) == len(rows_of(answer, "clinic"))
    assert body["verdict"]
    assert "without any attribute" in answer["text"]
    svg = Path(files["svg"]).read_text()
    assert all(word in svg for word in ("age_years", "patient block", "share of attributes hidden"))
    again = asked(workspace, tmp_path)
    assert again["missing"]["logistic"]["clinic"]["rows"] == answer["missing"]["logistic"]["clinic"]["rows"]
    assert Path(again["missing"]["logistic"]["clinic"]["files"]["svg"]).read_text() == svg


def test_as_a_command(workspace: Workspace, tmp_path: Path) -> None:
    options = ["--no-upstream", "--device", "cpu", "--cohort", "jinan", "--draws", "1", "--json"]
    run = run_here("missing", "logistic", "-w", workspace.root, "--out", tmp_path / "out", *options)
    assert run.returncode == 0, run.stderr
    assert list(json.loads(run.stdout)["missing"]["logistic"]) == ["jinan"]
    assert (tmp_path / "out" / "jinan" / "logistic.png").is_file()


def test_a_model_without_attributes_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--draws 0"):
        asked(workspace, tmp_path, draws=0)
    written.run_stage(workspace, "train", name="blind", attributes="none", radiomics="all", settings=("c=1.0",))
    for stage in ("predict", "evaluate"):
        for cohort in ("clinic", "jinan"):
            written.run_stage(workspace, stage, cohorts=[cohort], name="blind")
    with pytest.raises(InputError) as error:
        asked(workspace, tmp_path, models=("blind",))
    assert "metadata" in error.value.found


def test_a_network_looks_once_and_judges_every_table(tmp_path: Path) -> None:
    """The logits of each table are those of a full pass with that table; a photo is encoded at once."""
    torch = pytest.importorskip("torch")
    from PIL import Image

    from skinkit.images.identity import pixel_sha256
    from skinkit.learning.examples import Photo

    class Fused(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.see, self.know = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4 + 2, 3)
            self.encoded = 0

        def encode(self, batch: Any) -> Any:
            self.encoded += len(batch["image"])
            return torch.relu(self.see(batch["image"])).mean((2, 3))

        def head(self, seen: Any, batch: Any) -> Any:
            return {"diagnosis": self.know(torch.cat([seen, batch["attributes"]], 1))}

        def answer(self, batch: Any) -> Any:
            return self.head(self.encode(batch), batch)

    rng = np.random.default_rng(0)
    photos = []
    for i in range(5):
        rgb = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(tmp_path / f"{i}.png")
        photos.append(Photo(pixel_sha256(rgb), tmp_path / f"{i}.png"))
    (tmp_path / "3.png").unlink()
    tables = [{"attributes": rng.normal(size=(5, 2)).astype(np.float32)} for _ in range(3)]
    network: Any = Fused()
    examples = Examples(("image", "attributes"), 16, photos)
    how: dict[str, Any] = {"device": "cpu", "precision": "fp32", "console": QUIET}
    found = dict(forward.head_answers(network, examples.with_arrays(tables[0]), tables, range(5), **how))
    assert network.encoded == 4
    assert isinstance(found[3], CaseError)
    for at, table in enumerate(tables):
        for row, full in forward.run(network, examples.with_arrays(table), range(5), **how):
            if not isinstance(full, CaseError):
                np.testing.assert_allclose(found[row][at], full["diagnosis"], atol=1e-6)
