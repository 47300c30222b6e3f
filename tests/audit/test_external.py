"""An external cohort that nothing tells from development is questioned; one that something tells apart is not."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts

from skinkit.artifacts.artifact import open_artifact
from skinkit.audit import external
from skinkit.cli import main
from skinkit.schemas import DEFAULT_ENDPOINT
from skinkit.workspace import Ref, Workspace


def collection(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Cases of one hospital, two photos a patient."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // 2
    table = pd.DataFrame(
        {
            "patient_id": [f"PAT_{p}" for p in patient],
            "group_id": [f"one:patient:PAT_{p}" for p in patient],
            "image_path": [f"PAT_{p}_{i}.png" for i, p in enumerate(patient)],
            "age_years": rng.normal(60, 12, n),
            "sex": rng.choice(["female", "male"], n),
            "site": rng.choice(["head/neck", "torso"], n),
            "modality": "clinical",
            "device": rng.choice(["phone", "tablet"], n),
            "width_px": rng.integers(300, 900, n).astype(float),
            "height_px": rng.integers(300, 900, n).astype(float),
        }
    )
    return table.astype({"group_id": object})


def parts(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same collection, a quarter of its patients called external."""
    table = collection(seed=seed)
    chosen = np.random.default_rng(seed).permutation(200)[:50]
    outside = np.isin(np.arange(len(table)) // 2, chosen)
    return table[~outside].reset_index(drop=True), table[outside].reset_index(drop=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_the_same_collection_is_questioned(seed: int) -> None:
    answer = external.compared(*parts(seed))
    assert answer["questioned"]
    assert "nothing distinguishes it from development" in answer["text"]
    assert "PAT_9_9.png, numbered within the same range" in answer["text"]
    assert "phone" in answer["text"]


def test_other_names_alone_prove_nothing() -> None:
    inside, outside = parts()
    outside = outside.assign(
        patient_id=[f"X{i}" for i in range(len(outside))], image_path=[f"b/{i}.jpg" for i in range(len(outside))]
    )
    answer = external.compared(inside, outside)
    assert answer["questioned"]
    assert "PAT_" not in answer["text"]


@pytest.mark.parametrize("what", ["device", "age_years", "width_px", "modality"])
def test_what_differs_is_named(what: str) -> None:
    inside, outside = parts()
    other = {
        "device": "dermatoscope",
        "age_years": outside["age_years"] - 25,
        "width_px": 2000.0,
        "modality": "dermoscopic",
    }
    answer = external.compared(inside, outside.assign(**{what: other[what]}))
    assert not answer["questioned"]
    assert "differs from development in" in answer["text"]


def test_measured_features_tell_where_attributes_do_not() -> None:
    inside, outside = parts()
    rng = np.random.default_rng(0)
    measured = [
        side[["group_id"]].assign(original_firstorder_Mean=rng.normal(mean, 1, len(side)))
        for side, mean in ((inside, 0), (outside, 3))
    ]
    assert external.compared(inside, outside)["questioned"]
    assert not external.compared(inside, outside, (measured[0], measured[1]))["questioned"]


def test_nothing_recorded_is_questioned() -> None:
    inside, outside = (side[["patient_id", "group_id"]] for side in parts())
    answer = external.compared(inside, outside)
    assert answer["questioned"]
    assert answer["auroc"] is None


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A model of one clinic, and an external cohort drawn in the same way."""
    roles = {"clinic": "development", "jinan": "external"}
    folder = tmp_path_factory.mktemp("external")
    settings = {"segmenter": "truth", "model": "lightgbm", "classes": "pad6", "allow_untrained": small_cohort.FEW}
    workspace = written_artifacts.make_workspace(folder, roles, **settings)
    small_cohort.write_cohort(workspace, "clinic", 24, seed=1)
    small_cohort.write_cohort(workspace, "jinan", 12, seed=2)
    where = ["-w", str(folder), "--no-upstream"]
    assert main(["split", "--folds", "2", "--validation", "0.34", *where]) == 0
    assert main(["train", "--radiomics", "none", *where]) == 0
    assert main(["predict", *where]) == 0
    return workspace


def evaluated(workspace: Workspace, *more: str) -> dict[str, object]:
    command = ["evaluate", "--cohort", "jinan", "--no-shortcuts", "--bootstrap", "20", "--no-upstream"]
    assert main([*command, *more, "-w", str(workspace.root)]) == 0
    return dict(open_artifact(workspace.path(Ref("metrics", "jinan", "lightgbm"))).info)


def test_results_say_which_access_when_declared_and_what_is_external(
    scored: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = DEFAULT_ENDPOINT
    info = evaluated(scored)
    said = capsys.readouterr().out
    assert "1st access to the external cohort jinan" in said
    assert "no primary endpoint was declared" in said
    assert info["external"]["questioned"]  # type: ignore[index]
    assert "nothing distinguishes it from development" in said
    info = evaluated(scored, "--primary", endpoint)
    assert info["primary"]["declared"] == "after"  # type: ignore[index]
    assert info["look"]["number"] == 1  # type: ignore[index]
    assert "NOT declared beforehand" in capsys.readouterr().out
    (scored.root / "test_access_log.jsonl").unlink()
    shutil.rmtree(scored.artifacts / "jinan" / "metrics")
    info = evaluated(scored, "--primary", endpoint)
    assert info["primary"]["declared"] == "beforehand"  # type: ignore[index]
    assert "declared beforehand, with the first access" in capsys.readouterr().out
    (scored.root / "test_access_log.jsonl").unlink()
    shutil.rmtree(scored.artifacts / "jinan" / "metrics")
    settings = (scored.root / "skinkit.toml").read_text(encoding="utf-8")
    by_default = f'{settings}\n[stage.evaluate]\nprimary = "{DEFAULT_ENDPOINT}"\n'
    (scored.root / "skinkit.toml").write_text(by_default, encoding="utf-8")
    assert evaluated(scored)["primary"]["declared"] == "default"  # type: ignore[index]
    assert "chosen by default, not declared" in capsys.readouterr().out
    assert evaluated(scored, "--declared", "2026-01-15 A. Weber")["primary"]["declared"] == "after"  # type: ignore[index]
    (scored.root / "test_access_log.jsonl").unlink()
    shutil.rmtree(scored.artifacts / "jinan" / "metrics")
    info = evaluated(scored, "--declared", "2026-01-15 A. Weber")
    assert info["primary"]["declared"] == "beforehand"  # type: ignore[index]
    assert main(["report", "--no-upstream", "-w", str(scored.root)]) == 0
    page = next((scored.root / "artifacts" / "report").rglob("index.html")).read_text()
    assert "Primary endpoint, declared beforehand" in page
    assert "Called external, but nothing distinguishes it" in page
