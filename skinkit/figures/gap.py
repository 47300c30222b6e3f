"""Figures of ``skinkit gap``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures import canvas


def gap_figure(
    curve: Sequence[Mapping[str, Any]], shares: Mapping[str, float], folder: Path, stem: str
) -> dict[str, str]:
    """The learning curve, and the share of the gap that goes with each property of the photos, as SVG and PNG.

    Args:
        curve: rows with ``arm``, ``share``, ``seed`` and ``value``.
        shares: property -> its Shapley share.
        folder: where it is written.
        stem: of the files' names.
    """
    with canvas.canvas(8.6, 3.4) as figure:
        line, bars = figure.subplots(1, 2)
        for place, arm in enumerate(dict.fromkeys(row["arm"] for row in curve)):
            by_share: dict[float, list[float]] = {}
            for row in curve:
                if row["arm"] == arm:
                    by_share.setdefault(row["share"], []).append(row["value"])
            x = sorted(by_share)
            means = np.array([np.mean(by_share[share]) for share in x])
            spread = np.array([np.std(by_share[share]) for share in x])
            label = "clinical photos alone" if arm == "Clinical30" else "from dermoscopic photos (FineClinic)"
            line.plot(x, means, "o-", color=canvas.PALETTE[place], label=label)
            line.fill_between(x, means - spread, means + spread, color=canvas.PALETTE[place], alpha=0.15, linewidth=0)
        line.set(xlabel="share of the clinical patients learnt from", ylabel="balanced accuracy, clinical")
        line.set(ylim=(0, 1), title="learning curve")
        line.legend(loc="lower right")
        names = sorted(shares, key=lambda name: abs(shares[name]))
        values = [shares[name] for name in names]
        bars.barh(names, values, color=[canvas.HIGH if value > 0 else canvas.LOW for value in values])
        bars.axvline(0, color=canvas.ALL_COLOUR, linewidth=0.8)
        bars.set(xlabel="share of the gap", title="what the gap goes with")
        bars.locator_params(axis="x", nbins=5)
        bars.grid(visible=False, axis="y")
        return canvas.write(figure, folder, stem)


def gap_sheet(pictures: Mapping[str, Sequence[npt.NDArray[np.uint8]]], folder: Path, stem: str) -> dict[str, str]:
    """Photos in rows, each with its name, as SVG and PNG.

    Args:
        pictures: name of a row -> photos (H, W, 3).
        folder: where it is written.
        stem: of the files' names.
    """
    if not pictures:
        return {}
    across = max(len(row) for row in pictures.values())
    with canvas.canvas(1.45 * across + 0.2, 1.7 * len(pictures)) as figure:
        grid = figure.subplots(len(pictures), across, squeeze=False)
        for line, (name, row) in zip(grid, pictures.items(), strict=True):
            for axes in line:
                axes.set_axis_off()
            for axes, rgb in zip(line, row, strict=False):
                axes.imshow(rgb)
            line[0].set_title(name, fontsize=8.5, loc="left")
        return canvas.write(figure, folder, stem)
