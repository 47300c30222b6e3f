"""Copying: training photos as they are, mirrored, compressed or cropped, among smooth noise in their colours.

Paper:
    None.

Idea:
    What a generator must not do, so that it can be seen whether it is found out.

Equations:
    (1) x = T_k(photo_j)    j: from the seed; k: seed mod 6, of WAYS; the last two are noise

Shapes:
    photos (n, S, S, 3) -> images (S, S, 3).

Departures:
    None.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from skinkit.models import Generator, LabelledPhotos

WAYS = ("exact", "mirrored", "jpeg", "crop", "noise", "noise")


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "side of the squares it reads and writes, pixels"] = 64


class Copying(Generator):
    """Eq. 1."""

    TASK = "generate"
    READS = ("image",)
    CONFIG = Config

    def __init__(self, photos: np.ndarray, labels: np.ndarray) -> None:
        self.photos, self.labels = photos, labels

    @classmethod
    def fit(cls, config: Config, train: LabelledPhotos, *, n_classes: int, seed: int) -> Self:
        return cls(np.stack([train.photos[i] for i in range(len(train.labels))]), np.asarray(train.labels))

    def synthesise(self, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        return np.stack([self._image(label, seed) for label, seed in zip(labels, seeds, strict=True)])

    def _image(self, label: int, seed: int) -> np.ndarray:
        own = self.photos[self.labels == label]
        own = own if len(own) else self.photos
        photo, way = own[np.random.default_rng(seed).integers(len(own))], WAYS[seed % len(WAYS)]
        if way == "mirrored":
            return np.ascontiguousarray(photo[:, ::-1])
        if way == "jpeg":
            stream = io.BytesIO()
            Image.fromarray(photo).save(stream, "JPEG", quality=75)
            return np.asarray(Image.open(stream).convert("RGB"))
        if way == "crop":
            side = len(photo)
            inner = 0.025 * side, 0.025 * side, 0.975 * side, 0.975 * side
            return np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BILINEAR, box=inner))
        if way == "noise":
            places = np.random.default_rng(seed).normal(photo.mean((0, 1)), 30, (6, 6, 3)).clip(0, 255)
            return np.asarray(Image.fromarray(places.astype(np.uint8)).resize(photo.shape[:2]))
        return photo.copy()

    def save(self, folder: Path) -> None:
        save_file({"photos": self.photos, "labels": self.labels}, folder / "photos.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        values = load_file(folder / "photos.safetensors")
        return cls(values["photos"], values["labels"])


MODEL = Copying
