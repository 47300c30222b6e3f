"""The last linear layer of a network that answers the classes: what it reads, and what it says of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from skinkit.errors import InputError
from skinkit.stats.metrics import Floats

if TYPE_CHECKING:
    import torch

FEATURES = "features"
"""Name of what the last layer reads, in the answers of :class:`Penultimate`."""


class Penultimate:
    """A network that answers what its last layer reads, beside what it answers otherwise.

    Args:
        network: ends in a linear layer.
        classes: how many the layer answers.

    Raises:
        InputError: the network ends otherwise.
    """

    def __init__(self, network: Any, classes: int) -> None:
        import torch

        self.network = network
        self.answers_in = network.answers_in
        layers = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == classes]
        if not layers:
            raise InputError(
                f"{type(network).__name__} has no linear layer that answers {classes} classes",
                "a network that ends in one",
                "name another model",
            )
        self.last = layers[-1]

    def to(self, *where: Any, **how: Any) -> Penultimate:
        """As of a module."""
        self.network.to(*where, **how)
        return self

    def eval(self) -> Penultimate:
        """As of a module."""
        self.network.eval()
        return self

    def answer(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The network's answers, and ``features`` (n, width): the mean over all passes."""
        import torch

        read: list[torch.Tensor] = []
        hook = self.last.register_forward_hook(lambda _module, inputs, _out: read.append(inputs[0].float()))
        try:
            answers = self.network.answer(batch)
        finally:
            hook.remove()
        n = len(next(iter(batch.values())))
        return {**answers, FEATURES: torch.cat([part.reshape(-1, n, part.shape[-1]) for part in read]).mean(0)}

    def scores(self, inputs: Mapping[str, np.ndarray]) -> Floats:
        """(n, classes) what the layer says of ``features`` (n, width)."""
        weight = self.last.weight.detach().double().cpu().numpy()
        bias = 0.0 if self.last.bias is None else self.last.bias.detach().double().cpu().numpy()
        out: Floats = inputs[FEATURES].astype(np.float64) @ weight.T + bias
        return out
