"""The self-test passes on a good installation, wherever it is run, and notices a bad one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_skinkit

from skinkit.cli import main
from skinkit.commands import doctor, selftest
from skinkit.errors import ConfigError
from skinkit.radiomics import extract, feature_names, reference, reference_values
from skinkit.workers.cores import usable_cores


@pytest.mark.pyradiomics
def test_the_known_lesion_has_every_feature_and_both_engines_measure_it() -> None:
    stored = json.loads(reference_values.VALUES.read_text(encoding="utf-8"))
    assert list(stored) == list(feature_names(("grey",)))
    assert reference_values.differing("fast") == reference_values.differing("pyradiomics") == []
    picture, mask = reference_values.lesion()
    inside = picture[mask].astype(float)
    assert stored["original_firstorder_Mean"] == pytest.approx(inside.mean(), abs=1e-12)
    assert stored["original_firstorder_Energy"] == (inside**2).sum()
    assert stored["original_shape2D_PixelSurface"] == mask.sum()


def test_a_number_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = json.loads(reference_values.VALUES.read_text(encoding="utf-8"))
    name = "original_glcm_Contrast"
    changed = tmp_path / "values.json"
    changed.write_text(json.dumps({**stored, name: stored[name] * (1 + 3e-6)}))
    monkeypatch.setattr(reference_values, "VALUES", changed)
    assert [row[0] for row in reference_values.differing("fast")] == [name]
    place = selftest._Place(tmp_path)
    state, detail = selftest._run_check(selftest._radiomics, place)
    assert (state, name in detail) == ("bad", True)


def test_pyradiomics_is_an_extra_and_what_is_skipped_without_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "installed", lambda: False)
    state, detail = selftest._run_check(selftest._radiomics, selftest._Place(tmp_path))
    assert (state, "PyRadiomics itself is not installed, skipped" in detail) == ("ok", True)
    assert doctor._pyradiomics()[:2] == ("PyRadiomics", "missing")
    picture, mask = reference_values.lesion()
    with pytest.raises(ConfigError) as refused:
        extract(picture, mask, engine="pyradiomics")
    assert "PyRadiomics" in refused.value.found


def test_a_check_without_pyradiomics_compares_its_stored_values_and_says_so(
    demo_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "installed", lambda: False)
    assert main(["radiomics", "--check", "2", "--cohort", "jinan", "-w", str(demo_copy)]) == 0
    assert "--check skipped" in capsys.readouterr().err
    monkeypatch.setattr(reference_values, "differing", lambda engine: [("original_glcm_Contrast", 1.0, 2.0)])
    assert main(["radiomics", "--check", "2", "--cohort", "jinan", "-w", str(demo_copy)]) == 5
    assert main(["radiomics", "--engine", "pyradiomics", "--cohort", "jinan", "-w", str(demo_copy)]) == 2


def test_windows_is_refused_in_one_sentence() -> None:
    command = [sys.executable, "-c", "import sys; sys.platform = 'win32'; import skinkit.cli"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "WSL" in answer.stderr


def test_systems_that_do_not_tell_affinities_give_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == (os.cpu_count() or 1)


def test_no_place_to_work_is_said(tmp_path: Path) -> None:
    answer = run_skinkit("selftest", "--folder", tmp_path / "absent", "--json")
    assert answer.returncode == 2
    assert "--folder" in json.loads(answer.stdout)["error"]["found"]


@pytest.mark.slow
def test_everything_works_without_home_or_environment(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "skinkit", "selftest", "--json"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    told = json.loads(answer.stdout)
    assert answer.returncode == 0, told["text"]
    assert {check["state"] for check in told["checks"]} == {"ok"}
    assert len(told["checks"]) == 8
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
