"""Figures: curves, matrices and heatmaps as SVG text; outlines and heatmaps on photographs as PNG bytes.

Text stays text in the SVG, so that every script shows and can be searched; nothing random and no date enters, so the
same input gives the same bytes. Colours are those of Okabe & Ito (told apart by colour-blind readers, yellow darkened
for white paper), and lines differ in dash as well. Matplotlib is loaded when the first figure is drawn, without a
display.
"""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7A4FA3")
ALL_COLOUR = "#1d2733"
"""What stands for all classes together: averages, malignant against benign."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_FONTS = "'DejaVu Sans', Verdana, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
_INK, _MUTED, _GRID = "#1d2733", "#5a6572", "#e3e7eb"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "skinkit",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
_MOST_CASES = 600


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


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.12)
    return re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", _FONTS, stream.getvalue())


def write(figure: Any, folder: Path, stem: str) -> dict[str, str]:
    """Write a figure for the screen and one for print: ``stem.svg`` and ``stem.png`` (200 dots per inch).

    Returns:
        Kind of file -> its path.
    """
    from skinkit.artifact import write_atomic

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=200, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)
    files = {"svg": _svg(figure).encode(), "png": stream.getvalue()}
    for kind, data in files.items():
        write_atomic(folder / f"{stem}.{kind}", data)
    return {kind: str(folder / f"{stem}.{kind}") for kind in files}


def interval_text(curve: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """A figure with its interval, as legends show it: ``name``, ``lower`` and ``upper`` of a mapping."""
    value, lower, upper = (curve.get(key) for key in (name, "lower", "upper"))
    if value is None:
        return "too few cases"
    text = f"{value:.{digits}f}"
    return f"{text} ({lower:.{digits}f} to {upper:.{digits}f})" if lower is not None and upper is not None else text


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
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        _curves(axes, curves, labels or {}, "fpr", "tpr", "auroc")
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", title=title)
        dots = "\ndot: at the threshold in use" if any(curve.get("point") for curve in curves.values()) else ""
        axes.get_legend().set_title(f"AUROC (95 % interval){dots}", prop={"size": 8.5, "weight": "bold"})
        return _svg(figure)


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
            axes.axhline(chance, color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        _curves(axes, curves, labels or {}, "recall", "precision", "average_precision")
        axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)", title=title)
        axes.get_legend().set_title("average precision (95 % interval)", prop={"size": 8.5, "weight": "bold"})
        return _svg(figure)


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
    shades = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#c6dcee", "#5a9bcb", "#0b4a7d"])
    rows = [f"{(labels or {}).get(name, name)}  (n = {int(n)})" for name, n in zip(classes, totals, strict=True)]
    with canvas(side + 2.6, side + 0.9) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        for i in range(k):
            for j in range(k):
                axes.fill([j, j + 1, j + 1, j], [i, i, i + 1, i + 1], facecolor=shades(share[i, j]), edgecolor="white")
                ink = "white" if share[i, j] > 0.5 else (_INK if counts[i, j] else "#b3bac2")
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
        return _svg(figure)


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
    shown = [_short(features[i]) for i in rows]
    height = min(max(0.16 * len(shown), 1.2), 11.0) + 1.0
    with canvas(8.2, height) as figure:
        import matplotlib as mpl

        figure.get_layout_engine().set(hspace=0.0, h_pad=0.02)
        strip, axes = figure.subplots(2, 1, height_ratios=[0.16, height - 1.0], sharex=True)
        strip.imshow([[to_rgb(paint[name]) for name in of]], aspect="auto", interpolation="nearest")
        shades = mpl.colormaps["RdBu_r"].with_extremes(bad="#c9ced4")
        image = axes.imshow(values, aspect="auto", cmap=shades, vmin=-2.5, vmax=2.5, interpolation="nearest")
        for part in (strip, axes):
            part.grid(visible=False)
            part.tick_params(length=0, labelbottom=False)
            for spine in part.spines.values():
                spine.set_visible(False)
        strip.set_yticks([])
        strip.set_title(title)
        axes.yaxis.tick_right()
        axes.set_yticks(range(len(shown)), shown, fontsize=min(8.0, 72 * (height - 1.0) / max(len(shown), 1) * 0.85))
        drawn = f"{len(of)} of {len(classes)}" if len(of) < len(classes) else f"{len(of)}"
        axes.set_xlabel(f"{drawn} lesions, like ones side by side")
        bar = figure.colorbar(image, ax=axes, location="left", shrink=min(1.0, 1.6 / max(height - 1.0, 1)), pad=0.02)
        bar.set_label("z-score")
        bar.outline.set_visible(False)
        patches = [Patch(color=paint[name], label=(labels or {}).get(name, name)) for name in names if name in of]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 4), handlelength=1.2)
        return _svg(figure)


def thinned(classes: npt.NDArray[np.str_], most: int = _MOST_CASES) -> npt.NDArray[np.int64]:
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


def _short(feature: str) -> str:
    """``original_firstorder_Mean`` as ``firstorder Mean``, ``red_original_glcm_Id`` as ``red glcm Id``."""
    return feature.replace("original_", "").replace("_", " ")


_TRAINING_COLUMNS = ("phase", "epoch", "learning_rate", "train_loss", "validation_loss", "seconds", "kept")


def learning_curve(history: Sequence[Mapping[str, Any]], *, title: str = "") -> bytes:
    """Losses above, validation figures below, over all epochs, as PNG; a ring marks what was kept of each phase.

    Args:
        history: one mapping an epoch, as :class:`skinkit.fit.Trained` has it: ``phase``, ``epoch``, ``train_loss``,
            ``kept``, perhaps ``validation_loss``, and figures by name, the first of which decided. An entry without a
            training loss is the mean of weights: it stands at its phase's last epoch, as a diamond.
        title: above the figure.
    """
    figures = [name for name in (history[0] if history else {}) if name not in _TRAINING_COLUMNS]
    at = np.cumsum([np.isfinite(entry["train_loss"]) for entry in history])
    with canvas(6.6, 2.5 + 2.2 * bool(figures)) as figure:
        panels = figure.subplots(1 + bool(figures), 1, sharex=True, squeeze=False)[:, 0]
        losses = [name for name in ("train_loss", "validation_loss") if any(name in entry for entry in history)]
        for axes, names, called in zip(panels, (losses, figures), ("loss", "on validation rows"), strict=False):
            for i, name in enumerate(names):
                _trained(axes, history, at, name, PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)])
            _phases(axes, history, at, named=axes is panels[0])
            axes.set_ylabel(called)
            axes.margins(y=0.12)
            if names:
                axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), alignment="left")
        mean = ", diamond: their mean over the last steps" if len(at) > len(set(at.tolist())) else ""
        panels[-1].set_xlabel(f"epoch (ring: weights kept of the phase{mean})")
        panels[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
        return stream.getvalue()


def _trained(
    axes: Any, history: Sequence[Mapping[str, Any]], at: npt.NDArray[np.int64], name: str, colour: str, dash: Any
) -> None:
    """One quantity over the epochs, with a ring or diamond where weights were kept."""
    values = np.array([float(entry.get(name, np.nan)) for entry in history])
    mean = np.array([not np.isfinite(entry["train_loss"]) for entry in history])
    axes.plot(at[~mean], values[~mean], color=colour, linestyle=dash, label=name.replace("_", " "))
    for chosen, marker in ((~mean, "o"), (mean, "D")):
        kept = chosen & np.array([bool(entry["kept"]) for entry in history])
        axes.plot(at[kept], values[kept], marker, color="white", markeredgecolor=colour, markeredgewidth=1.8, zorder=5)


def _phases(axes: Any, history: Sequence[Mapping[str, Any]], at: npt.NDArray[np.int64], *, named: bool) -> None:
    """Every second phase on a tinted ground, with its name above."""
    names = list(dict.fromkeys(entry["phase"] for entry in history))
    for i, phase in enumerate(names):
        its = at[[entry["phase"] == phase for entry in history]]
        first, last = its.min() - 0.5, its.max() + 0.5
        axes.axvspan(first, last, color=_GRID if i % 2 else "white", alpha=0.55, linewidth=0, zorder=0)
        if named and len(names) > 1:
            place = ((first + last) / 2, 1.02)
            axes.text(*place, phase, transform=axes.get_xaxis_transform(), ha="center", color=_MUTED, fontsize=8.5)
    if names:
        axes.set_xlim(at.min() - 0.5, at.max() + 0.5)


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, stem: str, *, title: str = ""
) -> dict[str, str]:
    """Training loss and validation figure of several trainings over their epochs, as SVG and PNG; rings mark the best.

    Args:
        histories: what each is called -> its history, as :func:`learning_curve` takes it, without means of weights.
        folder: where it is written.
        stem: of the files' names.
        title: above the figure.
    """
    with canvas(7.2, 4.8) as figure:
        losses, scores = figure.subplots(2, 1, sharex=True)
        called = set()
        for i, (name, history) in enumerate(histories.items()):
            epochs = [entry for entry in history if np.isfinite(entry["train_loss"])]
            look = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
            x = np.arange(1, len(epochs) + 1)
            losses.plot(x, [entry["train_loss"] for entry in epochs], label=name, **look)
            if any("validation_loss" in entry for entry in epochs):
                faint = {**look, "linewidth": 1.1, "alpha": 0.5}
                losses.plot(x, [entry.get("validation_loss", np.nan) for entry in epochs], **faint)
            decided = deciding_figure(history)
            if decided:
                called.add(decided.replace("_", " "))
                values = np.array([float(entry.get(decided, np.nan)) for entry in epochs])
                scores.plot(x, values, **look)
                if np.isfinite(values).any():
                    best = int(np.nanargmax(values))
                    scores.plot(x[best], values[best], "o", color="white", markeredgecolor=look["color"], zorder=5)
        losses.set_ylabel("training loss" if len(losses.lines) == len(histories) else "loss (faint: validation)")
        told = " / ".join(sorted(called)).replace("iou", "IoU").replace("auroc", "AUROC")
        scores.set_ylabel(f"validation {told}".rstrip())
        scores.set_xlabel("epoch (ring: the best)")
        scores.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        losses.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), alignment="left")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        return write(figure, folder, stem)


def deciding_figure(history: Sequence[Mapping[str, Any]]) -> str | None:
    """The validation figure that chose the weights: the first of a history that is no loss."""
    return next((name for name in (history[0] if history else {}) if name not in _TRAINING_COLUMNS), None)


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
        return _svg(figure)


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
        axes.barh(at, value, height=0.68, color="#D55E00" if value > 0 else "#0072B2")
        side, shift = ("left", 0.015) if value >= 0 else ("right", -0.015)
        axes.text(value + shift * reach, at, f"{value:+.3g}".replace("-", "−"), ha=side, va="center", fontsize=8)
    axes.axvline(0, color=_MUTED, linewidth=0.8)
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


def heatmap_course(
    shots: Sequence[Mapping[str, Any]],
    photos: Mapping[str, npt.NDArray[np.uint8]],
    folder: Path,
    stem: str,
    *,
    columns: int = 6,
) -> dict[str, str]:
    """How the heatmaps of a few cases changed in training: a row a case, its photo first, then some epochs.

    Args:
        shots: snapshots with ``epoch`` and ``cases`` (``class``, ``pixels`` and ``heat``, rows of 0 to 255).
        photos: pixel hash -> (H, W, 3); of a case without one the heatmap stands alone.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.
        columns: epochs shown at most, evenly spread, the last among them.

    Returns:
        Kind of file -> its path.
    """
    from PIL import Image

    chosen = [shots[i] for i in np.unique(np.linspace(0, len(shots) - 1, columns).round().astype(int))]
    rows = chosen[-1]["cases"]
    size = (224, 224)
    with canvas(1.35 * (1 + len(chosen)), 1.5 * len(rows) + 0.2) as figure:
        panels = figure.subplots(len(rows), 1 + len(chosen), squeeze=False)
        for axes in panels.ravel():
            axes.set_axis_off()
        for line, case in zip(panels, rows, strict=True):
            photo = photos.get(case["pixels"])
            square = (
                np.full((*size, 3), 200, np.uint8) if photo is None else np.asarray(Image.fromarray(photo).resize(size))
            )
            line[0].imshow(square)
            line[0].set_title(case["class"], fontsize=8)
            for axes, shot in zip(line[1:], chosen, strict=True):
                own = next((each for each in shot["cases"] if each["pixels"] == case["pixels"]), None)
                if own is None:
                    continue
                heat = np.asarray(
                    Image.fromarray(np.array(own["heat"], np.uint8)).resize(size, Image.Resampling.BILINEAR)
                )
                axes.imshow(heated(square, heat))
                axes.set_title(f"epoch {shot['epoch']}", fontsize=8, fontweight="normal")
        return write(figure, folder, stem)


def importance_course(shots: Sequence[Mapping[str, Any]], folder: Path, stem: str, *, limit: int = 8) -> dict[str, str]:
    """How the importance of attributes changed in training, as lines; those strongest at the end are shown.

    Args:
        shots: snapshots with ``epoch`` and ``importance``, attribute -> number.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.
        limit: lines.

    Returns:
        Kind of file -> its path.
    """
    last = shots[-1]["importance"]
    names = sorted(last, key=lambda name: -last[name])[:limit]
    lines = {name: [shot["importance"][name] for shot in shots] for name in names}
    return _course(shots, lines, "mean |gradient x input|, log odds", folder, stem)


def factor_course(shots: Sequence[Mapping[str, Any]], folder: Path, stem: str) -> dict[str, str]:
    """How metadata weigh the channels of the photo's maps: their mean by class over training, and in the end all.

    Args:
        shots: snapshots with ``epoch`` and ``factors``, class -> ``mean`` and ``histogram`` over 0 to 1.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.

    Returns:
        Kind of file -> its path.
    """
    last = shots[-1]["factors"]
    lines = {code: [shot["factors"].get(code, {}).get("mean", np.nan) for shot in shots] for code in last}
    return _course(
        shots, lines, "mean weight of the channels", folder, stem, {c: o["histogram"] for c, o in last.items()}
    )


def _course(
    shots: Sequence[Mapping[str, Any]],
    lines: Mapping[str, Sequence[float]],
    label: str,
    folder: Path,
    stem: str,
    histograms: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, str]:
    """Lines over the snapshots, and beside them, where there are any, histograms over 0 to 1."""
    at = np.arange(len(shots))
    with canvas(10.2 if histograms else 6.6, 3.2) as figure:
        panels = figure.subplots(1, 2 if histograms else 1, squeeze=False)[0]
        looks = {
            name: {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[(i // len(PALETTE)) % len(DASHES)]}
            for i, name in enumerate(lines)
        }
        for name, values in lines.items():
            panels[0].plot(at, values, marker="o", markersize=3.5, label=name, **looks[name])
        panels[0].set_xticks(at, [str(shot["epoch"]) for shot in shots])
        panels[0].set(xlabel="epoch", ylabel=label)
        for name, shares in (histograms or {}).items():
            edges = np.linspace(0, 1, len(shares) + 1)
            panels[1].stairs(shares, edges, label=name, linewidth=1.4, **looks[name])
            panels[1].set(xlim=(0, 1), xlabel="weight of a channel", ylabel=f"share, epoch {shots[-1]['epoch']}")
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return write(figure, folder, stem)


def _called(entry: Mapping[str, Any]) -> str:
    value = entry.get("value")
    if value is None or value == "":
        text = str(entry["attribute"])
    else:
        text = f"{entry['attribute']} = {value:.4g}" if isinstance(value, float) else f"{entry['attribute']} = {value}"
    return textwrap.shorten(text, 44, placeholder=" …")


# ------------------------------------------------------------------------------------------------ on photographs


def overlay(rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> bytes:
    """The photograph with the outline of the lesion, as PNG: a bright line between two dark ones shows on any skin.

    Args:
        rgb: (H, W, 3).
        mask: (H, W); an empty mask leaves the photograph as it is.
    """
    from skinkit.images import png_bytes

    return png_bytes(outlined(rgb, mask))


OUTLINE = (64, 244, 255)
"""Colour of outlines: cyan, which skin never is."""


def outlined(
    rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], colour: tuple[int, int, int] = OUTLINE
) -> npt.NDArray[np.uint8]:
    """The pixels of :func:`overlay`, (H, W, 3); the line is about 1/170 of the longer side wide."""
    from scipy.ndimage import distance_transform_edt

    _same_size(rgb, mask)
    inside = np.asarray(mask, dtype=bool)
    if not inside.any() or inside.all():
        return rgb.copy()
    width = max(1.6, max(inside.shape) / 170)
    reach = int(np.ceil(2 * width)) + 2
    window = _window(inside, reach)
    part = inside[window]
    # Distance to the border between pixels, positive outside: the line gets smooth edges from it.
    border = np.where(part, 0.5 - distance_transform_edt(part), distance_transform_edt(~part) - 0.5)
    halo = np.clip(1.1 * width + 0.5 - np.abs(border), 0, 1)[..., None] * 0.65
    line = np.clip(0.5 * width + 0.5 - np.abs(border), 0, 1)[..., None]
    picture = rgb.copy()
    pixels = picture[window].astype(np.float64)
    pixels = pixels * (1 - halo)
    pixels = pixels * (1 - line) + np.array(colour, dtype=np.float64) * line
    picture[window] = pixels.round().astype(np.uint8)
    return picture


def _window(mask: npt.NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


PREDICTED = ((255, 96, 208), (255, 221, 64))
"""Colours of predicted outlines beside a person's: magenta and yellow, lighter for the colour-blind than any lesion."""


