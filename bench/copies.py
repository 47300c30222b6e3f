"""How many planted copies the leakage guard finds, and how many pairs of other patients it takes for copies.

    python bench/copies.py photos.csv            # columns: path, group (patient or lesion)

Photos whose group falls into the half ``--half`` (by a hash of its name) are compared; see docs/results/copies.md.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from planted_copies import FURTHER, LISTED

from skinkit.audit import copies
from skinkit.audit.alignment import Picture, align
from skinkit.audit.leakage import NEAR_DISTANCE_BITS
from skinkit.images.identity import dhash, dihedral_hashes

Key = tuple[str, str]


def half_of(group: str) -> int:
    """0 or 1, the same wherever it is asked."""
    return int(hashlib.sha256(f"copies:{group}".encode()).hexdigest(), 16) % 2


class Collection:
    """Photos of one half with their hashes and embeddings."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.keys: list[Key] = [("photos", path) for path in table["path"]]
        self.photos = copies.Photos(lambda cohort, path: Path(path))
        self.embedded, known = self.photos.embeddings(self.keys)
        assert known.all()
        self.versions = dihedral_hashes([dhash(np.asarray(self.open(i))) for i in range(len(table))])[0]
        self.patients = pd.factorize(table["group"])[0]

    def open(self, row: int) -> Image.Image:
        """The photo of a row."""
        return Image.open(self.table["path"].iloc[row]).convert("RGB")

    def near_by_hash(self, versions: np.ndarray) -> np.ndarray:
        """Distance, in bits, of the nearest of eight versions (8, 2) to every photo."""
        apart = np.bitwise_count(versions[:, None] ^ self.versions[None, :, 0]).sum(axis=2)
        return (apart.min(axis=0).astype(int) + 1) // 2

    def found(self, copy: np.ndarray, row: int) -> tuple[bool, bool, bool]:
        """Whether a copy of a photo is a candidate by its hash; a candidate at all; and verified."""
        distance = self.near_by_hash(dihedral_hashes([dhash(copy)])[0][0])
        by_hash = bool(distance[row] <= NEAR_DISTANCE_BITS and row in np.argsort(distance, kind="stable")[:3])
        candidate = by_hash
        if not by_hash:
            own = copies._compared(copies._network()(copies._views(copy)).astype(np.float32))
            cosine = np.max([self.embedded[:, i] @ own[j] for i in (0, 1) for j in (0, 1)], axis=0)
            candidate = bool(cosine[row] >= copies.SIMILAR and row in np.argsort(-cosine, kind="stable")[:3])
        if not candidate:
            return by_hash, False, False
        return by_hash, True, align(Picture(copy), self.picture(row)).correlation >= copies.SAME_PICTURE

    def picture(self, row: int) -> Picture:
        """The prepared photo of a row."""
        picture = self.photos.picture(*self.keys[row])
        assert picture is not None
        return picture

    def of_others(self) -> list[float]:
        """Correlations of all candidate pairs of different patients, largest first."""
        found, _ = copies.nearest(self.photos, self.keys, self.keys, lambda i: self.patients == self.patients[i])
        pairs = {(min(a, b), max(a, b)): cosine for a, b, cosine in found}
        for row, versions in enumerate(self.versions):
            for other in np.flatnonzero(self.near_by_hash(versions) <= NEAR_DISTANCE_BITS):
                if self.patients[other] != self.patients[row]:
                    pairs.setdefault((min(row, int(other)), max(row, int(other))), 1.0)
        most = sorted(pairs, key=lambda pair: -pairs[pair])[: copies.MOST_VERIFIED]
        return sorted((align(self.picture(a), self.picture(b)).correlation for a, b in most), reverse=True)


def main() -> None:
    """Plant copies, look for them, then compare every photo with those of other patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="CSV with the columns path and group")
    parser.add_argument("--half", type=int, default=1)
    parser.add_argument("--most", type=int, default=600, help="photos drawn from the half")
    parser.add_argument("--planted", type=int, default=40, help="copies of each kind with a target")
    parser.add_argument("--seed", type=int, default=4)
    chosen: Any = parser.parse_args()
    table = pd.read_csv(chosen.table, dtype=str)
    table = table[table["group"].map(half_of) == chosen.half]
    table = table.sample(min(chosen.most, len(table)), random_state=3).sort_values("path").reset_index(drop=True)
    begun = time.process_time()
    collection = Collection(table)
    print(f"{len(table)} photos of {table['group'].nunique()} groups", end=", ")
    print(f"{1000 * (time.process_time() - begun) / len(table):.0f} ms of CPU time each")
    rows = np.random.default_rng(chosen.seed).permutation(len(table))[: chosen.planted]
    for kinds, of_kind in ((LISTED, rows), (FURTHER, rows[: max(1, len(rows) // 2)])):
        for name, draw in kinds.items():
            plants = [(int(row), np.random.default_rng(int(row))) for row in of_kind]
            found = [collection.found(np.asarray(draw(collection.open(row), rng)), row) for row, rng in plants]
            by_hash, candidates, verified = np.array(found).sum(axis=0)
            print(f"{name}: {verified} of {len(found)} (candidates {candidates}, by hash {by_hash})", flush=True)
    others = np.array(collection.of_others())
    print(f"other patients: {len(others)} pairs, largest correlation {others.max(initial=0):.3f}", end=", ")
    print(f"{(others >= copies.SAME_PICTURE).sum()} same, {(others >= copies.PERHAPS).sum()} same or alike")


if __name__ == "__main__":
    main()
