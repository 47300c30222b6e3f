"""curves: plot training curves of networks.

Takes models of the workspace, or folders of models trained elsewhere; for example the same segmenter started from COCO
and from ImageNet weights. Reports for each the best validation figure, its epoch, and the first epoch that reaches 95 %
of the lowest of these best figures, as a measure of learning speed. Files are written to 'curves' of the workspace:
SVG, PNG and JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.artifact import MANIFEST, Artifact, open_artifact
from skinkit.commands import Context
from skinkit.commands._output import write_study
from skinkit.errors import ConfigError, InputError
from skinkit.learning.pack import trained
from skinkit.options import MANY_MODELS, MODEL, folder_for_files

PANEL = "Model study", 7

FOLDER = "curves"
_NEAR = 0.95


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    models: Annotated[tuple[str, ...], replace(MANY_MODELS, text=f"{MODEL}, or the folder of one; repeatable")] = ()
    labels: Annotated[tuple[str, ...], "their names in the figure, in the same order (default: the models')"] = ()
    fold: Annotated[int, "fold of each network"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Plot all networks in one figure."""
    from skinkit.figures import training

    if not config.models or len(set(config.models)) < len(config.models):
        raise ConfigError(
            f"curves {' '.join(config.models)}", "different models", "for example 'skinkit curves coco imagenet'"
        )
    labels = config.labels or tuple(Path(name).name for name in config.models)
    if len(labels) != len(config.models) or len(set(labels)) < len(labels):
        raise ConfigError(
            f"--labels {','.join(labels)} for {len(config.models)} models",
            "one label each, all different",
            "correct them",
        )
    runs = [_history(name, config.fold, context) for name in config.models]
    summaries = _compared(dict(zip(labels, runs, strict=True)))
    folder = Path(config.out) if config.out else context.workspace().root / FOLDER
    stem = "-".join(Path(name).name for name in config.models)
    histories = {label: run["history"] for label, run in zip(labels, runs, strict=True)}
    figures = training.learning_curves(histories, folder, stem)
    written = write_study(folder, stem, {"curves": summaries, "figures": figures}, _text(summaries), files=figures)
    return {**written.body, "files": written.files, "text": written.text}


def _history(name: str, fold: int, context: Context) -> dict[str, Any]:
    """The history of one fold, and the starting weights of its network."""
    from skinkit.learning.fold_network import HISTORY
    from skinkit.learning.trained import FOLD

    artifact = _model(name, context)
    folder = artifact.path / FOLD.format(fold)
    if not (folder / HISTORY).is_file():
        raise InputError(
            f"no {folder.name}/{HISTORY} in {artifact.path}",
            "a network that was trained with that fold",
            "name another model (estimators such as lightgbm have no epochs) or another --fold",
        )
    about = artifact.json(f"{folder.name}/fold.json")
    history = artifact.table(file=f"{folder.name}/{HISTORY}").to_dict("records")
    return {"model": name, "starts_from": about.get("starts_from"), "history": history}


def _model(name: str, context: Context) -> Artifact:
    if (Path(name) / MANIFEST).is_file():
        return open_artifact(Path(name))
    return trained(name, context.workspace())


def _compared(runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Best figure and learning speed of each network."""
    from skinkit.figures.training import deciding_figure

    scores = {}
    for label, run in runs.items():
        figure = deciding_figure(run["history"])
        epochs = [row for row in run["history"] if math.isfinite(row["train_loss"])]
        scores[label] = figure, [float(row[figure]) if figure else math.nan for row in epochs]
    bests: dict[str | None, list[float]] = {}
    for figure, values in scores.values():
        if finite := [value for value in values if math.isfinite(value)]:
            bests.setdefault(figure, []).append(max(finite))
    summaries = []
    for label, (figure, values) in scores.items():
        finite = [value for value in values if math.isfinite(value)]
        level = _NEAR * min(bests[figure]) if finite else math.nan
        losses = [row["train_loss"] for row in runs[label]["history"] if math.isfinite(row["train_loss"])]
        summaries.append(
            {
                "label": label,
                "model": runs[label]["model"],
                "starts_from": runs[label]["starts_from"],
                "epochs": len(losses),
                "last_train_loss": losses[-1],
                "figure": figure,
                "best": max(finite) if finite else None,
                "best_epoch": values.index(max(finite)) + 1 if finite else None,
                "level": level if finite else None,
                "level_epoch": _first(values, level),
            }
        )
    return summaries


def _first(values: Sequence[float], level: float) -> int | None:
    return next((epoch for epoch, value in enumerate(values, start=1) if value >= level), None)


def _text(summaries: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for one in summaries:
        lines.append(f"{one['label']}: {one['epochs']} epochs, from {one['starts_from']}")
        if one["best"] is not None:
            lines.append(
                f"  best validation {one['figure']} {one['best']:.3f} in epoch {one['best_epoch']}; "
                f"{one['level']:.3f} first in epoch {one['level_epoch']}"
            )
    return "\n".join(lines)
