"""What a monitor reads of a workspace."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.locks import lock, writer_of
from skinkit.cli import main

HOLD = """
import sys, time
from pathlib import Path
from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.locks import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An inference cohort of two photos, one of them torn, that was read."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((20, 24, 3), 99, dtype=np.uint8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:50])
    (tmp_path / "w").mkdir()
    text = '[cohorts.ward]\nrole = "inference"\nsource = "folder"\npath = "../in"\n'
    (tmp_path / "w" / "skinkit.toml").write_text(text)
    assert main(["ingest", "-w", str(tmp_path / "w")]) == 3
    return tmp_path / "w"


def status(workspace: Path, capsys: pytest.CaptureFixture[str], exit_code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["status", "--failed", "-w", str(workspace), "--json"]) == exit_code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_monitor_is_told_everything(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = status(workspace, capsys)
    cases = next(entry for entry in answer["artifacts"] if entry["artifact"] == "ward/cases")
    assert cases["state"] == "up to date"
    assert (cases["counts"]["rows"], cases["counts"]["ok"], cases["counts"]["failed"]) == (2, 1, 1)
    assert cases["counts"]["newly_failed"] == 1
    assert sum(cases["failed_reasons"].values()) == 1
    assert cases["failed_cases"].keys() == {"b"}
    assert 0 <= cases["age_s"] < 600
    assert cases["made_at"].startswith("20")
    assert cases["run_id"]
    assert cases["busy"] is None
    assert answer["totals"]["failed"] == answer["totals"]["newly_failed"] == 1
    assert answer["totals"]["states"]["up to date"] == 1
    assert answer["totals"]["busy"] == answer["totals"]["unfinished"] == []


def test_a_damaged_artifact_is_told_and_the_rest_too(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = workspace / "artifacts" / "ward" / "cases" / "table.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    answer = status(workspace, capsys)
    states = {entry["artifact"]: entry["state"] for entry in answer["artifacts"]}
    assert states["ward/cases"] == "unusable"
    assert answer["totals"]["states"]["unusable"] == 1


def test_an_artifact_without_its_table_is_absent_and_made_anew(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = workspace / "artifacts" / "ward" / "cases" / "table.parquet"
    before = table.read_bytes()
    table.unlink()
    states = {entry["artifact"]: entry["state"] for entry in status(workspace, capsys)["artifacts"]}
    assert states["ward/cases"] == "absent"
    assert main(["show", "ward/cases", "-w", str(workspace)]) == 4
    assert main(["ingest", "-w", str(workspace)]) == 3
    assert table.read_bytes() == before


def test_files_of_an_artifact_that_are_gone_are_made_anew(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "-w", str(workspace)]) == 0
    mask = next((workspace / "artifacts" / "ward" / "masks" / "otsu" / "png").iterdir())
    before = mask.read_bytes()
    mask.unlink()
    masks = next(e for e in status(workspace, capsys)["artifacts"] if e["artifact"] == "ward/masks/otsu")
    assert masks["state"] == "stale"
    assert mask.name in masks["why"]
    assert main(["segment", "-w", str(workspace)]) == 0
    assert mask.read_bytes() == before


def test_a_copied_workspace_is_up_to_date(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy has other times; what its files contain is what counts."""
    (tmp_path / "elsewhere").mkdir()
    for name in ("in", "w"):
        shutil.copytree(tmp_path / name, tmp_path / "elsewhere" / name, copy_function=shutil.copy)
    for file in (tmp_path / "elsewhere" / "in").iterdir():
        os.utime(file, ns=(10**18, 10**18))
    copy = tmp_path / "elsewhere" / "w"
    cases = next(e for e in status(copy, capsys)["artifacts"] if e["artifact"] == "ward/cases")
    assert cases["state"] == "up to date"
    identity = open_artifact(copy / "artifacts" / "ward" / "cases").identity
    assert main(["ingest", "-w", str(copy)]) == 0
    cases_again = open_artifact(copy / "artifacts" / "ward" / "cases")
    assert cases_again.identity == identity
    assert cases_again.manifest["counts"]["kept"] == 2
    photo = tmp_path / "elsewhere" / "in" / "a.png"
    Image.fromarray(np.full((20, 24, 3), 98, dtype=np.uint8)).save(photo)
    cases = next(e for e in status(copy, capsys)["artifacts"] if e["artifact"] == "ward/cases")
    assert (cases["state"], cases["why"]) == ("stale", "source files changed")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('[workspace]\nmodel = "nosuch"', "model = 'nosuch'"),
        ('[workspace]\nsegmenter = "otsuu"', "segmenter = 'otsuu'"),
        ('[workspace]\nclasses = "pad7"', "unknown class set 'pad7'"),
        ('[workspace]\nsplit = "gr oup"', "'gr oup'"),
        ('[stage.evaluate]\nprimary = "nonsense"', "primary = 'nonsense'"),
        ('[stage.evaluate]\nprimry = "all auroc macro"', "unknown setting 'primry'"),
        ('[stage.split]\nfolds = "5"', "folds = '5'"),
        ("[stage.train]\ncoverage = 1.5", "--coverage 1.5"),
        ('[stage.train]\nmodel = "lightgbm"\npreset = "quick"', "no preset 'quick'"),
        ('[stage.train]\nmodel = "lightgbm"\nsettings = ["rounds=many"]', "rounds = 'many'"),
        ('[stage.train.lightgbm]\nsettings = ["rounds=many"]', "rounds = 'many'"),
        ('[stage.train.lightgbm]\nsetings = ["rounds=9"]', "unknown setting 'setings' in [stage.train.lightgbm]"),
        ("[stage.train.lightgmb]\nseed = 1", "[stage.train.lightgmb]"),
        ('[cohorts.other]\nrole = "external"\nsource = "foldr"\npath = "."', "no source 'foldr'"),
        ('[cohorts.other]\nrole = "external"\nsource = "folder"\npath = "."\nmaskss = "m"', "unknown key 'maskss'"),
        ('[cohorts.other]\nrole = "external"\nsource = "folder"\npath = "."\nphantom = "no"', "phantom = 'no'"),
        ("[cluster]\nworkers = 3", "workers in [cluster]"),
    ],
)
def test_every_value_of_the_settings_is_checked(
    workspace: Path, capsys: pytest.CaptureFixture[str], line: str, found: str
) -> None:
    with (workspace / "skinkit.toml").open("a") as file:
        file.write(f"\n{line}\n")
    (problem,) = status(workspace, capsys, exit_code=2)["problems"]
    assert found in problem["found"]
    assert main(["run", "-w", str(workspace)]) == 2
    assert found in capsys.readouterr().err
    assert not (workspace / "artifacts" / "ward" / "masks").exists()


def test_a_stage_that_is_not_there_is_refused_by_every_command(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (workspace / "skinkit.toml").open("a") as file:
        file.write("\n[stage.evalute]\nminimum = 3\n")
    assert main(["ingest", "-w", str(workspace)]) == 2
    assert "[stage.evalute]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ward/cases/", "ward/ca", "wa/ca", "war", "artifacts/ward/cases"])
def test_show_takes_the_beginning_of_a_name(workspace: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["show", name, "-w", str(workspace)]) == (0 if name != "artifacts/ward/cases" else 4)
    assert main(["show", str(workspace / "artifacts" / "ward") + "/", "-w", str(workspace)]) == 0
    assert str(workspace / "artifacts" / "ward" / "cases") in capsys.readouterr().out


def test_show_lists_what_fits_where_several_do(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "-w", str(workspace)]) == 0
    assert main(["show", "ward", "-w", str(workspace)]) == 4
    assert "ward/cases, ward/masks/otsu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["--weights", "{bad}"], "cannot be read as weights"),
        (["--weights", "none", "--settings", "recipe.epochs=-1"], "recipe.epochs = -1"),
        (["--weights", "none", "--coverage", "2"], "--coverage 2"),
    ],
)
def test_training_looks_at_its_settings_before_any_other_work(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], found: str
) -> None:
    pytest.importorskip("torch")
    settings = workspace / "skinkit.toml"
    settings.write_text(settings.read_text().replace("inference", "development"))
    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"conv1.weight": print}))
    arguments = [part.format(bad=tmp_path / "bad.pth") for part in given]
    assert main(["train", "--model", "hybrid_resnet50", *arguments, "-w", str(workspace)]) in (2, 4)
    said = capsys.readouterr().err
    assert found in said
    assert "weights_only" not in said
    assert not (workspace / "artifacts" / "ward" / "masks").exists()


def test_who_writes_is_told_and_never_disturbed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "artifacts" / "ward" / "cases"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        answer = status(workspace, capsys)
        assert answer["totals"]["busy"] == ["ward/cases"]
        assert f"process {holder.pid} on " in str(writer_of(path))
        holder.kill()
    deadline = time.monotonic() + 10
    while writer_of(path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.with_name(".cases.lock").exists(), "what a killed writer left"
    assert writer_of(path) is None
    with lock(path):
        assert writer_of(path)


def tree(folder: Path) -> dict[str, int]:
    """Every file and folder -> when it was changed."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def learn(workspace: Path) -> None:
    """Add a cohort to learn from, which was not read."""
    with (workspace / "skinkit.toml").open("a") as file:
        file.write('[cohorts.learn]\nrole = "development"\nsource = "folder"\npath = "../in"\n')


def plan(workspace: Path, capsys: pytest.CaptureFixture[str], *given: str) -> dict[str, str]:
    """Artifact -> why a run would make it, in order; nothing is written."""
    before = tree(workspace)
    capsys.readouterr()
    assert main(["run", "--plan", *given, "-w", str(workspace), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert tree(workspace) == before
    assert not set(answer["up_to_date"]) & {step["artifact"] for step in answer["plan"]}
    return {step["artifact"]: step["why"] for step in answer["plan"]}


def test_a_plan_names_what_is_absent_before_what_needs_it(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(workspace)
    found = plan(workspace, capsys)
    assert set(found.values()) == {"absent"}
    order = ["learn/cases", "learn/masks/otsu", "learn/features/otsu", "learn/fused/otsu", "split/grouped"]
    order += ["models/frozen_probe", "learn/predictions/frozen_probe", "report/research"]
    assert [name for name in found if name in order] == order
    assert "ward/cases" not in found


def test_a_plan_says_which_settings_sources_and_inputs_changed(
    demo_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(demo_copy, capsys) == {}
    file = demo_copy / "skinkit.toml"
    settings = file.read_text()
    file.write_text(settings + "[stage.explain]\nlimit = 3\n")
    found = plan(demo_copy, capsys)
    assert found["jinan/explanations/lightgbm"] == "changed: config (limit)"
    assert found["report/research"] == "input phantoms/explanations/lightgbm will be remade"
    assert not [name for name in found if "predictions" in name or "cases" in name]
    file.write_text(settings)
    photo = next((demo_copy / "sources" / "jinan" / "images").iterdir())
    photo.write_bytes(photo.read_bytes() + b" ")
    found = plan(demo_copy, capsys)
    assert list(found)[:4] == ["jinan/cases", "jinan/masks/otsu", "jinan/features/otsu", "jinan/fused/otsu"]
    assert "source" in found["jinan/cases"]
    assert found["jinan/masks/otsu"] == "input jinan/cases will be remade"
    assert "models/lightgbm" not in found
    assert plan(demo_copy, capsys, "--retrain").keys() >= found.keys()


def test_a_plan_tries_failed_rows_again_only_when_asked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(workspace)
    assert "ward/cases" not in plan(workspace, capsys)
    assert plan(workspace, capsys, "--retry-failed")["ward/cases"] == "1 failed rows are tried again"


def test_a_model_is_trained_anew_as_the_kind_that_it_is(demo_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no kind is given: that of the model itself, else that of the workspace's model."""
    workspace = ["-w", str(demo_copy)]

    def kind(name: str) -> str:
        return str(open_artifact(demo_copy / "artifacts" / "models" / name).config["model"])

    assert main(["train", "--model", "logistic", "--name", "one", *workspace]) == 0
    assert main(["train", "--name", "one", "--replace", "--seed", "3", *workspace]) == 0
    assert kind("one") == "logistic"
    settings = demo_copy / "skinkit.toml"
    settings.write_text(settings.read_text().replace('model = "lightgbm"', 'model = "one"'))
    assert main(["train", "--name", "two", *workspace]) == 0
    assert kind("two") == "logistic"
    assert main(["train", "--model", "lightgbm", "--name", "three", *workspace]) == 0
    assert kind("three") == "lightgbm"
    text = settings.read_text().replace("[stage.train]\n", "[stage.train]\nseed = 5\n")
    settings.write_text(f'{text}\n[stage.train.five]\nmodel = "logistic"\nveto = 0.2\n')
    assert main(["train", "--name", "five", *workspace]) == 0
    five = open_artifact(demo_copy / "artifacts" / "models" / "five").config
    assert [five[name] for name in ("model", "veto", "seed")] == ["logistic", 0.2, 5]
    assert main(["train", "--name", "six", "--model", "logistic", *workspace]) == 0
    assert open_artifact(demo_copy / "artifacts" / "models" / "six").config["veto"] == 0.3
    for flag in ("--nodes", "--devices"):
        assert main(["train", "--model", "lightgbm", "--name", "four", flag, "0", *workspace]) == 2
        assert f"{flag} 0" in capsys.readouterr().err
