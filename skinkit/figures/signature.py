"""Figures of a signature: heatmap, correlations, stability, reliability of features, and Shapley values.

Each function draws on a canvas of ``skinkit.figures`` and writes SVG and PNG; it answers kind of file -> path.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.figures.canvas import (
    BETWEEN,
    CAUTION_BAND,
    FAINT,
    GREYS,
    HIGH,
    INK,
    LOW,
    MUTED,
    PALETTE,
    canvas,
    colours,
    feature_label,
    write,
)
from skinkit.figures.curves import thinned
from skinkit.signature.correlation import category, kind
from skinkit.stats.metrics import Floats

_ROW_IN = 0.125
"""Height of a feature where all of them are listed."""
_MOST_Z = 2.5
_KINDS = dict(zip(("intensity", "shape", "texture"), GREYS, strict=True))
_MOST_BARS = 25
_MOST_CASES = 2000
"""Cases of a heatmap; clustering takes the square of them."""


def heatmap(
    folder: Path,
    x: Floats,
    labels: Sequence[str],
    features: Sequence[str],
    chosen: Sequence[str],
    words: Mapping[str, str],
) -> dict[str, str]:
    """Cases by features, z-scored; cases ordered by class and clustered within it, features clustered (Ward).

    Beside the tree of the features stands whether they are of intensity, shape or texture.

    Args:
        folder: where it is written.
        x: (n, features).
        labels: class of each case.
        features: names; constant ones are left out.
        chosen: those of the signature, set in bold.
        words: class -> how it is called.
    """
    import matplotlib as mpl
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch
    from scipy.cluster.hierarchy import leaves_list, linkage

    of = np.asarray(labels, dtype=str)
    total, sample = len(of), thinned(of, _MOST_CASES)
    x, of = x[sample], of[sample]
    spread = np.nanstd(x, axis=0)
    varied = spread > 1e-12 * np.maximum(1.0, np.abs(np.nanmean(x, axis=0)))
    z = (x[:, varied] - np.nanmean(x[:, varied], axis=0)) / spread[varied]
    z = np.clip(z, -_MOST_Z, _MOST_Z)
    names = [name for name, kept in zip(features, varied, strict=True) if kept]
    classes = sorted(set(of.tolist()))
    cases = np.concatenate([_alike(z, np.flatnonzero(of == name)) for name in classes])
    tree = linkage(np.nan_to_num(z.T), method="ward") if len(names) > 1 else None
    rows = leaves_list(tree) if tree is not None else np.arange(len(names))
    paint, height = colours(classes), max(2.4, _ROW_IN * len(names))
    with canvas(8.6, height + 0.9) as figure:
        figure.get_layout_engine().set(hspace=0.0, wspace=0.0, h_pad=0.015, w_pad=0.015)
        grid = figure.add_gridspec(2, 3, height_ratios=[0.18, height], width_ratios=[1.0, 0.13, 7.0])
        places = ((0, 2), (1, 2), (1, 0), (1, 1))
        strip, axes, branches, kinds = (figure.add_subplot(grid[place]) for place in places)
        groups = [kind(names[i]) for i in rows]
        kinds.imshow([[to_rgb(_KINDS[group])] for group in groups], aspect="auto", interpolation="nearest")
        strip.imshow([[to_rgb(paint[name]) for name in of[cases]]], aspect="auto", interpolation="nearest")
        shades = mpl.colormaps["RdBu_r"].with_extremes(bad=FAINT)
        image = axes.imshow(
            z[np.ix_(cases, rows)].T, aspect="auto", cmap=shades, vmin=-_MOST_Z, vmax=_MOST_Z, interpolation="nearest"
        )
        if tree is not None:
            _tree(branches, tree, len(names))
        ends = np.cumsum([int((of == name).sum()) for name in classes])
        middles = (ends + np.append(0, ends[:-1])) / 2 - 0.5
        for end, place, name in zip(ends, _apart(middles, 0.055 * len(of)), classes, strict=True):
            strip.text(place, -0.75, name, ha="center", va="bottom", fontsize=8, color=paint[name], weight="bold")
            axes.axvline(end - 0.5, color="white", linewidth=1.2)
        for part in (strip, axes, branches, kinds):
            _bare(part)
        axes.yaxis.tick_right()
        axes.set_yticks(range(len(rows)), [feature_label(names[i]) for i in rows], fontsize=6.2)
        _emphasise(axes.get_yticklabels(), [names[i] in chosen for i in rows])
        count = f"{len(of)} of {total}" if len(of) < total else f"{total}"
        axes.set_xlabel(f"{count} lesions, by class and likeness")
        bar = figure.colorbar(image, ax=[branches, kinds, axes], location="bottom", shrink=0.3, aspect=28, pad=0.01)
        bar.set_label("z-score (bold: in the signature)")
        bar.outline.set_visible(False)
        patches = [Patch(color=paint[name], label=_counted(name, words, int((of == name).sum()))) for name in classes]
        patches += [Patch(color=_KINDS[group], label=f"features of {group}") for group in _KINDS if group in groups]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, handlelength=1.0)
        return write(figure, folder, "heatmap")


def _alike(z: Floats, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows, similar ones side by side."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(rows) < 3:
        return rows
    order: npt.NDArray[np.int64] = rows[leaves_list(linkage(np.nan_to_num(z[rows]), method="ward"))]
    return order


def _tree(axes: Any, tree: Floats, n: int) -> None:
    """A dendrogram that grows to the left, its leaves in the rows of the image beside it."""
    from scipy.cluster.hierarchy import dendrogram

    branches = dendrogram(tree, no_plot=True)
    for places, heights in zip(branches["icoord"], branches["dcoord"], strict=True):
        axes.plot(np.sqrt(heights), (np.array(places) - 5) / 10, color=MUTED, linewidth=0.6)
    axes.set_ylim(n - 0.5, -0.5)
    axes.invert_xaxis()
    axes.set_xticks([])
    axes.set_yticks([])


def _counted(name: str, words: Mapping[str, str], n: int) -> str:
    called = words.get(name, name)
    return f"{name}: {called} ({n})" if called != name else f"{name} ({n})"


def _apart(places: npt.ArrayLike, gap: float) -> Floats:
    """The places in order, moved as little as makes them at least ``gap`` apart."""
    from scipy.optimize import isotonic_regression

    wanted = np.asarray(places, dtype=np.float64)
    if not len(wanted):
        return wanted
    steps = gap * np.arange(len(wanted))
    moved: Floats = np.asarray(isotonic_regression(wanted - steps).x) + steps
    return moved


def _bare(axes: Any) -> None:
    axes.grid(visible=False)
    axes.tick_params(length=0, labelbottom=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _emphasise(labels: Sequence[Any], important: Sequence[bool]) -> None:
    """Bold ink for what matters, grey for the rest."""
    for label, strong in zip(labels, important, strict=True):
        label.set_color(INK if strong else MUTED)
        label.set_fontweight("bold" if strong else "normal")


def correlation(folder: Path, r: Floats, features: Sequence[str], chosen: Sequence[str]) -> dict[str, str]:
    """Spearman's r of all features, like ones side by side (average linkage of 1 - |r|), with their categories.

    Args:
        folder: where it is written.
        r: (features, features).
        features: names.
        chosen: those of the signature, which are named.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    n = len(features)
    kinds = [category(name) for name in features]
    names = list(dict.fromkeys(kinds))
    paint = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    distance = 1 - np.abs(r)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(np.clip((distance + distance.T) / 2, 0, None), checks=False), method="average")
    order = [int(i) for i in leaves_list(tree)]
    with canvas(8.2, 7.2) as figure:
        figure.get_layout_engine().set(hspace=0.0, wspace=0.0, h_pad=0.015, w_pad=0.015)
        grid = figure.add_gridspec(1, 3, width_ratios=[1.0, 0.2, 7.0])
        branches, strip, axes = (figure.add_subplot(grid[place]) for place in range(3))
        image = axes.imshow(r[order][:, order], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        strip.imshow([[to_rgb(paint[kinds[i]])] for i in order], aspect="auto", interpolation="nearest")
        _tree(branches, tree, n)
        for part in (axes, strip, branches):
            _bare(part)
        named = [place for place, i in enumerate(order) if features[i] in chosen]
        for place, at in zip(named, _apart(named, n / 45), strict=True):
            axes.annotate(
                feature_label(features[order[place]]), (n - 0.4, place), (n * 1.035, at), fontsize=7.5, va="center",
                annotation_clip=False, arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6},
            )  # fmt: skip
        axes.set_xlabel(f"{n} features, like ones side by side; those of the signature are named")
        bar = figure.colorbar(image, ax=[branches, strip, axes], location="bottom", shrink=0.35, aspect=28, pad=0.015)
        bar.set_label("Spearman's r")
        bar.outline.set_visible(False)
        patches = [Patch(color=paint[name], label=f"{name} ({kinds.count(name)})") for name in names]
        figure.legend(handles=patches, loc="outside upper center", ncols=min(len(patches), 7), handlelength=1.0)
        return write(figure, folder, "correlation")


