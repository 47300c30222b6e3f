"""Artifacts that a disk, a person or a newer program has spoilt: exit 4 with a way out, no traceback, no figure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skinkit.cli import main

NEXT = {
    "phantoms/cases": ("segment", "phantoms/masks"),
    "phantoms/masks/otsu": ("radiomics", "phantoms/features"),
    "phantoms/features/otsu": ("fuse", "phantoms/fused"),
    "phantoms/fused/otsu": ("select", "splits/grouped/signature"),
    "splits/grouped/split": ("select", "splits/grouped/signature"),
    "models/lightgbm": ("predict", "jinan/predictions"),
    "jinan/predictions/lightgbm": ("evaluate", "jinan/metrics"),
}
"""Artifact -> the stage that reads it, and what is taken away so that it must."""


def rewritten(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the manifest."""

    def spoil(artifact: Path) -> None:
        file = artifact / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        change(manifest)
        file.write_text(json.dumps(manifest), encoding="utf-8")

    return spoil


def flipped(artifact: Path) -> None:
    """One byte of the table changed."""
    data = bytearray((artifact / "table.parquet").read_bytes())
    data[len(data) // 3] ^= 0xFF
    (artifact / "table.parquet").write_bytes(data)


def swapped(artifact: Path) -> None:
    """A sound table, but of another artifact."""
    root = next(place for place in artifact.parents if place.name == "artifacts")
    shutil.copyfile(root / "walk_in" / "cases" / "table.parquet", artifact / "table.parquet")


TABLES: dict[str, Callable[[Path], object]] = {
    "cut": lambda a: (a / "table.parquet").write_bytes((a / "table.parquet").read_bytes()[:-50]),
    "empty": lambda a: (a / "table.parquet").write_bytes(b""),
    "gone": lambda a: (a / "table.parquet").unlink(),
    "flipped": flipped,
    "swapped": swapped,
}
MANIFESTS: dict[str, Callable[[Path], object]] = {
    "no json": lambda a: (a / "manifest.json").write_text("{no json"),
    "empty": lambda a: (a / "manifest.json").write_text(""),
    "a list": lambda a: (a / "manifest.json").write_text("[1]"),
    "noise": lambda a: (a / "manifest.json").write_bytes(b"\xff\xfe\x00" * 9),
    "newer": rewritten(lambda m: m.update(manifest_version=99)),
    "no recipe": rewritten(lambda m: m.pop("recipe")),
    "a text for recipe": rewritten(lambda m: m.update(recipe="x")),
    "no files": rewritten(lambda m: m.pop("files")),
    "no counts": rewritten(lambda m: m.update(counts=None)),
}


@pytest.fixture(scope="module")
def kept(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace that every test leaves as it found it."""
    copy = tmp_path_factory.mktemp("artifacts") / "demo"
    shutil.copytree(demo, copy)
    return copy


@pytest.fixture
def put_back(kept: Path, demo: Path) -> Iterator[Path]:
    """The workspace; what the test changed is put back."""
    yield kept
    shutil.rmtree(kept / "artifacts")
    shutil.copytree(demo / "artifacts", kept / "artifacts")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, root: Path, code: int = 4) -> dict[str, str]:
    """What the command says of its error; it must end with this code."""
    ended = main([*arguments, "--json", "--jobs", "1", "-w", str(root)])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert ended == code, told.err
    error: dict[str, str] = json.loads(told.out)["error"]
    assert error["fix"]
    return error


@pytest.mark.parametrize(
    ("name", "how"), [*((name, "swapped") for name in NEXT), *(("phantoms/masks/otsu", how) for how in TABLES)]
)
def test_a_spoilt_table_is_refused_by_the_stage_that_reads_it(
    put_back: Path, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    stage, made = NEXT[name]
    shutil.rmtree(put_back / "artifacts" / made)
    TABLES[how](put_back / "artifacts" / name)
    error = refused(capsys, stage, "--no-upstream", root=put_back, code=5 if stage == "predict" else 4)
    assert name.split("/")[0] in error["found"]
    # Without its table it is no artifact.
    assert "table.parquet" in error["found"] or "manifest" in error["found"] or f"no {name}" in error["found"]


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_spoilt_manifest_is_refused(put_back: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    MANIFESTS[how](put_back / "artifacts" / "phantoms" / "masks" / "otsu")
    shutil.rmtree(put_back / "artifacts" / "phantoms" / "features")
    error = refused(capsys, "radiomics", "--no-upstream", "--cohort", "phantoms", root=put_back)
    assert "masks" in error["found"]
    for command in ("status", "verify"):
        assert main([command, "-w", str(put_back)]) in (0, 4, 5), command
        assert "Traceback" not in capsys.readouterr().err


def test_masks_that_are_gone_or_another_are_cases_that_fail(put_back: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifacts = put_back / "artifacts"
    masks = sorted((artifacts / "phantoms" / "masks" / "otsu" / "png").glob("*.png"))
    masks[0].unlink()
    shutil.copyfile(masks[2], masks[1])
    masks[3].write_bytes(masks[3].read_bytes()[:-30])
    shutil.rmtree(artifacts / "phantoms" / "features")
    assert (
        main(["radiomics", "--no-upstream", "--cohort", "phantoms", "--jobs", "1", "--json", "-w", str(put_back)]) == 3
    )
    counts = json.loads(capsys.readouterr().out)["steps"][-1]["counts"]
    assert (counts["failed"], counts["newly_failed"]) == (3, 3)
