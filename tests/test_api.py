"""The Python interface: the tables of the artifacts, the stages of the commands, and the prediction of one photo."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from conftest import run_here
from PIL import Image
from test_architecture import HEAVY

from skinkit.api import IN_TRAINING, OTHER_MASK, OpenWorkspace, PhotoPrediction, open_workspace, predict_photo
from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, SkinkitError
from skinkit.workspace import Ref

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "python_api.py"
KNOWN = ("age_years", "sex", "site", "region", "bleed", "grew", "itch")
EXACT = ("malignancy", "malignancy_raw", "threshold", "call", "veto", "refer", "model_identity")


def opened(folder: Path) -> OpenWorkspace:
    return open_workspace(folder, console=Console(quiet=True))


def identity(work: OpenWorkspace, kind: str, cohort: str, name: str) -> str:
    return open_artifact(work.workspace.path(Ref(kind, cohort, name))).identity


def row_of(work: OpenWorkspace, case: str, cohort: str = "walk_in") -> dict[str, Any]:
    """What the cohort's predictions say of a case, None for what is unknown."""
    table = work.predictions("lightgbm", cohort)
    table = table[(table["level"] == "image") & (table["case_id"] == case)]
    return dict(table.astype(object).where(table.notna(), None).iloc[0])


def assert_same(answer: PhotoPrediction, row: dict[str, Any]) -> None:
    """Every number and word of a prediction is that of the row."""
    assert answer.probabilities == {code: row[f"p__diagnosis__{code}"] for code in answer.probabilities}
    assert {name: getattr(answer, name) for name in EXACT} == {name: row[name] for name in EXACT}
    assert answer.unlike_training == row["unlike_training"]
    assert all(value == row[name] for name, value in answer.uncertainty.items())
    joined = {"prediction_set": answer.prediction_set, "refer_reason": answer.refer_reasons}
    joined["missing_attributes"] = answer.missing_attributes
    assert {name: ",".join(parts) for name, parts in joined.items()} == {name: row[name] or "" for name in joined}


# ------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("method", "kind", "name"),
    [
        ("cases", "cases", ""),
        ("masks", "masks", "otsu"),
        ("features", "features", "otsu"),
        ("fused", "fused", "otsu"),
        ("predictions", "predictions", "lightgbm"),
        ("metrics", "metrics", "lightgbm"),
    ],
)
def test_a_frame_is_the_table_of_the_artifact(demo: Path, method: str, kind: str, name: str) -> None:
    work = opened(demo)
    of_one = getattr(work, method)(cohort="jinan")
    path = work.workspace.path(Ref(kind, "jinan", name)) / "table.parquet"
    pd.testing.assert_frame_equal(of_one, read_table(path))
    together = getattr(work, method)()
    of_jinan = together[together["cohort"] == "jinan"].reset_index(drop=True)
    assert together.columns[0] == "cohort"
    pd.testing.assert_frame_equal(of_jinan[of_one.columns], of_one)
    labelled = ["phantoms", "jinan"]
    assert together["cohort"].unique().tolist() == (labelled if kind == "metrics" else [*labelled, "walk_in"])


def test_the_cohorts_and_models_of_a_workspace(demo: Path) -> None:
    work = opened(demo)
    assert work.cohorts["role"].tolist() == ["development", "external", "inference"]
    (model,) = work.models().to_dict("records")
    assert (model["name"], model["task"], model["origin"]) == ("lightgbm", "classify", "trained")
    assert model["identity"] == identity(work, "models", "", "lightgbm")


@pytest.mark.parametrize(
    ("method", "given", "error", "found"),
    [
        ("cases", {"cohort": "nowhere"}, ConfigError, "no cohort 'nowhere'"),
        ("cases", {"cohort": ["jinan", "nowhere"]}, ConfigError, "no cohort 'nowhere'"),
        ("predictions", {"model": "absent", "cohort": "jinan"}, InputError, "no artifact at"),
        ("predictions", {"model": "absent"}, InputError, "no cohort of"),
        ("metrics", {"cohort": "walk_in"}, InputError, "no artifact at"),
        ("run", {"stage": "segmet"}, ConfigError, "stage 'segmet'"),
        ("run", {"stage": "segment", "modle": "otsu"}, ConfigError, "'modle'"),
        ("run", {"stage": "radiomics", "image": "x.jpg"}, ConfigError, "image = 'x.jpg'"),
        ("run", {"stage": "predict", "name": "a", "model": "b"}, ConfigError, "a and --model b"),
        ("run", {"stage": "predict", "model": "absent"}, InputError, "no model 'absent'"),
    ],
)
def test_errors_are_those_of_the_command_line(
    demo: Path, method: str, given: dict[str, Any], error: type[SkinkitError], found: str
) -> None:
    with pytest.raises(error) as raised:
        getattr(opened(demo), method)(**given)
    assert found in raised.value.found


