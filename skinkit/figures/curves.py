"""Figures of numbers as SVG text: curves, matrices, heatmaps and intervals.

Text stays text in the SVG, so that every script shows and can be searched; nothing random and no date enters, so the
same input gives the same bytes. Colours are those of Okabe & Ito (told apart by colour-blind readers, yellow darkened
for white paper), and lines differ in dash as well. Matplotlib is loaded when the first figure is drawn, without a
display.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures.canvas import (
    ALL_COLOUR,
    DASHES,
    FAINT,
    GRID,
    INK,
    MOST_CASES,
    MUTED,
    NO_CASES,
    PALETTE,
    SHARES,
    TONES,
    canvas,
    colours,
    feature_label,
    interval_text,
    svg,
    write,
)

_TITLE_SIGNS = 60
"""Longest line of a title; a longer one, of models of several seeds, would leave the axes no room."""


def _curves(
    axes: Any, curves: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str], x: str, y: str, area: str
) -> None:
    """Lines of one axes, each class in its colour and dash, with its area in the legend."""
    paint = colours(list(curves))
    for i, (name, curve) in enumerate(curves.items()):
        whole = name == "malignant"
        axes.plot(
            curve[x],
            curve[y],
            color=paint[name],
            linestyle="-" if whole else DASHES[(i + i // len(PALETTE)) % len(DASHES)],
            linewidth=2.4 if whole else 1.6,
            drawstyle="steps-pre" if area == "average_precision" else "default",
            label=f"{labels.get(name, name)}  {interval_text(curve, area)}",
            zorder=4 if whole else 3,
        )
        if point := curve.get("point"):
            axes.plot(*point, "o", color=paint[name], markeredgecolor="white", markersize=6, zorder=5, clip_on=False)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=2.6, alignment="left")


def roc(curves: Mapping[str, Mapping[str, Any]], *, labels: Mapping[str, str] | None = None, title: str = "") -> str:
    """ROC curves as SVG.

    Args:
        curves: class -> ``fpr``, ``tpr``, ``auroc``, and where known ``lower``, ``upper`` (its interval) and ``point``
            (false positive rate and sensitivity at the threshold in use). ``malignant`` is drawn in black.
        labels: class -> words.
        title: above the axes.
    """
    with canvas(6.9, 4.2) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        _curves(axes, curves, labels or {}, "fpr", "tpr", "auroc")
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", title=title)
        dots = "\ndot: at the threshold in use" if any(curve.get("point") for curve in curves.values()) else ""
        axes.get_legend().set_title(f"AUROC (95 % interval){dots}", prop={"size": 8.5, "weight": "bold"})
        return svg(figure)


def pr(curves: Mapping[str, Mapping[str, Any]], *, labels: Mapping[str, str] | None = None, title: str = "") -> str:
    """Precision-recall curves as SVG.

    Args:
        curves: class -> ``recall``, ``precision``, ``average_precision``, and where known ``lower``, ``upper`` and
            ``prevalence`` (the precision of chance, drawn for ``malignant``).
        labels: class -> words.
        title: above the axes.
    """
    with canvas(6.9, 4.2) as figure:
        axes = figure.add_subplot()
        chance = curves.get("malignant", {}).get("prevalence")
        if chance is not None:
            axes.axhline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        _curves(axes, curves, labels or {}, "recall", "precision", "average_precision")
        axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)", title=title)
        axes.get_legend().set_title("average precision (95 % interval)", prop={"size": 8.5, "weight": "bold"})
        return svg(figure)


def confusion(
    matrix: npt.ArrayLike, classes: Sequence[str], *, labels: Mapping[str, str] | None = None, title: str = ""
) -> str:
    """A confusion matrix as SVG: counts, and the share of each true class in per cent (also the shade).

    Args:
        matrix: (classes, classes) counts, rows the truth.
        classes: class codes in order.
        labels: class -> words, for the rows.
        title: above the matrix.
    """
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.asarray(matrix, dtype=np.float64)
    totals = counts.sum(axis=1)
    share = np.divide(counts, totals[:, None], out=np.zeros_like(counts), where=totals[:, None] > 0)
    k = len(classes)
    side = max(2.2, 0.62 * k)
    shades = LinearSegmentedColormap.from_list("shares", SHARES)
    rows = [f"{(labels or {}).get(name, name)}  (n = {int(n)})" for name, n in zip(classes, totals, strict=True)]
    with canvas(side + 2.6, side + 0.9) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        for i in range(k):
            for j in range(k):
                axes.fill([j, j + 1, j + 1, j], [i, i, i + 1, i + 1], facecolor=shades(share[i, j]), edgecolor="white")
                ink = "white" if share[i, j] > 0.5 else (INK if counts[i, j] else NO_CASES)
                weight = "bold" if i == j else "normal"
                axes.text(j + 0.5, i + 0.44, f"{int(counts[i, j])}", ha="center", va="center", color=ink, weight=weight)
                if totals[i]:
                    percent = f"{100 * share[i, j]:.0f} %"
                    axes.text(j + 0.5, i + 0.76, percent, ha="center", va="center", color=ink, fontsize=6.5)
        axes.set(xlim=(0, k), ylim=(k, 0), aspect="equal", xlabel="most probable class", ylabel="truth", title=title)
        axes.set_xticks(np.arange(k) + 0.5, [str(name) for name in classes], rotation=0 if k < 9 else 45)
        axes.set_yticks(np.arange(k) + 0.5, rows)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return svg(figure)


def radiomic_heatmap(
    z: npt.ArrayLike,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    order: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> str:
    """Standardised features of many cases as SVG, like features and like cases side by side (Ward's clustering).

    Args:
        z: (features, cases) z-scores; NaN is grey. They are shown between -2.5 and 2.5.
        features: names of the rows.
        classes: class of each case, shown as a strip.
        order: the classes in the order of their colours; by default sorted.
        labels: class -> words.
        title: above the figure.

    More than 600 cases are thinned to about so many, evenly within every class.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    values, of = np.asarray(z, dtype=np.float64), np.asarray(classes, dtype=str)
    chosen = thinned(of)
    values, of = np.clip(values[:, chosen], -2.5, 2.5), of[chosen]
    rows, columns = _cluster_order(values), _cluster_order(values.T)
    values, of = values[np.ix_(rows, columns)], of[columns]
    names = list(order) or sorted(set(of.tolist()))
    paint = colours(names)
    row_names = [feature_label(features[i]) for i in rows]
    height = min(max(0.16 * len(row_names), 1.2), 11.0) + 1.0
    with canvas(8.2, height) as figure:
        import matplotlib as mpl

        figure.get_layout_engine().set(hspace=0.0, h_pad=0.02)
        strip, axes = figure.subplots(2, 1, height_ratios=[0.16, height - 1.0], sharex=True)
        strip.imshow([[to_rgb(paint[name]) for name in of]], aspect="auto", interpolation="nearest")
        shades = mpl.colormaps["RdBu_r"].with_extremes(bad=FAINT)
        image = axes.imshow(values, aspect="auto", cmap=shades, vmin=-2.5, vmax=2.5, interpolation="nearest")
        for part in (strip, axes):
            part.grid(visible=False)
            part.tick_params(length=0, labelbottom=False)
            for spine in part.spines.values():
                spine.set_visible(False)
        strip.set_yticks([])
        strip.set_title(title)
        axes.yaxis.tick_right()
        axes.set_yticks(
            range(len(row_names)), row_names, fontsize=min(8.0, 72 * (height - 1.0) / max(len(row_names), 1) * 0.85)
        )
        count = f"{len(of)} of {len(classes)}" if len(of) < len(classes) else f"{len(of)}"
        axes.set_xlabel(f"{count} lesions, like ones side by side")
        bar = figure.colorbar(image, ax=axes, location="left", shrink=min(1.0, 1.6 / max(height - 1.0, 1)), pad=0.02)
        bar.set_label("z-score")
        bar.outline.set_visible(False)
        patches = [Patch(color=paint[name], label=(labels or {}).get(name, name)) for name in names if name in of]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 4), handlelength=1.2)
        return svg(figure)


