"""How fast the ten quality checks of a photo are beside decoding it and beside SciPy's black-hat, measured in one run.

    python bench/quality.py

Photos are drawn, 512 px along the longer side, and decoded before they are checked. Each takes its turn photo by photo,
counted with its best time of the processor, so that a busy machine slows all alike. SciPy's black-hat is one check of
the ten, hair, by the library's own function.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import black_tophat

from skinkit.images.lab import from_lab
from skinkit.images.quality_checks import measure

PHOTOS, REPEATS, SIDE = 10, 5, 512


def drawn(seed: int) -> bytes:
    """JPEG of skin with a lesion."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    inside = np.hypot(x, 1.2 * y) < rng.uniform(0.1, 0.3)
    lab = np.stack([68 - 18 * inside + rng.normal(0, 4, x.shape), np.full(x.shape, 11), np.full(x.shape, 15)], axis=-1)
    sink = io.BytesIO()
    Image.fromarray(from_lab(lab)).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def taken(work: Callable[[], object]) -> float:
    """Milliseconds of the processor."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def main() -> None:
    """Print medians over the photos, and their ratios."""
    best: dict[str, list[float]] = {"ten checks": [], "decoding": [], "SciPy's black-hat": []}
    for seed in range(PHOTOS):
        file = drawn(seed)
        photo = np.asarray(Image.open(io.BytesIO(file)))
        grey = np.asarray(Image.open(io.BytesIO(file)).convert("L"), dtype=np.float64)
        works: dict[str, Callable[[], object]] = {
            "ten checks": lambda photo=photo: measure(photo),
            "decoding": lambda file=file: np.asarray(Image.open(io.BytesIO(file))),
            "SciPy's black-hat": lambda grey=grey: black_tophat(grey, size=17),
        }
        times = [{name: taken(work) for name, work in works.items()} for _ in range(REPEATS)]
        for name, values in best.items():
            values.append(min(one[name] for one in times))
    found = {name: statistics.median(values) for name, values in best.items()}
    for name, value in found.items():
        print(f"{name:<20}{value:7.1f} ms{found['ten checks'] / value:8.2f} x")


if __name__ == "__main__":
    main()
