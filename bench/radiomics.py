"""How fast the radiomics engine is beside PyRadiomics, as ratios measured in one run.

    python bench/radiomics.py                 everything but memory and Nyxus
    python bench/radiomics.py --only memory   peak memory from 500 to 5,000 images
    python bench/radiomics.py --only nyxus    beside Nyxus, where it is installed

Lesions are real where ``SKINKIT_REAL_DATA`` or ``../shared/data`` has them (``isic/seg``: dermoscopic images with
masks by experts), else drawn. Engines take turns lesion by lesion, each counted with its best time, so that a busy
machine slows both; whole commands take turns too. One thread unless said.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinkit.radiomics import extract
from skinkit.radiomics.names import CLASSES

HERE = Path(__file__).resolve().parent
SIZE, LARGE = (600, 450), (1024, 1024)  # width, height


class Lesion(NamedTuple):
    """An image (H, W, 3) and its mask (H, W)."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]


# ------------------------------------------------------------------------------------------------ lesions


def real_folder() -> Path | None:
    """Where ``images`` and ``masks`` of real lesions are."""
    root = os.environ.get("SKINKIT_REAL_DATA") or HERE.parent.parent / "shared" / "data"
    folder = Path(root) / "isic" / "seg"
    return folder if (folder / "images").is_dir() else None


def lesions(count: int, size: tuple[int, int]) -> Iterator[Lesion]:
    """Lesions of one size: real ones, then the same mirrored and shifted; drawn ones where there are none."""
    folder = real_folder()
    pairs = [(p, folder / "masks" / f"{p.stem}.png") for p in sorted((folder / "images").iterdir())] if folder else []
    pairs = [(image, mask) for image, mask in pairs if mask.is_file()]
    for index in range(count):
        if not pairs:
            yield drawn_lesion(index, size)
            continue
        turn, place = divmod(index, len(pairs))
        with Image.open(pairs[place][0]) as image, Image.open(pairs[place][1]) as mask:
            rgb = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
            inside = np.asarray(mask.convert("L").resize(size, Image.Resampling.NEAREST)) > 127
        flip = slice(None, None, -1) if turn % 2 else slice(None)
        shift = turn // 2
        yield Lesion(np.roll(rgb[:, flip], shift, axis=(0, 1)), np.roll(inside[:, flip], shift, axis=(0, 1)))