def contact_sheet(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    folder: Path,
    stem: str,
    *,
    names: Sequence[str] = ("predicted",),
    title: str = "",
) -> dict[str, str]:
    """Photographs with the outline a person drew and one or two predicted ones, in rows, as SVG and PNG.

    Args:
        rows: name of each row -> pictures with ``rgb`` (H, W, 3), ``truth`` (H, W), ``predicted``, for each of
            ``names`` (H, W), and ``text``.
        folder: where it is written.
        stem: of the files' names.
        names: whose predictions they are.
        title: above the sheet.
    """
    from matplotlib.lines import Line2D

    across = max(len(pictures) for pictures in rows.values())
    height = 1.95 + 0.13 * max(1, *(one["text"].count("\n") + 1 for pictures in rows.values() for one in pictures))
    with canvas(1.75 * across + 0.5, height * len(rows) + 0.6) as figure:
        grid = figure.subplots(len(rows), across, squeeze=False)
        for line, (name, pictures) in zip(grid, rows.items(), strict=True):
            for place, axes in enumerate(line):
                axes.set_axis_off()
                if place >= len(pictures):
                    continue
                one = pictures[place]
                picture = outlined(one["rgb"], one["truth"])
                for mask, colour in zip(one["predicted"], PREDICTED, strict=False):
                    picture = outlined(picture, mask, colour)
                axes.imshow(picture)
                axes.text(0.5, -0.03, one["text"], transform=axes.transAxes, ha="center", va="top", fontsize=7.5)
                if place == 0:
                    where = {"transform": axes.transAxes, "ha": "right", "va": "center", "rotation": 90}
                    axes.text(-0.05, 0.5, name, fontsize=9, fontweight="bold", **where)
        lines = [
            Line2D([], [], color="#{:02x}{:02x}{:02x}".format(*colour), linewidth=2.4, label=label)
            for colour, label in zip((OUTLINE, *PREDICTED), ("drawn by a person", *names), strict=False)
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=3)
        if title:
            figure.suptitle(title, fontsize=10, fontweight="bold")
        return write(figure, folder, stem)


