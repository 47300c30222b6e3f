"""What metadata say without the photo, as log odds.

A network that learns photo and metadata together soon knows its few training photos by heart, and then has no reason
left to weigh the metadata well. A logistic regression of the metadata alone has no photo to hide behind:

    (1) g(M) = V M + c - log(pi / s),   min over V, c:  1/2 |V|^2 - C sum_i w_i log softmax(V M_i + c)_{y_i}

with the classes' shares pi among the training cases and s in the mix for which the network's probabilities hold. Each
training case stands in the sum three times, as it is, with its patient block hidden and with everything hidden; w is
how often a network sees it so.

Source: a product of experts, G. E. Hinton, "Training products of experts by minimizing contrastive divergence", Neural
Computation 14(8), 2002, doi 10.1162/089976602760128018, with two experts, each fitted by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from skinkit.regression import weighted_regression


class MetadataPrior(nn.Module):
    """Eq. 1; it answers 0 until it is fitted.

    Args:
        columns: width of M.
        classes: K.

    Attributes:
        weight: (K, columns) V.
        bias: (K,) c - log(pi / s).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, columns))
        self.register_buffer("bias", torch.zeros(classes))

    def fit(
        self,
        versions: npt.NDArray[np.float64],
        shares: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        *,
        c: float,
        supposed: npt.NDArray[np.float64],
    ) -> None:
        """Solve eq. 1.

        Args:
            versions: (v, n, columns) M of the training cases, once for each way in which some of it is hidden.
            shares: (v,) how often a network sees a case so; they sum to 1.
            labels: (n,) class indices.
            c: C; smaller is a stronger penalty.
            supposed: (K,) s; a class without a case has log odds of 0.
        """
        used, classes = shares > 0, len(self.bias)
        counts = np.bincount(labels, minlength=classes)
        known = (counts > 0) & (supposed > 0) & (np.count_nonzero(counts) > 1)
        moved = np.zeros(classes)
        moved[known] = np.log(counts[known] / len(labels) / supposed[known])
        weights, labels = np.repeat(shares[used], len(labels)), np.tile(labels, int(used.sum()))
        weight, bias = weighted_regression(np.concatenate(list(versions[used])), labels, classes, c, weights)
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias - moved))

    def forward(self, attributes: torch.Tensor) -> torch.Tensor:
        """(n, K) g of (n, columns) M."""
        # A matrix product would be rounded to bfloat16 where training is.
        return (attributes[:, None] * self.weight).sum(2) + self.bias
