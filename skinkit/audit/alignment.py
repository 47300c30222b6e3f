"""Whether two photos are one picture, mirrored, turned, shifted, scaled or cropped: by laying one upon the other.

1. **Details.** Each photo becomes a small grey picture. Slow shading is taken away and local contrast made equal.
   Uniform borders, frames and dark corners are masked.
2. **Search.** One picture is laid upon the other in two mirror versions, 24 angles and 5 scales, at every shift, by
   masked normalised cross-correlation (D. Padfield, "Masked Object Registration in the Fourier Domain", IEEE TIP 2012).
3. **Refinement.** The best positions are refined to an affine map by Gauss-Newton steps (B. D. Lucas and T. Kanade, "An
   Iterative Image Registration Technique", IJCAI 1981), from coarse to fine.
4. **Answer.** The correlation of details where the pictures overlap, at the finest level.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from skinkit.images.pixels import Array

Floats = npt.NDArray[np.float32]

SIDES_PX = (32, 48, 96)
"""Longer side of the pictures at each level, coarse to fine."""
_BLURS_PX = (3.5, 4.0, 3.0)
"""Standard deviation of what is taken away at each level: structures up to about twice that stay."""
_NOISE = 3.0
"""Contrast, in grey levels, below which a place has no details."""
_FLAT = 6.0
"""Grey levels within which a border counts as uniform."""
WIDEST_PX = 192
"""Longer side of a photo when its borders are looked for."""
_NARROWEST = 8
_MIXED = 3
"""Rows at most between two uniform ones of a border: where two frames meet, resizing mixes them."""
_ANGLES = 24
_SCALES = (0.7, 0.84, 1.0, 1.19, 1.42)
_SHIFT_PX = 48
_KEPT = 6
_STEPS = (8, 6, 5)
_PROMISING = (0.5, 0.6, -1.0)
"""Correlation at each level below which the next one is not tried.

Of 285 planted copies that are found, of 48 photos of PAD-UFES-20 and HAM10000, none had less than 0.66 and 0.73.
"""
LEAST_OVERLAP = 0.5
"""Share of the smaller picture that the overlap must have."""


@dataclass(frozen=True)
class Alignment:
    """How well two pictures lie upon each other.

    Attributes:
        correlation: of details in the overlap, -1 to 1; 0 where no promising position was found.
        overlap: share of the smaller picture.
        matrix: (2, 3), from places of the second picture to those of the first; 1 is half the longer side.
    """

    correlation: float
    overlap: float
    matrix: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(2, 3), compare=False)


@dataclass(frozen=True)
class Level:
    """A picture at one level: details and mask, both (side, side), the picture in the middle."""

    details: Floats
    mask: Floats

    @cached_property
    def channels(self) -> Floats:
        """Details, mask and the slopes of the details, padded by a pixel of zeros, (4, places)."""
        side = self.mask.shape[0]
        down, across = (part.astype(np.float32) * side / 2 for part in np.gradient(self.details))
        padded = np.pad(np.stack([self.details, self.mask, across, down]), ((0, 0), (1, 1), (1, 1)))
        return np.concatenate([padded.reshape(4, -1), np.zeros((4, side + 3), dtype=np.float32)], axis=1)


class PreparedPhoto:
    """A photo, prepared for :func:`align`.

    Args:
        rgb: uint8 (H, W, 3).
    """

    def __init__(self, rgb: Array) -> None:
        self._grey = np.asarray(Image.fromarray(bare(rgb)).convert("L"), dtype=np.float32)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The picture at each of ``SIDES_PX``."""
        return tuple(_level(self._grey, side, blur) for side, blur in zip(SIDES_PX, _BLURS_PX, strict=True))

    @cached_property
    def spectra(self) -> tuple[npt.NDArray[Any], ...]:
        """Fourier transforms of details, mask and squared details of every version of the search."""
        level = self.levels[0]
        details, mask = _warped(level, _versions(), 2)
        return _spectra(details * mask, mask)

    def forget(self) -> None:
        """Free the memory of ``spectra`` (about 7 MB)."""
        self.__dict__.pop("spectra", None)


def align(first: PreparedPhoto, second: PreparedPhoto, least: float = 0.0) -> Alignment:
    """Lay the first picture upon the second.

    Args:
        first: its versions are kept, so that comparing it with several others is cheaper.
        second: the other.
        least: correlation of the search below which positions are not refined.
    """
    starts = _search(first, second, least)
    if not len(starts):
        return Alignment(0.0, 0.0)
    matrices = starts
    for k, steps in enumerate(_STEPS):
        matrices = _refined(first.levels[k], second.levels[k], matrices, steps, affine=k > 0)
        scores, overlaps = _scores(first.levels[k], second.levels[k], matrices)
        order = np.argsort(-scores)[: max(1, _KEPT >> (k + 1))]
        matrices = matrices[order]
        if scores[order[0]] < _PROMISING[k]:
            return Alignment(0.0, 0.0)
    return Alignment(float(scores[order[0]]), float(overlaps[order[0]]), matrices[0])


