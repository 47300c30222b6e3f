"""Predicts a cohort's rows by the folds of a trained classifier, on tables changed at will."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.console import Console
from skinkit.errors import CaseError
from skinkit.learning.embeddings import embed
from skinkit.learning.examples import Examples, photos_of
from skinkit.learning.forward import head_answers, run
from skinkit.learning.trained import Classifier, Fold, batch_of
from skinkit.models.parts.protocol import DIAGNOSIS, SEEN, UNCERTAINTIES, Network
from skinkit.stats.metrics import Floats
from skinkit.stats.novelty import Novelty, as_matrix

_ROWS_AT_ONCE = 2048
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class FoldScores:
    """What a classifier says of cases.

    Attributes:
        probability: (folds, rows, classes) calibrated probabilities, NaN where a fold may not answer or the photo
            cannot be read.
        uncertainty: name of ``UNCERTAINTIES`` (``skinkit.models.parts.protocol``) -> (folds, rows), NaN likewise and
            where the model gives none.
        unlike_training: (folds, rows) how unlike its training rows each fold finds the case, as a percentile of its
            validation rows; NaN likewise and where a fold had too few rows to tell.
        failed: row -> why one of its photos cannot be read.
        tasks: further task -> (folds, rows, classes) probabilities, as ``probability``.
    """

    probability: Floats
    uncertainty: Mapping[str, Floats]
    unlike_training: Floats
    failed: Mapping[int, CaseError]
    tasks: Mapping[str, Floats]


@dataclass(frozen=True)
class _Turn:
    """One fold and the rows it answers.

    Attributes:
        index: place of the fold.
        fold: what it fitted.
        chosen: (rows,) which it answers.
        images: (chosen rows, width) what the embedder says of their photos, where there is one.
        examples: photos of all rows, where the fold is a network.
    """

    index: int
    fold: Fold
    chosen: npt.NDArray[np.bool_]
    images: npt.NDArray[np.float16] | None
    examples: Examples | None

    def batch(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """The inputs of its rows of a table, for an estimator."""
        return batch_of(frame[self.chosen], self.fold.encoder, self.fold.radiomics, self.images)

    def readable(
        self, answers: Iterable[tuple[int, Answer | CaseError]], failed: dict[int, CaseError]
    ) -> Iterator[tuple[int, Answer]]:
        """A network's answers; rows whose photo cannot be read are added to ``failed`` instead."""
        for row, answer in answers:
            if isinstance(answer, CaseError):
                failed[row] = answer
            else:
                yield row, answer


