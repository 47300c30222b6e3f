"""The self-test passes on a good installation, wherever it is run, and notices a bad one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_skinkit

from skinkit.commands import selftest
from skinkit.radiomics import feature_names, reference_values


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


def test_no_place_to_work_is_said(tmp_path: Path) -> None:
    answer = run_skinkit("selftest", "--folder", tmp_path / "absent", "--json")
    assert answer.returncode == 4
    assert "--folder" in json.loads(answer.stdout)["error"]["fix"]


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