# ------------------------------------------------------------------------------------------------------ details
def bare(rgb: Array) -> Array:
    """The photo at most ``WIDEST_PX`` wide and high, without a uniform border; uint8 (h, w, 3)."""
    image = Image.fromarray(rgb)
    image.thumbnail((WIDEST_PX, WIDEST_PX), Image.Resampling.BOX)
    rows, columns = borders(np.asarray(image.convert("L"), dtype=np.float32))
    return np.ascontiguousarray(np.asarray(image)[rows, columns])


def borders(grey: Floats) -> tuple[slice, slice]:
    """Rows and columns of a picture within its uniform borders or frames, and what is mixed between them."""
    inside = [slice(0, grey.shape[0]), slice(0, grey.shape[1])]
    for axis in (0, 1, 0):
        uniform = np.ptp(grey[inside[0], inside[1]], axis=1 - axis) <= 2 * _FLAT
        n, edges = len(uniform), []
        for rows in (uniform, uniform[::-1]):
            edge = 0
            while edge < 0.4 * n and rows[edge : edge + _MIXED].any():
                edge += 1 + int(np.argmax(rows[edge : edge + _MIXED]))
            edges.append(edge + 1 if edge else 0)
        if n - sum(edges) >= _NARROWEST:
            inside[axis] = slice(inside[axis].start + edges[0], inside[axis].stop - edges[1])
    return inside[0], inside[1]


