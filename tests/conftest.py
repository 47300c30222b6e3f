"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from skinkit.workspace import Workspace

# Test processes share the cores: threads that wait for each other would cost more than they give.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
# Whether bytes have reached the disk shows only after a power cut, which no test has; waiting for them costs each one.
os.fsync = lambda fd: None

NO_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "captum", "segmentation_models_pytorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
"""Importing torch fails in every process that starts with this, as where the extra is not installed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, loudly, what compares with PyRadiomics where it is not installed."""
    if find_spec("radiomics") is None:
        absent = pytest.mark.skip(reason="NO PYRADIOMICS: the extra 'pyradiomics', which compiles on Python 3.11 alone")
        for item in items:
            if item.get_closest_marker("pyradiomics"):
                item.add_marker(absent)


def pytest_collection_finish() -> None:
    """Take what is imported by now, a million objects, out of every later search for garbage: a tenth of the time."""
    gc.collect()
    gc.freeze()


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


def run_here(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has loaded the libraries: for tests to which a process is not the point."""
    from skinkit.cli import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    redirected = contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1])
    with redirected[0], redirected[1], contextlib.chdir(cwd or Path.cwd()):
        code = main([str(argument) for argument in arguments])
    out, err = (stream.buffer.getvalue().decode("utf-8") for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess([], code, out, err)


def without_torch(folder: Path) -> dict[str, str]:
    """The environment of processes in which torch is not installed; ``folder`` keeps what they start with."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(NO_TORCH, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own; skips where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first test process to ask for it makes, and all share."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    done = shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not done.exists():
            make(shared / name)
            done.touch()
    return shared / name


@pytest.fixture(scope="session", autouse=True)
def templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small workspaces of a kind are drawn once for all test processes."""
    import small_cohort  # with numpy, which is loaded after the number of threads is set

    small_cohort.TEMPLATES = partial(made_once, tmp_path_factory)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo workspace, made without torch, once for all test processes; copy it before changing anything."""

    def make(folder: Path) -> None:
        environment = without_torch(folder.with_name("no-torch"))
        answer = run_skinkit("demo", folder, "--lesions", "48", "--jobs", "2", "--json", **environment)
        assert answer.returncode == 0, answer.stderr + answer.stdout

    return made_once(tmp_path_factory, "demo-workspace", make)


@pytest.fixture
def demo_copy(demo: Path, tmp_path: Path) -> Path:
    """A copy of the finished demo workspace, times and hard links kept, that a test may change."""
    copy = tmp_path / "demo"
    subprocess.run(["cp", "-a", str(demo), str(copy)], check=True)
    return copy


@pytest.fixture(scope="module", autouse=True)
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    """The toys that a module names as ``TOYS``, as models of a third party."""
    import third_party  # with numpy, which is loaded after the number of threads is set

    with third_party.models(*getattr(request.module, "TOYS", ())):
        yield


@pytest.fixture(scope="module", autouse=True)
def plain_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are drawn, but neither laid out nor cropped, which takes half of their time.

    Those of ``figures`` are, and those of a module that says ``WHOLE_FIGURES``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "figures" and not getattr(request.module, "WHOLE_FIGURES", False):
            patch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", lambda self, figure: None)
            patch.setattr("skinkit.figures.canvas.CROP", {})
        yield


@pytest.fixture(scope="module")
def narrow_hybrid() -> Iterator[None]:
    """``hybrid_resnet50`` reads a small network, for a module that tests what is around it."""
    from narrow_backbone import narrow_resnet50

    with narrow_resnet50():
        yield


@pytest.fixture
def workspace(chain: Path, tmp_path: Path) -> Workspace:
    """A copy of the workspace that a module makes once as ``chain``."""
    from skinkit.workspace import load_workspace

    shutil.copytree(chain, tmp_path / "w")
    return load_workspace(tmp_path / "w")
