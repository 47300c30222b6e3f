"""What the last step of a classifier reads: the features in which a plane separates its classes.

Of a network it is the input of its last linear layer that answers the classes; where that layer is asked several times
(Monte Carlo dropout), the mean. Of an estimator it is what ``features`` of the fitted model answers, and without that
its inputs as they are given, standardised by the fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.console import Console
from skinkit.errors import CaseError
from skinkit.learning import embeddings, forward, scorer, trained
from skinkit.learning.examples import Examples, photos_of
from skinkit.learning.penultimate import FEATURES, Penultimate
from skinkit.learning.replay_features import Head
from skinkit.learning.trained import Classifier, Fold
from skinkit.models.parts.protocol import DIAGNOSIS
from skinkit.stats.metrics import Floats


@dataclass(frozen=True)
class HeadInputs:
    """What the head of one fold reads of cases.

    Attributes:
        inputs: of a network ``features`` (n, width); of an estimator its named inputs, (n, columns) each.
        scores: (n, classes) what the fold answers, before calibration.
        readable: (rows,) whose photo can be read: the n rows; the others are left out.
        head: what answers scores of such inputs.
    """

    inputs: Mapping[str, np.ndarray]
    scores: Floats
    readable: npt.NDArray[np.bool_]
    head: Head


def features(
    model: Classifier, fold: Fold, frame: pd.DataFrame, root: Path, workspace: Path, *, device: str, console: Console
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The features of cases in one fold; arguments and errors as of :func:`head_inputs`.

    Returns:
        (readable rows, width), and (rows,) whose photo can be read.
    """
    model.refuse_members("embed")
    read = head_inputs(model, fold, frame, root, workspace, device=device, console=console)
    if fold.fitted is None:
        return read.inputs[FEATURES], read.readable
    return np.asarray(fold.fitted.features(read.inputs), dtype=np.float64), read.readable


def head_inputs(
    model: Classifier,
    fold: Fold,
    frame: pd.DataFrame,
    root: Path | Sequence[Path],
    workspace: Path,
    *,
    device: str,
    console: Console,
) -> HeadInputs:
    """What the last step of one fold reads of cases, and what the fold answers.

    Args:
        model: the classifier, which reads no other models' answers.
        fold: one of its folds; those of two folds are not comparable.
        frame: fused rows.
        root: of the cohort's files, or of each row's cohort.
        workspace: its root.
        device: ``cpu`` or ``cuda``.
        console: progress.

    Raises:
        InputError: the network ends otherwise than in a linear layer.
    """
    batch = trained.batch_of(frame, fold.encoder, fold.radiomics)
    readable = np.ones(len(frame), dtype=bool)
    if fold.fitted is not None:
        if model.reads_photos:
            store = model.store(workspace, device)
            photos, embedder = photos_of(frame, root), model.embedder(device)
            vectors, failed = embeddings.embed(embedder, photos, store, device=device, console=console)
            images, readable = scorer.stacked(frame, vectors, failed)
            batch = {**{name: values[readable] for name, values in batch.items()}, "image": images}
        scores = fold.fitted.predict(batch) if readable.any() else np.zeros((0, len(model.classes.classes)))
        return HeadInputs(batch, scores, readable, fold.fitted.predict)
    examples = Examples.of_cases(model.model_class.READS, model.config.side_px, frame, root, workspace)
    examples = examples.with_arrays(batch)
    network = Penultimate(model.network(fold, device), len(model.classes.classes))
    read: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    run: Any = network  # as a network
    for row, answer in forward.run(run, examples, range(len(frame)), device=device, console=console):
        if isinstance(answer, CaseError):
            readable[row] = False
        else:
            read.append(answer[FEATURES])
            answers.append(answer[DIAGNOSIS])
    inputs = {FEATURES: _stacked(read)}
    return HeadInputs(inputs, _stacked(answers), readable, network.scores)


def _stacked(rows: Sequence[np.ndarray]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1)
