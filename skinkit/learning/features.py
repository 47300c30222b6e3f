"""What the last step of a classifier reads: the features in which its classes are told apart by a plane.

Of a network it is the input of its last linear layer that answers the classes; where that layer is asked several times
(Monte Carlo dropout), the mean. Of an estimator it is what ``features`` of the fitted model answers, and without that
its inputs as they are given, standardised by the fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.console import Console
from skinkit.errors import CaseError, InputError
from skinkit.learning import embeddings, forward, scorer, trained
from skinkit.learning.examples import Examples, photos_of
from skinkit.learning.trained import Classifier, Fold
from skinkit.stats.metrics import Floats

if TYPE_CHECKING:
    import torch


def features(
    model: Classifier, fold: Fold, frame: pd.DataFrame, root: Path, workspace: Path, *, device: str, console: Console
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The features of cases in one fold.

    Args:
        model: the classifier.
        fold: one of its folds; those of two folds are not comparable.
        frame: fused rows.
        root: of the cohort's files.
        workspace: its root.
        device: ``cpu`` or ``cuda``.
        console: progress.

    Returns:
        (readable rows, width), and (rows,) whose photo can be read.

    Raises:
        InputError: the network ends otherwise than in a linear layer.
    """
    model.refuse_members("embed")
    batch = trained.batch_of(frame, fold.encoder, fold.radiomics)
    if model.is_network:
        examples = Examples.of_cases(model.model_class.READS, model.config.side_px, frame, root, workspace)
        examples = examples.with_arrays(batch)
        whole = model.network(fold, device)
        network: Any = _Penultimate(whole, len(model.classes.classes))
        network.answers_in = whole.answers_in
        features: list[np.ndarray] = []
        readable = np.ones(len(frame), dtype=bool)
        for row, answer in forward.run(network, examples, range(len(frame)), device=device, console=console):
            if isinstance(answer, CaseError):
                readable[row] = False
            else:
                features.append(answer["features"])
        return np.array(features, dtype=np.float64).reshape(len(features), -1), readable
    readable = np.ones(len(frame), dtype=bool)
    if model.reads_photos:
        store = model.store(workspace, device)
        photos, embedder = photos_of(frame, root), model.embedder(device)
        vectors, failed = embeddings.embed(embedder, photos, store, device=device, console=console)
        images, readable = scorer.stacked(frame, vectors, failed)
        batch = {**{name: values[readable] for name, values in batch.items()}, "image": images}
    assert fold.fitted is not None
    return np.asarray(fold.fitted.features(batch), dtype=np.float64), readable


class _Penultimate:
    """A network that answers what its last layer reads, in the place of its classes."""

    def __init__(self, network: Any, classes: int) -> None:
        import torch

        self.network = network
        layers = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == classes]
        if not layers:
            raise InputError(
                f"{type(network).__name__} has no linear layer that answers {classes} classes",
                "a network that ends in one",
                "name another model",
            )
        self.last = layers[-1]

    def to(self, *where: Any, **how: Any) -> _Penultimate:
        """As of a module."""
        self.network.to(*where, **how)
        return self

    def eval(self) -> _Penultimate:
        """As of a module."""
        self.network.eval()
        return self

    def answer(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``features`` (n, width): the mean over all passes."""
        import torch

        read: list[torch.Tensor] = []
        hook = self.last.register_forward_hook(lambda _module, inputs, _out: read.append(inputs[0].float()))
        try:
            self.network.answer(batch)
        finally:
            hook.remove()
        n = len(next(iter(batch.values())))
        return {"features": torch.cat([part.reshape(-1, n, part.shape[-1]) for part in read]).mean(0)}
