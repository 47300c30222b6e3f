"""Answers of a frozen backbone, kept per photo and shared by all folds and models of a workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinkit.artifacts.embedding_store import EmbeddingStore as EmbeddingStore
from skinkit.artifacts.files import digest
from skinkit.console import Console
from skinkit.errors import CaseError
from skinkit.learning.examples import Photo as Photo
from skinkit.learning.forward import forward
from skinkit.models.parts.protocol import Embedder

_STORED_AT_ONCE = 64


# ---------------------------------------------------------------------------------------------------- embeddings
def embed(
    module: Embedder, photos: Sequence[Photo], store: EmbeddingStore, *, device: str, console: Console
) -> tuple[dict[str, np.ndarray], dict[str, CaseError]]:
    """Pixel hash -> float16 (width,) of every readable photo, and pixel hash -> why, for the others.

    What the store knows is not computed again, and what is computed is stored as it comes, so a killed run goes on
    where it stopped.
    """
    unique = {photo.pixel_sha256: photo for photo in photos}
    vectors = store.read(unique, console)
    failed: dict[str, CaseError] = {}
    fresh: dict[str, np.ndarray] = {}
    todo = [photo for pixels, photo in unique.items() if pixels not in vectors]
    try:
        for photo, answer in forward(module, todo, device=device, console=console, label="looking at photos"):
            if isinstance(answer, CaseError):
                failed[photo.pixel_sha256] = answer
                continue
            vectors[photo.pixel_sha256] = fresh[photo.pixel_sha256] = answer.astype(np.float16)
            if len(fresh) >= _STORED_AT_ONCE:
                store.write(fresh)
                fresh = {}
    finally:
        store.write(fresh)
    return vectors, failed


def failed_rows(photos: Sequence[Photo], failed: Mapping[str, CaseError]) -> dict[int, CaseError]:
    """Row -> why its photo cannot be read, of pixel hash -> why."""
    return {row: failed[photo.pixel_sha256] for row, photo in enumerate(photos) if photo.pixel_sha256 in failed}


def embedding_store(root: Path, model: type[Any], config: Any, weights_sha256: str, device: str) -> EmbeddingStore:
    """The store of one embedder: settings, weights and kind of device all count."""
    key = [model.__module__, model.embedding_key(config), weights_sha256, device]
    return EmbeddingStore(root / "cache" / "embeddings" / digest(key)[:24])
