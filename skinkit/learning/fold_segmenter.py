"""One fold of a segmenter: a network that learns to draw masks from those people drew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skinkit.images.masks import agreement
from skinkit.learning.examples import Examples
from skinkit.learning.fold_network import Runtime, train, write_fold
from skinkit.learning.rows import DevelopmentRows
from skinkit.models.parts import protocol
from skinkit.models.parts.protocol import Network, Sizes
from skinkit.models.parts.weights import Start


def fit_segmenter(
    fold: int,
    rows: DevelopmentRows,
    examples: Examples,
    model: type[Network],
    settings: Any,
    start: Start,
    training: Runtime,
    folder: Path,
) -> dict[str, Any]:
    """Train a network on one fold's truth masks, write its files, and describe it in a row of the model's table."""
    train_rows, validation = rows.part(fold, "train"), rows.part(fold, "validation")

    def score(answers: Mapping[str, np.ndarray], positions: np.ndarray) -> dict[str, float]:
        """Mean Dice and IoU over the validation photos, at the network's own size, masks finished as in use."""
        agreements = []
        for logits, row in zip(answers[protocol.LESION], positions, strict=True):
            # Far from 0 the sigmoid is 0 or 1 to every digit, and the exponential must not overflow.
            mask = model.mask_of(1 / (1 + np.exp(-np.clip(logits, -50, 50))), settings)
            agreements.append(agreement(mask, examples.truth_mask(int(row)) >= 0.5))
        return {name: float(np.mean([each[name] for each in agreements])) for name in ("iou", "dice")}

    places: dict[str, Any] = {"start": start, "training": training, "folder": folder, "strata": strata(rows)}
    _, course = train(model, settings, Sizes((protocol.LESION,)), examples, train_rows, validation, score, **places)
    about = write_fold(folder, fold, rows, course)
    return {
        **about,
        "validation_iou": course["best"].get("iou"),
        "validation_dice": course["best"].get("dice"),
        "path": folder.name,
    }


def strata(rows: DevelopmentRows) -> np.ndarray:
    """(n,) which cohort and modality a case is of, as a number: what ``balanced`` draws equally often."""
    names = rows.frame[[name for name in ("cohort", "modality") if name in rows.frame]].fillna("")
    numbers: np.ndarray = names.groupby(list(names), sort=True).ngroup().to_numpy(dtype=np.int64)
    return numbers
