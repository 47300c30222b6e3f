"""What a prediction rests on: contributions of attributes, heatmaps over the photo, and how much of them is lesion.

Contributions are in log odds of *positive against the rest*, where positive is a class or the malignant classes. With
scores z (their softmax is the prediction), P the positive classes and N the others,

    (1) s = logsumexp_{c in P} z_c - logsumexp_{c in N} z_c                     log odds
    (2) v_c = softmax_P(z)_c on P,  -softmax_N(z)_c on N                        ds/dz_c
    (3) contribution of an input = sum_c v_c * (what it adds to z_c)

With one class on each side eq. 3 splits s exactly; otherwise it splits s up to the entropies of v on both sides, which
stay in the baseline. Eq. 3 needs scores that are sums over inputs. A network's are not: its log odds are split by
Shapley values, whose baseline is the log odds of a case that is average in everything,

    (4) phi_j = sum_{S without j} |S|! (p - |S| - 1)! / p!  (s(S + j) - s(S))       S: inputs as in the case, the others
                                                                                 as they are on average in training
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.metrics import Floats
from skinkit.stats.shapley import exact_shapley_values

if TYPE_CHECKING:
    import torch

Mask = npt.NDArray[np.bool_]


def log_odds(scores: Floats, positive: Mask) -> float:
    """Log odds of the positive classes against the others, eq. 1.

    Args:
        scores: (classes,) logits or log-probabilities.
        positive: (classes,) which count; both sides must have one.
    """
    return float(np.logaddexp.reduce(scores[positive]) - np.logaddexp.reduce(scores[~positive]))


def margin_weights(scores: Floats, positive: Mask) -> Floats:
    """How much each class's score moves the log odds, eq. 2; sums to 1 over the positive and to -1 over the others."""
    weights = np.empty_like(scores)
    for side, sign in ((positive, 1.0), (~positive, -1.0)):
        e = np.exp(scores[side] - scores[side].max())
        weights[side] = sign * e / e.sum()
    return weights