def heatmap_overlay(
    rgb: npt.NDArray[np.uint8], heat: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None = None
) -> bytes:
    """The photograph, greyed, under a heatmap, as PNG.

    Args:
        rgb: (H, W, 3).
        heat: (H, W), 0 to 1, or 0 to 255 where it is uint8; weak support stays transparent.
        mask: (H, W) lesion to outline, where it should be shown too.
    """
    from skinkit.images import png_bytes

    return png_bytes(heated(rgb, heat, mask))


def heated(
    rgb: npt.NDArray[np.uint8], heat: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.uint8]:
    """The pixels of :func:`heatmap_overlay`, (H, W, 3)."""
    import matplotlib as mpl

    from skinkit.images import grey

    _same_size(rgb, heat)
    support = heat.astype(np.float64) / (255 if heat.dtype == np.uint8 else 1)
    support = np.clip(np.nan_to_num(support), 0, 1)
    # viridis: perceptually even, and its green to yellow is what skin is not.
    shades = (mpl.colormaps["viridis"](np.linspace(0, 1, 256))[:, :3] * 255)[(support * 255).astype(np.int64)]
    pale = 0.45 * rgb.astype(np.float64) + 0.55 * grey(rgb)[..., None]
    opacity = (0.65 * np.clip((support - 0.1) / 0.5, 0, 1))[..., None]
    picture: npt.NDArray[np.uint8] = (pale * (1 - opacity) + shades * opacity).round().astype(np.uint8)
    return picture if mask is None else outlined(picture, mask)


