"""Ten quality checks of a photo: is it fit to be measured and classified?

Photos are shrunk to ``long_side_px`` first, so that a check means the same for 12 megapixels and for a copy of
512; only resolution and blockiness are measured on the photo as it is. Without a mask the whole frame is measured; with
one, focus, motion, exposure, clipping, glare and hair are measured in the lesion's box and a margin around it.

    focus        variance of the Laplacian                motion       weakest over strongest gradient direction
    exposure     mean L*                                  clipping     share of clipped pixels
    glare        share of light, colourless pixels        cast         distance of the border's mean a*, b*
    resolution   shorter side, px                         framing      the lesion's share of the frame, and the edge
    compression  8 x 8 blockiness                         hair         share of dark lines

Exposure is judged on clipping first: limits of L* are wider where hardly any pixel is clipped, and wider still for
Fitzpatrick types V and VI, because dark skin is dark in a well exposed photo.

The constants are those of ``quality.toml``; ``capture/static/quality.js`` computes the same in a browser from the same
table. Research software: no check is a diagnosis, and a photo that passes may still be unfit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.errors import ConfigError
from skinkit.images.lab import lightness, mean_tint, to_lab

Bytes = npt.NDArray[np.uint8]
Whole = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Table = Mapping[str, Any]
"""Constants, in the shape of ``quality.toml``."""
CHECKS = (
    "focus", "motion", "exposure", "clipping", "glare", "cast", "resolution", "framing", "compression", "hair",
)  # fmt: skip
PASS, WARN, FAIL, UNKNOWN = "pass", "warn", "fail", "unknown"
_GREY = (299, 587, 114)
"""ITU-R 601 luma in thousandths: whole numbers, so that a browser's sums are the same to the last bit."""
_SECTORS = tuple(float(np.tan(odd * np.pi / 16)) for odd in (1, 3, 5, 7))
"""Steepness at which a gradient leaves one of eight directions, which are centred on horizontal and vertical."""
_TIE = 1e-7
"""Added before rounding, so that sums in another order round a half the same way."""
_ROWS = 16
"""Rows of a strip, and so many times 512 pixels of the border."""
_FEWEST = 3
"""Pixels along a side without which no gradient is measured."""


@dataclass(frozen=True)
class Check:
    """One check of a photo.

    Attributes:
        value: what was measured; None where it cannot be.
        status: ``pass``, ``warn``, ``fail`` or ``unknown``.
        remedy: key of a text in ``quality_words.toml``; empty where nothing is to be done.
    """

    value: float | None
    status: str
    remedy: str = ""


@dataclass(frozen=True)
class Quality:
    """Checks of a photo by name, and the worst of them.

    Attributes:
        checks: name -> check, in the order of :data:`CHECKS`.
        verdict: ``pass``, ``warn`` or ``fail``.
    """

    checks: Mapping[str, Check]
    verdict: str

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that fail."""
        return tuple(name for name, check in self.checks.items() if check.status == FAIL)


@cache
def default_table() -> Table:
    """The constants of ``quality.toml``."""
    return tomllib.loads((resources.files("skinkit.images") / "quality.toml").read_text(encoding="utf-8"))


def words(language: str) -> dict[str, str]:
    """Remedy and check names -> text, in ``en`` or ``zh-CN``."""
    text = (resources.files("skinkit.images") / "quality_words.toml").read_text(encoding="utf-8")
    every: dict[str, str] = tomllib.loads(text)[language]
    return every


def read_table(text: str, name: str) -> Table:
    """A table of constants from TOML.

    Args:
        text: of the file.
        name: of the file, for errors.

    Raises:
        ConfigError: it is no TOML, or lacks a constant or has one of another kind.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{name}: {error}", "a table of quality checks in TOML", "write one with --calibrate"
        ) from None
    for key, value in _flat(default_table()).items():
        other = _flat(found).get(key)
        number = isinstance(value, (int, float))
        right = (
            isinstance(other, (int, float)) and not isinstance(other, bool) if number else type(other) is type(value)
        )
        if not right:
            raise ConfigError(f"{name}: {key} is {other!r}", f"a value such as {value!r}", "write one with --calibrate")
    return found


def _flat(table: Table) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, Mapping) else {key: value}
    return out


def assess(
    image: Bytes, mask: Mask | None = None, *, fitzpatrick: str | None = None, table: Table | None = None
) -> Quality:
    """The ten checks of a photo.

    Args:
        image: uint8 (H, W, 3), sRGB, upright.
        mask: bool (H, W) of the lesion; None, or one without a pixel, measures the whole frame.
        fitzpatrick: ``1`` to ``6`` where it is known.
        table: constants; those of ``quality.toml`` by default.
    """
    constants = default_table() if table is None else table
    return judge(measure(image, mask, constants), constants, fitzpatrick)