def frequencies(folder: Path, table: pd.DataFrame, chosen: Sequence[str], title: str) -> dict[str, str]:
    """How often each feature was chosen again, the most frequent first.

    Args:
        folder: where it is written.
        table: ``feature`` and ``frequency``, 0 to 1.
        chosen: those of the signature.
        title: above the bars.
    """
    ranked = table[table["frequency"] > 0].sort_values(["frequency", "feature"], ascending=[False, True])
    rest = max(0, len(ranked) - _MOST_BARS)
    ranked = ranked.head(_MOST_BARS)
    inside = [name in chosen for name in ranked["feature"]]
    with canvas(6.4, 0.21 * max(len(ranked), 1) + 1.1) as figure:
        axes = figure.add_subplot()
        at = np.arange(len(ranked))
        axes.barh(at, ranked["frequency"], height=0.7, color=[PALETTE[0] if strong else FAINT for strong in inside])
        for place, value in zip(at, ranked["frequency"], strict=True):
            axes.text(value + 0.012, place, f"{value:.2f}", va="center", fontsize=7.5, color=MUTED)
        axes.set_yticks(at, [feature_label(name) for name in ranked["feature"]], fontsize=8)
        _emphasise(axes.get_yticklabels(), inside)
        axes.set(xlim=(0, 1.08), ylim=(max(len(ranked), 1) - 0.4, -0.6), title=title)
        more = f"; {rest} more features were chosen less often" if rest else ""
        axes.set_xlabel(f"share of choices that hold the feature (blue: in the signature{more})")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return write(figure, folder, "stability")