def ranked(names: Iterable[str], contributions: Iterable[float], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Contributions of columns summed per attribute, strongest first; attributes that add nothing are left out.

    Args:
        names: attribute of each column.
        contributions: what each column adds.
        values: attribute -> value of the case, shown beside it.
    """
    sums: dict[str, float] = {}
    for name, contribution in zip(names, contributions, strict=True):
        sums[name] = sums.get(name, 0.0) + float(contribution)
    order = sorted((name for name, total in sums.items() if total), key=lambda name: (-abs(sums[name]), name))
    return [{"attribute": name, "value": values.get(name), "contribution": sums[name]} for name in order]


EXACT_PLAYERS = 13
"""Up to so many inputs eq. 4 is summed in full (8192 evaluations); from there on it is estimated."""
_ORDERS = 64
_COALITIONS_AT_ONCE = 1024
_NUMBERS_AT_ONCE = 1 << 25
"""Of what a network sees in photos, over all coalitions at once: 128 MiB."""
_BLUR, _FULL = 0.02, 0.005
"""Of pixelwise heatmaps: standard deviation of the blur as a share of the side, share of pixels painted in full."""


def shapley(value: Callable[[Mask], Floats], players: int, seed: int = 0) -> Floats:
    """Shapley values of a game, eq. 4; they add up to value(all) - value(none).

    With more than :data:`EXACT_PLAYERS` players they are means over random orders, each taken forwards and backwards.

    Args:
        value: (n, players) who takes part -> (n,) what they are worth together.
        players: how many there are.
        seed: of the orders.

    Returns:
        (players,).

    Source: eq. 4; random orders with their reverse as in Mitchell et al., "Sampling permutations for Shapley value
    estimation", JMLR 23, 2022.
    """
    return exact_shapley_values(value, players) if players <= EXACT_PLAYERS else _over_orders(value, players, seed)


def _over_orders(value: Callable[[Mask], Floats], players: int, seed: int) -> Floats:
    """Eq. 4 as the mean gain of each player over random orders in which they come, and those orders backwards."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(players) for _ in range(_ORDERS)]
    orders += [order[::-1] for order in orders]
    places = np.argsort(orders, axis=1)
    present = places[:, None, :] < np.arange(players + 1)[None, :, None]  # (orders, how many have come, players)
    worth = value(present.reshape(-1, players)).reshape(len(orders), players + 1)
    gains = np.diff(worth, axis=1)
    out: Floats = np.take_along_axis(gains, places, axis=1).mean(axis=0)
    return out


def torch_log_odds(scores: torch.Tensor, positive: Mask) -> torch.Tensor:
    """Eq. 1 of (n, classes) scores, differentiable."""
    import torch

    chosen = torch.as_tensor(positive, device=scores.device)
    return torch.logsumexp(scores[:, chosen], 1) - torch.logsumexp(scores[:, ~chosen], 1)


def odds_of_photos(
    network: Any, batch: Mapping[str, torch.Tensor], positive: Mask, temperature: float, name: str = "image"
) -> Any:
    """A module from photos (n, 3, side, side) to the calibrated log odds of a network; its other inputs stay.

    Args:
        network: a classifier of ``skinkit.models``.
        batch: its inputs for this case.
        positive: (classes,) whose log odds they are.
        temperature: of the calibration.
        name: under which the network reads the photos.
    """
    from torch import nn

    class LogOdds(nn.Module):
        """Eq. 1 over the network's answer."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            answer = self.network.answer({**batch, name: images})["diagnosis"]
            return torch_log_odds(answer.float() / temperature, positive)

    return LogOdds()


def odds_of_inputs(
    network: Any,
    batch: Mapping[str, torch.Tensor],
    groups: Mapping[str, Iterable[str]],
    positive: Mask,
    temperature: float,
) -> tuple[list[str], Floats, float]:
    """A network's log odds for one case, split over the photo and whatever is known beside it.

    An attribute of several columns takes part as one; one that is average takes no part, because it adds nothing. The
    photo with its mask takes part as one too. In the place of what is absent stands the mean of training: 0 for the
    standardised columns, and ``network.reference_embedding`` for what the network makes of a photo.

    Args:
        network: a classifier of ``skinkit.models``.
        batch: its inputs for one case.
        groups: table of the batch -> the attribute behind each of its columns.
        positive: (classes,) whose log odds they are.
        temperature: of the calibration.

    Returns:
        Names, what each adds (eq. 4), and the baseline; together they are the log odds of the case.
    """
    import torch

    with torch.no_grad():
        seen = network.encode(batch)
    absent = network.reference_embedding[None].to(seen)
    tables = {name: batch[name] for name in groups}
    columns = [
        (table, i, owner)
        for table, owners in groups.items()
        for i, owner in enumerate(owners)
        if bool(tables[table][0, i] != 0)
    ]
    names = ["image", *dict.fromkeys(owner for _, _, owner in columns)]
    place = {name: j for j, name in enumerate(names)}

    @torch.no_grad()
    def worth(there: torch.Tensor) -> torch.Tensor:
        photo = there[:, 0].view(-1, *(1,) * (seen.ndim - 1))
        inputs = {name: torch.zeros_like(values).repeat(len(there), 1) for name, values in tables.items()}
        for table, i, owner in columns:
            inputs[table][:, i] = tables[table][0, i] * there[:, place[owner]]
        scores = network.head(torch.where(photo, seen, absent), inputs)["diagnosis"]
        return torch_log_odds(scores.double() / temperature, positive)

    def value(present: Mask) -> Floats:
        there = torch.as_tensor(present, device=seen.device)
        size = max(1, min(_COALITIONS_AT_ONCE, _NUMBERS_AT_ONCE // seen.numel()))
        out: Floats = torch.cat([worth(part) for part in torch.split(there, size)]).cpu().numpy()
        return out

    baseline = float(value(np.zeros((1, len(names)), bool))[0])
    return names, shapley(value, len(names)), baseline


def grad_cam(module: torch.nn.Module, layer: torch.nn.Module, images: torch.Tensor) -> Floats:
    """Grad-CAM of the module's one output at a layer, positive support only.

    Args:
        module: (n, ...) images -> one number.
        layer: inside it; answers (m, channels, h, w).
        images: input.

    Returns:
        (m, h, w), at least 0.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017; computed by captum.
    """
    from captum.attr import LayerGradCam

    heat = LayerGradCam(module, layer).attribute(images, relu_attributions=True)
    out: Floats = heat[:, 0].detach().double().cpu().numpy()
    return out


def straightened(maps: Floats, repeats: int = 1) -> Floats:
    """(h, w) of Grad-CAM's maps of a photo (1, h, w), or of a photo and its mirror image (2, h, w).

    Maps whose places were repeated along a side have steps where other maps are interpolated: these are smoothed away.
    """
    straight: Floats = maps[0] if len(maps) == 1 else maps[0] + maps[1][:, ::-1]
    if repeats == 1:
        return straight
    from scipy.ndimage import gaussian_filter

    smooth: Floats = gaussian_filter(straight, repeats / 2, mode="nearest")
    return smooth


def mixed(maps: Sequence[tuple[Floats, float]]) -> Floats:
    """Heatmaps of one photo by several networks as one, on the grid of the largest.

    Behind a mean over places Grad-CAM's maps are log odds a place, whose sum is what the photo adds; so a map that is
    spread over more places has its values divided among them.

    Args:
        maps: (h, w) and its weight, each.

    Returns:
        (h, w) whose sum is the weighted sum of theirs, but for what interpolation makes of it.
    """
    largest = max((heat for heat, _ in maps), key=lambda heat: heat.size).shape
    total = np.zeros(largest)
    for heat, weight in maps:
        total += weight * enlarged(heat, (largest[1], largest[0])) * (heat.size / total.size)
    return total


def occlusion_cells(mask: Mask, cells: int) -> list[Mask]:
    """The lesion cut by a grid over its bounding box; the parts that are not empty, together the mask.

    Args:
        mask: (H, W).
        cells: cells along each side of the bounding box.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    row_edges = np.unique(np.linspace(rows[0], rows[-1] + 1, cells + 1).round().astype(int))
    column_edges = np.unique(np.linspace(columns[0], columns[-1] + 1, cells + 1).round().astype(int))
    parts = []
    for top, bottom in pairwise(row_edges):
        for left, right in pairwise(column_edges):
            part = np.zeros_like(mask)
            part[top:bottom, left:right] = mask[top:bottom, left:right]
            if part.any():
                parts.append(part)
    return parts


def occlusion_of_mask(mask: Mask, cells: int, score: Callable[[Mask], float | None]) -> Floats:
    """How much the score falls when one part of the lesion is not measured, painted on that part.

    Args:
        mask: (H, W) lesion.
        cells: cells along each side of its bounding box.
        score: of a mask; None where what is left cannot be measured.

    Returns:
        (H, W), at least 0: parts without which the score rises are 0.
    """
    heat = np.zeros(mask.shape)
    whole = score(mask)
    if whole is None:
        return heat
    for part in occlusion_cells(mask, cells):
        without = score(mask & ~part)
        if without is not None:
            heat[part] = max(0.0, whole - without)
    return heat


def inside_share(heat: Floats, mask: Mask) -> float | None:
    """Share of the heatmap's energy inside the mask, 0 to 1; None where the heatmap is empty."""
    total = float(heat.sum())
    return float(heat[mask].sum()) / total if total > 0 else None


def points_inside(heat: Floats, mask: Mask) -> bool | None:
    """Pointing game: whether the heatmap is strongest at a place inside the mask; None where it is empty.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016; without a margin here.
    """
    return bool(mask.flat[int(heat.argmax())]) if heat.max(initial=0.0) > 0 else None


def as_grey(heat: Floats, most: float | None = None) -> npt.NDArray[np.uint8]:
    """A heatmap as 8 bits, 255 where it is strongest, or from a value on."""
    if most is not None:
        heat = np.clip(heat, 0.0, most)
    strongest = heat.max(initial=0.0) if most is None else most
    if strongest <= 0:
        return np.zeros(heat.shape, np.uint8)
    out: npt.NDArray[np.uint8] = np.rint(heat / strongest * 255).astype(np.uint8)
    return out


def softened(heat: Floats) -> Floats:
    """(h, w) pixelwise support as it is painted, 0 to 1: blurred, and full from its highest half percent on.

    Integrated gradients are large on a few single pixels; scaled by the largest one, all the rest is too pale to see.
    """
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(np.asarray(heat, np.float64), _BLUR * max(heat.shape))
    full = float(np.quantile(blurred, 1 - _FULL))
    out: Floats = np.minimum(blurred / full, 1.0) if full > 0 else blurred
    return out


def enlarged(heat: Floats, size: tuple[int, int]) -> Floats:
    """A small heatmap at the image's own size, (width, height), interpolated bilinearly."""
    from PIL import Image

    picture = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float64)