def drawn_lesion(seed: int, size: tuple[int, int]) -> Lesion:
    """An ellipse with a network, dots and hairs on skin."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width] / height
    cy, cx, radius = rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.8), rng.uniform(0.15, 0.35)
    distance = np.hypot((y - cy) * rng.uniform(0.8, 1.3), x - cx) + 0.03 * np.sin(9 * np.arctan2(y - cy, x - cx))
    network = 18 * np.sin(90 * x + 3 * np.sin(20 * y)) * np.sin(80 * y)
    tone = np.where(distance < radius, 110 + network, 200) + rng.normal(0, 6, (height, width))
    rgb = np.clip(tone[..., None] * [1, 0.8, 0.7], 0, 255).astype(np.uint8)
    return Lesion(rgb, distance < radius)


# ------------------------------------------------------------------------------------------------ engines


def pyradiomics() -> tuple[Callable[[Lesion], Any], Callable[[Any], Any]]:
    """How to prepare a lesion for PyRadiomics, outside the clock, and its ``execute``."""
    import logging

    import SimpleITK as sitk  # noqa: N813

    sys.path[:] = [place for place in sys.path if Path(place).resolve() != HERE]  # 'radiomics' is PyRadiomics, not this
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    extractor = RadiomicsFeatureExtractor(binWidth=25, force2D=True, force2Ddimension=0)
    extractor.disableAllFeatures()
    for kind in CLASSES:
        extractor.enableFeatureClassByName(kind)

    def prepare(lesion: Lesion) -> Any:
        return tuple(sitk.GetImageFromArray(array[None]) for array in (grey_of(lesion), lesion.mask.astype(np.uint8)))

    return prepare, lambda volumes: extractor.execute(*volumes)


def nyxus() -> tuple[Callable[[Lesion], Any], Callable[[Any], Any]]:
    """The same for Nyxus: intensity, texture and shape features of one lesion."""
    from nyxus import Nyxus  # type: ignore[import-not-found]

    engine = Nyxus(
        [
            "*ALL_INTENSITY*",
            "*ALL_GLCM*",
            "*ALL_GLRLM*",
            "*ALL_GLSZM*",
            "*ALL_GLDM*",
            "*ALL_NGTDM*",
            "*BASIC_MORPHOLOGY*",
        ]
    )

    def prepare(lesion: Lesion) -> Any:
        return grey_of(lesion).astype(np.uint32), lesion.mask.astype(np.uint32)

    return prepare, lambda arrays: engine.featurize(*arrays)


def flash_radiomics() -> tuple[Callable[[Lesion], Any], Callable[[Any], Any]]:
    """The same for flash-radiomics on one thread; the HDF5 file that it always writes goes to a file in memory."""
    import SimpleITK as sitk  # noqa: N813
    from flash_radiomics import RadiomicsFeatureExtractor  # type: ignore[import-not-found]

    extractor = RadiomicsFeatureExtractor(backend="cpu", num_threads=1, binWidth=25, force2D=True, force2Ddimension=0)
    extractor.disableAllFeatures()
    for kind in CLASSES:
        extractor.enableFeatureClassByName(kind)
    file = f"/dev/shm/flash-radiomics-{os.getpid()}.h5"

    def prepare(lesion: Lesion) -> Any:
        return tuple(sitk.GetImageFromArray(array[None]) for array in (grey_of(lesion), lesion.mask.astype(np.uint8)))

    return prepare, lambda volumes: extractor.execute(*volumes, output_hdf5_path=file)


def grey_of(lesion: Lesion) -> NDArray[np.float64]:
    """Luma, as PIL's ``L``, in the type that PyRadiomics measures rightly."""
    return np.asarray(Image.fromarray(lesion.rgb).convert("L"), dtype=np.float64)


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """The best time of some calls."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def bench_features(count: int, size: tuple[int, int], other: str) -> None:
    """Features only: grey image and mask in, 102 numbers out."""
    prepare, execute = {"PyRadiomics": pyradiomics, "Nyxus": nyxus, "flash-radiomics": flash_radiomics}[other]()
    ours, theirs, pixels = [], [], []
    for lesion in lesions(count, size):
        grey, prepared = grey_of(lesion).astype(np.uint8), prepare(lesion)
        extract(grey, lesion.mask)
        ours.append(seconds(lambda grey=grey, mask=lesion.mask: extract(grey, mask), 7))  # type: ignore[misc]
        theirs.append(seconds(lambda prepared=prepared: execute(prepared), 2))  # type: ignore[misc]
        pixels.append(int(lesion.mask.sum()))
    mean, their_mean = 1000 * sum(ours) / count, 1000 * sum(theirs) / count
    source = "real" if real_folder() else "drawn"
    say(
        f"features only, {count} {source} lesions of {size[0]}x{size[1]} ({np.mean(pixels) / 1000:.0f} k pixels)",
        f"{mean:.3f} ms",
        f"{other} {their_mean:.1f} ms",
        their_mean / mean,
    )


# ------------------------------------------------------------------------------------------------ whole commands


def bench_stage(count: int) -> None:
    """The whole command, two processes: JPEG and PNG to Parquet, beside PyRadiomics' batch command on volumes."""
    with tempfile.TemporaryDirectory() as folder:
        workspace, batch = Path(folder) / "workspace", Path(folder) / "batch"
        prepare_workspace(workspace, lesions(count, SIZE))
        prepare_batch(batch, lesions(count, SIZE))
        features = workspace / "artifacts" / "bench" / "features"
        ours, theirs = [], []
        for turn in range(5):
            if turn == 2:
                command = ("pyradiomics", "cases.csv", "-p", "settings.yaml", "-o", "out.csv", "-f", "csv", "-j", "2")
                theirs.append(run(*command, "--verbosity", "1", inside=batch)[0])
                continue
            shutil.rmtree(features, ignore_errors=True)
            ours.append(run("skinkit", "radiomics", "--jobs=2", "--no-upstream", "--quiet", inside=workspace)[0])
        with (batch / "out.csv").open() as stream:
            rows = sum(1 for _ in csv.reader(stream)) - 1
        if rows != count:
            raise SystemExit(f"PyRadiomics wrote {rows} rows, expected {count}")
    say(
        f"whole command, {count} images of {SIZE[0]}x{SIZE[1]}, two processes",
        f"{min(ours):.2f} s",
        f"pyradiomics -j 2 {min(theirs):.1f} s",
        min(theirs) / min(ours),
    )