def _level(grey: Floats, side: int, blur: float) -> Level:
    from scipy import ndimage

    scale = side / max(grey.shape)
    size = (max(4, round(grey.shape[1] * scale)), max(4, round(grey.shape[0] * scale)))
    small = np.asarray(
        Image.fromarray(grey).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    )
    mask = ~_outside(small)
    weight = mask.astype(np.float32)
    spread = np.maximum(ndimage.gaussian_filter(weight, blur), 1e-3)
    rest = (small - ndimage.gaussian_filter(small * weight, blur) / spread) * weight
    contrast = np.sqrt(ndimage.gaussian_filter(rest**2, blur) / spread + _NOISE**2)
    out = np.zeros((2, side, side), dtype=np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    out[:, top : top + size[1], left : left + size[0]] = rest / contrast * weight, weight
    return Level(out[0], out[1])


def _outside(grey: Floats) -> npt.NDArray[np.bool_]:
    """Flat regions at the corners: what lies around the round field of a dermoscope, or beside a turned photo."""
    from scipy import ndimage

    outside = np.zeros(grey.shape, dtype=bool)
    for y in (0, -1):
        for x in (0, -1):
            value = grey[y, x]
            if 20 < value < 245:
                continue  # a corner of skin
            regions, _ = ndimage.label(np.abs(grey - value) <= _FLAT)
            outside |= regions == regions[y, x]
    if outside.mean() > 0.6:
        return np.zeros(grey.shape, dtype=bool)
    return np.asarray(ndimage.binary_dilation(outside, iterations=2) if outside.any() else outside)


# ------------------------------------------------------------------------------------------------------- search
@lru_cache(maxsize=1)
def _versions() -> npt.NDArray[np.float64]:
    """(n, 2, 3) maps from places of a version to places of the picture."""
    out = []
    for mirror in (1, -1):
        for k in range(_ANGLES):
            a = 2 * np.pi * k / _ANGLES
            turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([mirror, 1])
            out += [np.column_stack([turn / scale, [0, 0]]) for scale in _SCALES]
    return np.array(out)


def _grid(side: int) -> npt.NDArray[np.float64]:
    """(3, side * side) homogeneous places, -1 to 1."""
    at = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(at, at)
    return np.stack([x.ravel(), y.ravel(), np.ones(side * side)])


def _warped(level: Level, matrices: npt.NDArray[np.float64], channels: int) -> Floats:
    """Channels of a level at the places that the maps name, (channels, n, side, side); bilinear, 0 outside."""
    side = level.mask.shape[0]
    places = matrices @ _grid(side)
    x, y = ((places[:, i] + 1) * side / 2 + 0.5 for i in (0, 1))  # in a picture padded by one pixel
    x, y = np.clip(x, 0, side + 0.999).astype(np.float32), np.clip(y, 0, side + 0.999).astype(np.float32)
    x0, y0 = x.astype(np.int32), y.astype(np.int32)
    right, below = x - x0, y - y0
    left, above = 1 - right, 1 - below
    at = y0.astype(np.intp) * (side + 2) + x0
    corners = (at, at + 1, at + side + 2, at + side + 3)
    out = np.empty((channels, *at.shape), right.dtype)
    for channel, values in zip(out, level.channels, strict=False):
        a, b, c, d = (values.take(places) for places in corners)
        channel[:] = (a * left + b * right) * above + (c * left + d * right) * below
    return out.reshape(channels, -1, side, side)


def _spectra(details: Floats, mask: Floats) -> tuple[npt.NDArray[Any], ...]:
    from scipy import fft

    shape = (_SHIFT_PX, _SHIFT_PX)
    return tuple(fft.rfft2(part.astype(np.float32), shape) for part in (details, mask, details**2))


def _search(first: PreparedPhoto, second: PreparedPhoto, least: float) -> npt.NDArray[np.float64]:
    """The best positions of the first picture upon the second, as maps from the second's places to the first's."""
    from scipy import fft

    level, shape = second.levels[0], (_SHIFT_PX, _SHIFT_PX)
    details, mask, squares = (np.conj(part) for part in _spectra(level.details * level.mask, level.mask))
    a, a_mask, a_squares = first.spectra
    product = fft.irfft2(a * details, shape)
    energy = np.maximum(fft.irfft2(a_squares * mask, shape), 1e-3)
    energy *= np.maximum(fft.irfft2(a_mask * squares, shape), 1e-3)
    covered = fft.irfft2(a_mask * mask, shape)
    smaller = np.minimum(first.spectra[1][:, 0, 0].real, level.mask.sum())[:, None, None]
    score = np.where(covered >= LEAST_OVERLAP * smaller, product / np.sqrt(energy), -1)
    n = len(score)
    best = score.reshape(n, -1).argmax(axis=1)
    peaks = score.reshape(n, -1)[np.arange(n), best]
    chosen = np.argsort(-peaks)[:_KEPT]
    chosen = chosen[peaks[chosen] >= least]
    shifts = np.stack(np.unravel_index(best[chosen], shape), axis=1)
    shifts = np.where(shifts > _SHIFT_PX // 2, shifts - _SHIFT_PX, shifts) * 2 / SIDES_PX[0]
    maps = _versions()[chosen].copy()
    maps[:, :, 2] = np.einsum("nij,nj->ni", maps[:, :, :2], shifts[:, ::-1])
    found: npt.NDArray[np.float64] = maps
    return found


# --------------------------------------------------------------------------------------------------- refinement
def _refined(
    first: Level, second: Level, matrices: npt.NDArray[np.float64], steps: int, *, affine: bool
) -> npt.NDArray[np.float64]:
    """Gauss-Newton steps towards equal details, each map by itself: of a similarity, or of an affine map."""
    side = first.details.shape[0]
    places = _grid(side).astype(np.float32)
    target = second.details.ravel()
    matrices = matrices.copy()
    shifts = np.zeros((2, 2, 3))
    shifts[0, 0, 2] = shifts[1, 1, 2] = 1
    for _ in range(steps):
        values, mask, gx, gy = _warped(first, matrices, 4).reshape(4, len(matrices), -1)
        weight = mask * second.mask.ravel()
        turned = matrices.copy()  # by which the map changes when the second picture is enlarged, and turned
        turned[:, :, 2] = 0
        if affine:
            moves = np.broadcast_to(np.eye(6).reshape(6, 2, 3), (len(matrices), 6, 2, 3))
        else:
            across = np.stack([turned[:, :, 1], -turned[:, :, 0], turned[:, :, 2]], axis=2)
            both = np.broadcast_to(shifts, (len(matrices), 2, 2, 3))
            moves = np.concatenate([turned[:, None], across[:, None], both], axis=1)
        moved = moves.astype(np.float32) @ places  # (n, moves, 2, pixels)
        jacobian = gx[:, None] * moved[:, :, 0] + gy[:, None] * moved[:, :, 1]
        weighted = jacobian * weight[:, None]
        normal = weighted @ jacobian.transpose(0, 2, 1)
        size = normal.shape[1]
        damping = 1e-2 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / size + 1e-3
        normal += np.eye(size, dtype=np.float32) * damping
        rest = (target - values) * weight
        step = np.linalg.solve(normal.astype(np.float64), (jacobian @ rest[:, :, None]).astype(np.float64))
        matrices += np.einsum("nk,nkij->nij", np.clip(step[..., 0], -0.1, 0.1), moves)
    return matrices


def _scores(first: Level, second: Level, matrices: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Correlation and overlap of each position; -1 where the overlap is too small or the map no photo's."""
    values, mask = _warped(first, matrices, 2)
    weight = mask * second.mask
    a, b = values * weight, second.details * weight
    product = (a * b).sum(axis=(1, 2))
    energy = np.sqrt(np.maximum((a**2).sum(axis=(1, 2)) * (b**2).sum(axis=(1, 2)), 1e-9))
    sizes = np.linalg.svd(matrices[:, :, :2], compute_uv=False)
    area = sizes.prod(axis=1)
    smaller = np.minimum(first.mask.sum() / np.maximum(area, 1e-6), second.mask.sum())
    overlap = weight.sum(axis=(1, 2)) / np.maximum(smaller, 1)
    sound = (overlap >= LEAST_OVERLAP) & (sizes[:, 0] < 2.2) & (sizes[:, 1] > 0.4) & (sizes[:, 0] < 1.5 * sizes[:, 1])
    return np.where(sound, product / energy, -1.0).astype(np.float64), overlap.astype(np.float64)
