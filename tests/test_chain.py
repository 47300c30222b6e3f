"""The whole chain on phantoms, through the command line, as a newcomer and as a cron job see it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import run_here, without_torch

from skinkit.artifacts.artifact import open_artifact
from skinkit.reporting.standards import STANDARDS
from skinkit.workspace import Ref, load_workspace


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a workspace with its inode and time of change."""
    files = (p for p in (folder / "artifacts").rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def test_the_demo_ends_with_reports_that_exist(demo: Path) -> None:
    for name in ("research", "clinic-walk_in"):
        page = (demo / "artifacts" / "report" / name / "index.html").read_text(encoding="utf-8")
        assert "<html" in page
        assert "phantom" in page.lower()


def test_the_four_commands_work_verbatim(demo_copy: Path) -> None:
    shutil.rmtree(demo_copy / "artifacts")
    for command in ("segment", "radiomics", "train", "evaluate --external jinan"):
        answer = run_here(*command.split(), cwd=demo_copy)
        assert answer.returncode == 0, answer.stderr
    metrics = open_artifact(demo_copy / "artifacts" / "jinan" / "metrics" / "lightgbm").table()
    assert ((metrics["metric"] == "auroc") & metrics["estimate"].notna()).any()


def test_nothing_changed_means_nothing_written(demo_copy: Path) -> None:
    before = snapshot(demo_copy)
    answer = run_here("run", "-w", demo_copy, "--json")
    assert answer.returncode == 0, answer.stderr
    assert all(step["up_to_date"] for step in json.loads(answer.stdout)["steps"])
    assert snapshot(demo_copy) == before


@pytest.mark.parametrize("gone", [("masks", "features", "fused"), ("masks", "features", "fused", "predictions")])
@pytest.mark.parametrize("page", [(), ("--for", "clinic"), *(("--standard", name) for name in STANDARDS)], ids="-".join)
def test_the_first_run_of_a_report_prints_what_the_second_does(
    demo_copy: Path, page: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    """Also where it has to make what it reads first."""
    if "predictions" in gone and "clinic" not in page:
        pytest.skip("a report for research makes no predictions: it shows those that exist")
    for kind in gone:
        shutil.rmtree(demo_copy / "artifacts" / "walk_in" / kind)
    answers = [run_here("report", *page, "-w", demo_copy, "--json") for _ in range(2)]
    assert [answer.returncode for answer in answers] == [0, 0], answers[0].stderr
    first, second = (json.loads(answer.stdout)["steps"] for answer in answers)
    assert {f"walk_in/{kind}" for kind in gone} <= {step["artifact"].rpartition("/")[0] for step in first}
    assert all(step["up_to_date"] for step in second)
    assert [step["identity"] for step in first if step["stage"] == "report"] == [
        step["identity"] for step in second if step["stage"] == "report"
    ]
    files = [Path(step["path"]) for step in first if step["stage"] == "report"]
    inputs = {name for file in files for name in open_artifact(file).recipe["inputs"]}
    assert {"walk_in/masks/otsu", "walk_in/features/otsu", "walk_in/fused/otsu"} <= inputs


def test_one_more_image_is_one_image_of_work(demo_copy: Path) -> None:
    source = demo_copy / "sources" / "walk_in"
    table = pd.read_csv(source / "lesions.csv", dtype=str)
    row = table.iloc[[0]].assign(photo="W999_999a.jpg", patient="W999", lesion="L999")
    donor = demo_copy / "sources" / "phantoms" / "images"
    shutil.copy(sorted(donor.iterdir())[0], source / "images" / "W999_999a.jpg")
    pd.concat([table, row]).to_csv(source / "lesions.csv", index=False)
    answer = run_here("predict", "--cohort", "walk_in", "-w", demo_copy, "--json")
    assert answer.returncode == 0, answer.stderr
    steps = {step["artifact"]: step for step in json.loads(answer.stdout)["steps"]}
    for name in ("walk_in/cases", "walk_in/masks/otsu", "walk_in/features/otsu"):
        assert steps[name]["counts"]["made"] == 1, name
    predictions = open_artifact(demo_copy / "artifacts" / "walk_in" / "predictions" / "lightgbm").table()
    assert len(predictions[predictions["level"] == "image"]) == len(table) + 1


def test_evaluating_never_trains(demo_copy: Path) -> None:
    shutil.rmtree(demo_copy / "artifacts" / "models")
    answer = run_here("evaluate", "--external", "jinan", "-w", demo_copy)
    assert answer.returncode == 4
    assert "skinkit train" in answer.stderr
    assert not (demo_copy / "artifacts" / "models" / "lightgbm").exists()


def test_a_model_with_other_settings_is_replaced_only_on_request(demo_copy: Path) -> None:
    before = open_artifact(demo_copy / "artifacts" / "models" / "lightgbm").identity
    answer = run_here("train", "--veto", "0.2", "-w", demo_copy)
    assert answer.returncode == 5
    assert "--replace" in answer.stderr
    assert open_artifact(demo_copy / "artifacts" / "models" / "lightgbm").identity == before
    assert run_here("train", "--veto", "0.2", "--replace", "-w", demo_copy).returncode == 0
    assert open_artifact(demo_copy / "artifacts" / "models" / "lightgbm").identity != before


def test_status_list_show_verify(demo_copy: Path) -> None:
    status = json.loads(run_here("status", "-w", demo_copy, "--json").stdout)
    assert {entry["state"] for entry in status["artifacts"]} == {"up to date"}
    assert "pad-ufes-20" in run_here("list", "sources").stdout
    shown = run_here("show", "phantoms/cases", "-w", demo_copy)
    assert "identity" in shown.stdout
    image_id = open_artifact(demo_copy / "artifacts" / "phantoms" / "cases").table()["image_id"].iloc[0]
    rows = json.loads(run_here("show", "phantoms/cases", "--row", image_id, "-w", demo_copy, "--json").stdout)
    assert rows["rows"][0]["image_id"] == image_id
    assert run_here("verify", "-w", demo_copy).returncode == 0
    png = next((demo_copy / "artifacts" / "phantoms" / "masks" / "otsu" / "png").iterdir())
    data = png.read_bytes()
    png.unlink()  # the copy shares nothing with the original, but stay on the safe side of hard links
    png.write_bytes(data[:-1])
    answer = run_here("verify", "-w", demo_copy)
    assert answer.returncode == 5
    assert png.name in answer.stdout


def test_a_broken_photo_fails_once_and_the_chain_goes_on(demo_copy: Path) -> None:
    broken = sorted((demo_copy / "sources" / "jinan" / "images").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:400])
    first = run_here("evaluate", "--external", "jinan", "-w", demo_copy, "--json")
    assert first.returncode == 3, first.stderr
    assert json.loads(first.stdout)["newly_failed"] >= 1
    assert run_here("evaluate", "--external", "jinan", "-w", demo_copy).returncode == 0
    status = run_here("status", "--failed", "-w", demo_copy)
    assert broken.stem in status.stdout
    assert "image_truncated" in status.stdout


def test_leakage_is_refused_with_the_pairs_and_allowed_only_with_a_reason(demo_copy: Path) -> None:
    developed = demo_copy / "sources" / "phantoms" / "images"
    external = demo_copy / "sources" / "jinan" / "images"
    model = open_artifact(demo_copy / "artifacts" / "models" / "lightgbm")
    trained = pd.read_parquet(model.path / "trained_on.parquet")
    stolen = trained.loc[trained["part"] == "train", "case_id"].iloc[0]
    victim = sorted(external.iterdir())[0]
    victim.write_bytes((developed / f"{stolen}.jpg").read_bytes())
    answer = run_here("evaluate", "--external", "jinan", "-w", demo_copy)
    assert answer.returncode == 5, answer.stderr
    assert stolen in answer.stderr
    reason = "a test of the guard"
    answer = run_here("evaluate", "--external", "jinan", "--allow-leakage", reason, "-w", demo_copy)
    assert answer.returncode == 0, answer.stderr
    metrics = open_artifact(load_workspace(demo_copy).path(Ref("metrics", "jinan", "lightgbm")))
    assert metrics.info["allow_leakage"] == reason
    assert run_here("report", "-w", demo_copy).returncode == 0
    page = (demo_copy / "artifacts" / "report" / "research" / "index.html").read_text(encoding="utf-8")
    assert reason in page


def test_the_chain_of_tables_needs_no_torch(demo: Path, tmp_path: Path) -> None:
    """The demo is made by processes that cannot import torch."""
    assert (demo / "artifacts" / "report" / "research" / "index.html").is_file()
    environment = {**os.environ, **without_torch(tmp_path / "no-torch")}
    probe = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, env=environment, check=False)
    assert b"ModuleNotFoundError" in probe.stderr


