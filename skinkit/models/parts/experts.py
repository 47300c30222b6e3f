"""Two linear experts: one reads the metadata alone, one the features of a backbone that is not trained.

A network that learns photo and metadata together soon overfits its few training photos, and then nothing teaches it to
weigh the metadata. An expert that reads only one of both is a convex problem:

    (1) g(M) = V phi(M) + c - log pi,   phi(M) = [m; rho m_i m_j for i <= j],   m = 2 tanh((M - mu) / 2 sigma)
    (2) h(x) = W (e(x) - mean) / sd + b + log s
    (3) e(x) = r(mean over v of [GAP(F_2 v(x)); GAP(F_3 v(x)); GAP(F_4 v(x)); max(F_4 v(x))])
        r(a) = sqrt(a + d) - sqrt(d),   r(-a) = -r(a)

g minimises 1/2 |V|^2 - C sum_i w_i log softmax(V phi(M_i) + c)_{y_i}. Each training case stands in the sum once for
each way in which some of its metadata are hidden; w is how often a network sees it so, mu and sigma are of the metadata
as they are, pi are the classes' shares among the training cases. h minimises the class-balanced log loss of the same
form (``skinkit.stats.regression``), and s are the shares of the classes for which its probabilities hold. F_l are
stages of the backbone with the weights it came with; the views v are the middle of the photo enlarged to the whole, as
it is and turned by a quarter, each also mirrored. d = 0.01 bounds the root's slope, without which integrated gradients
from a photo that says nothing, whose features are zero, need hundreds of steps. The sum g + h is then the log posterior
of a case whose photo and metadata are independent given its class.

Sources: product of experts, G. E. Hinton, "Training products of experts by minimizing contrastive divergence", Neural
Computation 14(8), 2002, doi 10.1162/089976602760128018, with two experts, each fitted by itself. Eq. 3 follows
``skinkit.models.frozen_probe``; the signed square root and what it comes from are named there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.models.parts.backbone import Backbone
from skinkit.stats.regression import balanced_regression, weighted_regression

MIDDLE = 0.65
"""Side of the middle of the photo that eq. 3 looks at. Lesions are photographed into the middle."""
_WIDEST = 2.0
"""Bound of m: products with a lesion of ten times the usual diameter would speak for that case alone."""
_LEAST_SD = 0.2
"""A column that is almost always the same must not become the loudest by being standardised."""
_TINY = 1e-12
_STEEP = 0.01
"""d of eq. 3. Half of the features are below 0.13; no figure of the five folds moved by more than 0.004."""


class MetadataExpert(nn.Module):
    """Eq. 1; it answers 0 until it is fitted.

    Args:
        columns: width of M.
        classes: K.
        interactions: rho; 0 leaves the products out.

    Attributes:
        mean: (columns,) mu.
        sd: (columns,) sigma.
        weight: (K, columns) of V.
        pairs: (K, columns (columns + 1) / 2) of V, or (K, 0).
        bias: (K,) c - log pi.
    """

    mean: torch.Tensor
    sd: torch.Tensor
    weight: torch.Tensor
    pairs: torch.Tensor
    bias: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    def __init__(self, columns: int, classes: int, interactions: float) -> None:
        super().__init__()
        self.interactions = interactions
        first, second = torch.triu_indices(columns, columns) if interactions else torch.zeros(2, 0, dtype=torch.int64)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("sd", torch.ones(columns))
        self.register_buffer("weight", torch.zeros(classes, columns))
        self.register_buffer("pairs", torch.zeros(classes, len(first)))
        self.register_buffer("bias", torch.zeros(classes))

    def fit(
        self,
        versions: npt.NDArray[np.float64],
        shares: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        *,
        c: float,
    ) -> None:
        """Solve eq. 1; a class without a case gets 0.

        Args:
            versions: (v, n, columns) M of the training cases, once for each way in which some of it is hidden; the
                first as it is.
            shares: (v,) how often a network sees a case so; they sum to 1.
            labels: (n,) class indices.
            c: C; smaller is a stronger penalty.
        """
        used, classes = shares > 0, len(self.bias)
        self.mean.copy_(torch.from_numpy(versions[0].mean(0)))
        self.sd.copy_(torch.from_numpy(np.maximum(versions[0].std(0), _LEAST_SD)))
        rows = torch.from_numpy(np.concatenate(list(versions[used])))
        phi = torch.cat(self._phi(rows), 1).numpy()
        weights, repeated = np.repeat(shares[used], len(labels)), np.tile(labels, int(used.sum()))
        weight, bias = weighted_regression(phi, repeated, classes, c, weights)
        counts = np.bincount(labels, minlength=classes)
        present = (counts > 0) & (np.count_nonzero(counts) > 1)
        bias[present] -= np.log(counts[present] / len(labels))
        columns = self.weight.shape[1]
        self.weight.copy_(torch.from_numpy(weight[:, :columns]))
        self.pairs.copy_(torch.from_numpy(weight[:, columns:]))
        self.bias.copy_(torch.from_numpy(bias))

    def forward(self, attributes: torch.Tensor) -> torch.Tensor:
        """(n, K) g of (n, columns) M."""
        # Not rounded to bfloat16 where training is: the products' sums are long.
        with torch.autocast(attributes.device.type, enabled=False):
            single, products = self._phi(attributes.float())
            return single @ self.weight.T + products @ self.pairs.T + self.bias

    def _phi(self, attributes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        m = (attributes - self.mean.to(attributes.dtype)) / self.sd.to(attributes.dtype)
        m = _WIDEST * torch.tanh(m / _WIDEST)
        return m, self.interactions * m[:, self.first] * m[:, self.second]


class FrozenBackbone(nn.Module):
    """Eq. 3: a backbone that is not trained, and what it makes of a photo.

    Args:
        backbone: network of torchvision or timm.
        side_px: side of the photos.
    """

    def __init__(self, backbone: str, side_px: int = 224) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, side_px)
        *_, second, third, last = self.backbone.widths
        self.width = second + third + 2 * last
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Never into training mode: BatchNorm keeps the statistics it came with."""
        return super().train(False)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> None:
        """Take over public weights; others raise :class:`InputError`."""
        self.backbone.start(state, source)

    def answer(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``frozen``, eq. 3 of ``image``."""
        return {"frozen": self(batch["image"])}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) photos, 0 to 1, in RGB -> (n, width) e."""
        n, side = len(image), image.shape[-1]
        kept = max(1, round(side * MIDDLE))
        at = (side - kept) // 2
        middle = image[..., at : at + kept, at : at + kept]
        x = functional.interpolate(middle, size=(side, side), mode="bilinear", align_corners=False)
        x = torch.cat([x, x.rot90(1, (2, 3))])
        x = torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last)
        maps = self.backbone(x)
        pooled = [m.mean((2, 3)) for m in maps[-3:]] + [maps[-1].amax((2, 3))]
        e = torch.cat(pooled, 1).float().view(4, n, -1).mean(0)
        return e / ((e.abs() + _STEEP).sqrt() + math.sqrt(_STEEP))  # r, whose slope at 0 autograd then knows


