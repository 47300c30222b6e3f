"""The image and the bill of materials: what they are made from, and the image itself where a builder is at hand."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from skinkit import __version__

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_image_fetches_nothing_but_debian_and_never_runs_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    *_, last = re.split(r"(?m)^FROM ", text)
    assert re.findall(r"(?m)^USER (.+)$", last) == ["10001:10001"]
    assert "--no-index" in text
    assert "--require-hashes" in text
    assert not re.search(r"(?m)^ADD |curl|wget|git clone|https?://", text)
    after = last.partition("\nUSER ")[2]
    assert "selftest" in after  # as the user who will run it
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored == ["*", "!wheelhouse"]  # no photo, key or history of a checkout gets into an image


def test_licences_come_with_their_texts() -> None:
    listed = tool("sbom").licences([distribution("numpy"), distribution("typer"), distribution("onnxruntime")])
    head, _, texts = listed.partition("\n\n")
    assert re.search(r"(?m)^numpy \S+: BSD-3-Clause", head)
    assert re.search(r"(?m)^typer \S+: MIT$", head)
    assert "Redistribution and use in source and binary forms" in texts


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors", "type"} <= citation.keys()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_image_is_built_and_works() -> None:
    if shutil.which("buildah") is None or shutil.which("debootstrap") is None:
        pytest.skip("NO IMAGE IS BUILT: buildah and debootstrap are not installed")
    if not (ROOT / "wheelhouse" / "requirements.txt").is_file():
        pytest.skip("NO IMAGE IS BUILT: run 'make wheelhouse VARIANT=tables' first")
    command = [sys.executable, "tools/container.py", "--debootstrap", "--tag", "skinkit:tested"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "everything works" in done.stdout
