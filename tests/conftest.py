"""Fixtures that every test may use."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Test processes share the cores: threads that wait for each other would cost more than they give.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

NO_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "captum", "segmentation_models_pytorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
"""Importing torch fails in every process that starts with this, as where the extra is not installed."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and tables; skips, loudly, where there is none."""
    named = os.environ.get("SKINKIT_REAL_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not (folder / "pad" / "metadata.csv").is_file():
        pytest.skip(f"NO REAL DATA: nothing at {folder}; set SKINKIT_REAL_DATA to run the tests on real lesions")
    return folder


def run_skinkit(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own; ``environment`` is added to this one's."""
    command = [sys.executable, "-m", "skinkit", *map(str, arguments)]
    settings = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=600, env=settings)


def without_torch(folder: Path) -> dict[str, str]:
    """The environment of processes in which torch is not installed; ``folder`` keeps what they start with."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(NO_TORCH, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo workspace, made without torch, once for all test processes; copy it before changing anything."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "demo-workspace"
    with (shared / "demo.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (shared / "demo.done").exists():
            answer = run_skinkit(
                "demo", folder, "--lesions", "48", "--jobs", "2", "--json", **without_torch(shared / "no-torch")
            )
            assert answer.returncode == 0, answer.stderr + answer.stdout
            (shared / "demo.done").write_text(answer.stdout)
    return folder


@pytest.fixture
def demo_copy(demo: Path, tmp_path: Path) -> Path:
    """A copy of the finished demo workspace, times and hard links kept, that a test may change."""
    copy = tmp_path / "demo"
    subprocess.run(["cp", "-a", str(demo), str(copy)], check=True)
    return copy
