"""Figures of training: learning curves, and what a network rests on while it learns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures.canvas import DASHES, GRID, MUTED, PALETTE, canvas, write
from skinkit.figures.photos import heated

_TRAINING_COLUMNS = ("phase", "epoch", "learning_rate", "train_loss", "validation_loss", "seconds", "kept")


def learning_curve(history: Sequence[Mapping[str, Any]], *, title: str = "") -> bytes:
    """Losses above, validation figures below, over all epochs, as PNG; a ring marks what was kept of each phase.

    Args:
        history: one mapping an epoch, as :class:`skinkit.learning.loop.Trained`: ``phase``, ``epoch``, ``train_loss``,
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
        axes.axvspan(first, last, color=GRID if i % 2 else "white", alpha=0.55, linewidth=0, zorder=0)
        if named and len(names) > 1:
            place = ((first + last) / 2, 1.02)
            axes.text(*place, phase, transform=axes.get_xaxis_transform(), ha="center", color=MUTED, fontsize=8.5)
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
            style = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
            x = np.arange(1, len(epochs) + 1)
            losses.plot(x, [entry["train_loss"] for entry in epochs], label=name, **style)
            if any("validation_loss" in entry for entry in epochs):
                faint = {**style, "linewidth": 1.1, "alpha": 0.5}
                losses.plot(x, [entry.get("validation_loss", np.nan) for entry in epochs], **faint)
            decided = deciding_figure(history)
            if decided:
                called.add(decided.replace("_", " "))
                values = np.array([float(entry.get(decided, np.nan)) for entry in epochs])
                scores.plot(x, values, **style)
                if np.isfinite(values).any():
                    best = int(np.nanargmax(values))
                    scores.plot(x[best], values[best], "o", color="white", markeredgecolor=style["color"], zorder=5)
        losses.set_ylabel("training loss" if len(losses.lines) == len(histories) else "loss (faint: validation)")
        names = " / ".join(sorted(called)).replace("iou", "IoU").replace("auroc", "AUROC")
        scores.set_ylabel(f"validation {names}".rstrip())
        scores.set_xlabel("epoch (ring: the best)")
        scores.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        losses.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), alignment="left")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        return write(figure, folder, stem)


def deciding_figure(history: Sequence[Mapping[str, Any]]) -> str | None:
    """The validation figure that chose the weights: the first of a history that is no loss."""
    return next((name for name in (history[0] if history else {}) if name not in _TRAINING_COLUMNS), None)


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
        shots: snapshots with ``epoch`` and ``cases`` (``class``, ``pixel_sha256`` and ``heat``, rows of 0 to 255).
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
            photo = photos.get(case["pixel_sha256"])
            square = (
                np.full((*size, 3), 200, np.uint8) if photo is None else np.asarray(Image.fromarray(photo).resize(size))
            )
            line[0].imshow(square)
            line[0].set_title(case["class"], fontsize=8)
            for axes, shot in zip(line[1:], chosen, strict=True):
                own = next((each for each in shot["cases"] if each["pixel_sha256"] == case["pixel_sha256"]), None)
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
        styles = {
            name: {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[(i // len(PALETTE)) % len(DASHES)]}
            for i, name in enumerate(lines)
        }
        for name, values in lines.items():
            panels[0].plot(at, values, marker="o", markersize=3.5, label=name, **styles[name])
        panels[0].set_xticks(at, [str(shot["epoch"]) for shot in shots])
        panels[0].set(xlabel="epoch", ylabel=label)
        for name, shares in (histograms or {}).items():
            edges = np.linspace(0, 1, len(shares) + 1)
            panels[1].stairs(shares, edges, label=name, linewidth=1.4, **styles[name])
            panels[1].set(xlim=(0, 1), xlabel="weight of a channel", ylabel=f"share, epoch {shots[-1]['epoch']}")
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return write(figure, folder, stem)