def test_a_folder_without_settings_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_workspace(tmp_path)
    with pytest.raises(ConfigError):
        open_workspace(tmp_path, device="gpu")


# ------------------------------------------------------------------------------------------------------- stages


def test_run_makes_what_the_command_makes(demo_copy: Path) -> None:
    work = opened(demo_copy)
    table = work.run("segment", cohort="walk_in", name="by_call", model="otsu")
    answer = run_here(
        "segment", "--model", "otsu", "--name", "by_command", "--cohort", "walk_in", "-w", demo_copy, "--json"
    )
    (*_, step) = json.loads(answer.stdout)["steps"]
    assert identity(work, "masks", "walk_in", "by_call") == step["identity"]
    pd.testing.assert_frame_equal(table, work.masks("walk_in", name="by_command"))
    again = run_here(
        "segment", "--model", "otsu", "--name", "by_call", "--cohort", "walk_in", "-w", demo_copy, "--json"
    )
    assert json.loads(again.stdout)["steps"][-1]["up_to_date"]


def test_a_model_names_what_is_made_of_it_as_on_the_command_line(demo_copy: Path) -> None:
    work = opened(demo_copy)
    before = identity(work, "predictions", "jinan", "lightgbm")
    table = work.run("predict", cohort=["jinan", "walk_in"], model="lightgbm")
    assert table["cohort"].unique().tolist() == ["jinan", "walk_in"]
    assert identity(work, "predictions", "jinan", "lightgbm") == before


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = f"import sys, skinkit.api; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_example_runs_cell_by_cell(demo_copy: Path) -> None:
    demo_copy.rename(demo_copy.with_name("skinkit-demo"))
    answer = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False, cwd=demo_copy.parent
    )
    assert answer.returncode == 0, answer.stderr
    assert "no diagnosis" in answer.stdout