def thinned(classes: npt.NDArray[np.str_], most: int = MOST_CASES) -> npt.NDArray[np.int64]:
    """Indices of at most about ``most`` cases, evenly spaced within each class."""
    n = len(classes)
    if n <= most:
        return np.arange(n)
    kept = []
    for name in np.unique(classes):
        rows = np.flatnonzero(classes == name)
        wanted = max(1, round(len(rows) * most / n))
        kept.append(rows[np.linspace(0, len(rows) - 1, wanted).round().astype(np.int64)])
    return np.sort(np.concatenate(kept))


def _cluster_order(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Order of the rows in which similar ones are neighbours; unknown values count as average."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(values) < 3:
        return np.arange(len(values))
    order: npt.NDArray[np.int64] = leaves_list(linkage(np.nan_to_num(values), method="ward")).astype(np.int64)
    return order


def interval_bars(
    bars: Sequence[Mapping[str, Any]],
    *,
    start: float = 0.0,
    reference: float | None = None,
    x_label: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    title: str = "",
    into: tuple[Path, str] | None = None,
) -> str:
    """Horizontal bars with intervals as SVG, the first on top.

    Args:
        bars: ``label``, ``estimate``, ``lower``, ``upper`` (its interval, NaN or None where there is none) and ``tone``
            (``alarm``, ``notice``, ``plain`` or ``muted``).
        start: where the bars begin.
        reference: a dashed line, for example the figure of all cases.
        x_label: below the axis.
        limits: ends of the axis.
        title: above the axes.
        into: folder and stem of SVG and PNG files that are written besides.
    """
    with canvas(7.2, 0.9 + 0.24 * max(len(bars), 1)) as figure:
        axes = figure.add_subplot()
        for place, bar in enumerate(bars):
            colour = TONES[str(bar.get("tone") or "plain")]
            value, ends = float(bar["estimate"]), [bar.get("lower"), bar.get("upper")]
            axes.barh(place, value - start, left=start, height=0.62, color=colour, alpha=0.32, linewidth=0)
            if all(end is not None and not np.isnan(end) for end in ends):
                axes.plot(ends, [place, place], color=colour, linewidth=2.2)
            axes.plot(value, place, "o", color=colour, markersize=4.5)
        axes.axvline(start, color=MUTED, linewidth=0.8)
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.set_yticks(range(len(bars)), [str(bar["label"]) for bar in bars])
        axes.set(xlim=limits, ylim=(len(bars) - 0.4, -0.6), xlabel=x_label, title=title)
        axes.grid(axis="y", visible=False)
        if into is not None:
            write(figure, *into)
        return svg(figure)


# ------------------------------------------------------------------------------------- calibration and decisions
def reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str = "") -> str:
    """Reliability diagrams as SVG: the observed share of malignant cases against the mean probability, bin by bin.

    Args:
        bins: ``calibrated``, and ``raw`` where it is known -> bins with ``predicted``, ``observed``, ``lower``,
            ``upper`` and ``n``.
        title: above the axes.
    """
    styles = {"raw": (MUTED, (0, (4, 2)), "before calibration"), "calibrated": (PALETTE[0], "-", "as used")}
    with canvas(5.4, 4.2) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for shift, name in enumerate(name for name in styles if name in bins):
            colour, dash, label = styles[name]
            x, y, *ends = (_numbers(bins[name], key) for key in ("predicted", "observed", "lower", "upper"))
            axes.vlines(x + 0.004 * shift, *ends, color=colour, linewidth=1.2, alpha=0.6)
            axes.plot(x + 0.004 * shift, y, "o", color=colour, linestyle=dash, markersize=4.5, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=title)
        axes.set(xlabel="mean probability of malignancy", ylabel="observed share of malignant cases")
        axes.legend(loc="upper left")
        return svg(figure)