def reliabilities(folder: Path, table: pd.DataFrame, chosen: Sequence[str], good: float, title: str) -> dict[str, str]:
    """ICC of every feature with its interval, best first; below the dashed line a feature is flagged.

    Args:
        folder: where it is written.
        table: of :func:`skinkit.signature.reliability.reliability`.
        chosen: those of the signature, set in bold.
        good: where the dashed line stands.
        title: above the axes.
    """
    from matplotlib.lines import Line2D

    ranked = table.dropna(subset=["icc"]).sort_values(["icc", "feature"], ascending=[False, True])
    kinds = [category(name) for name in ranked["feature"]]
    names = list(dict.fromkeys(category(name) for name in table["feature"]))
    paint = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    at = np.arange(len(ranked))
    low = min(0.0, float(ranked["lower"].min(skipna=True)) if len(ranked) else 0.0)
    with canvas(6.6, _ROW_IN * max(len(ranked), 12) + 1.2) as figure:
        axes = figure.add_subplot()
        axes.axvspan(low - 0.02, good, color=CAUTION_BAND, linewidth=0, zorder=0)
        axes.axvline(good, color=HIGH, linewidth=1.0, linestyle=(0, (4, 2)))
        ends = ranked[["lower", "upper"]].to_numpy(dtype=float)
        for place, kind, value, (lower, upper) in zip(at, kinds, ranked["icc"], ends, strict=True):
            axes.plot([lower, upper], [place, place], color=paint[kind], linewidth=1.2)
            axes.plot(value, place, "o", color=paint[kind], markersize=3.2)
        axes.set_yticks(at, [feature_label(name) for name in ranked["feature"]], fontsize=6.2)
        _emphasise(axes.get_yticklabels(), [name in chosen for name in ranked["feature"]])
        axes.set(xlim=(low - 0.02, 1.02), ylim=(max(len(ranked), 1) - 0.3, -0.7), title=title)
        axes.set_xlabel(f"ICC(2,1) with 95 % interval (bold: in the signature; shaded: below {good})")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        handles = [Line2D([], [], marker="o", color=paint[name], label=name, markersize=4) for name in names]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.02, 0.98))
        return write(figure, folder, "reliability")


