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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.errors import ConfigError
from skinkit.images.lab import to_lab

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Table = Mapping[str, Any]
"""Constants, in the shape of ``quality.toml``."""
CHECKS = (
    "focus", "motion", "exposure", "clipping", "glare", "cast", "resolution", "framing", "compression", "hair",
)  # fmt: skip
PASS, WARN, FAIL, UNKNOWN = "pass", "warn", "fail", "unknown"
_GREY = np.array([299, 587, 114], dtype=np.int32)
"""ITU-R 601 luma in thousandths: whole numbers, so that a browser's sums are the same to the last bit."""
_TIE = 1e-7
"""Added before rounding, so that sums in another order round a half the same way."""
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
    small = _rounded(shrunk_by_area(image, t["long_side_px"]))
    seen = None if lesion is None else shrunk_by_area(lesion, t["long_side_px"])[..., 0] >= 0.5
    seen = seen if seen is not None and seen.any() else None
    height, width = small.shape[:2]
    box = (0, height, 0, width) if seen is None else _box(seen, t["region_margin"])
    part = small[box[0] : box[1], box[2] : box[3]]
    lab, grey = to_lab(part), _grey(part)
    clipped = ((part <= t["clipping"]["low"]) | (part >= t["clipping"]["high"])).any(-1)
    light = (lab[..., 0] > t["glare"]["lightness"]) & (np.hypot(lab[..., 1], lab[..., 2]) < t["glare"]["chroma"])
    tint = to_lab(small[_border(height, width)])[:, 1:].mean(axis=0)
    out: dict[str, float | None] = {
        "focus": _focus(grey),
        "motion": _motion(grey),
        "exposure": float(lab[..., 0].mean()),
        "clipping": float(clipped.mean()),
        "glare": float(light.mean()),
        "cast": float(np.hypot(*(tint - t["cast"]["reference"]))),
        "resolution": float(min(image.shape[:2])),
        "framing": None,
        "compression": _blockiness(image),
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


def _grey(rgb: Bytes) -> Floats:
    out: Floats = (rgb.astype(np.int32) @ _GREY) / 1000
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


def _border(height: int, width: int) -> Mask:
    """The outer eighth of a frame, as ``skinkit.images.lab.typology_angle`` has it."""
    around = np.ones((height, width), dtype=bool)
    around[height // 8 : height - height // 8, width // 8 : width - width // 8] = False
    if not around.any():
        around[:] = True
    return around


def _focus(grey: Floats) -> float | None:
    if min(grey.shape) < _FEWEST:
        return None
    inner = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var())


def _motion(grey: Floats) -> float | None:
    if min(grey.shape) < _FEWEST:
        return None
    across = grey[1:-1, 2:] - grey[1:-1, :-2]
    down = grey[2:, 1:-1] - grey[:-2, 1:-1]
    turn = np.arctan2(down, across)
    turn = np.where(turn < 0, turn + np.pi, turn)
    # A bin is centred on its direction, so that rounding does not move horizontal and vertical edges between two.
    which = np.floor(turn / (np.pi / 8) + 0.5).astype(np.int64) % 8
    energy = np.bincount(which.ravel(), weights=(across**2 + down**2).ravel(), minlength=8)
    return float(energy.min() / energy.max()) if energy.max() > 0 else None


def _blockiness(image: Bytes) -> float | None:
    """1 - (mean step inside of 8 x 8 blocks) / (mean step at their edges), at the offset where it is largest."""
    grey = _grey(image)
    found = []
    for steps in (np.abs(np.diff(grey, axis=0)).mean(1), np.abs(np.diff(grey, axis=1)).mean(0)):
        if len(steps) < 16:
            return None
        sums = np.array([steps[at::8].mean() for at in range(8)])
        most = float(sums.max())
        found.append(1 - (float(sums.sum()) - most) / 7 / most if most > 0 else 0.0)
    return float(np.mean(found))


def _hair(grey: Floats, side: int, depth: float) -> float:
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    closed = grey
    for filtered in (maximum_filter1d, minimum_filter1d):
        for axis in (0, 1):
            closed = filtered(closed, side, axis=axis, mode="nearest")
    return float((closed - grey > depth).mean())