def measure(image: Bytes, mask: Mask | None = None, table: Table | None = None) -> dict[str, float | None]:
    """What is measured, before any limit: a value for each of :data:`CHECKS`, None where it cannot be.

    Beside them ``contact`` (share of the frame's edge that the lesion covers), ``region_px`` (shorter side of the
    lesion's box), ``cast_a`` and ``cast_b`` (mean a* and b* of the border).
    """
    t = default_table() if table is None else table
    lesion = mask if mask is not None and mask.any() else None
    small = image if max(image.shape[:2]) <= t["long_side_px"] else _rounded(shrunk_by_area(image, t["long_side_px"]))
    seen = None if lesion is None else shrunk_by_area(lesion, t["long_side_px"])[..., 0] >= 0.5
    seen = seen if seen is not None and seen.any() else None
    height, width = small.shape[:2]
    box = (0, height, 0, width) if seen is None else _box(seen, t["region_margin"])
    whole = _planes(small)
    planes = np.ascontiguousarray(whole[:, box[0] : box[1], box[2] : box[3]])
    grey = _grey(planes)
    darkest, brightest = planes.min(axis=0), planes.max(axis=0)
    clipped = (darkest <= t["clipping"]["low"]) | (brightest >= t["clipping"]["high"])
    exposure, glare = _light(planes, t["glare"]["lightness"], t["glare"]["chroma"])
    tint = _tint(whole)
    out: dict[str, float | None] = {
        "focus": _focus(grey / 1000),
        "motion": _motion(grey),
        "exposure": exposure,
        "clipping": float(clipped.mean()),
        "glare": glare,
        "cast": float(np.hypot(*(tint - t["cast"]["reference"]))),
        "resolution": float(min(image.shape[:2])),
        "framing": None,
        "compression": _blockiness(grey if planes.shape[1:] == image.shape[:2] else _grey(_planes(image))),
        "hair": _hair(grey, t["hair"]["side_px"], t["hair"]["depth"]),
        "contact": None,
        "region_px": None,
        "cast_a": float(tint[0]),
        "cast_b": float(tint[1]),
    }
    if lesion is not None:
        top, bottom, left, right = _box(lesion, 0.0)
        edge = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]])
        out |= {
            "framing": float(lesion.mean()),
            "contact": float(edge.mean()),
            "region_px": float(min(bottom - top, right - left)),
        }
    return out


def judge(measured: Mapping[str, float | None], table: Table, fitzpatrick: str | None = None) -> Quality:
    """Checks of what :func:`measure` answers, by the limits of a table."""
    checks = {name: _judged(name, measured, table, fitzpatrick) for name in CHECKS}
    statuses = [check.status for check in checks.values()]
    return Quality(checks, FAIL if FAIL in statuses else WARN if WARN in statuses else PASS)


def _judged(name: str, measured: Mapping[str, float | None], table: Table, fitzpatrick: str | None) -> Check:
    value, limits = measured[name], table[name]
    if value is None:
        return Check(None, UNKNOWN)
    low, high = limits.get("fail_below", -np.inf), limits.get("fail_above", np.inf)
    if name == "exposure":
        clipped = measured["clipping"] or 0.0
        slack = table["unclipped_slack"] if clipped < table["clipping"]["fail_above"] / 2 else 0.0
        slack += table["darker_slack"] if fitzpatrick in table["darker_types"] else 0.0
        low, high = low - slack, high + slack
    if value < low:
        return Check(value, FAIL, f"{name}_low")
    if value > high:
        return Check(value, FAIL, f"{name}_high")
    region, contact = measured["region_px"], measured["contact"]
    if name == "resolution" and region is not None and region < limits["region_fail_below"]:
        return Check(region, FAIL, "resolution_low")
    if name == "framing" and contact is not None and contact > limits["contact_above"]:
        return Check(value, FAIL, "framing_edge")
    if value < limits.get("warn_below", -np.inf):
        return Check(value, WARN, f"{name}_low")
    if value > limits.get("warn_above", np.inf):
        return Check(value, WARN, f"{name}_high")
    return Check(value, PASS)


# ------------------------------------------------------------------------------------------------- what is measured
def shrunk_by_area(image: npt.NDArray[Any], longer_px: int) -> Floats:
    """(h, w, C) means of the pixels below each new one, at most so many along the longer side; never enlarged.

    Area averaging is exact and has no settings, so a browser's copy answers the same numbers.
    """
    height, width = image.shape[:2]
    scale = min(1.0, longer_px / max(height, width))
    planes = image.reshape(height, width, -1)
    if scale == 1.0:
        return planes.astype(np.float64)
    size = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    channels = [_averaged(_averaged(planes[..., c], size[0]).T, size[1]).T for c in range(planes.shape[2])]
    return np.stack(channels, axis=-1)


def _averaged(plane: npt.NDArray[Any], rows: int) -> Floats:
    """Rows of a plane (H, W) averaged to so many."""
    height = len(plane)
    total = np.zeros((height + 1, plane.shape[1]))
    np.cumsum(plane, axis=0, out=total[1:])
    edges = np.arange(rows + 1) * (height / rows)
    low = np.minimum(edges.astype(np.int64), height - 1)
    at = total[low] + (edges - low)[:, None] * (total[low + 1] - total[low])
    out: Floats = np.diff(at, axis=0) / (height / rows)
    return out


