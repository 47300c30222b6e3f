"""Figures of ``skinkit corrupt``: drops by way and strength, and one photo in every way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures import canvas


def corruption_figure(
    rows: Sequence[Mapping[str, Any]], folder: Path, stem: str, *, metric: str, words: str, mean: str
) -> dict[str, str]:
    """The change of a figure for each way of taking photos, its strengths side by side, as SVG and PNG.

    Args:
        rows: of ``evaluation.corruption``.
        folder: where it is written.
        stem: of the files' names.
        metric: which figure.
        words: its name.
        mean: how the domain of a mean over ways begins.
    """
    shown = [row for row in rows if row["metric"] == metric and row["domain"]]
    domains = list(dict.fromkeys(row["domain"] for row in shown))
    strengths = sorted({row["strength"] for row in shown if row["strength"]})
    with canvas.canvas(7.0, 0.42 * len(domains) + 1.3) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=canvas.ALL_COLOUR, linewidth=0.8)
        for row in shown:
            single = not row["domain"].startswith(mean)
            at = strengths.index(row["strength"]) if single else 0
            place = domains.index(row["domain"]) + (at - (len(strengths) - 1) / 2) * 0.22 * single
            colour = canvas.PALETTE[at % len(canvas.PALETTE)] if single else canvas.ALL_COLOUR
            axes.hlines(place, row["difference_lower"], row["difference_upper"], color=colour, linewidth=1.8)
            axes.plot(row["difference"], place, "o" if single else "D", color=colour, markersize=4.5)
        for at, strength in enumerate(strengths):
            axes.plot([], [], "o-", color=canvas.PALETTE[at % len(canvas.PALETTE)], label=f"strength {strength:g}")
        axes.set_yticks(range(len(domains)), [name.replace("_", " ") for name in domains])
        axes.set(ylim=(len(domains) - 0.5, -0.5), xlabel=f"change of {words}", title="where photos are taken otherwise")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower left")
        return canvas.write(figure, folder, stem)


def corruption_sheet(
    pictures: Mapping[tuple[str, float], npt.NDArray[np.uint8]], folder: Path, stem: str
) -> dict[str, str]:
    """One photo in every way (columns) and strength (rows), as SVG and PNG.

    Args:
        pictures: (way, strength) -> (H, W, 3).
        folder: where it is written.
        stem: of the files' names.
    """
    domains = list(dict.fromkeys(domain for domain, _ in pictures))
    strengths = sorted({strength for _, strength in pictures})
    with canvas.canvas(1.15 * len(domains) + 0.4, 1.25 * len(strengths) + 0.3) as figure:
        grid = figure.subplots(len(strengths), len(domains), squeeze=False)
        for line, strength in zip(grid, strengths, strict=True):
            for axes, domain in zip(line, domains, strict=True):
                axes.set_axis_off()
                axes.imshow(pictures[domain, strength])
                if strength == strengths[0]:
                    axes.set_title(domain.replace("_", " "), fontsize=8, fontweight="normal", loc="center")
            where = {"transform": line[0].transAxes, "ha": "right", "va": "center", "rotation": 90}
            line[0].text(-0.06, 0.5, f"strength {strength:g}", fontsize=7.5, **where)
        return canvas.write(figure, folder, stem)
