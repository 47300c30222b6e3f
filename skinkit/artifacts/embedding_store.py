"""What a frozen network said of photos, kept by the hash of their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from skinkit.artifacts.files import digest, write_atomic
from skinkit.artifacts.tensors import check_tensors


class EmbeddingStore:
    """What a frozen network said of each photo, kept by pixel hash; may be deleted at any time.

    Kept as float16 (error below 0.05 %), so that a remembered answer and a fresh one are the same number.

    Args:
        folder: of one network with one set of weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, wanted: Iterable[str]) -> dict[str, np.ndarray]:
        """Pixel hash -> (width,) float16, for those that are known."""
        from safetensors import SafetensorError, safe_open

        wanted, vectors = set(wanted), {}
        for file in sorted(self.folder.glob("*.safetensors")):
            try:
                check_tensors(file)
                with safe_open(file, framework="numpy") as tensors:
                    for name in wanted.intersection(tensors.keys()):
                        vectors[name] = tensors.get_tensor(name)
            except (SafetensorError, ValueError, OSError):
                file.unlink(missing_ok=True)  # damaged: its photos are looked at again
        return vectors

    def write(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Add some, in one file that appears whole."""
        from safetensors.numpy import save

        if vectors:
            name = digest(sorted(vectors))[:24]
            write_atomic(self.folder / f"{name}.safetensors", save({k: vectors[k] for k in sorted(vectors)}))