def _planes(rgb: Bytes) -> Bytes:
    """(3, H, W): each channel by itself, which NumPy works through several times faster."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def _grey(planes: Bytes) -> Whole:
    """(H, W) luma in thousandths of (3, H, W)."""
    out: Whole = planes[0] * np.int32(_GREY[0])
    for plane, weight in zip(planes[1:], _GREY[1:], strict=True):
        out += plane * np.int32(weight)
    return out


def _rounded(values: Floats) -> Bytes:
    return np.floor(values + 0.5 + _TIE).astype(np.uint8)


def _box(mask: Mask, margin: float) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a mask, ends beyond the last, with a margin in shares of the box."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    out: list[int] = []
    for found, most in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        start, stop = int(found[0]), int(found[-1]) + 1
        by = int(margin * (stop - start) + 0.5)
        out += [max(0, start - by), min(most, stop + by)]
    return out[0], out[1], out[2], out[3]


def _strips(rows: int, most: int = _ROWS) -> Iterator[slice]:
    """So few rows at a time that what is computed of them stays in the processor's cache."""
    return (slice(at, min(rows, at + most)) for at in range(0, rows, most))


def _light(planes: Bytes, above: float, chroma: float) -> tuple[float, float]:
    """Mean L*, and the share of pixels that are lighter than a limit and have less chroma than another."""
    total, glare = 0.0, 0
    for rows in _strips(planes.shape[1]):
        part = planes[:, rows]
        light = lightness(part)
        total += float(light.sum())
        lab = to_lab(part[:, light > above].T)  # only these need their chroma
        glare += int((np.hypot(lab[:, 1], lab[:, 2]) < chroma).sum())
    return total / planes[0].size, glare / planes[0].size


def _tint(planes: Bytes) -> Floats:
    """(2,) mean a* and b* of the outer eighth of a frame, as ``skinkit.images.lab.typology_angle`` has it."""
    height, width = planes.shape[1:]
    y, x = height // 8, width // 8
    if y == x == 0:
        around = [planes]
    else:
        middle = slice(y, height - y)
        around = [planes[:, :y], planes[:, height - y :], planes[:, middle, :x], planes[:, middle, width - x :]]
    pixels = np.concatenate([part.reshape(3, -1) for part in around], axis=1)
    total = np.zeros(2)
    for some in _strips(pixels.shape[1], _ROWS * 512):
        total += mean_tint(pixels[:, some]) * pixels[0, some].size
    out: Floats = total / pixels.shape[1]
    return out


def _focus(grey: Floats) -> float | None:
    if min(grey.shape) < _FEWEST:
        return None
    inner = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var())


def _motion(grey: Whole) -> float | None:
    if min(grey.shape) < _FEWEST:
        return None
    energy = np.zeros(8)
    for rows in _strips(len(grey) - 2):
        part = grey[rows.start : rows.stop + 2] / 1000
        across = part[1:-1, 2:] - part[1:-1, :-2]
        down = part[2:, 1:-1] - part[:-2, 1:-1]
        flat, steep = np.abs(across), np.abs(down)
        which = np.zeros(across.shape, dtype=np.int8)
        for tangent in _SECTORS:
            which += steep > tangent * flat
        falling = (across < 0) != (down < 0)
        which = np.where(falling, -which, which) & 7
        energy += np.bincount(which.ravel(), weights=(across**2 + down**2).ravel(), minlength=8)
    return float(energy.min() / energy.max()) if energy.max() > 0 else None


def _blockiness(grey: Whole) -> float | None:
    """1 - (mean step inside of 8 x 8 blocks) / (mean step at their edges), at the offset where it is largest."""
    found = []
    for steps in (np.abs(np.diff(grey, axis=0)).mean(1), np.abs(np.diff(grey, axis=1)).mean(0)):
        if len(steps) < 16:
            return None
        sums = np.array([steps[at::8].mean() for at in range(8)])
        most = float(sums.max())
        found.append(1 - (float(sums.sum()) - most) / 7 / most if most > 0 else 0.0)
    return float(np.mean(found))


def _hair(grey: Whole, side: int, depth: float) -> float:
    """Share of the pixels that the closing of the grey values, in thousandths, by a square raises by more."""
    closed = grey
    for best in (np.maximum, np.minimum):
        for axis in (0, 1):
            closed = _extreme(closed, side, axis, best)
    return float((closed / 1000 - grey / 1000 > depth).mean())


def _extreme(values: Whole, side: int, axis: int, best: np.ufunc) -> Whole:
    """The largest or smallest of so many neighbours along an axis: those of 2, of 4, of 8, then two that overlap."""
    before = side // 2
    out = np.pad(values, [(before, side - 1 - before) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    out = out if axis == 0 else out.T
    reach = 1
    while reach < side:
        by = min(reach, side - reach)
        out = best(out[:-by], out[by:])
        reach += by
    return out if axis == 0 else out.T
