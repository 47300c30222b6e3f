"""How time and memory grow with the number of cases, and what thirty new cases cost.

    python bench/scale.py                      1,000, 10,000 and 100,000 cases
    python bench/scale.py --cases 1000 10000   others

Each size is one external cohort: a table with patient, diagnosis, age, sex and site, and as many photos of 8 x 8
pixels, all different, which ``ingest`` really reads. Lesions that small cannot be outlined or measured: masks (without
their pictures) and 102 features per case are drawn at random and written by the artifact builder, row by row, as the
stages would (``outline and measure``). The model is a logistic regression on age, sex and site. Every step runs in a
process of its own, whose peak memory is its own (workers come on top; each has its libraries and one photo); one job.
The growth exponent e says that ten times the cases take 10^e times as much; 1 is proportional.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

DIAGNOSES = ("nevus", "melanoma", "basal_cell_carcinoma", "seborrheic_keratosis", "squamous_cell_carcinoma")
SITES = ("torso", "head/neck", "upper extremity", "lower extremity")
NEW = 30
LEARNT = 600
STEPS = ("ingest", "outline and measure", "fuse", "predict", "evaluate")


class Cost(NamedTuple):
    """What one step took: by the clock, of a processor (without its workers), and the most memory it held."""

    seconds: float
    cpu_s: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.seconds:8.1f} s {self.cpu_s:8.1f} CPU s {self.peak_mib:7.0f} MiB"


# ------------------------------------------------------------------------------------------------ the cohorts


def write_cases(folder: Path, numbers: Sequence[int]) -> None:
    """Photos of these numbers, and the table of all photos up to the last; no two cohorts share one."""
    drawn = zlib.crc32(folder.name.encode())
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng((drawn, number)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"c{number:07d}.png", compress_level=0)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("photo", "patient", "diagnosis", "age", "sex", "site"))
        for number in range(numbers[-1] + 1):
            chance = np.random.default_rng((drawn, number, 1))
            diagnosis = DIAGNOSES[int(chance.integers(len(DIAGNOSES)))]
            age = min(max(round(chance.normal(40 if diagnosis == "nevus" else 65, 12)), 5), 95)
            sex = ("female", "male")[int(chance.integers(2))]
            row = (f"c{number:07d}", f"p{number // 2:07d}", diagnosis, age, sex, SITES[int(chance.integers(4))])
            table.writerow(row)
    (folder / "cohort.toml").write_text(
        'file = "cases.csv"\nimages = ["photos/*.png"]\n\n[columns]\nimage = "photo"\npatient_id = "patient"\n'
        'diagnosis = "diagnosis"\nage_years = "age"\nsex = "sex"\nsite = "site"\n',
        encoding="utf-8",
    )


def make_workspace(root: Path) -> None:
    """A workspace with a model that was trained on a small cohort, and one that is to grow."""
    write_cases(root / "clinic", range(LEARNT))
    (root / "ward").mkdir()
    lines = ['[workspace]\nsegmenter = "drawn"\nmodel = "logistic"\n']
    for name, role in (("clinic", "development"), ("ward", "external")):
        lines.append(f'[cohorts.{name}]\nrole = "{role}"\nsource = "folder"\npath = "{name}"\n')
    (root / "skinkit.toml").write_text("\n".join(lines), encoding="utf-8")
    run_step("ingest", "clinic", root)
    run_step("outline and measure", "clinic", root)
    run_step("fuse", "clinic", root)
    for command in (("split", "--folds", "1"), ("train", "--model", "logistic", "--radiomics", "none")):
        timed([sys.executable, "-m", "skinkit", *command, "--no-upstream", "--quiet", "-w", str(root)])


# -------------------------------------------------------------------------------------------------- the steps


def run_step(step: str, cohort: str, root: Path) -> Cost:
    """One step of the chain on one cohort."""
    if step == "outline and measure":
        return timed([sys.executable, __file__, "--measure", str(root), cohort])
    options = ["--bootstrap", "200"] if step == "evaluate" else []
    common = ["--cohort", cohort, "--no-upstream", "--jobs", "1", "--quiet", "-w", str(root)]
    return timed([sys.executable, "-m", "skinkit", step, *common, *options])


def timed(command: Sequence[str]) -> Cost:
    """Run a command; its times and its peak memory."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    words = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed:\n{words}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(root: Path, cohort: str) -> None:
    """Masks and features of every case that has none, drawn at random."""
    from skinkit.artifacts.artifact import ArtifactRecipe, open_artifact
    from skinkit.artifacts.builder import Builder
    from skinkit.radiomics.names import FEATURE_NAMES
    from skinkit.schemas import FEATURES, MASKS
    from skinkit.workspace import Ref, load_workspace

    workspace = load_workspace(root)
    cases = open_artifact(workspace.path(Ref("cases", cohort))).rows(["image_id", "image_sha256"])
    for schema, stage in ((MASKS, "segment"), (FEATURES, "radiomics")):
        recipe = ArtifactRecipe(schema.kind, schema.version, stage, 1, {}, {})
        with Builder(workspace.path(Ref(schema.kind, cohort, "drawn")), schema, recipe) as build:
            prints = {(case["image_id"],): recipe.fingerprint(case["image_sha256"]) for case in cases}
            for (image_id,) in build.plan(prints):
                chance = np.random.default_rng(int(image_id[1:]))
                outlined = {"segmenter": "drawn", "mask_failed": False, "area_share": float(chance.random())}
                measured = dict(zip(FEATURE_NAMES, chance.normal(size=len(FEATURE_NAMES)).tolist(), strict=True))
                build.add({"image_id": image_id, **(outlined if schema is MASKS else measured)})
            build.finish(info={} if schema is MASKS else {"channels": ["grey"], "bin_width": 25.0, "engine": "fast"})