def _same_size(rgb: npt.NDArray[np.uint8], other: npt.NDArray[Any]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != other.shape:
        raise ValueError(f"a photograph of shape {rgb.shape} and a map of shape {other.shape}")


# ---------------------------------------------------------------------------------------------------- intervals

_TONES = {"alarm": "#a3261d", "notice": "#c17a1a", "plain": "#2b5c86", "muted": "#9aa5b1"}


def interval_bars(
    bars: Sequence[Mapping[str, Any]],
    *,
    start: float = 0.0,
    reference: float | None = None,
    x_label: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    title: str = "",
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
    """
    with canvas(7.2, 0.9 + 0.24 * max(len(bars), 1)) as figure:
        axes = figure.add_subplot()
        for place, bar in enumerate(bars):
            colour = _TONES[str(bar.get("tone") or "plain")]
            value, ends = float(bar["estimate"]), [bar.get("lower"), bar.get("upper")]
            axes.barh(place, value - start, left=start, height=0.62, color=colour, alpha=0.32, linewidth=0)
            if all(end is not None and not np.isnan(end) for end in ends):
                axes.plot(ends, [place, place], color=colour, linewidth=2.2)
            axes.plot(value, place, "o", color=colour, markersize=4.5)
        axes.axvline(start, color=_MUTED, linewidth=0.8)
        if reference is not None:
            axes.axvline(reference, color=_MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.set_yticks(range(len(bars)), [str(bar["label"]) for bar in bars])
        axes.set(xlim=limits, ylim=(len(bars) - 0.4, -0.6), xlabel=x_label, title=title)
        axes.grid(axis="y", visible=False)
        return _svg(figure)


# ------------------------------------------------------------------------------------- calibration and decisions


def reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str = "") -> str:
    """Reliability diagrams as SVG: the observed share of malignant cases against the mean probability, bin by bin.

    Args:
        bins: ``calibrated``, and ``raw`` where it is known -> bins with ``predicted``, ``observed``, ``lower``,
            ``upper`` and ``n``.
        title: above the axes.
    """
    looks = {"raw": (_MUTED, (0, (4, 2)), "before calibration"), "calibrated": (PALETTE[0], "-", "as used")}
    with canvas(5.4, 4.2) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for shift, name in enumerate(name for name in looks if name in bins):
            colour, dash, label = looks[name]
            x, y, *ends = (_numbers(bins[name], key) for key in ("predicted", "observed", "lower", "upper"))
            axes.vlines(x + 0.004 * shift, *ends, color=colour, linewidth=1.2, alpha=0.6)
            axes.plot(x + 0.004 * shift, y, "o", color=colour, linestyle=dash, markersize=4.5, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=title)
        axes.set(xlabel="mean probability of malignancy", ylabel="observed share of malignant cases")
        axes.legend(loc="upper left")
        return _svg(figure)


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
        axes.axhline(0, color=_MUTED, linewidth=1.0, label="treat nobody")
        axes.plot(x, everybody, color=PALETTE[4], linestyle=(0, (5, 1.6)), label="treat everybody")
        axes.fill_between(x, lower, upper, color=PALETTE[0], alpha=0.18, linewidth=0)
        axes.plot(x, model, color=PALETTE[0], linewidth=2.0, label="model (95 % interval)")
        if point := curve.get("point"):
            axes.plot(*point, "o", color=ALL_COLOUR, markeredgecolor="white", markersize=7, label="veto", zorder=5)
        axes.set(xlim=(0, 1), ylim=(-0.15 * max(prevalence, 0.05), 1.08 * max(prevalence, 0.05)), title=title)
        axes.set(xlabel="probability of malignancy from which to treat", ylabel="net benefit")
        axes.legend(loc="upper right")
        return _svg(figure)


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
            share, found = curve["points"].get(name, (None, None))
            if found is not None:
                axes.plot(share, found, mark, color=ALL_COLOUR, markeredgecolor="white", markersize=7, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02), xlabel="share referred", ylabel="share", title=title)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return _svg(figure)


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
                panel.axvline(whole, color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
            for at, row in enumerate(rows):
                told = row.get(metric) or {}
                if told.get("estimate") is None:
                    continue
                colour = PALETTE[1] if told.get("flagged") else PALETTE[0]
                if told.get("lower") is not None:
                    panel.hlines(at, told["lower"], told["upper"], color=colour, linewidth=1.6)
                panel.plot(told["estimate"], at, "D" if told.get("flagged") else "o", color=colour, markersize=4.5)
            panel.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
            panel.tick_params(axis="y", length=0)
        names = [f"{row['name']}  (n = {row['n']}, {row['n_positive']} malignant)" for row in rows]
        figure.axes[0].set_yticks(range(len(rows)), names)
        if title:
            figure.suptitle(title)
        return _svg(figure)


def differences(rows: Sequence[Mapping[str, Any]], *, title: str = "", unit: str = "difference") -> str:
    """Differences with their intervals as SVG, a line at zero; what excludes zero is filled and orange.

    Args:
        rows: ``name``, ``difference``, ``lower`` and ``upper``.
        title: above the axes.
        unit: below them.
    """
    with canvas(6.4, 0.27 * max(len(rows), 1) + 0.9) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=_MUTED, linewidth=1.0)
        for at, row in enumerate(rows):
            if row.get("difference") is None:
                continue
            ends = [float(end) for end in (row.get("lower"), row.get("upper")) if end is not None]
            known = len(ends) == 2
            apart = known and (ends[0] > 0 or ends[1] < 0)
            colour = PALETTE[1] if apart else PALETTE[0]
            if known:
                axes.hlines(at, *ends, color=colour, linewidth=1.8)
            axes.plot(row["difference"], at, "D" if apart else "o", color=colour, markersize=5)
        axes.set(ylim=(max(len(rows), 1) - 0.5, -0.5), title=title, xlabel=unit)
        axes.set_yticks(range(len(rows)), [str(row["name"]) for row in rows])
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> npt.NDArray[np.float64]:
    return _floats([row[key] for row in rows])


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
