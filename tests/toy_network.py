"""A network of a few layers for both tasks, photos it can learn from, and how to train it as a program of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from skinkit.console import Console
from skinkit.images.drawn_masks import DrawnMask
from skinkit.images.identity import pixel_sha256
from skinkit.learning.examples import Examples, Photo
from skinkit.learning.loop import Trained, fit
from skinkit.models import Augment, Network, Phase

SIDE_PX = 16
VARIED = Augment(flips=True, rotation_deg=10, brightness=0.1)
PHASES = (
    Phase("head", 2, batch=8, learning_rate=1e-2, rates={"stem": 1e-3}, clip=1.0, augment=VARIED),
    Phase("all", 4, batch=8, optimiser="sgd", learning_rate=5e-2, schedule="one_cycle", averaged=0.5, augment=VARIED),
)


class Toy(Network, torch.nn.Module):
    """Conv, BatchNorm, dropout; answers a map or two classes."""

    def __init__(self, task: str = "segment", phases: tuple[Phase, ...] = PHASES) -> None:
        super().__init__()
        self.task, self.plan = task, phases
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.drop = torch.nn.Dropout(0.1)
        self.output = torch.nn.Conv2d(8, 1 if task == "segment" else 2, 3, padding=1)
        self.entered: list[str] = []

    def phases(self) -> tuple[Phase, ...]:
        return self.plan

    def enter(self, phase: str) -> None:
        self.entered.append(phase)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = self.output(self.drop(self.stem(batch["image"] - 0.5)))
        return {"lesion": found[:, 0]} if self.task == "segment" else {"diagnosis": found.mean(dim=(2, 3))}

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if self.task == "segment":
            return functional.binary_cross_entropy_with_logits(self(batch)["lesion"].float(), batch["truth_mask"])
        return functional.cross_entropy(self(batch)["diagnosis"].float(), batch["class"])


def toy(task: str = "segment", phases: tuple[Phase, ...] = PHASES) -> Toy:
    """The same first weights each time."""
    torch.manual_seed(7)
    return Toy(task, phases)


def short(**changes: Any) -> tuple[Phase, ...]:
    """One phase."""
    return (replace(PHASES[0], name="only", **changes),)


@dataclass(frozen=True)
class IoU:
    """Mean overlap of the answers with the truth."""

    examples: Examples

    def __call__(self, answers: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, float]:
        drawn, truth = answers["lesion"] > 0, self.examples.batch(rows)["truth_mask"].numpy() >= 128
        return {"iou": float((drawn & truth).sum() / max(1, (drawn | truth).sum())), "drawn": float(drawn.mean())}


def dark_squares(folder: Path, n: int = 24, **options: Any) -> Examples:
    """Dark squares on light skin; those of class 1 are blue."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    photos, masks, classes = [], [], rng.integers(0, 2, n)
    for i in range(n):
        rgb = rng.integers(190, 220, (30, 40, 3), dtype=np.uint8)
        x, y = rng.integers(4, 20), rng.integers(4, 12)
        rgb[y : y + 14, x : x + 14] = (40, 40, 110) if classes[i] else (110, 40, 40)
        mask = np.zeros((30, 40), bool)
        mask[y : y + 14, x : x + 14] = True
        Image.fromarray(rgb).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        photos.append(Photo(pixel_sha256(rgb), folder / f"{i}.png"))
        masks.append(DrawnMask(folder / f"{i}_mask.png"))
    return Examples(("image",), SIDE_PX, photos, truth_masks=masks, classes=classes, **options)


def train(network: Toy, examples: Examples, folder: Path, **options: Any) -> Trained:
    """Train on the first two thirds."""
    n = len(examples)
    chosen = {
        "train_rows": range(2 * n // 3), "validation_rows": range(2 * n // 3, n), "score": IoU(examples), "seed": 0,
        "device": "cpu", "precision": "fp32", "console": Console(quiet=True), "folder": folder,
    }  # fmt: skip
    return fit(network, examples, **{**chosen, **options})


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = Path(sys.argv[1])
    train(toy(), dark_squares(where / "photos"), where / "checkpoint")