class PhotoExpert(nn.Module):
    """Eq. 2; it answers 0 until it is fitted.

    Args:
        width: of e.
        classes: K.

    Attributes:
        mean: (width,) of e in training.
        sd: (width,) likewise.
        weight: (K, width) W.
        bias: (K,) b + log s.
    """

    mean: torch.Tensor
    sd: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))

    def fit(
        self,
        features: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        *,
        c: float,
        prior: npt.NDArray[np.float64],
    ) -> None:
        """Solve eq. 2; a class without a case is never its answer.

        Args:
            features: (n, width) e of the training photos.
            labels: (n,) class indices.
            c: C; smaller is a stronger penalty.
            prior: (K,) s, the effective class prior.
        """
        if len(np.unique(labels)) < 2:
            return
        mean, sd = features.mean(0), features.std(0)
        sd[sd < _TINY] = 1.0
        weight, bias = balanced_regression((features - mean) / sd, labels, len(self.bias), c)
        present = prior > 0
        bias[present] += np.log(prior[present] * present.sum())
        for buffer, values in ((self.mean, mean), (self.sd, sd), (self.weight, weight), (self.bias, bias)):
            buffer.copy_(torch.from_numpy(values))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, K) h of (n, width) e."""
        with torch.autocast(features.device.type, enabled=False):
            return ((features.float() - self.mean) / self.sd) @ self.weight.T + self.bias