def test_a_script_without_a_main_guard_runs_once(demo_copy: Path, tmp_path: Path) -> None:
    """Its workers would otherwise run it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from skinkit.api import open_workspace\n"
        "print('begun')\n"
        f"work = open_workspace({str(demo_copy)!r})\n"
        "print(len(work.run('segment', cohort='walk_in', name='again', model='otsu')), __file__)\n"
    )
    answer = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"begun\n10 {script}\n"


# ---------------------------------------------------------------------------------------------------- one photo


def files_of(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("place", [0, 3])
def test_one_photo_is_predicted_as_in_a_cohort(demo: Path, place: int) -> None:
    work = opened(demo)
    before = files_of(demo)
    case = work.cases("walk_in").iloc[place]
    photo = demo / "sources" / "walk_in" / case["image_path"]
    answer = predict_photo("lightgbm", photo, {name: case[name] for name in KNOWN}, workspace=work)
    assert_same(answer, row_of(work, case["case_id"]))
    assert (answer.not_read, answer.flags) == ((), ())
    assert files_of(demo) == before


def test_the_command_predicts_one_photo_as_in_a_cohort(demo: Path) -> None:
    work = opened(demo)
    case = work.cases("walk_in").iloc[1]
    photo = demo / "sources" / "walk_in" / case["image_path"]
    known = [f"--attribute={name}={case[name]}" for name in KNOWN if pd.notna(case[name])]
    given = ("predict", "--image", photo, "--model", "lightgbm", *known, "-w", demo)
    body = json.loads(run_here(*given, "--json").stdout)
    assert (body["exit_code"], body["error"]) == (0, None)
    row = row_of(work, case["case_id"])
    answer = body["prediction"]
    assert answer["probabilities"] == {code: row[f"p__diagnosis__{code}"] for code in answer["probabilities"]}
    assert {name: answer[name] for name in EXACT} == {name: row[name] for name in EXACT}

    lines = run_here(*given).stdout.splitlines()
    ranked = [line.split()[0] for line in lines if line.startswith("  ")]
    assert ranked == sorted(answer["probabilities"], key=lambda code: -answer["probabilities"][code])
    assert any(line.startswith("malignancy") and answer["call"] in line for line in lines)
    assert any(line.startswith("unusual:") for line in lines)
    assert "no diagnosis" in lines[-1]


def test_what_is_said_of_a_case_in_other_words_is_the_same(demo: Path) -> None:
    photo = next((demo / "sources" / "walk_in" / "images").iterdir())
    plain = {"age_years": 63.0, "sex": "female", "site": "head/neck", "region": "NECK", "bleed": True, "itch": None}
    words = {"age_years": "63", "sex": "女", "site": "neck", "bleed": "是", "itch": float("nan")}
    answers = [predict_photo("lightgbm", photo, given, workspace=opened(demo)) for given in (plain, words)]
    assert answers[0] == answers[1]
    assert "itch" in answers[0].missing_attributes


def test_what_the_model_does_not_read_is_named(demo: Path) -> None:
    photo = next((demo / "sources" / "phantoms" / "images").iterdir())
    answer = predict_photo("lightgbm", photo, {"hurt": "yes", "sex": "male"}, workspace=opened(demo))
    assert answer.not_read == ("hurt",)
    assert IN_TRAINING in answer.flags


@pytest.mark.parametrize(
    ("given", "code", "found"),
    [
        (["--image", "PHOTO", "--attribute", "agee=63"], 2, "attribute 'agee'"),
        (["--image", "PHOTO", "--attribute", "sex=x"], 2, "attribute sex = 'x'"),
        (["--image", "PHOTO", "--attribute", "age_years=63,5"], 2, "attribute age_years = '63,5'"),
        (["--image", "PHOTO", "--attribute", "age_years=630"], 2, "attribute age_years = '630'"),
        (["--image", "PHOTO", "--attribute", "bleed"], 2, "--attribute bleed"),
        (["--image", "PHOTO", "--attribute", "sex=m", "--attribute", "sex=f"], 2, "--attribute sex twice"),
        (["--image", "PHOTO", "--cohort", "walk_in"], 2, "--image and --cohort"),
        (["--image", "PHOTO", "--undecided", "3"], 2, "--undecided 3.0"),
        (["--attribute", "sex=m"], 2, "--attribute, --mask, --label or --mask-polarity without --image"),
        (["--image", "nowhere.jpg"], 4, "no photo nowhere.jpg"),
        (["--image", "TABLE"], 4, "image_unreadable"),
        (["--image", "PHOTO", "--mask", "nowhere.png"], 4, "no mask nowhere.png"),
        (["--image", "PHOTO", "--mask", "TABLE"], 4, "mask_unreadable"),
        (["--image", "PHOTO", "--model", "absent"], 4, "no model 'absent'"),
    ],
    ids=lambda given: " ".join(given[2:] or given) if isinstance(given, list) else None,
)
def test_what_cannot_be_predicted_is_said_in_one_object(
    demo: Path, given: list[str], code: int, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from skinkit import cli

    files = {
        "PHOTO": str(next((demo / "sources" / "walk_in" / "images").iterdir())),
        "TABLE": str(demo / "sources" / "walk_in" / "lesions.csv"),
    }
    assert cli.main(["predict", *(files.get(word, word) for word in given), "-w", str(demo), "--json"]) == code
    body = json.loads(capsys.readouterr().out)
    assert body["exit_code"] == code
    assert found in body["error"]["found"]


def test_options_of_the_command_are_no_settings_of_a_prediction(demo: Path) -> None:
    photo = next((demo / "sources" / "walk_in" / "images").iterdir())
    with pytest.raises(ConfigError) as raised:
        predict_photo("lightgbm", photo, workspace=demo, attribute={"sex": "male"})
    assert "attribute" in raised.value.found


def test_an_installed_model_predicts_the_same(demo: Path, tmp_path: Path) -> None:
    pack = tmp_path / "lightgbm.skinkit"
    assert run_here("models", "pack", "lightgbm", "--output", pack, "-w", demo).returncode == 0
    assert run_here("init", tmp_path / "w").returncode == 0
    assert run_here("models", "install", pack, "--name", "brought", "-w", tmp_path / "w").returncode == 0
    photo, mask = (next((demo / "sources" / "phantoms" / folder).iterdir()) for folder in ("images", "masks"))
    for given in (None, mask):
        here, there = (
            predict_photo(model, photo, {"sex": "male"}, given, opened(folder))
            for model, folder in (("lightgbm", demo), ("brought", tmp_path / "w"))
        )
        assert here.probabilities == there.probabilities
        assert (OTHER_MASK in here.flags) is (OTHER_MASK in there.flags) is (given is not None)


# ---------------------------------------------------------------------------- a model of masks drawn by people


@pytest.fixture(scope="module")
def by_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose models read masks drawn by people, and predictions of its cohort ``jinan``."""
    workspace = small_cohort.make(tmp_path_factory.mktemp("people") / "w")
    written.run_stage(workspace, "train", settings=("rounds=25", "min_leaf=3"))
    written.run_stage(workspace, "predict", cohorts=["jinan"])
    return workspace.root


