"""Radiomics on 1, 2 and 3 local Dask workers: cases a second, what handing over costs, bytes read.

    python bench/cluster.py PHOTOS MASKS                  photos and masks of the same stem
    python bench/cluster.py PHOTOS MASKS --cases 200      fewer of them

Every case reads its photo and mask and measures the 102 features, as ``skinkit radiomics`` does. Every worker measures
some lesions before the clock starts, so that loading libraries is not counted. ``1 process`` is the default without a
cluster. Overhead is what a chunk costs whose cases do nothing, with one worker. Chunks hold a second of work, so the
one process that hands out and collects can feed 1 s / overhead workers; the extrapolation stops there:
seconds = cases / (rate of one worker x min(workers, 1 s / overhead)).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from skinkit.console import Console
from skinkit.images.decode import read_mask, read_rgb
from skinkit.radiomics import extract, warm_up
from skinkit.workers import Cluster, map_cases
from skinkit.workers.cores import usable_cores
from skinkit.workers.dask import Connection, DaskWorkers
from skinkit.workers.processes import Processes

Case = Mapping[str, Any]


def measure(case: Case) -> dict[str, Any]:
    """The features of one lesion, from disk."""
    rgb = read_rgb(Path(case["photo"]))
    return {"image_id": case["image_id"], **extract(rgb, read_mask(Path(case["mask"]), (rgb.shape[1], rgb.shape[0])))}


def nothing(case: Case) -> dict[str, Any]:
    """What handing a case over costs."""
    return {"image_id": case["image_id"]}


def cases_of(photos: Path, masks: Path, most: int) -> list[dict[str, Any]]:
    """Photos that have a mask."""
    mask_of = {path.stem.removesuffix("_segmentation"): path for path in masks.iterdir()}
    pairs = [(path, mask_of[path.stem]) for path in sorted(photos.iterdir()) if path.stem in mask_of]
    return [{"image_id": photo.stem, "photo": str(photo), "mask": str(mask)} for photo, mask in pairs[:most]]


def rate(cases: Sequence[Case], repeats: int, **how: Any) -> tuple[float, list[dict[str, Any]]]:
    """Cases a second, the best of the repeats; and the rows."""
    best, rows = 0.0, []
    for _ in range(repeats):
        began = time.perf_counter()
        rows = sorted(map_cases(measure, cases, key=("image_id",), **how), key=lambda row: str(row["image_id"]))
        best = max(best, len(cases) / (time.perf_counter() - began))
    return best, rows


def overhead_s(workers: Any, size: int, tasks: int = 100) -> float:
    """Seconds that handing over and collecting a chunk of this size costs, if its cases do nothing."""
    chunk = [{"image_id": str(number)} for number in range(size)]
    flying: set[Any] = set()
    while not workers.hands():
        workers.finished([])
    began = time.perf_counter()
    for _ in range(tasks):
        while len(flying) >= 2 * workers.hands():
            flying -= set(workers.finished(flying))
        flying.add(workers.submit(partial(_all, chunk)))
    while flying:
        flying -= set(workers.finished(flying))
    return (time.perf_counter() - began) / tasks


def _all(chunk: Sequence[Case]) -> list[dict[str, Any]]:
    return [nothing(case) for case in chunk]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    from distributed import LocalCluster

    warm_up()
    cases = cases_of(options.photos, options.masks, options.cases)
    read = sum(os.path.getsize(case[name]) for case in cases for name in ("photo", "mask"))
    print(f"{len(cases)} cases, {read / len(cases) / 1024:.1f} KiB read per case (photo and mask)")
    print(f"{usable_cores()} CPU cores, {platform.machine()}, Python {platform.python_version()}")

    rates: dict[str, float] = {}
    list(map_cases(measure, cases[:20], key=("image_id",), jobs=1))
    rates["1 process"], expected = rate(cases, options.repeats, jobs=1)
    costs = {f"1 process, chunks of {size}": overhead_s(Processes(1), size) for size in (1, 16)}
    quiet = Console(quiet=True)
    for number in (1, 2, 3):
        with LocalCluster(
            n_workers=number, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as local:
            cluster = Cluster(local.scheduler_address)
            list(map_cases(measure, cases[: 20 * number], key=("image_id",), cluster=cluster))
            rates[f"{number} Dask workers"], rows = rate(cases, options.repeats, cluster=cluster)
            assert rows == expected, "a row differs from that of one process"
            if number == 1:
                for size in (1, 16):
                    costs[f"1 Dask worker, chunks of {size}"] = overhead_s(cluster.workers(quiet), size)
            Connection.close()
    for name, value in rates.items():
        print(f"{name:<20} {value:8.1f} cases/s")
    for name, value in costs.items():
        print(f"{name:<32} {value * 1e3:8.2f} ms a chunk whose cases do nothing")
    print(f"load average {os.getloadavg()[0]:.1f}")

    alone, most = rates["1 Dask workers"], DaskWorkers.chunk_s / costs["1 Dask worker, chunks of 16"]
    print(f"EXTRAPOLATION: seconds = cases / ({alone:.1f} x min(workers, {most:.0f}))")
    for number in (10_000, 100_000, 1_000_000):
        hours = [number / (alone * min(workers, most)) / 3600 for workers in (1, 16, 128)]
        print(f"{number:>9} cases: " + ", ".join(f"{h:.2f} h" for h in hours) + " on 1, 16, 128 workers")


if __name__ == "__main__":
    main()
