"""One fold of a generator: it learns from the photos and classes of the fold's training rows, and from nothing else.

There are no validation rows: a network keeps the weights of its last epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinkit.learning.examples import Examples
from skinkit.learning.fold_network import Runtime, train, write_fold
from skinkit.learning.rows import DevelopmentRows
from skinkit.models.parts.protocol import Generator, LabelledPhotos, Network, Sizes
from skinkit.models.parts.weights import Start
from skinkit.taxonomy import ClassSet


class _Photos(Sequence[np.ndarray]):
    """uint8 (side, side, 3) of some rows, decoded when they are asked for."""

    def __init__(self, examples: Examples, rows: np.ndarray) -> None:
        self._examples, self._rows = examples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return _Photos(self._examples, self._rows[place])
        return self._examples.pictures(int(self._rows[place]))["image"].copy()


def fit_generator(
    fold: int,
    rows: DevelopmentRows,
    examples: Examples,
    classes: ClassSet,
    model: type[Any],
    settings: Any,
    start: Start | None,
    training: Runtime,
    folder: Path,
) -> dict[str, Any]:
    """Fit a generator on one fold's training rows, write its files, and describe it in a row of the model's table.

    Args:
        fold: the fold.
        rows: cases with a class, and the split.
        examples: their photos.
        classes: the classes it distinguishes.
        model: a :class:`Generator`.
        settings: its ``Config``.
        start: what a network starts from; None for a generator that is fitted at once.
        training: where and how.
        folder: where its files go.
    """
    index = {code: i for i, code in enumerate(classes.classes)}
    labels = np.array([index[code] for code in rows.frame["class"]], dtype=np.int64)
    learnt = rows.part(fold, "train")
    counts = np.bincount(labels[learnt], minlength=len(index))
    lacking = [code for code, n in zip(classes.classes, counts, strict=True) if not n]
    if lacking:
        training.console.warn(f"fold {fold} has no training case of {', '.join(lacking)}: no image is made of it")
    course: dict[str, Any] = {}
    if issubclass(model, Network):
        assert start is not None
        sizes = Sizes(classes.classes, class_counts=tuple(map(int, counts)))
        shown = examples.with_arrays({}, classes=labels)
        places: dict[str, Any] = {"start": start, "training": training, "folder": folder}
        _, course = train(model, settings, sizes, shown, learnt, np.zeros(0, dtype=int), None, **places)
    else:
        fitted: Generator = model.fit(
            settings,
            LabelledPhotos(_Photos(examples, learnt), labels[learnt]),
            n_classes=len(index),
            seed=training.seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        fitted.save(folder)
    class_counts = {code: int(n) for code, n in zip(classes.classes, counts, strict=True)}
    about = write_fold(folder, fold, rows, {"class_counts": class_counts, **course})
    return {**about, "path": folder.name}
