"""Figures with several panels, drawn on the house's canvas (``skinkit.figures``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures import canvas

_CHANCE = {"color": canvas.TONES["muted"], "linewidth": 0.8, "linestyle": (0, (2, 2))}
_ALARM, _CALM = canvas.TONES["alarm"], canvas.TONES["plain"]
PANEL_IN = 3.1


def roc_panels(
    rows: Sequence[tuple[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]], folder: Path, stem: str
) -> dict[str, str]:
    """ROC curves of several models as a grid of panels: one row a question, one column a cohort, one line a model.

    Args:
        rows: (words of the question, cohort -> model -> ``fpr``, ``tpr``, ``auroc``, ``lower`` and ``upper``); a cohort
            that a row lacks leaves its panel out.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.

    Returns:
        Kind of file -> its path.
    """
    from matplotlib.lines import Line2D

    cohorts = list(dict.fromkeys(cohort for _, of in rows for cohort in of))
    models = list(dict.fromkeys(model for _, of in rows for curves in of.values() for model in curves))
    styles = {
        model: {
            "color": canvas.PALETTE[place % len(canvas.PALETTE)],
            "linestyle": canvas.DASHES[place % len(canvas.DASHES)],
            "linewidth": 1.5,
        }
        for place, model in enumerate(models)
    }
    columns = max(1, min(len(models), int(1.2 * len(cohorts)) + 1))
    height = (PANEL_IN + 0.2) * len(rows) + 0.25 * -(-len(models) // columns)
    with canvas.canvas(PANEL_IN * len(cohorts) + 0.2, height) as figure:
        figure.get_layout_engine().set(h_pad=0.09)
        panels = figure.subplots(len(rows), len(cohorts), squeeze=False)
        for i, (question, of) in enumerate(rows):
            for j, cohort in enumerate(cohorts):
                axes = panels[i, j]
                if not of.get(cohort):
                    axes.set_axis_off()
                    continue
                axes.plot([0, 1], [0, 1], **_CHANCE)
                for model, curve in of[cohort].items():
                    text = canvas.interval_text(curve, "auroc")
                    axes.plot(curve["fpr"], curve["tpr"], label=text, **styles[model])
                axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
                axes.set_title(f"{cohort}\n{question}", fontsize=8.5)
                axes.set(
                    xlabel="1 − specificity" if i == len(rows) - 1 else "",
                    ylabel="sensitivity" if j == 0 else "",
                )
                size = 7 if len(of[cohort]) <= 5 else 5.5
                words = {"title": "AUROC (95 % interval)", "title_fontproperties": {"size": size, "weight": "bold"}}
                axes.legend(loc="lower right", fontsize=size, handlelength=2.2, labelspacing=0.3, **words)
        handles = [Line2D([], [], **style) for style in styles.values()]
        figure.legend(handles, models, loc="outside lower center", ncols=columns, handlelength=2.6)
        return canvas.write(figure, folder, stem)


def candidate_panels(
    cases: Sequence[tuple[Mapping[str, Any], npt.NDArray[np.uint8]]],
    labels: Mapping[str, str],
    folder: Path,
    stem: str,
) -> dict[str, str]:
    """Photos, each beside the probabilities of its two most probable classes, its malignancy and its call.

    Args:
        cases: rows of predictions with ``case_id``, ``class`` (the truth, or None), ``top1``, ``top1_p``, ``top2``,
            ``top2_p``, ``malignancy``, ``threshold``, ``call`` and ``veto``; with the photo, uint8 (H, W, 3).
        labels: class -> words.
        folder: where ``stem.svg`` and ``stem.png`` are written.
        stem: name of the files.

    Returns:
        Kind of file -> its path.
    """
    with canvas.canvas(6.6, 1.55 * len(cases) + 0.3) as figure:
        panels = figure.subplots(len(cases), 2, width_ratios=[1, 2.6], squeeze=False)
        for (picture, bars), (row, photo) in zip(panels, cases, strict=True):
            picture.imshow(photo)
            picture.set_axis_off()
            truth = row.get("class")
            heading = f"truth: {labels.get(str(truth), truth)}" if truth else "truth unknown"
            picture.set_title(heading, fontsize=7.5, fontweight="normal")
            values = [float(row["top1_p"]), float(row["top2_p"]), float(row["malignancy"])]
            names = [labels.get(str(row[key]), str(row[key])) for key in ("top1", "top2")]
            malignant = str(row["call"]) == "malignant"
            paint = [canvas.PALETTE[0], canvas.PALETTE[5], _ALARM if malignant else _CALM]
            bars.barh(range(3), values, height=0.62, color=paint)
            for place, value in enumerate(values):
                inside = value > 0.85
                bars.text(
                    value - 0.015 if inside else value + 0.015,
                    place,
                    f"{value:.2f}",
                    va="center",
                    ha="right" if inside else "left",
                    fontsize=7.5,
                    color="white" if inside else canvas.INK,
                )
            threshold = float(row["threshold"])
            bars.plot([threshold, threshold], [1.55, 2.45], color=canvas.INK, linewidth=1.2)
            veto = ", by the veto" if row.get("veto") else ""
            bars.set_title(f"called {row['call']}{veto}", fontsize=8, color=_ALARM if malignant else _CALM)
            bars.set_yticks(range(3), [*names, f"malignant (from {threshold:.2g})"], fontsize=7.5)
            bars.set(xlim=(0, 1), ylim=(2.6, -0.6))
            bars.tick_params(axis="x", labelsize=7)
            bars.grid(visible=False, axis="y")
        return canvas.write(figure, folder, stem)


def continual_panels(
    courses: Mapping[str, Sequence[Sequence[float]]],
    order: Sequence[str],
    alone: Sequence[float] | None,
    folder: Path,
    stem: str,
) -> dict[str, str]:
    """The score on each cohort after each step of a sequence, one panel an arm, as SVG and PNG.

    Args:
        courses: arm -> cohort -> (steps,) scores.
        order: the cohorts as they are learnt.
        alone: of each cohort, the score of a model that learnt it alone, drawn as a dashed level.
        folder: where it is written.
        stem: of the files' names.
    """
    with canvas.canvas(PANEL_IN * len(courses) + 0.4, PANEL_IN + 0.3) as figure:
        panels = figure.subplots(1, len(courses), squeeze=False, sharey=True)[0]
        steps = range(1, len(order) + 1)
        for axes, (arm, of) in zip(panels, courses.items(), strict=True):
            for place, (cohort, values) in enumerate(zip(order, of, strict=True)):
                colour = canvas.PALETTE[place % len(canvas.PALETTE)]
                axes.plot(steps, values, "o-", color=colour, label=f"on {cohort}")
                if alone is not None:
                    axes.axhline(alone[place], color=colour, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.set(title=arm, ylim=(0, 1), xlim=(0.8, len(order) + 0.2))
            axes.set_xticks(list(steps), [f"after {cohort}" for cohort in order])
        panels[0].set_ylabel("balanced accuracy")
        panels[0].legend(loc="lower left")
        return canvas.write(figure, folder, stem)
