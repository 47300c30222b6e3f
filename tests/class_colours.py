"""Class colours: smooth noise in the colours of a class, the simplest thing that has a class and a seed.

Paper:
    None.

Idea:
    A picture without any lesion, but with the colours that the photos of a class have.

Equations:
    (1) m_c, S_c: mean and covariance of the RGB values of the training photos of class c
    (2) x = m_c + L_c n_s,    L_c L_c^T = S_c      n_s: normal noise at 4 x 4 places from the seed s, enlarged to S x S

Shapes:
    photos (n, S, S, 3), classes (n,) -> m (K, 3), L (K, 3, 3); class, seed -> image (S, S, 3).

Departures:
    None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from skinkit.models import Generator, LabelledPhotos


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "side of the squares it reads and writes, pixels"] = 32


class ClassColours(Generator):
    """Eqs. 1 and 2."""

    TASK = "generate"
    READS = ("image",)
    CONFIG = Config

    def __init__(self, side_px: int, mean: np.ndarray, spread: np.ndarray) -> None:
        self.side_px, self.mean, self.spread = side_px, mean, spread

    @classmethod
    def fit(cls, config: Config, train: LabelledPhotos, *, n_classes: int, seed: int) -> Self:
        mean, spread = np.full((n_classes, 3), 128.0), np.tile(np.eye(3), (n_classes, 1, 1))
        for label in np.unique(train.labels):
            chosen = np.flatnonzero(train.labels == label)
            values = np.concatenate([train.photos[i][::4, ::4].reshape(-1, 3) for i in chosen]).astype(float)
            mean[label] = values.mean(0)
            spread[label] = np.linalg.cholesky(np.cov(values.T) + np.eye(3))
        return cls(config.side_px, mean, spread)

    def synthesise(self, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        return np.stack([self._image(label, seed) for label, seed in zip(labels, seeds, strict=True)])

    def _image(self, label: int, seed: int) -> np.ndarray:
        places = np.random.default_rng(seed).normal(size=(4, 4, 3)) @ self.spread[label].T + self.mean[label]
        small = Image.fromarray(places.clip(0, 255).astype(np.uint8))
        return np.asarray(small.resize((self.side_px, self.side_px), Image.Resampling.BICUBIC))

    def save(self, folder: Path) -> None:
        values = {"mean": self.mean, "spread": self.spread, "side_px": np.array([self.side_px])}
        save_file(values, folder / "colours.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        values = load_file(folder / "colours.safetensors")
        return cls(int(values["side_px"][0]), values["mean"], values["spread"])


MODEL = ClassColours
