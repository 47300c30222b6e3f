"""A backbone of some thousand parameters, for tests of what stands around it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from torch import nn


class Narrow(nn.Module):
    """A ResNet in its names and its resolutions, with one layer a stage."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 64), stem: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for number, (narrower, width) in enumerate(pairwise((stem, *widths)), start=1):
            stage = nn.Sequential(
                nn.Conv2d(narrower, width, 1, 1 if number == 1 else 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            self.add_module(f"layer{number}", stage)
        self.fc: nn.Module = nn.Identity()

    def forward(self, x: Any) -> Any:
        for name, module in self.named_children():
            x = module(x.mean((2, 3)) if name == "fc" else x)
        return x


@contextlib.contextmanager
def narrow_resnet50() -> Iterator[None]:
    """``hybrid_resnet50`` is built on it meanwhile, with as many channels where its maps and features are read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.models.resnet50", lambda: Narrow((8, 16, 32, 2048), stem=64))
        yield
