"""Whether synthetic images repeat training photos: exactly, mirrored, turned, compressed or cropped.

Photos are compared in the size that the generator reads, by three measures:

1. **Correlation** of small colour pictures (16 px, each channel without its mean), in the eight mirrored and turned
   versions of the image, with the photo whole and with five crops of 95 %.
2. **Cosine** in features of a network that neither generates nor filters images: the frozen EfficientNet-Lite0 of
   :mod:`skinkit.audit.copies`, without what all skin has in common. Images below 64 px, and installations without
   PyTorch, have none.
3. **Alignment** of details (:mod:`skinkit.audit.alignment`), of pairs that 1 or 2 finds similar.

The same rule is applied to training photos of different lesions, whose share beyond it says what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from skinkit.audit import copies, leakage
from skinkit.audit.copies import Key
from skinkit.images.pixels import Array
from skinkit.learning.examples import resized
from skinkit.schemas import SYNTHETIC_COHORT
from skinkit.workspace import Workspace

CORRELATION = 0.97
"""Correlation of small pictures from which an image repeats a photo: of 1000 lesions of HAM10000 two reach it with
another lesion, and of 300 planted copies all that are exact, mirrored, JPEG of quality 75, or cropped to 95 %."""
_SIMILAR_CORRELATION, _SIMILAR_COSINE = 0.94, 0.9
"""From which a pair is aligned."""
_CALIBRATED = 200
"""Training photos of a fold that are compared with the others, at most."""
_SIDE_PX = 16
_CROP = 0.95
_VERSIONS = 6
"""Whole picture and crops."""
_CHUNK_VALUES = 16_000_000
_FLAT = 1e-3

Floats = npt.NDArray[np.float32]


class Squares(copies.ComparedPhotos):
    """Photos in the size that a generator reads, and its images.

    Args:
        workspace: where the photos are.
        side_px: of the squares; small ones have too few details to be aligned.
        files: pixel hash of a synthetic image -> file.
        console: shows progress.
    """

    def __init__(self, workspace: Workspace, side_px: int, files: Mapping[str, Path], console: Any) -> None:
        real = leakage.photos_of(workspace)

        def place(cohort: str, pixels: str) -> Path | None:
            return files.get(pixels) if cohort.startswith(SYNTHETIC_COHORT) else real.find(cohort, pixels)

        super().__init__(place, workspace.root / "cache" / "copies" / f"square-{side_px}", console)
        self.side_px = side_px
        self.alignable = side_px >= copies.SMALLEST_PX

    def read(self, cohort: str, pixels: str | None) -> Array | None:
        """uint8 (side, side, 3); None where the photo is not here or cannot be read."""
        rgb = super().read(cohort, pixels)
        return rgb if rgb is None or rgb.shape[:2] == (self.side_px,) * 2 else resized(rgb, self.side_px)


@dataclass(frozen=True)
class Pictures:
    """Images or photos that are compared.

    Attributes:
        keys: cohort and pixel hash of each, those that can be read.
        names: ``cohort/case`` of each.
        groups: patient, lesion or image of each.
        small: (n, 16, 16, 3) whole pictures.
        versions: (n, versions, 768) of unit length, of the whole picture and its crops.
        vectors: (n, width) features of unit length; zeros where there are none.
        why_not: why there are no features; empty where there are.
    """

    keys: Sequence[Key]
    names: Sequence[str]
    groups: npt.NDArray[np.str_]
    small: Floats
    versions: Floats
    vectors: Floats
    why_not: str = ""

    @staticmethod
    def of(rows: pd.DataFrame, photos: Squares) -> Pictures:
        """The rows whose picture can be read, each picture once.

        Args:
            rows: with ``cohort``, ``case_id``, ``group_id`` and ``pixel_sha256``.
            photos: finds them.
        """
        rows = rows.drop_duplicates("pixel_sha256")
        keys = list(zip(rows["cohort"].astype(str), rows["pixel_sha256"].astype(str), strict=True))
        small, versions, here = [], [], []
        for key in keys:
            rgb = photos.read(*key)
            here.append(rgb is not None)
            if rgb is not None:
                cropped = [_small(rgb, box) for box in _boxes(len(rgb))]
                small.append(cropped[0])
                versions.append(np.stack(cropped))
        keys = [key for key, there in zip(keys, here, strict=True) if there]
        rows = rows[np.array(here, dtype=bool)]
        why_not = copies.missing()
        vectors = np.zeros((len(keys), 1), dtype=np.float32)
        if not why_not and keys:
            known, there = photos.embeddings(keys)
            vectors = np.zeros((len(keys), known.shape[2]), dtype=np.float32)
            vectors[there] = known[:, 0]
            why_not = "" if there.any() else "the images are too small for the network"
        shape = (len(keys), _SIDE_PX, _SIDE_PX, 3)
        return Pictures(
            keys,
            (rows["cohort"].astype(str) + "/" + rows["case_id"].astype(str)).tolist(),
            rows["group_id"].fillna("").to_numpy(dtype=str),
            np.array(small, dtype=np.float32).reshape(shape),
            _unit(np.array(versions, dtype=np.float32).reshape(-1, *shape[1:])).reshape(
                len(keys), _VERSIONS, 3 * _SIDE_PX**2
            ),
            vectors,
            why_not,
        )


def repeated(
    ours: Pictures,
    theirs: Pictures,
    photos: Squares,
    cosine_limit: float,
    same: Callable[[int], npt.NDArray[np.bool_]] | None = None,
) -> pd.DataFrame:
    """What each picture is nearest to, and whether it repeats it.

    Args:
        ours: n pictures.
        theirs: what they may repeat.
        photos: finds both.
        cosine_limit: cosine above which a picture repeats another.
        same: row of ours -> rows of theirs that are not compared, (m,); by default none.

    Returns:
        Under the pixel hashes of ours: ``copy_of`` and ``nearest`` (a name of theirs, or None), ``cosine`` and
        ``correlation`` with the nearest by each; NaN where unknown.
    """
    n, m = len(ours.keys), len(theirs.keys)
    correlation, cosine = np.full((2, n), np.nan)
    by_correlation, by_cosine = np.zeros((2, n), dtype=np.int64)
    features = bool(m) and not (ours.why_not or theirs.why_not)
    step = max(1, _CHUNK_VALUES // max(1, m * theirs.versions.shape[1]))
    for begin in range(0, n if m else 0, step):
        rows = slice(begin, min(n, begin + step))
        near = _correlations(ours.small[rows], theirs.versions)
        alike = ours.vectors[rows] @ theirs.vectors.T if features else None
        for place in range(*rows.indices(n)):
            skipped = same(place) if same is not None else None
            for values, best, index in ((near, correlation, by_correlation), (alike, cosine, by_cosine)):
                if values is not None:
                    line = values[place - begin]
                    line = line if skipped is None else np.where(skipped, -1.0, line)
                    index[place] = int(line.argmax())
                    best[place] = float(line[index[place]])
    copied = np.where(correlation > CORRELATION, by_correlation, -1)
    copied = np.where((copied < 0) & (cosine > cosine_limit), by_cosine, copied)
    unsure = [
        (int(place), int(index[place]))
        for values, least, index in (
            (correlation, _SIMILAR_CORRELATION, by_correlation),
            (cosine, _SIMILAR_COSINE, by_cosine),
        )
        for place in np.flatnonzero((copied < 0) & (np.nan_to_num(values, nan=-1.0) > least))
        if photos.alignable
    ]
    for number, aligned in copies.verified([(ours.keys[a], theirs.keys[b]) for a, b in unsure], photos):
        row, other = unsure[number]
        if aligned >= copies.SAME_PICTURE and copied[row] < 0:
            copied[row] = other
    nearest = np.where(copied >= 0, copied, by_cosine if features else by_correlation)
    hashes = [str(pixels) for _, pixels in ours.keys]
    said = {"copy_of": [theirs.names[i] if i >= 0 else None for i in copied]}
    said["nearest"] = [theirs.names[i] if m else None for i in nearest]
    names = {name: pd.Series(values, hashes, dtype=object) for name, values in said.items()}
    return pd.DataFrame({**names, "cosine": cosine, "correlation": correlation}, index=hashes)


def calibration(photos_of_fold: Pictures, photos: Squares, cosine_limit: float) -> dict[str, Any]:
    """What the rule says of training photos that are not of one lesion or patient.

    Returns:
        ``n`` photos that were compared with all others, ``copies``: how many the rule calls copies, ``above_cosine``:
        how many are beyond the cosine alone; ``cosine_995`` and ``correlation_995``: the 99.5 % quantiles of the
        nearest, None where unknown.
    """
    n = len(photos_of_fold.keys)
    chosen = np.sort(np.random.default_rng(0).permutation(n)[:_CALIBRATED])
    some = Pictures(
        [photos_of_fold.keys[i] for i in chosen],
        [photos_of_fold.names[i] for i in chosen],
        photos_of_fold.groups[chosen],
        photos_of_fold.small[chosen],
        photos_of_fold.versions[chosen],
        photos_of_fold.vectors[chosen],
        photos_of_fold.why_not,
    )
    found = repeated(some, photos_of_fold, photos, cosine_limit, lambda row: photos_of_fold.groups == some.groups[row])

    def quantile(values: pd.Series) -> float | None:
        known = values.dropna()
        return round(float(known.quantile(0.995)), 4) if len(known) else None

    return {
        "n": len(found),
        "copies": int(found["copy_of"].notna().sum()),
        "above_cosine": int((found["cosine"] > cosine_limit).sum()),
        "cosine_995": quantile(found["cosine"]),
        "correlation_995": quantile(found["correlation"]),
    }


def _boxes(side: int) -> list[tuple[float, float, float, float]]:
    """The whole square, and crops in its middle and its corners."""
    rest = side * (1 - _CROP)
    places = [(rest / 2, rest / 2), (0, 0), (rest, 0), (0, rest), (rest, rest)]
    return [(0, 0, side, side), *((x, y, x + side - rest, y + side - rest) for x, y in places)]


def _small(rgb: Array, box: tuple[float, float, float, float]) -> Floats:
    size = (_SIDE_PX, _SIDE_PX)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX, box=box), dtype=np.float32)


def _unit(small: Floats) -> Floats:
    """(n, 768) small pictures without the mean of each channel, of unit length; zeros where all is of one colour."""
    rest = (small - small.mean(axis=(1, 2), keepdims=True)).reshape(len(small), 3 * _SIDE_PX**2)
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    out: Floats = np.where(length > _FLAT, rest / np.maximum(length, _FLAT), 0)
    return out


def _correlations(small: Floats, versions: Floats) -> Floats:
    """(n, m) the largest correlation over the versions of both."""
    m, count, width = versions.shape
    best = np.full((len(small), m), -1, dtype=np.float32)
    for quarters in range(4):
        turned = np.rot90(small, quarters, (1, 2))
        for one in (turned, turned[:, :, ::-1]):
            products = _unit(one) @ versions.reshape(m * count, width).T
            best = np.maximum(best, products.reshape(len(small), m, count).max(axis=2))
    return best