def test_a_given_mask_is_measured(by_people: Path) -> None:
    work = opened(by_people)
    case = work.fused("jinan").iloc[0]
    folder = by_people / "jinan"
    known = {name: case[name] for name in ("age_years", "sex", "site", "bleed")}
    photo, mask = folder / case["image_path"], folder / "outlines" / case["image_path"]
    answer = predict_photo("lightgbm", photo, known, mask, work)
    assert_same(answer, row_of(work, case["case_id"], "jinan"))
    assert OTHER_MASK not in answer.flags
    with Image.open(mask) as image:
        inside = np.asarray(image) > 0
    labels, dark = mask.with_name("labels.tif"), mask.with_name("dark.tif")
    Image.fromarray(inside.astype(np.uint8) + np.uint8(2) * (np.indices(inside.shape)[0] < 2)).save(labels)
    Image.fromarray(~inside).save(dark)
    for file, reading in ((labels, {"label": 1}), (dark, {"mask_polarity": "dark"})):
        with pytest.raises(InputError):
            predict_photo("lightgbm", photo, known, file, work)
        assert_same(
            predict_photo("lightgbm", photo, known, file, work, **reading), row_of(work, case["case_id"], "jinan")
        )


def test_a_mask_is_asked_for_where_people_drew_those_of_training(by_people: Path) -> None:
    photo = next((by_people / "jinan").glob("*.png"))
    with pytest.raises(ConfigError) as raised:
        predict_photo("lightgbm", photo, workspace=opened(by_people))
    assert raised.value.found.startswith("no mask for lightgbm")
    with pytest.raises(InputError) as unfit:
        predict_photo("lightgbm", photo, mask=_narrow(photo), workspace=opened(by_people))
    assert "mask_size_mismatch" in unfit.value.found


def _narrow(photo: Path) -> Path:
    file = photo.with_name("narrow.gif")
    Image.fromarray(np.full((40, 10), 255, np.uint8)).save(file)
    return file


@pytest.mark.slow
def test_networks_predict_one_photo_as_in_a_cohort(tmp_path: Path) -> None:
    """A network's answer depends on its batch only by the rounding of float32."""
    work = opened(small_cohort.make(tmp_path / "w", folds=1, patients=12).root)
    settings = ("side_px=32", "image_epochs=1", "recipe.epochs=1", "recipe.batch=8", "branch_width=8")
    given = {"model": "hybrid_resnet50", "weights": "none", "settings": settings, "radiomics": "all"}
    written.run_stage(work.workspace, "train", **given)
    written.run_stage(work.workspace, "predict", cohorts=["jinan"], name="hybrid_resnet50")
    case = work.fused("jinan").iloc[2]
    photo, mask = tmp_path / "w" / "jinan" / case["image_path"], tmp_path / "w" / case["mask_path"]
    known = {name: case[name] for name in ("age_years", "sex", "site", "bleed")}
    answer = predict_photo("hybrid_resnet50", photo, known, mask, work)
    table = work.predictions("hybrid_resnet50", "jinan")
    (row,) = table[(table["level"] == "image") & (table["case_id"] == case["case_id"])].to_dict("records")
    expected = {code: row[f"p__diagnosis__{code}"] for code in answer.probabilities}
    assert answer.probabilities == pytest.approx(expected, abs=1e-5)
    assert answer.call == row["call"]


@pytest.mark.slow
def test_a_trained_segmenter_draws_the_mask_of_one_photo(tmp_path: Path) -> None:
    work = opened(small_cohort.make(tmp_path / "w", folds=1, patients=12).root)
    written.run_stage(work.workspace, "split", name="masks")
    unet = ("encoder=resnet18", "side_px=32", "decoder=32", "recipe.epochs=2", "recipe.steps=0", "recipe.batch=8")
    written.run_stage(work.workspace, "train", model="unet", weights="none", settings=unet)
    written.run_stage(work.workspace, "segment", model="unet")
    written.run_stage(work.workspace, "radiomics", masks="unet")
    written.run_stage(work.workspace, "fuse", features="unet")
    written.run_stage(work.workspace, "train", fused="unet", settings=("rounds=25", "min_leaf=3"))
    written.run_stage(work.workspace, "predict", cohorts=["jinan"])
    case = work.fused("jinan", name="unet").iloc[1]
    known = {name: case[name] for name in ("age_years", "sex", "site", "bleed")}
    answer = predict_photo("lightgbm", tmp_path / "w" / "jinan" / case["image_path"], known, workspace=work)
    assert_same(answer, row_of(work, case["case_id"], "jinan"))

    shutil.rmtree(work.workspace.path(Ref("models", name="unet")))
    with pytest.raises(InputError) as raised:
        predict_photo("lightgbm", tmp_path / "w" / "jinan" / case["image_path"], known, workspace=work)
    assert raised.value.found == f"no model 'unet' in {tmp_path / 'w'}"