def waterfall(
    folder: Path, stem: str, base: float, phi: Floats, values: Floats, features: Sequence[str], title: str
) -> dict[str, str]:
    """From the base value to the log odds of a case, or to the mean of several, feature by feature.

    Args:
        folder: where it is written.
        stem: of the files' names.
        base: log odds before anything is known.
        phi: (features,) what each adds, or adds on average.
        values: (features,) of the case, or typical ones.
        features: names.
        title: above the axes.
    """
    order = np.argsort(-np.abs(phi), kind="stable")
    total = base + float(phi.sum())
    ends = total - np.concatenate([[0.0], np.cumsum(phi[order])])  # from the top downwards
    reach = float(np.ptp(np.append(ends, base))) or 1.0
    with canvas(6.8, 0.34 * len(order) + 1.5) as figure:
        axes = figure.add_subplot()
        for place, i in enumerate(order):
            begin, end = ends[place + 1], ends[place]
            colour = HIGH if phi[i] > 0 else LOW
            axes.barh(place, end - begin, left=begin, height=0.66, color=colour)
            text = f"{phi[i]:+.2f}".replace("-", "−")
            side, at = ("left", max(begin, end) + 0.012 * reach) if phi[i] >= 0 else (
                "right", min(begin, end) - 0.012 * reach
            )  # fmt: skip
            axes.text(at, place, text, ha=side, va="center", fontsize=8, color=colour)
            if place + 1 < len(order):
                axes.plot([begin, begin], [place + 0.33, place + 0.67], color=MUTED, linewidth=0.6)
        axes.axvline(base, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
        axes.axvline(total, color=INK, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
        names = [f"{feature_label(features[i])} = {values[i]:.4g}" for i in order]
        axes.set_yticks(range(len(order)), names, fontsize=8)
        axes.set_xlim(ends.min() - 0.16 * reach, ends.max() + 0.16 * reach)
        axes.set_ylim(len(order) - 0.4, -0.6)
        ends_text = f"{base:+.2f} (p {_p(base):.2f}) to {total:+.2f} (p {_p(total):.2f})".replace("-", "−")
        axes.set(title=title, xlabel=f"log odds, from the base value (bottom) to the sum (top): {ends_text}")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return write(figure, folder, stem)


def _p(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


def beeswarm(folder: Path, phi: Floats, values: Floats, features: Sequence[str], title: str) -> dict[str, str]:
    """What each feature adds to the log odds of many cases, coloured by the feature's value; the strongest first.

    Args:
        folder: where it is written.
        phi: (n, features).
        values: (n, features); NaN is grey.
        features: names.
        title: above the axes.
    """
    from matplotlib.colors import LinearSegmentedColormap

    strength = np.abs(phi).mean(axis=0)
    names = [f"{feature_label(name)}  ({mean:.2f})" for name, mean in zip(features, strength, strict=True)]
    shades = LinearSegmentedColormap.from_list("value", [LOW, BETWEEN, HIGH])
    with canvas(7.0, 0.42 * len(features) + 1.2) as figure, warnings.catch_warnings():
        # SHAP uses calls that Matplotlib is about to withdraw, and takes quantiles of features that are all unknown.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        warnings.filterwarnings("ignore", message="All-NaN slice encountered")
        import shap

        axes = figure.add_subplot()
        state = np.random.get_state()
        np.random.seed(0)  # SHAP stacks the dots in a random order
        try:
            shap.plots.beeswarm(
                shap.Explanation(phi, data=values, feature_names=names), max_display=None, ax=axes, show=False,
                plot_size=None, s=9, color=shades, color_bar_label="value of the feature",
            )  # fmt: skip
        finally:
            np.random.set_state(state)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=INK)
        axes.tick_params(axis="x", labelsize=9, labelcolor=INK)
        axes.set_title(title)
        axes.set_xlabel("added to the log odds (in brackets: mean absolute value)", fontsize=9)
        for bar in figure.axes[1:]:
            bar.tick_params(labelsize=9)
            bar.yaxis.label.set_fontsize(9)
        return write(figure, folder, "beeswarm")