# ------------------------------------------------------------------------------------------------- the report


def on_disk(root: Path) -> dict[tuple[int, int], int]:
    """Every file of the cohort's artifacts: (number on the disk, time of change) -> bytes."""
    files = [path.stat() for path in (root / "artifacts" / "ward").rglob("*") if path.is_file()]
    return {(file.st_ino, file.st_mtime_ns): file.st_size for file in files}


def exponent(costs: Sequence[float], sizes: Sequence[int]) -> float:
    """Slope of log cost over log size between the two largest sizes."""
    return math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2])


def measured_sizes(root: Path, sizes: Sequence[int]) -> Iterator[dict[str, Cost]]:
    """The chain anew for each size."""
    before = 0
    for size in sizes:
        write_cases(root / "ward", range(before, size))
        subprocess.run(["rm", "-rf", str(root / "artifacts" / "ward")], check=True)
        before = size
        found = {}
        for step in STEPS:
            found[step] = run_step(step, "ward", root)
            print(f"{size:>9,} {step:<20} {found[step]}", flush=True)
        yield found


def main() -> None:
    """Every size, the growth between the two largest, and thirty cases more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes, ascending")
    parser.add_argument("--measure", nargs=2, metavar=("WORKSPACE", "COHORT"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        make_workspace(root)
        sizes = sorted(options.cases)
        found = list(measured_sizes(root, sizes))
        if len(sizes) > 1:
            print(f"growth from {sizes[-2]:,} to {sizes[-1]:,} cases, as an exponent: time, CPU time, memory")
            for step in STEPS:
                grown = [exponent([getattr(costs[step], name) for costs in found], sizes) for name in Cost._fields]
                print(f"          {step:<20}" + "".join(f"{value:9.2f}" for value in grown), flush=True)
        before = on_disk(root)
        write_cases(root / "ward", range(sizes[-1], sizes[-1] + NEW))
        print(f"{NEW} cases more:")
        for step in STEPS:
            cost = run_step(step, "ward", root)
            after = on_disk(root)
            fresh = {key: size for key, size in after.items() if key not in before}
            written = f"{sum(fresh.values()) / 2**20:.2f} MiB in {len(fresh)} new files"
            print(f"          {step:<20} {cost}, {written}", flush=True)
            before = after


if __name__ == "__main__":
    main()