def bench_memory() -> None:
    """Peak memory of the whole command, which must not grow with the number of images."""
    peaks = []
    for count in (500, 5000):
        with tempfile.TemporaryDirectory() as folder:
            workspace = Path(folder)
            prepare_workspace(workspace, (drawn_lesion(seed, (200, 150)) for seed in range(count)))
            peaks.append(
                run("skinkit", "radiomics", "--jobs=1", "--no-upstream", "--quiet", inside=workspace)[1] / 2**20
            )
    print(f"peak memory: 500 images {peaks[0]:.0f} MiB, 5,000 images {peaks[1]:.0f} MiB", flush=True)


def prepare_workspace(workspace: Path, cases: Iterator[Lesion]) -> None:
    """A workspace with one cohort that is ingested and segmented."""
    for name in ("images", "masks"):
        (workspace / "source" / name).mkdir(parents=True)
    for index, lesion in enumerate(cases):
        stem = f"lesion_{index:05d}"
        Image.fromarray(lesion.rgb).save(workspace / "source" / "images" / f"{stem}.jpg", quality=90)
        Image.fromarray(lesion.mask).save(workspace / "source" / "masks" / f"{stem}.png")
    run("skinkit", "init", ".", "--cohort=bench=isic-seg:source", "--segmenter=truth", inside=workspace)
    run("skinkit", "segment", "--jobs=2", "--quiet", inside=workspace)


def prepare_batch(folder: Path, cases: Iterator[Lesion]) -> None:
    """Volumes of one slice, the list of them, and the settings that make PyRadiomics measure them rightly."""
    import SimpleITK as sitk  # noqa: N813

    folder.mkdir()
    with (folder / "cases.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["Image", "Mask"])
        for index, lesion in enumerate(cases):
            image, mask = folder / f"{index:05d}.nrrd", folder / f"{index:05d}_mask.nrrd"
            sitk.WriteImage(sitk.GetImageFromArray(grey_of(lesion)[None]), str(image))
            sitk.WriteImage(sitk.GetImageFromArray(lesion.mask.astype(np.uint8)[None]), str(mask))
            table.writerow([image, mask])
    classes = "\n".join(f"  {kind}:" for kind in CLASSES)
    settings = "setting:\n  binWidth: 25\n  force2D: true\n  force2Ddimension: 0\nimageType:\n  Original: {}\n"
    (folder / "settings.yaml").write_text(f"{settings}featureClass:\n{classes}\n")


def run(program: str, *arguments: str, inside: Path) -> tuple[float, int]:
    """Run a command of this environment; its wall-clock seconds and its peak memory in bytes."""
    command = [str(Path(sys.executable).parent / program), *arguments]
    if program == "skinkit":
        command = [sys.executable, "-m", "skinkit", *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=inside, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status):
        words = process.stderr.read().decode() if process.stderr else ""
        raise SystemExit(f"{' '.join(command)} failed:\n{words}")
    return taken, usage.ru_maxrss * 1024


# ------------------------------------------------------------------------------------------------ the report


def say(what: str, ours: str, theirs: str, ratio: float) -> None:
    """One line of the report."""
    print(f"{what}: {ours}, {theirs}: {ratio:.0f}x", flush=True)


def main() -> None:
    """Run what was asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ("features", "large", "stage", "memory", "nyxus", "flash-radiomics")
    parser.add_argument("--only", choices=choices, action="append", help="this part alone; repeatable")
    parser.add_argument("--lesions", type=int, default=92, help="lesions for features only (default: 92)")
    parser.add_argument("--images", type=int, default=500, help="images for the whole command (default: 500)")
    options = parser.parse_args()
    parts = options.only or ["features", "large", "stage", "memory"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")
    if "features" in parts:
        bench_features(options.lesions, SIZE, "PyRadiomics")
    if "large" in parts:
        bench_features(max(1, options.lesions // 5), LARGE, "PyRadiomics")
    for module, name in (("nyxus", "Nyxus"), ("flash_radiomics", "flash-radiomics")):
        if name.lower() in parts:
            if importlib.util.find_spec(module) is None:
                raise SystemExit(
                    f"{name} is not installed here; 'pip install {name.lower()}' in an environment of its own"
                )
            bench_features(max(1, options.lesions // 5), SIZE, name)
    if "stage" in parts:
        bench_stage(options.images)
    if "memory" in parts:
        bench_memory()


if __name__ == "__main__":
    main()
