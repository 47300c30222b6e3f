"""What a network of photo and attributes rests on at one stage of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as functional

from skinkit.explain.integrated_gradients import STEPS, integrated_gradients
from skinkit.explain.shapley import as_grey

SIDE, BINS = 56, 20
"""Largest side of the heatmaps that are kept, and bins of the histograms."""


class Explainable(Protocol):
    """What a network of photo and attributes has to have for a snapshot.

    Attributes:
        owners: the attribute behind each column of ``attributes``.
        classes: class codes in order.
        columns: width of ``attributes``.
    """

    owners: tuple[str, ...]
    classes: tuple[str, ...]
    columns: int

    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What :meth:`head` makes of the photos."""

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Answers; reads no photo."""

    def factors(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """(n, channels) factors between 0 and 1 by which metadata weight the photo's channels, if it has any."""


class Snapshot:
    """Gathers, batch by batch, importances, channel weights and a heatmap for each class.

    Args:
        network: in eval mode.
    """

    def __init__(self, network: Explainable) -> None:
        self.network = network
        self.seen = 0
        self.names = list(dict.fromkeys(network.owners))
        self.sums = torch.zeros(len(self.names), dtype=torch.float64)
        self.counts = torch.zeros(len(network.classes), BINS, dtype=torch.float64)
        self.totals = torch.zeros(len(network.classes), dtype=torch.float64)
        self.cases: dict[int, dict[str, Any]] = {}

    def add(self, batch: Mapping[str, torch.Tensor]) -> None:
        """Add some validation rows."""
        with torch.no_grad():
            seen = self.network.encode(batch)
            factors = self.network.factors(seen, batch)
        self._importances(seen, batch)
        for row, label in enumerate(batch["class"].tolist()):
            if factors is not None:
                values = factors[row].double().cpu()
                self.counts[label] += torch.histc(values, BINS, 0, 1)
                self.totals[label] += values.sum()
            if label not in self.cases:
                one = {name: values[row : row + 1] for name, values in batch.items() if name != "class"}
                self.cases[label] = {"index": self.seen + row, "class": self.network.classes[label]}
                self.cases[label]["heat"] = self._heat(one, label)
        self.seen += len(batch["class"])

    def result(self) -> dict[str, Any]:
        """What :meth:`PhotoClassifier.snapshot` answers."""
        mean = (self.sums / max(1, self.seen)).tolist()
        snapshot: dict[str, Any] = {"importance": {n: v for n, v in zip(self.names, mean, strict=True) if n}}
        snapshot["cases"] = [self.cases[label] for label in sorted(self.cases)]
        n = self.counts.sum(1)
        snapshot["factors"] = {
            code: {"mean": float(self.totals[i] / n[i]), "histogram": (self.counts[i] / n[i]).tolist()}
            for i, code in enumerate(self.network.classes)
            if n[i]
        }
        return snapshot

    def _importances(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> None:
        if not self.network.columns:
            return
        values = batch["attributes"].detach().clone().requires_grad_()
        with torch.enable_grad():
            scores = self.network.head(seen, {**batch, "attributes": values})["diagnosis"].float()
            top = functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
            rest = scores.masked_fill(top, -torch.inf).logsumexp(1)
            odds = scores.masked_fill(~top, 0).sum(1) - rest
            (gradient,) = torch.autograd.grad(odds.sum(), values, allow_unused=True, materialize_grads=True)
        products = (gradient * values).detach().double().cpu()
        for i, name in enumerate(self.names):
            columns = [j for j, owner in enumerate(self.network.owners) if owner == name]
            self.sums[i] += products[:, columns].sum(1).abs().sum()

    def _heat(self, one: Mapping[str, torch.Tensor], label: int) -> list[list[int]]:
        positive = np.arange(len(self.network.classes)) == label
        attribution = integrated_gradients(self.network, one, positive, 1.0, most_steps=STEPS)
        side = min(SIDE, attribution.heat.shape[0])
        small = functional.adaptive_avg_pool2d(torch.from_numpy(attribution.heat)[None, None], side)[0, 0].numpy()
        return as_grey(small - small.min()).tolist()  # type: ignore[no-any-return]
