"""What a frozen network said of photos, kept by the hash of their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from skinkit.artifacts.files import write_atomic
from skinkit.console import Console


class EmbeddingStore:
    """What a frozen network said of each photo, kept by pixel hash; may be deleted at any time.

    Kept as float16 (error below 0.05 %), so that a remembered answer and a fresh one are the same number. A file's name
    is the SHA-256 of its bytes; one that is not what its name says is removed, and its photos are read again.

    Args:
        folder: of one network with one set of weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, wanted: Iterable[str], console: Console) -> dict[str, np.ndarray]:
        """Pixel hash -> (width,) float16, for those that are known; damaged files are reported to the console."""
        from safetensors.numpy import load

        vectors: dict[str, np.ndarray] = {}
        wanted, damaged = set(wanted), 0
        for file in sorted(self.folder.glob("*.safetensors")):
            try:
                data = file.read_bytes()
            except FileNotFoundError:
                continue  # another run has found it damaged
            if hashlib.sha256(data).hexdigest() != file.stem:
                damaged += 1
                file.unlink(missing_ok=True)
                continue
            tensors = load(data)
            vectors |= {name: tensors[name].copy() for name in wanted & tensors.keys()}
        if damaged:
            console.warn(
                f"{self.folder}: {damaged} files of kept embeddings are damaged or of an older version; their photos "
                "are read again"
            )
        return vectors

    def write(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Add some, in one file that appears whole."""
        from safetensors.numpy import save

        if vectors:
            data = save({name: vectors[name] for name in sorted(vectors)})
            write_atomic(self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors", data)
