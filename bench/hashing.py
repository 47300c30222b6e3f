"""What hashing costs where rows are taken over: a table of 100,000 rows, 10,000 mask files, and ``segment`` itself.

    python bench/hashing.py
    python bench/hashing.py --rows 10000 --masks 1000 --photos 50

Rows are 102 features, masks are PNG files of 600 x 450 pixels; both are written by the artifact builder, and taken over
by it with one more. ``segment`` runs (``otsu``, one job) on photos of that size, then with one photo more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def draw(folder: Path, number: int) -> None:
    """A photo with an ellipse, as JPEG."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:450, :600]
    inside = ((columns - 300) / rng.uniform(80, 160)) ** 2 + ((rows - 225) / rng.uniform(70, 130)) ** 2 <= 1
    photo = np.full((450, 600, 3), (215, 170, 145), np.uint8)
    photo[inside] = rng.integers(40, 110, 3)
    photo[::7, ::5] -= rng.integers(0, 20, photo[::7, ::5].shape, dtype=np.uint8)
    Image.fromarray(photo).save(folder / f"p{number:06d}.jpg", quality=90)


def seconds(root: Path, *command: str) -> float:
    """How long a command takes, start of the process included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "skinkit", *command, "--quiet", "--jobs", "1", "-w", str(root)], check=True)
    return time.perf_counter() - began


def hashed(artifact: Path) -> tuple[float, int, int]:
    """Seconds of hashing an artifact's files, processor time; how many there are, and their bytes."""
    from skinkit.artifacts.artifact import open_artifact, rehash

    opened = open_artifact(artifact)
    began = time.process_time()
    assert rehash(opened) == []
    taken = time.process_time() - began
    files = opened.manifest["files"]
    return taken, len(files), sum((artifact / name).stat().st_size for name in files)


def segment(root: Path, photos: int) -> None:
    """Segment, add a photo, segment again: the stage's own time."""
    (root / "ward").mkdir(parents=True)
    (root / "skinkit.toml").write_text("[cohorts.ward]\nrole = 'inference'\nsource = 'folder'\npath = 'ward'\n")
    for number in range(photos):
        draw(root / "ward", number)
    seconds(root, "ingest")
    first = seconds(root, "segment", "--no-upstream")
    draw(root / "ward", photos)
    seconds(root, "ingest")
    second = seconds(root, "segment", "--no-upstream")
    taken, files, size = hashed(root / "artifacts" / "ward" / "masks" / "otsu")
    print(f"segment of {photos} photos: {first:.1f} s; with one more {second:.1f} s")
    print(f"hashing its {files} files alone, {size / 2**20:.1f} MiB: {taken:.2f} s of a processor")


def masks(root: Path, files: int) -> None:
    """Write so many mask files, take them over, and hash them alone."""
    from skinkit.artifacts.artifact import ArtifactRecipe
    from skinkit.artifacts.builder import Builder
    from skinkit.artifacts.files import write_atomic
    from skinkit.images.encode import png_bytes
    from skinkit.schemas import MASKS

    recipe = ArtifactRecipe(MASKS.kind, MASKS.version, "segment", 1, {}, {})
    down, across = np.mgrid[:450, :600]
    for n in (files, files + 1):
        began, wall = time.process_time(), time.perf_counter()
        with Builder(root / "masks", MASKS, recipe) as build:
            for (image_id,) in build.plan({(f"i{i:07d}",): recipe.fingerprint(i) for i in range(n)}):
                wide, high = np.random.default_rng(int(image_id[1:])).uniform(70, 160, 2)
                mask = ((across - 300) / wide) ** 2 + ((down - 225) / high) ** 2 <= 1
                write_atomic(build.partial / "png" / f"{image_id}.png", png_bytes(mask))
                build.add({"image_id": image_id, "mask_file": f"png/{image_id}.png"})
            build.finish()
        taken, clock = time.process_time() - began, time.perf_counter() - wall
        print(f"{n} masks through the builder: {taken:.1f} s of a processor, {clock:.1f} s by the clock")
    taken, _, size = hashed(root / "masks")
    print(f"hashing them alone, {size / 2**20:.1f} MiB: {taken:.2f} s of a processor")


def table(root: Path, rows: int) -> None:
    """Write features, take them over, and hash their table alone."""
    from skinkit.artifacts.artifact import ArtifactRecipe
    from skinkit.artifacts.builder import Builder
    from skinkit.radiomics.names import FEATURE_NAMES
    from skinkit.schemas import FEATURES

    recipe = ArtifactRecipe(FEATURES.kind, FEATURES.version, "radiomics", 1, {}, {})
    values = np.random.default_rng(0).normal(size=(rows + 1, len(FEATURE_NAMES)))
    for n in (rows, rows + 1):
        began = time.process_time()
        with Builder(root / "features", FEATURES, recipe) as build:
            for (image_id,) in build.plan({(f"i{i:07d}",): recipe.fingerprint(i) for i in range(n)}):
                row = dict(zip(FEATURE_NAMES, values[int(image_id[1:])].tolist(), strict=True))
                build.add({"image_id": image_id, **row})
            build.finish()
        print(f"{n} rows of {len(FEATURE_NAMES)} features: {time.process_time() - began:.1f} s of a processor")
    taken, _, size = hashed(root / "features")
    print(f"hashing the table once, {size / 2**20:.1f} MiB: {taken:.2f} s; taking it over hashes it three times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--masks", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skinkit-hashing-") as place:
        table(Path(place) / "table", chosen.rows)
        masks(Path(place) / "masks", chosen.masks)
        segment(Path(place) / "segment", chosen.photos)