def test_the_chain_leaves_what_a_reviewer_asks_for(demo: Path) -> None:
    models, jinan = (demo / "artifacts" / name for name in ("models/lightgbm", "jinan"))
    card = json.loads((models / "model_card.json").read_text(encoding="utf-8"))
    assert card["training_data"]["cohorts"][0]["cohort"] == "phantoms"
    assert (models / "model_card.md").read_text(encoding="utf-8").startswith("# Model card: lightgbm")
    predictions = open_artifact(jinan / "predictions" / "lightgbm").table()
    assert predictions["unlike_training"].isna().all()  # 10 validation rows are too few to say how unlike a case is
    metrics = open_artifact(jinan / "metrics" / "lightgbm")
    assert metrics.info["shortcuts"]["malignant_set"] == "pad"
    assert {cue["family"] for cue in metrics.json("shortcuts.json")["cues"]} >= {"file"}
    accesses = [json.loads(line) for line in (demo / "test_access_log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(one["cohort"], one["role"]) for one in accesses} == {("phantoms", "held_out"), ("jinan", "external")}
    assert metrics.info["look"]["number"] == 1
    drift = json.loads((demo / "artifacts" / "report" / "research" / "drift.json").read_text(encoding="utf-8"))
    assert drift["jinan"]["domain"]["auroc"] > 0.5


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("radiomics", "--masks", "ots"), "masks"),
        (("fuse", "--features", "ots"), "masks"),
        (("predict", "--fused", "ots"), "fused"),
        (("train", "--model", "logistic", "--name", "second", "--fused", "ots"), "fused"),
        (("signature", "--name", "ots"), "fused"),
    ],
)
def test_a_misspelt_input_is_refused_and_nothing_is_made_under_its_name(
    words: tuple[str, ...], kind: str, demo_copy: Path
) -> None:
    before = snapshot(demo_copy)
    answer = run_here(*words, "--json", cwd=demo_copy)
    told = json.loads(answer.stdout)["error"]
    assert answer.returncode == 2
    assert told["found"].startswith(f"no {kind} 'ots' of ")
    assert "otsu" in told["expected"]
    assert snapshot(demo_copy) == before


def test_masks_of_another_name_are_an_input_like_any_other(demo_copy: Path) -> None:
    assert (
        run_here("segment", "--model", "otsu", "--name", "mine", "--cohort", "walk_in", cwd=demo_copy).returncode == 0
    )
    # The other cohorts have none of that name, but it is known now.
    assert run_here("radiomics", "--masks", "mine", "--name", "ours", cwd=demo_copy).returncode == 0
    assert run_here("fuse", "--features", "ours", cwd=demo_copy).returncode == 0
    fused = open_artifact(load_workspace(demo_copy).path(Ref("fused", "jinan", "ours")))
    assert fused.manifest["counts"]["rows"] > 0
