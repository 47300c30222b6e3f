"""Estimators that are linear in what a frozen network says of a photo: what they share, and their log odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from skinkit.models.parts.protocol import Embedder, Estimator
from skinkit.stats.metrics import Floats

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Head:
    """Scores z = (W (r(e) - mean) / sd + offset) / temperature of one fold.

    Attributes:
        weight: (K, width) W.
        mean: (width,).
        sd: (width,).
        offset: (K,) what all but the photo adds to the scores of this case.
        temperature: of the fold.
    """

    weight: Floats
    mean: Floats
    sd: Floats
    offset: Floats
    temperature: float


class FrozenReader(Estimator):
    """An estimator whose scores are linear in the signed roots of a frozen network's features.

    A model writes :meth:`network` and :meth:`head`.

    Attributes:
        STEEP: d of the signed root r(a) = sqrt(a + d) - sqrt(d), where heatmaps need a finite slope.
    """

    REFITS = True
    BALANCED = True
    HEATMAP = "gradcam"
    STEEP: ClassVar[float]

    @classmethod
    def network(cls, config: Any) -> Any:
        """The frozen network with untrained weights: a module with a ``backbone`` and ``last``, what Grad-CAM shows."""
        raise NotImplementedError

    def head(self, embedder: Any, offset: Floats, temperature: float) -> Head:
        """This fold's scores of a case's photo."""
        raise NotImplementedError

    @classmethod
    def default_weights(cls, config: Any) -> str:
        """Public weights of the backbone; of torchvision the first edition.

        The second was trained with label smoothing and mixup, and features trained so transfer worse (Kornblith et al.,
        "Why do better loss functions lead to less transferable features?", NeurIPS 2021).
        """
        return str(config.backbone)

    @classmethod
    def embedder(cls, config: Any, state: Mapping[str, torch.Tensor], source: str = "weights") -> Embedder:
        """The frozen network with these weights, ready to be run."""
        module = cls.network(config)
        module.backbone.start(state, source)
        return cast("Embedder", module)

    @classmethod
    def explained(
        cls,
        embedder: Any,
        fitted: Sequence[Self],
        offsets: Sequence[Floats],
        temperatures: Sequence[float],
        positive: npt.NDArray[np.bool_],
    ) -> tuple[torch.nn.Module, torch.nn.Module]:
        """A module from one photo to the mean log odds over folds, and the layer inside it for Grad-CAM."""
        folds = zip(fitted, offsets, temperatures, strict=True)
        heads = [model.head(embedder, offset, temperature) for model, offset, temperature in folds]
        return log_odds(embedder, heads, positive, cls.STEEP), embedder.last


def log_odds(embedder: Any, heads: Sequence[Head], positive: npt.NDArray[np.bool_], steep: float) -> nn.Module:
    """A module from one photo to the mean over folds of the log odds of some classes.

    Args:
        embedder: the frozen network.
        heads: one per fold.
        positive: (K,) classes whose log odds are explained.
        steep: d of the signed root r(a) = sqrt(a + d) - sqrt(d), which bounds its slope at 0.
    """
    import torch
    from torch import nn

    device = next(embedder.parameters()).device

    def tensor(values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=device)

    folds = [(tensor(h.weight), tensor(h.mean), tensor(h.sd), tensor(h.offset), h.temperature) for h in heads]
    chosen = torch.as_tensor(positive, device=device)

    class LogOdds(nn.Module):
        """Differentiable from the photo on."""

        def __init__(self) -> None:
            super().__init__()
            self.embedder = embedder

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """uint8 (1, side, side, 3) -> (1,)."""
            e = self.embedder(images)
            root = torch.sign(e) * (torch.sqrt(e.abs() + steep) - steep**0.5)
            total = torch.zeros(len(images), device=device)
            for weight, mean, sd, offset, temperature in folds:
                z = (((root - mean) / sd) @ weight.T + offset) / temperature
                total = total + torch.logsumexp(z[:, chosen], 1) - torch.logsumexp(z[:, ~chosen], 1)
            return total / len(folds)

    return LogOdds()
