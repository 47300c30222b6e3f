"""The 102 two-dimensional PyRadiomics features of a lesion, from an image and a mask.

>>> from skinkit.radiomics import extract
>>> features = extract(image, mask)                      # doctest: +SKIP
>>> features["original_firstorder_Mean"]                 # doctest: +SKIP

Needs neither a workspace nor torch. Importing this module loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from skinkit.errors import ConfigError, did_you_mean
from skinkit.radiomics.names import FEATURE_NAMES, GREY_LEVEL_NAMES
from skinkit.radiomics.refusal import RadiomicsRefusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ENGINES",
    "FEATURE_NAMES",
    "Difference",
    "RadiomicsRefusal",
    "compare",
    "extract",
    "feature_names",
    "warm_up",
]

ENGINES = ("fast", "pyradiomics")


def feature_names(channels: Sequence[str] = ("grey",)) -> tuple[str, ...]:
    """Column names for these channels, in order.

    Grey has the 102 names of PyRadiomics. Any other channel has the 93 that depend on grey levels, as
    ``<channel>_original_...``, because the shape of a lesion is the same in every channel.
    """
    names: list[str] = []
    for channel in channels:
        names += FEATURE_NAMES if channel == "grey" else [f"{channel}_{name}" for name in GREY_LEVEL_NAMES]
    return tuple(names)


def extract(
    image: NDArray[np.generic],
    mask: NDArray[np.generic],
    *,
    channels: Sequence[str] = ("grey",),
    bin_width: float = 25.0,
    bin_count: int | None = None,
    engine: str = "fast",
) -> dict[str, float]:
    """The radiomic features of one lesion, by name.

    Args:
        image: (H, W, 3) RGB of type uint8, or one channel (H, W) of any real type.
        mask: (H, W) bool; of numbers with two values the higher is lesion, and one value is lesion where it is not 0.
        channels: ``grey`` (8-bit ITU-R 601 luma, PIL's ``L``), ``red``, ``green``, ``blue``, ``lab_l``, ``lab_a``,
            ``lab_b`` (8-bit: L* * 2.55, a* + 128, b* + 128).
        bin_width: grey levels per bin, in bins equally spaced from 0.
        bin_count: number of bins between the lesion's minimum and maximum, instead of a width.
        engine: ``fast`` (compiled kernels) or ``pyradiomics`` (the package itself), with the same values.

    Returns:
        :func:`feature_names` of the channels -> value; NaN where PyRadiomics defines none.

    Raises:
        RadiomicsRefusal: the lesion cannot be measured, for its ``reason``.
        ConfigError: unknown channel or engine, PyRadiomics is not installed, or a bin width or count that is not
            positive.
        InputError: the image has another shape or type.
    """
    import numpy as np

    from skinkit.radiomics import lesion
    from skinkit.radiomics.discretise import Binning

    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r}", did_you_mean(engine, ENGINES), "use one of these")
    binning = Binning(bin_width, bin_count)
    image, inside = np.asarray(image), lesion.of_two_values(np.asarray(mask))
    lesion.check_shapes(image, inside, channels)
    warm_up()
    rows, columns = lesion.bounding_box(inside)
    if engine == "fast":
        from skinkit.radiomics.engine import measure

        image, inside = image[rows, columns].copy(), inside[rows, columns].copy()
    else:
        from skinkit.radiomics.reference import measure, refuse_absence

        refuse_absence()
    features: dict[str, float] = {}
    for channel, grey in lesion.split_channels(image, channels).items():
        lesion.refuse_not_finite(grey, inside)
        names = feature_names((channel,))
        features.update(zip(names, measure(grey, inside, binning)[-len(names) :], strict=True))
    return features


class Difference(NamedTuple):
    """A feature on which the two engines disagree."""

    name: str
    fast: float
    reference: float
    difference: float


def compare(
    image: NDArray[np.generic],
    mask: NDArray[np.generic],
    *,
    channels: Sequence[str] = ("grey",),
    bin_width: float = 25.0,
    bin_count: int | None = None,
    relative: float = 1e-6,
    absolute: float = 1e-6,
) -> list[Difference]:
    """Measure a lesion with both engines and list the features that differ, largest difference first.

    Args:
        image: as for :func:`extract`.
        mask: as for :func:`extract`.
        channels: as for :func:`extract`.
        bin_width: as for :func:`extract`.
        bin_count: as for :func:`extract`.
        relative: tolerance as a share of PyRadiomics' value.
        absolute: absolute tolerance; a difference counts when it exceeds both.

    Raises:
        RadiomicsRefusal: the lesion cannot be measured, by either engine.
    """
    from math import isclose, isnan

    fast, reference = (
        extract(image, mask, channels=channels, bin_width=bin_width, bin_count=bin_count, engine=engine)
        for engine in ENGINES
    )
    differences = [
        Difference(name, value, expected, abs(value - expected))
        for (name, value), expected in zip(fast.items(), reference.values(), strict=True)
        if not isclose(value, expected, rel_tol=relative, abs_tol=absolute)
        and not (isnan(value) and isnan(expected))
        and not (name in _ZERO_ON_A_LINE and value == 0)
    ]
    return sorted(differences, key=lambda d: float("-inf") if isnan(d.difference) else -d.difference)


_ZERO_ON_A_LINE = ("original_shape2D_Elongation", "original_shape2D_MinorAxisLength")
"""Where all pixels lie on one oblique line, PyRadiomics gives the rounding noise of its eigenvalues, or NaN."""


def warm_up(announce: Callable[[str], None] | None = None) -> None:
    """Compile the kernels unless they are in the cache, so that worker processes only load them.

    Args:
        announce: called with a message before compiling, which takes half a minute, once per machine.
    """
    from skinkit.radiomics.kernel_cache import compile_once

    compile_once("kernels", _call_every_kernel, announce)


def _call_every_kernel() -> None:
    import numpy as np

    from skinkit.radiomics.lesion import CHANNELS

    image, mask = np.zeros((4, 4, 3), dtype=np.uint8), np.eye(4, dtype=bool)
    extract(image, mask, channels=CHANNELS)
    mask.flags.writeable = False  # numba compiles a version of its own for arrays that must not be written
    extract(image, mask)
