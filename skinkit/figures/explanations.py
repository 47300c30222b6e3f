"""Figures of explanations: attribution bars, explained cases and faithfulness curves."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures.canvas import DASHES, HIGH, LOW, MUTED, PALETTE, canvas, svg, write
from skinkit.figures.photos import heated, outlined


def attribution_bars(
    attributions: Sequence[Mapping[str, Any]], *, unit: str = "", title: str = "", limit: int = 12
) -> str:
    """What spoke for (right, orange) and against (left, blue) an output, as SVG, strongest first.

    Args:
        attributions: mappings with ``attribute``, ``value`` and ``contribution``.
        unit: of the contributions, for the axis.
        title: above the axes.
        limit: bars shown; the sum of the others is one more bar.
    """
    with canvas(6.2, _bars_height_in(attributions, limit)) as figure:
        _bars(figure.add_subplot(), attributions, unit, limit)
        figure.axes[0].set_title(title)
        return svg(figure)


def explained_case(
    rgb: npt.NDArray[np.uint8],
    heat: npt.NDArray[Any],
    attributions: Sequence[Mapping[str, Any]],
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    unit: str = "",
    title: str = "",
    limit: int = 12,
) -> bytes:
    """One case in one picture, as PNG: the photograph, where it spoke for the output, and what each input adds.

    Args:
        rgb: (H, W, 3).
        heat: (H, W), as :func:`heatmap_overlay` takes it.
        attributions: as :func:`attribution_bars` takes them.
        mask: (H, W) lesion to outline, where it is known.
        unit: of the contributions.
        title: above the whole.
        limit: bars shown.
    """
    height = max(3.0, _bars_height_in(attributions, limit) + 0.3)
    with canvas(11.6, height) as figure:
        photo, warm, bars = figure.subplots(1, 3, width_ratios=[1.0, 1.0, 1.5])
        for axes, picture, name in (
            (photo, rgb if mask is None else outlined(rgb, mask), "photo"),
            (warm, heated(rgb, heat, mask), "where it speaks"),
        ):
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(name)
            axes.set_axis_off()
        _bars(bars, attributions, unit, limit)
        bars.set_title("what each input adds")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
        return stream.getvalue()


def _bars_height_in(attributions: Sequence[Mapping[str, Any]], limit: int) -> float:
    return 0.27 * max(min(len(attributions), limit + 1), 1) + 0.9


def _bars(axes: Any, attributions: Sequence[Mapping[str, Any]], unit: str, limit: int) -> None:
    """Contributions as bars, strongest on top, the sum of those beyond the limit as one more."""
    ranked = sorted(attributions, key=lambda entry: -abs(float(entry["contribution"])))
    bars = [(_called(entry), float(entry["contribution"])) for entry in ranked[:limit]]
    if len(ranked) > limit:
        rest = sum(float(entry["contribution"]) for entry in ranked[limit:])
        bars.append((f"{len(ranked) - limit} others together", rest))
    axes.grid(visible=False, axis="y")
    reach = max((abs(value) for _, value in bars), default=1.0) or 1.0
    for at, (_, value) in enumerate(bars):
        axes.barh(at, value, height=0.68, color=HIGH if value > 0 else LOW)
        side, shift = ("left", 0.015) if value >= 0 else ("right", -0.015)
        axes.text(value + shift * reach, at, f"{value:+.3g}".replace("-", "−"), ha=side, va="center", fontsize=8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set(xlim=(-1.18 * reach, 1.18 * reach), ylim=(max(len(bars), 1) - 0.5, -0.5))
    axes.set_xlabel(f"contribution ({unit})" if unit else "contribution")
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def faithfulness_curves(curves: Mapping[str, npt.ArrayLike], folder: Path, stem: str) -> dict[str, str]:
    """The probability of the explained class while features come in (left) and go (right), a line for each method.

    Args:
        curves: method -> (2, points): insertion and deletion, over evenly spaced shares of the features.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.

    Returns:
        Kind of file -> its path.
    """
    with canvas(7.2, 3.4) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for i, (method, both) in enumerate(curves.items()):
            for axes, curve in zip(panels, np.asarray(both, dtype=np.float64), strict=True):
                area = float((curve[:-1] + curve[1:]).mean() / 2)
                x = np.linspace(0, 1, len(curve))
                axes.plot(x, curve, color=PALETTE[i], linestyle=DASHES[i], label=f"{method}  {area:.3f}")
        for axes, name in zip(panels, ("insertion (higher is better)", "deletion (lower is better)"), strict=True):
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of pixels and attributes", title=name)
            axes.legend(title="area", loc="best")
        panels[0].set_ylabel("probability of the explained class")
        return write(figure, folder, stem)


def localisation_bars(rows: Sequence[Mapping[str, Any]], folder: Path, stem: str) -> dict[str, str]:
    """How much of each heatmap lies on the lesion, a panel for each figure, with 95 % intervals, as SVG and PNG.

    Args:
        rows: of ``skinkit.explain.localisation.summarised``.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.

    Returns:
        Kind of file -> its path.
    """
    figures = list(dict.fromkeys(str(row["figure"]) for row in rows))
    maps = list(dict.fromkeys(str(row["map"]) for row in rows))
    with canvas(2.4 * len(figures) + 2.2, 0.3 * len(maps) + 1.1) as figure:
        for axes, name in zip(figure.subplots(1, len(figures), sharey=True), figures, strict=True):
            for row in rows:
                if row["figure"] != name or not row["n"]:
                    continue
                place = maps.index(row["map"])
                colour = HIGH if "above" in row and not str(row["map"]).endswith("shuffled") else MUTED
                axes.plot([row["lower"], row["upper"]], [place, place], color=colour, linewidth=2)
                axes.plot(row["estimate"], place, "o", color=colour, markersize=4.5)
            axes.set(xlim=(-0.02, 1.02), xticks=[0, 0.5, 1], title=_LOCALISATION.get(name, name))
            axes.set_yticks(range(len(maps)), maps)
            axes.set_ylim(len(maps) - 0.5, -0.5)
        return write(figure, folder, stem)


_LOCALISATION = {"energy": "energy on the lesion", "pointing": "strongest on the lesion", "iou": "IoU above half"}


def localisation_sheet(pictures: Sequence[Mapping[str, Any]], folder: Path, stem: str) -> dict[str, str]:
    """Photos with a person's outline and their heatmaps side by side, a photo in each row, as SVG and PNG.

    Args:
        pictures: ``rgb`` (H, W, 3), ``truth`` (H, W), ``maps`` (name -> (H, W), at least 0) and ``text``.
        folder: where the files are written.
        stem: name of the files.
    """
    from skinkit.explain.shapley import as_grey

    names = list(pictures[0]["maps"])
    with canvas(1.9 * (len(names) + 1), 1.75 * len(pictures) + 0.7) as figure:
        grid = figure.subplots(len(pictures), len(names) + 1, squeeze=False)
        for line, one in zip(grid, pictures, strict=True):
            shown = {"photo, and what a person outlined": outlined(one["rgb"], one["truth"])}
            shown |= {name: heated(one["rgb"], as_grey(heat), one["truth"]) for name, heat in one["maps"].items()}
            for axes, (name, picture) in zip(line, shown.items(), strict=True):
                axes.imshow(picture)
                axes.set_axis_off()
                if one is pictures[0]:
                    axes.set_title(textwrap.fill(name, 24), fontsize=8)
            line[0].text(0.5, -0.03, one["text"], transform=line[0].transAxes, ha="center", va="top", fontsize=7)
        return write(figure, folder, stem)


def _called(entry: Mapping[str, Any]) -> str:
    value = entry.get("value")
    if value is None or value == "":
        text = str(entry["attribute"])
    else:
        text = f"{entry['attribute']} = {value:.4g}" if isinstance(value, float) else f"{entry['attribute']} = {value}"
    return textwrap.shorten(text, 44, placeholder=" …")
