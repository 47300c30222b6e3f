"""Integrated gradients of photo and metadata along one path, so that pixels and attributes share a unit (GFA).

With S the log odds of the target (``skinkit.explain.shapley``, eq. 1), x the inputs of a case and x0 a baseline,

    (1) IG_i = (x_i - x0_i) Int_0^1 dS/dx_i (x0 + t (x - x0)) dt        i: every pixel's channel and every column
    (2) sum_i IG_i = S(x) - S(x0)                                       completeness

The integral is the trapezoid rule over N steps, all inputs moving together. Where eq. 2 is missed by more than 1 % the
steps are doubled, the points already known being kept. (captum's rule of that name gives its N points weights that add
up to 1 - 1/N, which is 2 % too little with 50 of them.)

Source: M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017; along one path for
photo and metadata in Wang et al., DermaCalibra, Diagnostics 16(4), 630, 2026. Their baseline of zeros is, after
normalising, the mean colour of ImageNet and the mean patient: here called ``mean``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skinkit.explain.shapley import torch_log_odds
from skinkit.stats.metrics import Floats

if TYPE_CHECKING:
    import torch

Mask = npt.NDArray[np.bool_]
BASELINES = ("mean", "black", "blur")
PATHS = ("image", "attributes", "radiomics")
"""Inputs that move along the path; a lesion mask stays as it is."""
STEPS, MOST_STEPS = 50, 400
TOLERANCE = 0.01
PATH_AT_ONCE = 10
"""Points of the path in one batch, which bounds the memory."""
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_SMOOTH = 16
"""The standard deviation of the blur is the side over this."""


@dataclass(frozen=True)
class Integrated:
    """Eq. 1 of one case.

    Attributes:
        parts: input -> IG of its entries: ``image`` (3, side, side), tables (columns,).
        start: S(x0).
        end: S(x).
        steps: N.
        error: how much of S(x) - S(x0) eq. 2 misses, as a share of it.
    """

    parts: Mapping[str, Floats]
    start: float
    end: float
    steps: int
    error: float

    @property
    def heat(self) -> Floats:
        """(side, side) sum of |IG| over the channels of the photo."""
        heat: Floats = np.abs(self.parts["image"]).sum(axis=0)
        return heat


def baseline_of(batch: Mapping[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """x0 for the inputs of :data:`PATHS` in a batch.

    Args:
        batch: inputs of a network.
        kind: of the photo: ``mean`` (ImageNet's mean colour), ``black`` or ``blur`` (the photo without its details).
            Tables are zero, which after standardising is the mean case.
    """
    import torch
    from torchvision.transforms.functional import gaussian_blur

    start = {name: torch.zeros_like(batch[name]) for name in PATHS if name in batch}
    image = batch["image"]
    if kind == "mean":
        start["image"] = start["image"] + torch.tensor(_IMAGENET_MEAN, device=image.device).view(1, 3, 1, 1)
    elif kind == "blur":
        sigma = image.shape[-1] / _SMOOTH
        size = 2 * int(2 * sigma) + 1
        start["image"] = gaussian_blur(image, [size, size], [sigma, sigma])
    return start


def integrated_gradients(
    network: Any,
    batch: Mapping[str, torch.Tensor],
    positive: Mask,
    temperature: float,
    *,
    baseline: str = "mean",
    steps: int = STEPS,
    most_steps: int = MOST_STEPS,
) -> Integrated:
    """Eq. 1 of a network's calibrated log odds for one case.

    Args:
        network: a classifier of ``skinkit.models``, in eval mode.
        batch: its inputs for one case.
        positive: (classes,) whose log odds are explained.
        temperature: of the calibration.
        baseline: one of :data:`BASELINES`.
        steps: N at first.
        most_steps: N at most, when it is doubled.
    """
    starts = baseline_of(batch, baseline)
    ways = {name: batch[name] - start for name, start in starts.items()}

    def summed(points: Sequence[float], weights: Sequence[float]) -> tuple[dict[str, torch.Tensor], list[float]]:
        """Weighted sum of the gradients at points of the path, and S there."""
        import torch

        total = {name: torch.zeros_like(way[0], dtype=torch.float64) for name, way in ways.items()}
        values: list[float] = []
        for first in range(0, len(points), PATH_AT_ONCE):
            chosen = slice(first, first + PATH_AT_ONCE)
            t, w = (torch.tensor(each[chosen], dtype=torch.float32) for each in (points, weights))
            odds, gradients = _gradients(network, batch, starts, ways, t, w, positive, temperature)
            values += odds
            for name, gradient in gradients.items():
                total[name] += gradient.double()
        return total, values

    ends = [0.5 if k in (0, steps) else 1.0 for k in range(steps + 1)]
    total, values = summed([k / steps for k in range(steps + 1)], [w / steps for w in ends])
    start, end = values[0], values[-1]
    parts, error = _completed(total, ways, start, end)
    while error > TOLERANCE and 2 * steps <= most_steps:
        between, _ = summed([(k + 0.5) / steps for k in range(steps)], [0.5 / steps] * steps)
        total = {name: value / 2 + between[name] for name, value in total.items()}
        steps *= 2
        parts, error = _completed(total, ways, start, end)
    return Integrated(parts, start, end, steps, error)


def _gradients(
    network: Any,
    batch: Mapping[str, torch.Tensor],
    starts: Mapping[str, torch.Tensor],
    ways: Mapping[str, torch.Tensor],
    t: torch.Tensor,
    w: torch.Tensor,
    positive: Mask,
    temperature: float,
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """S at points (k,) of the path, and the sum of their gradients with weights (k,)."""
    import torch

    device = batch["image"].device
    t, w = t.to(device), w.to(device)
    moved = {
        name: (starts[name] + t.view(-1, *(1,) * (way.ndim - 1)) * way).detach().requires_grad_()
        for name, way in ways.items()
    }
    fixed = {name: value.expand(len(t), *value.shape[1:]) for name, value in batch.items() if name == "mask"}
    with torch.enable_grad():
        odds = torch_log_odds(network.answer({**fixed, **moved})["diagnosis"].float() / temperature, positive)
        gradients = torch.autograd.grad(odds @ w, list(moved.values()), allow_unused=True, materialize_grads=True)
    return odds.detach().tolist(), {name: g.sum(0) for name, g in zip(moved, gradients, strict=True)}


def _completed(
    total: Mapping[str, torch.Tensor], ways: Mapping[str, torch.Tensor], start: float, end: float
) -> tuple[dict[str, Floats], float]:
    """Eq. 1 from the mean gradients, and the share of S(x) - S(x0) that eq. 2 misses."""
    parts = {name: (value * ways[name][0].double()).cpu().numpy() for name, value in total.items()}
    missed = abs(sum(float(part.sum()) for part in parts.values()) - (end - start))
    return parts, missed / max(abs(end - start), 1e-12)
