"""The command line as users and their scripts meet it: exit codes, JSON on every exit, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import run_skinkit

from skinkit import __version__
from skinkit.workspace import load_workspace


def test_version_and_bare_call() -> None:
    assert run_skinkit("--version").stdout.strip() == f"skinkit {__version__}"
    assert "Commands:" in run_skinkit().stdout


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["segmet"], "did you mean 'segment'"),
        (["segment", "--sise", "3"], "No such option: --sise"),
        (["segment", "--jobs", "many"], "'--jobs'"),
        (["radiomics", "--engine", "slow"], "'--engine'"),
        (["radiomics", "--image", "x.jpg"], "only one of --image and --mask"),
        (["status", "-w", "/nowhere"], "no skinkit.toml"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_to_do(arguments: list[str], found: str, tmp_path: Path) -> None:
    answer = run_skinkit(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert found in answer.stderr
    assert "expected:" in answer.stderr
    assert "fix:" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("arguments", [["segment", "--jobs", "x"], ["nonsense"], ["status"], ["train"]])
def test_json_is_one_object_also_when_it_fails(arguments: list[str], tmp_path: Path) -> None:
    answer = run_skinkit(*arguments, "--json", cwd=tmp_path)
    body = json.loads(answer.stdout)
    assert body["exit_code"] == answer.returncode == 2
    assert set(body["error"]) == {"kind", "found", "expected", "fix"}


def test_init_makes_a_workspace_and_never_overwrites_one(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    given = f"clinic=folder:{tmp_path / 'photos'}:external"
    assert run_skinkit("init", tmp_path / "w", "--cohort", given, "--model", "lightgbm").returncode == 0
    workspace = load_workspace(tmp_path / "w")
    assert workspace.cohort("clinic").role == "external"
    assert workspace.cohort("clinic").root == tmp_path / "photos"
    assert workspace.defaults["model"] == "lightgbm"
    before = (tmp_path / "w" / "skinkit.toml").read_bytes()
    assert run_skinkit("init", tmp_path / "w").returncode == 5
    assert (tmp_path / "w" / "skinkit.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("cohort", "found"),
    [
        ("clinic", "NAME=SOURCE:PATH"),
        ("clinic=foldr:/tmp", "did you mean 'folder'"),
        ("clinic=folder:/no/such/place", "no folder"),
        ("models=folder:/tmp", "the name 'models'"),
    ],
)
def test_init_refuses_cohorts_it_cannot_use(cohort: str, found: str, tmp_path: Path) -> None:
    answer = run_skinkit("init", tmp_path / "w", "--cohort", cohort)
    assert answer.returncode == 2
    assert found in answer.stderr
    assert not (tmp_path / "w" / "skinkit.toml").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[workspace]\nsegmentor = 'otsu'\n", "did you mean 'segmenter'"),
        ("[workspace\n", "TOML"),
        ("[cohorts.a]\nrole = 'training'\nsource = 'folder'\npath = '.'\n", "role 'training'"),
        ("[cohorts.a]\nrole = 'external'\nsource = 'folder'\n", "has no path"),
        ("[cohort.a]\n", "unknown table [cohort]"),
        ("[stage.segment]\nmodle = 'otsu'\n[cohorts.a]\nrole='external'\nsource='folder'\npath='.'\n", "'modle'"),
    ],
)
def test_a_wrong_settings_file_is_named_with_its_fault(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "skinkit.toml").write_text(text)
    answer = run_skinkit("segment", "-w", tmp_path)
    assert answer.returncode == 2
    assert found in answer.stderr


def test_an_external_cohort_must_have_that_role(tmp_path: Path) -> None:
    (tmp_path / "skinkit.toml").write_text("[cohorts.a]\nrole = 'development'\nsource = 'folder'\npath = '.'\n")
    answer = run_skinkit("evaluate", "--external", "a", "-w", tmp_path)
    assert answer.returncode == 2
    assert "its role is development" in answer.stderr


def test_the_log_is_one_json_object_a_line_with_run_stage_and_case(demo_copy: Path) -> None:
    answer = run_skinkit(
        "segment", "--name", "again", "--model", "otsu", "--cohort", "walk_in", "--log-format", "json", "-w", demo_copy
    )
    lines = [json.loads(line) for line in answer.stderr.splitlines()]
    cases = [line for line in lines if line["event"] == "case"]
    photos = list((demo_copy / "sources" / "walk_in" / "images").iterdir())
    assert {line["case"] for line in cases} == {photo.stem for photo in photos}
    assert len({line["run_id"] for line in lines}) == 1
    assert {line["stage"] for line in cases} == {"segment"}
    assert all(line["duration_s"] >= 0 for line in cases)
    assert run_skinkit("segment", "--quiet", "--cohort", "walk_in", "-w", demo_copy).stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_with_their_code_and_it_goes_on_afterwards(number: int, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert run_skinkit("demo", folder, "--lesions", "60", "--draw-only").returncode == 0
    command = [sys.executable, "-m", "skinkit", "segment", "-w", str(folder), "--jobs", "1", "--json"]
    partial = folder / "artifacts" / "phantoms" / "masks" / "otsu.partial"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(list((partial / "png").glob("*.png"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == code, err
    assert json.loads(out)["exit_code"] == code
    assert "interrupted" in err
    answer = json.loads(run_skinkit("segment", "-w", folder, "--json", "--cohort", "phantoms").stdout)
    counts = answer["steps"][-1]["counts"]
    assert counts["kept"] >= 1  # a worker has two cases in hand at most: of four masks the first two have their rows
    assert counts["rows"] == counts["ok"]
