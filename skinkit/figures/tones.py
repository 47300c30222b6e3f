"""Skin tones of photos and synthetic images side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skinkit.figures import canvas
from skinkit.images.lab import TONES
from skinkit.stats.metrics import Floats

_BINS = np.arange(-60, 91, 10)
"""Edges in degrees; the outer bins also hold what lies beyond them, such as skin that is more blue than yellow."""


def tone_figure(angles: Mapping[str, Mapping[str, Floats]], folder: Path, stem: str) -> dict[str, str]:
    """Histograms of individual typology angles, a panel for each class, as SVG and PNG.

    Args:
        angles: class -> kind of picture -> angles in degrees; those that are not known are left out.
        folder: where it is written.
        stem: of the files' names.
    """
    across = min(3, len(angles))
    down = -(-len(angles) // across)
    with canvas.canvas(3.0 * across, 2.2 * down + 0.5) as figure:
        panels = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
        for axes in panels[len(angles) :]:
            axes.set_axis_off()
        for axes, (code, of) in zip(panels, angles.items(), strict=False):
            for colour, (kind, values) in zip(canvas.PALETTE, of.items(), strict=False):
                known = values[~np.isnan(values)].clip(_BINS[0], _BINS[-1])
                if len(known):
                    weights = np.full(len(known), 1 / len(known))
                    label = f"{kind} ({len(known)})"
                    axes.hist(known, _BINS, weights=weights, histtype="step", linewidth=1.8, color=colour, label=label)
            for edge, _ in TONES:
                axes.axvline(edge, color=canvas.FAINT, linewidth=0.7, zorder=0)
            axes.set(title=code)
            axes.legend(loc="upper left", fontsize=7)
        for axes in panels[-across:]:
            axes.set(xlabel="ITA, degrees (lighter to the right)")
        figure.supylabel("share", fontsize=9)
        return canvas.write(figure, folder, stem)
