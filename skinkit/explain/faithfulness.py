"""Whether an explanation names what a network rests on: insertion, deletion and what is lost without the strongest.

Pixels and attributes are ranked together, the strongest first. With P the probability of the explained class, S its log
odds, x the case and x0 the baseline,

    insertion   mean of P while features of x come into x0, strongest first          higher is better
    deletion    mean of P while features of x0 replace those of x, strongest first   lower is better
    drop        S(x) - S(x without its strongest tenth)                              higher is better

An explanation that says nothing of attributes (Grad-CAM) ranks them behind all pixels. Means are areas under the curve
over the share of features, by the trapezoid rule.

Source: V. Petsiuk, A. Das and K. Saenko, "RISE", BMVC 2018, for photos; attributes among the pixels are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skinkit.explain.integrated_gradients import PATH_AT_ONCE
from skinkit.explain.shapley import torch_log_odds
from skinkit.stats.intervals import patients_of, ratios_left_out, unbounded_interval
from skinkit.stats.metrics import Floats

if TYPE_CHECKING:
    import torch

STEPS = 50
STRONGEST = 0.1
FIGURES = ("insertion", "deletion", "drop")


@dataclass(frozen=True)
class Faithfulness:
    """One explanation of one case on trial.

    Attributes:
        inserted: (STEPS + 1,) P while features come in.
        deleted: (STEPS + 1,) P while they go.
        drop: in log odds.
    """

    inserted: Floats
    deleted: Floats
    drop: float

    @property
    def figures(self) -> dict[str, float]:
        """:data:`FIGURES` by name."""
        return {"insertion": _area(self.inserted), "deletion": _area(self.deleted), "drop": self.drop}


def ranking(heat: Floats, strengths: Mapping[str, float], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Features, the strongest first: pixels by their place in the photo read row by row, then attributes.

    Args:
        heat: (side, side).
        strengths: attribute -> how strong it is, in the unit of the heat; one that is absent comes last.
        names: the attributes in order.
    """
    scores = np.concatenate([heat.ravel(), [strengths.get(name, -1.0) for name in names]])
    order: npt.NDArray[np.int64] = np.argsort(-scores, kind="stable")
    return order


def tried(
    network: Any,
    batch: Mapping[str, torch.Tensor],
    starts: Mapping[str, torch.Tensor],
    owners: Mapping[str, Sequence[str]],
    order: npt.NDArray[np.int64],
    class_index: int,
    temperature: float,
) -> Faithfulness:
    """Bring the features of a case in and out.

    Args:
        network: a classifier of ``skinkit.models``, in eval mode.
        batch: its inputs for one case.
        starts: x0 of the inputs that change (``skinkit.explain.integrated_gradients.baseline_of``).
        owners: table -> attribute behind each of its columns.
        order: of :func:`ranking`, over ``attribute_names(owners)``.
        class_index: the explained class.
        temperature: of the calibration.
    """
    side = batch["image"].shape[-1]
    names = attribute_names(owners)
    places = {name: np.array([names.index(owner) for owner in of], np.int64) for name, of in owners.items()}
    counts = np.linspace(0, len(order), STEPS + 1).round().astype(np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    strongest = round(STRONGEST * len(order))
    # True: the feature is the case's own.
    there = np.concatenate([rank < counts[:, None], rank >= counts[:, None], (rank >= strongest)[None]])
    scores = _scores(network, batch, starts, places, there, side)
    positive = np.arange(scores.shape[1]) == class_index
    p = (scores / temperature).softmax(1)[:, class_index].numpy()
    odds = torch_log_odds(scores / temperature, positive).numpy()
    whole = STEPS + 1  # the first row of the deletion: nothing is gone
    return Faithfulness(p[:whole], p[whole : 2 * whole], float(odds[whole] - odds[-1]))


def attribute_names(owners: Mapping[str, Sequence[str]]) -> list[str]:
    """The attributes of all tables, each once."""
    return list(dict.fromkeys(owner for of in owners.values() for owner in of))


def _scores(
    network: Any,
    batch: Mapping[str, torch.Tensor],
    starts: Mapping[str, torch.Tensor],
    places: Mapping[str, npt.NDArray[np.int64]],
    there: npt.NDArray[np.bool_],
    side: int,
) -> torch.Tensor:
    """(variants, classes) float64 answers for the case with some features taken from the baseline."""
    import torch

    scores = []
    for first in range(0, len(there), PATH_AT_ONCE):
        own = torch.as_tensor(there[first : first + PATH_AT_ONCE], device=batch["image"].device)
        pixels = own[:, : side * side].view(-1, 1, side, side)
        inputs = {name: values.expand(len(own), *values.shape[1:]) for name, values in batch.items()}
        inputs["image"] = torch.where(pixels, batch["image"], starts["image"])
        for name, place in places.items():
            inputs[name] = torch.where(own[:, side * side + place], batch[name], starts[name])
        with torch.inference_mode():
            scores.append(network.answer(inputs)["diagnosis"].double().cpu())
    return torch.cat(scores)


def _area(curve: Floats) -> float:
    return float(((curve[:-1] + curve[1:]) / 2).mean())


def summarised(values: Mapping[str, Mapping[str, Floats]], cluster: npt.ArrayLike) -> list[dict[str, Any]]:
    """Means over cases with 95 % intervals over patients, and the differences of the methods to the first.

    Args:
        values: method -> figure -> (n,) of each case.
        cluster: (n,) patient of each case.

    Returns:
        Rows with ``method``, ``figure``, ``mean``, ``lower``, ``upper``, and of all methods but the first
        ``difference``, ``difference_lower``, ``difference_upper``: that of the first method minus theirs.
    """
    rows = []
    (first, ahead), *_ = values.items()
    for method, figures in values.items():
        for name, of in figures.items():
            row = {"method": method, "figure": name, **_interval(of, cluster)}
            if method != first:
                gap = _interval(ahead[name] - of, cluster)
                row |= {"difference": gap["mean"], "difference_lower": gap["lower"]}
                row |= {"difference_upper": gap["upper"]}
            rows.append(row)
    return rows


def _interval(values: Floats, cluster: npt.ArrayLike) -> dict[str, float]:
    mean, left_out = ratios_left_out(values, np.ones(len(values)), cluster)
    lower, upper = unbounded_interval(mean, left_out, patients_of(cluster))
    return {"mean": float(values.mean()), "lower": lower, "upper": upper}