class Scorer:
    """What a classifier says of cases, whatever kind it is; networks are loaded once.

    Args:
        model: the classifier.
        workspace: root of the workspace, where masks lie and what frozen networks said is remembered.
        device: ``cpu`` or ``cuda``.
        console: messages and progress.
    """

    def __init__(self, model: Classifier, workspace: Path, device: str, console: Console) -> None:
        self.model, self.workspace, self.device, self.console = model, workspace, device, console
        self._embedder = model.embedder(device) if model.reads_photos else None
        self._networks: dict[int, Network] = {}

    def scored(self, frame: pd.DataFrame, folds: Sequence[Sequence[int]], root: Path) -> FoldScores:
        """What every fold that may answer says.

        Args:
            frame: fused rows.
            folds: of each row, the folds that may answer.
            root: of the cohort's files.
        """
        probability = np.full((len(self.model.folds), len(frame), len(self.model.classes.classes)), np.nan)
        uncertainty = {name: np.full(probability.shape[:2], np.nan) for name in UNCERTAINTIES}
        unlike = np.full(probability.shape[:2], np.nan)
        tasks = {
            name: np.full((*probability.shape[:2], len(of.classes)), np.nan) for name, of in self.model.tasks.items()
        }
        turns, failed = self._turns(frame, folds, root)
        for turn in turns:
            novelty = Novelty.load(self.model.folder(turn.fold))
            if turn.examples is None:
                batch = turn.batch(frame)
                probability[turn.index, turn.chosen] = np.exp(turn.fold.scores(batch))
                if novelty is not None:
                    unlike[turn.index, turn.chosen] = novelty.percentile(as_matrix(batch))
                continue
            tables = batch_of(frame, turn.fold.encoder, turn.fold.radiomics)
            answers = run(
                self._network(turn.fold),
                turn.examples.with_arrays(tables),
                np.flatnonzero(turn.chosen),
                device=self.device,
                seen=novelty is not None,
                console=self.console,
            )
            for row, answer in turn.readable(answers, failed):
                probability[turn.index, row] = np.exp(turn.fold.calibrated(answer[DIAGNOSIS][None])[0])
                for name, of_task in tasks.items():
                    of_task[turn.index, row] = np.exp(turn.fold.tasks[name].calibrated(answer[name][None])[0])
                for name in answer.keys() & uncertainty:
                    uncertainty[name][turn.index, row] = answer[name]
                if novelty is not None:
                    inputs = {name: values[[row]] for name, values in tables.items()}
                    if len(novelty.mean) > as_matrix(inputs).shape[1]:  # else a model whose novelty reads no photo
                        inputs["image"] = answer[SEEN][None]
                    unlike[turn.index, row] = novelty.percentile(as_matrix(inputs))[0]
        return FoldScores(probability, uncertainty, unlike, failed, tasks)

    def altered(
        self, frames: Sequence[pd.DataFrame], folds: Sequence[Sequence[int]], root: Path
    ) -> tuple[Floats, dict[int, CaseError]]:
        """Probabilities, as :meth:`scored` gives them, of the same cases with other metadata; photos are read once.

        Args:
            frames: fused rows of the cases, each time the same ones, with other attributes.
            folds: of each row, the folds that may answer.
            root: of the cohort's files.

        Returns:
            (frames, folds, rows, classes), and row -> why one of its photos cannot be read.
        """
        first, n = frames[0], len(self.model.classes.classes)
        probability = np.full((len(frames), len(self.model.folds), len(first), n), np.nan)
        turns, failed = self._turns(first, folds, root)
        for turn in turns:
            if turn.examples is None:
                for at, frame in enumerate(frames):
                    probability[at, turn.index, turn.chosen] = np.exp(turn.fold.scores(turn.batch(frame)))
                continue
            tables = [batch_of(frame, turn.fold.encoder, turn.fold.radiomics) for frame in frames]
            answers = head_answers(
                self._network(turn.fold),
                turn.examples.with_arrays(tables[0]),
                tables,
                np.flatnonzero(turn.chosen),
                device=self.device,
                console=self.console,
            )
            for row, logits in turn.readable(answers, failed):
                probability[:, turn.index, row] = np.exp(turn.fold.calibrated(logits))
        return probability, failed

    def _turns(
        self, frame: pd.DataFrame, folds: Sequence[Sequence[int]], root: Path
    ) -> tuple[list[_Turn], dict[int, CaseError]]:
        """The folds that may answer some readable row, and row -> why its photo cannot be read."""
        images, readable, failed = self._embedded(frame, root)
        examples = self._examples(frame, root)
        turns = []
        for index, fold in enumerate(self.model.folds):
            chosen = np.array([fold.number in may for may in folds], dtype=bool) & readable
            if chosen.any():
                part = images[chosen[readable]] if images is not None else None
                turns.append(_Turn(index, fold, chosen, part, examples))
        return turns, failed

    def _embedded(
        self, frame: pd.DataFrame, root: Path
    ) -> tuple[npt.NDArray[np.float16] | None, npt.NDArray[np.bool_], dict[int, CaseError]]:
        """What the embedder says of the readable rows' photos, (rows,) which are readable, and why others are not."""
        if self._embedder is None:
            return None, np.ones(len(frame), dtype=bool), {}
        store, photos = self.model.store(self.workspace, self.device), photos_of(frame, root)
        vectors, failed = embed(self._embedder, photos, store, device=self.device, console=self.console)
        of_rows = {row: failed[photo.pixel_sha256] for row, photo in enumerate(photos) if photo.pixel_sha256 in failed}
        return *stacked(frame, vectors, failed), of_rows

    def _examples(self, frame: pd.DataFrame, root: Path) -> Examples | None:
        """Photos and lesion masks, where the folds are networks."""
        if not self.model.is_network:
            return None
        reads, side_px = self.model.model_class.READS, self.model.config.side_px
        return Examples.of_cases(reads, side_px, frame, root, self.workspace)

    def _network(self, fold: Fold) -> Network:
        if fold.number not in self._networks:
            self._networks[fold.number] = self.model.network(fold, self.device)
        return self._networks[fold.number]


def mean_of_known(values: Floats) -> Floats:
    """(rows,) means over the folds of (folds, rows), of those that are not NaN; NaN where none is."""
    answered = (~np.isnan(values)).sum(axis=0)
    unanswered = np.full(values.shape[1], np.nan)
    mean: Floats = np.divide(np.nansum(values, axis=0), answered, out=unanswered, where=answered > 0)
    return mean


def stacked(
    frame: pd.DataFrame, vectors: Mapping[str, np.ndarray], failed: Mapping[str, CaseError]
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Vectors in the order of the rows: (readable rows, width), and (rows,) which are readable."""
    readable = np.array([pixels not in failed for pixels in frame["pixel_sha256"]], dtype=bool)
    rows = [vectors[pixels] for pixels in frame.loc[readable, "pixel_sha256"]]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float16), readable


def in_chunks(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table in pieces, so that memory stays bounded."""
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        yield frame.iloc[start : start + _ROWS_AT_ONCE]