def decision(curve: Mapping[str, Any], *, title: str = "") -> str:
    """A decision curve as SVG: net benefit of the model, of treating everybody and of treating nobody.

    Args:
        curve: of ``skinkit.evaluation.decision.decision_curve``; its ``point`` is the veto.
        title: above the axes.
    """
    x = np.asarray(curve["threshold"], dtype=np.float64)
    model, everybody, lower, upper = (_floats(curve[name]) for name in ("model", "all", "lower", "upper"))
    prevalence = float(curve["prevalence"])
    with canvas(6.9, 3.8) as figure:
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED, linewidth=1.0, label="treat nobody")
        axes.plot(x, everybody, color=PALETTE[4], linestyle=(0, (5, 1.6)), label="treat everybody")
        axes.fill_between(x, lower, upper, color=PALETTE[0], alpha=0.18, linewidth=0)
        axes.plot(x, model, color=PALETTE[0], linewidth=2.0, label="model, threshold alone (95 % interval)")
        if point := curve.get("point"):
            axes.plot(
                *point,
                "o",
                color=ALL_COLOUR,
                markeredgecolor="white",
                markersize=7,
                label="veto: malignant class or threshold",
                zorder=5,
            )
        axes.set(xlim=(0, 1), ylim=(-0.15 * max(prevalence, 0.05), 1.08 * max(prevalence, 0.05)), title=title)
        axes.set(xlabel="probability of malignancy from which to treat", ylabel="net benefit")
        axes.legend(loc="upper right")
        return svg(figure)


