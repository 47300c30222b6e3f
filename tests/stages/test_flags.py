"""What was done to photos and masks reaches a person: the console, status and the command for one photo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_here
from image_files import COLORANTS, encoded, icc_profile, noise
from PIL import Image

from skinkit.artifacts.flags import count_flags, flags_text


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Three photos of one ward: two turned ones, of which one is wide in colour, and a mask that fills its photo."""
    for folder in ("photos", "masks"):
        (tmp_path / "a" / folder).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    profile = icc_profile(next(iter(COLORANTS)))
    most = np.ones((48, 64), bool)
    most[:3, :5] = False
    photos = {
        "plain": encoded(noise(), "PNG"),
        "turned": encoded(noise()[::-1], "JPEG", exif=exif),
        "wide": encoded(noise()[:, ::-1], "PNG", exif=exif, icc_profile=profile),
    }
    for name, data in photos.items():
        (tmp_path / "a" / "photos" / f"{name}.png").write_bytes(data)
    for name in ("plain", "turned"):
        (tmp_path / "a" / "masks" / f"{name}.png").write_bytes(encoded(most, "PNG"))
    (tmp_path / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "truth"\n'
        '[cohorts.a]\nrole = "inference"\nsource = "folder"\npath = "a"\ntable = ""\nmasks = "masks"\n'
    )
    return tmp_path


def test_flags_are_counted_on_the_console_and_in_status(workspace: Path) -> None:
    answer = run_here("segment", "-w", workspace, "--jobs", "1")
    assert answer.returncode == 3, answer.stderr  # one photo has no mask
    assert "a: flags: turned 2, converted_from_p3 1" in answer.stderr
    assert "warning: a: 1 photos with a truth mask were turned" in answer.stderr
    assert "flags: fills_frame 2" in answer.stderr
    status = json.loads(run_here("status", "-w", workspace, "--json").stdout)
    flags = {entry["artifact"]: entry.get("flags") for entry in status["artifacts"]}
    assert flags["a/cases"] == {"turned": 2, "converted_from_p3": 1}
    assert flags["a/masks/truth"] == {"fills_frame": 2}
    assert "flags: turned 2, converted_from_p3 1" in run_here("status", "-w", workspace).stdout


def test_the_command_for_one_photo_names_them(workspace: Path) -> None:
    files = [workspace / "a" / folder / "turned.png" for folder in ("photos", "masks")]
    answer = run_here("radiomics", "--image", files[0], "--mask", files[1])
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.rstrip().endswith("flags: fills_frame, turned")
    assert "warning: the photo was turned" in answer.stderr
    assert run_here("radiomics", "--label", "1", "-w", workspace).returncode == 2


def test_an_unusable_photo_or_mask_gets_the_advice_of_its_reason(workspace: Path) -> None:
    photo, mask = workspace / "a/photos/plain.png", workspace / "bad.png"
    inside = np.zeros((48, 64), bool)
    inside[10:30, 20:40] = True
    for data, reason, advice in (
        (encoded(~inside, "PNG"), "mask_inverted", "--mask-polarity dark"),
        (encoded(inside.astype(np.uint8) + np.eye(48, 64, dtype=np.uint8).cumsum(0, dtype=np.uint8), "PNG"),
         "mask_labels", "--label"),
        (encoded(inside, "PNG")[:60], "mask_truncated", "copy the mask again"),
        (encoded(inside[:, :40], "PNG"), "mask_size_mismatch", "belongs to this photo"),
    ):  # fmt: skip
        mask.write_bytes(data)
        answer = run_here("radiomics", "--image", photo, "--mask", mask, "--json")
        assert answer.returncode == 4
        error = json.loads(answer.stdout)["error"]
        assert error["found"].startswith(f"{mask}: {reason}")
        assert advice in error["fix"]
    answer = run_here("radiomics", "--image", workspace / "no.png", "--mask", mask, "--json")
    assert json.loads(answer.stdout)["error"]["found"].startswith(f"{workspace / 'no.png'}: image_missing")


def test_a_flow_of_patients_without_diagnoses_is_drawn(workspace: Path) -> None:
    assert run_here("ingest", "-w", workspace, "--jobs", "1").returncode == 0
    for chosen in ((), ("--cohort", "a")):
        answer = run_here("flow", "-w", workspace, "--json", *chosen)
        assert answer.returncode == 0, answer.stderr
        rows = {row["step"]: row["total"] for row in json.loads(answer.stdout)["flow"]["rows"] if not row["reason"]}
        assert rows == {"identified": 3, "image": 0, "subject": 0, "diagnosis": 0, "kept": 3}
    assert (workspace / "flow" / "flow.svg").is_file()


def test_counts_of_flags() -> None:
    counts = count_flags(["turned", "cmyk,turned", None, float("nan"), ""])
    assert counts == {"turned": 2, "cmyk": 1}
    assert flags_text(counts) == "turned 2, cmyk 1"
