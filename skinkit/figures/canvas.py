"""The one style of every figure: palette, dashes, fonts, and how a figure becomes SVG and PNG files."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TONES = {"alarm": "#a3261d", "notice": "#c17a1a", "plain": "#2b5c86", "muted": "#9aa5b1"}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7A4FA3")
ALL_COLOUR = "#1d2733"
"""What stands for all classes together: averages, malignant against benign."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
LOW, HIGH = PALETTE[:2]
"""What lowers a score, or is low, and what raises it, or is high."""
_FONTS = "'DejaVu Sans', Verdana, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
INK, MUTED, GRID, FAINT = "#1d2733", "#5a6572", "#e3e7eb", "#c9ced4"
LINE, PAPER, TRACK, BOX = "#d5dae0", "#ffffff", "#e9edf1", "#f5f7f9"
"""Of drawings without axes: outlines, the page, what a bar lies on, and filled boxes."""
SHARES, NO_CASES = (PAPER, "#c6dcee", "#5a9bcb", "#0b4a7d"), "#b3bac2"
"""Scale of a share from 0 to 1, and the text of a cell without cases."""
BETWEEN = "#b9a7c9"
"""Between :data:`LOW` and :data:`HIGH` on a scale of values."""
GREYS = ("#3b4754", "#8e99a5", "#d5dade")
"""Groups that are no classes, dark to light."""
CAUTION_BAND = "#f6ece6"
"""Behind values that are too low."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "skinkit",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
CROP: Mapping[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.12}
"""Of files: to what is drawn, with a margin in inches."""
MOST_CASES = 600


def colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for every class, the same in every figure that gets them in the same order; ``malignant`` is dark."""
    others = [name for name in classes if name != "malignant"]
    return {**{name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)}, "malignant": ALL_COLOUR}


@contextlib.contextmanager
def canvas(width_in: float, height_in: float) -> Iterator[Any]:
    """A blank figure in the house's style; its fonts need not have every glyph, since text stays text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield Figure(figsize=(width_in, height_in), layout="constrained")


def svg(figure: Any) -> str:
    """A figure as SVG text that names the fonts of every platform and bears no date."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, **CROP)
    return re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", _FONTS, stream.getvalue())


def write(figure: Any, folder: Path, stem: str) -> dict[str, str]:
    """Write a figure for the screen and one for print: ``stem.svg`` and ``stem.png`` (200 dots per inch).

    Returns:
        Kind of file -> its path.
    """
    from skinkit.artifacts.files import write_atomic

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=200, metadata={"Software": None}, **CROP)
    files = {"svg": svg(figure).encode(), "png": stream.getvalue()}
    for kind, data in files.items():
        write_atomic(folder / f"{stem}.{kind}", data)
    return {kind: str(folder / f"{stem}.{kind}") for kind in files}


def feature_label(feature: str) -> str:
    """``original_firstorder_Mean`` as ``firstorder Mean``, ``red_original_glcm_Id`` as ``red glcm Id``."""
    return feature.replace("original_", "").replace("_", " ")


def interval_text(curve: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """A figure with its interval, as legends show it: ``name``, ``lower`` and ``upper`` of a mapping."""
    value, lower, upper = (curve.get(key) for key in (name, "lower", "upper"))
    if value is None:
        return "too few cases"
    text = f"{value:.{digits}f}"
    return f"{text} ({lower:.{digits}f} to {upper:.{digits}f})" if lower is not None and upper is not None else text


# ---------------------------------------------------------------------------------------------------- intervals