def referral(curve: Mapping[str, Any], *, title: str = "") -> str:
    """A referral curve as SVG: what is gained by sending the most uncertain cases to a dermatologist.

    Args:
        curve: of ``skinkit.evaluation.decision.referral_curve``.
        title: above the axes.
    """
    words = {
        "accuracy": (PALETTE[0], "-", "accuracy of the cases kept"),
        "sensitivity": (PALETTE[1], (0, (5, 1.6)), "malignant cases called or referred"),
    }
    points = {"veto": ("o", "veto: malignant calls alone"), "refer": ("s", "model's own referral rule")}
    x = np.asarray(curve["referred"], dtype=np.float64)
    with canvas(6.9, 3.8) as figure:
        axes = figure.add_subplot()
        for name, (colour, dash, label) in words.items():
            lower, upper = (_floats(curve[f"{name}_{end}"]) for end in ("lower", "upper"))
            axes.fill_between(x, lower, upper, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, _floats(curve[name]), color=colour, linestyle=dash, label=label)
        for name, (mark, label) in points.items():
            share, value = curve["points"].get(name, (None, None))
            if value is not None:
                axes.plot(share, value, mark, color=ALL_COLOUR, markeredgecolor="white", markersize=7, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02), xlabel="share referred", ylabel="share", title=title)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return svg(figure)


def forest(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> str:
    """Subgroups as SVG: AUROC, sensitivity and specificity of malignancy with their intervals, side by side.

    Args:
        rows: ``name``, ``n``, ``n_positive`` and, by metric, ``estimate``, ``lower``, ``upper`` and ``flagged`` (a gap
            to the rest that stands out); the first row is that of all cases.
        title: above the panels.
    """
    panels = (("auroc", "AUROC"), ("sensitivity", "sensitivity (veto)"), ("specificity", "specificity (veto)"))
    with canvas(8.2, 0.24 * len(rows) + 1.0) as figure:
        for panel, (metric, label) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            panel.grid(visible=False, axis="y")
            whole = (rows[0].get(metric) or {}).get("estimate")
            if whole is not None:
                panel.axvline(whole, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
            for at, row in enumerate(rows):
                interval = row.get(metric) or {}
                if interval.get("estimate") is None:
                    continue
                colour = PALETTE[1] if interval.get("flagged") else PALETTE[0]
                if interval.get("lower") is not None:
                    panel.hlines(at, interval["lower"], interval["upper"], color=colour, linewidth=1.6)
                panel.plot(
                    interval["estimate"], at, "D" if interval.get("flagged") else "o", color=colour, markersize=4.5
                )
            panel.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
            panel.tick_params(axis="y", length=0)
        names = [f"{row['name']}  (n = {row['n']}, {row['n_positive']} malignant)" for row in rows]
        figure.axes[0].set_yticks(range(len(rows)), names)
        if title:
            figure.suptitle(title)
        return svg(figure)


def differences(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    unit: str = "difference",
    into: tuple[Path, str] | None = None,
) -> str:
    """Differences with their intervals as SVG, a line at zero; what excludes zero is filled and orange.

    Args:
        rows: ``name``, ``difference``, ``lower`` and ``upper``; optional ``words`` on the right, and ``margin``, drawn
            on both sides of zero.
        title: above the axes.
        unit: below them.
        into: folder and stem of SVG and PNG files that are written besides.
    """
    with canvas(6.4, 0.27 * max(len(rows), 1) + 0.9) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=MUTED, linewidth=1.0)
        for at, row in enumerate(rows):
            if row.get("difference") is None:
                continue
            if row.get("margin") is not None:
                axes.fill_betweenx([at - 0.4, at + 0.4], -row["margin"], row["margin"], color=GRID, linewidth=0)
            axes.annotate(
                row.get("words", ""),
                (1.01, at),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=MUTED,
            )
            ends = [float(end) for end in (row.get("lower"), row.get("upper")) if end is not None]
            has_interval = len(ends) == 2
            apart = has_interval and (ends[0] > 0 or ends[1] < 0)
            colour = PALETTE[1] if apart else PALETTE[0]
            if has_interval:
                axes.hlines(at, *ends, color=colour, linewidth=1.8)
            axes.plot(row["difference"], at, "D" if apart else "o", color=colour, markersize=5)
        axes.set(ylim=(max(len(rows), 1) - 0.5, -0.5), title=textwrap.fill(title, _TITLE_SIGNS), xlabel=unit)
        axes.set_yticks(range(len(rows)), [str(row["name"]) for row in rows])
        axes.tick_params(axis="y", length=0)
        if into is not None:
            write(figure, *into)
        return svg(figure)


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> npt.NDArray[np.float64]:
    return _floats([row[key] for row in rows])


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
