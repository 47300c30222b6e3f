"""Predicts a cohort's rows by the folds of a trained classifier, on tables changed at will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.console import Console
from skinkit.errors import CaseError, InputError
from skinkit.learning.embeddings import embed, failed_rows
from skinkit.learning.examples import Examples, photos_of
from skinkit.learning.forward import head_answers, run
from skinkit.learning.trained import Classifier, Fold, batch_of
from skinkit.models.parts.protocol import DIAGNOSIS, MASK_FAILED, SEEN, UNCERTAINTIES, Network
from skinkit.stats.metrics import Floats
from skinkit.stats.novelty import Novelty, as_matrix

_ROWS_AT_ONCE = 2048
_LEAST = 1e-12
"""Probabilities below it count as it, where their logarithms are read."""


@dataclass(frozen=True)
class FoldScores:
    """What a classifier says of cases.

    Attributes:
        probability: (folds, rows, classes) calibrated probabilities, NaN where a fold may not answer or the photo
            cannot be read.
        uncertainty: name of ``UNCERTAINTIES`` (``skinkit.models.parts.protocol``) -> (folds, rows), NaN likewise and
            where the model gives none.
        unlike_training: (folds, rows) how unlike its training rows each fold finds the case, as a percentile of its
            validation rows; NaN likewise and where a fold had too few rows.
        failed: row -> why one of its photos cannot be read.
        tasks: further task -> (folds, rows, classes) probabilities, as ``probability``.
        mask_failed: (folds, rows) 1 where a fold's own outline of the lesion failed, 0 where it did not; NaN likewise
            and where it is shown the workspace's masks.
        encoded: where asked for, place of a fold -> (rows, width) what it makes of the photos, NaN as ``probability``.
    """

    probability: Floats
    uncertainty: Mapping[str, Floats]
    unlike_training: Floats
    failed: Mapping[int, CaseError]
    tasks: Mapping[str, Floats]
    mask_failed: Floats
    encoded: Mapping[int, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class _Answers:
    """What one fold answers for some rows.

    Attributes:
        rows: (n,) their positions.
        scores: (tables, n, classes) log-probabilities with the fold's temperature.
        beside: of the first table, name -> (n,) uncertainties and failed outlines, or (n, classes) logits of a further
            task.
        inputs: of the first table, name -> (n, columns), what novelty compares; ``image`` is the encoded photo.
    """

    rows: npt.NDArray[np.int64]
    scores: Floats
    beside: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Turn:
    """One fold and the rows it answers.

    Attributes:
        index: place of the fold.
        fold: what it fitted.
        chosen: (rows,) which it answers.
    """

    index: int
    fold: Fold
    chosen: npt.NDArray[np.bool_]

    def answers(
        self, frames: Sequence[pd.DataFrame], failed: dict[int, CaseError], *, encoded: bool = False
    ) -> Iterator[_Answers]:
        """Its answers for each table of the same cases.

        Args:
            frames: fused rows, each time the same cases, with other attributes.
            failed: row -> why one of its photos cannot be read; such rows are added.
            encoded: whether ``inputs`` are to hold the encoded photo.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class _EstimatorTurn(_Turn):
    """An estimator answers all its rows at once.

    Attributes:
        images: (chosen rows, width) answers of the embedder for their photos, where there is one.
        members: of each table, (chosen rows, columns) what other models answer, where it reads that; else empty.
    """

    images: npt.NDArray[np.float16] | None
    members: Sequence[Floats]

    def answers(
        self, frames: Sequence[pd.DataFrame], failed: dict[int, CaseError], *, encoded: bool = False
    ) -> Iterator[_Answers]:
        """As of the base class; ``failed`` rows are not among its own."""
        fold = self.fold
        others: Sequence[Floats | None] = self.members or [None] * len(frames)
        batches = [
            batch_of(frame[self.chosen], fold.encoder, fold.radiomics, self.images, members)
            for frame, members in zip(frames, others, strict=True)
        ]
        scores = np.stack([fold.scores(batch) for batch in batches])
        beside = {task: fitted.predict(batches[0]) for task, fitted in fold.further.items()}
        yield _Answers(np.flatnonzero(self.chosen), scores, beside, batches[0])


@dataclass(frozen=True)
class _NetworkTurn(_Turn):
    """A network answers row by row; of several tables it encodes the photos once.

    Attributes:
        network: the fold's.
        examples: photos of all rows.
        device: ``cpu`` or ``cuda``.
        console: progress.
    """

    network: Network
    examples: Examples
    device: str
    console: Console

    def answers(
        self, frames: Sequence[pd.DataFrame], failed: dict[int, CaseError], *, encoded: bool = False
    ) -> Iterator[_Answers]:
        """As of the base class; ``beside`` only of a single table."""
        tables = [batch_of(frame, self.fold.encoder, self.fold.radiomics) for frame in frames]
        rows, examples = np.flatnonzero(self.chosen), self.examples.with_arrays(tables[0])
        places: dict[str, Any] = {"device": self.device, "console": self.console}
        answers: Iterator[tuple[int, Any]]
        if len(frames) == 1:
            answers = run(self.network, examples, rows, seen=encoded, outlines=True, **places)
        else:
            by_table = head_answers(self.network, examples, tables, rows, **places)
            answers = (
                (row, logits if isinstance(logits, CaseError) else {DIAGNOSIS: logits}) for row, logits in by_table
            )
        for row, answer in answers:
            if isinstance(answer, CaseError):
                failed[row] = answer
                continue
            scores = self.fold.calibrated(answer[DIAGNOSIS].reshape(len(frames), -1))
            beside = {name: values[None] for name, values in answer.items() if name not in (DIAGNOSIS, SEEN)}
            inputs = {name: values[[row]] for name, values in tables[0].items()}
            if SEEN in answer:
                inputs["image"] = answer[SEEN][None]
            yield _Answers(np.array([row]), scores[:, None], beside, inputs)


class Scorer:
    """What a classifier says of cases, whatever kind it is; networks are loaded once.

    Args:
        model: the classifier.
        workspace: root of the workspace, where masks lie and what frozen networks said is remembered.
        device: ``cpu`` or ``cuda``.
        console: messages and progress.

    Attributes:
        embedder: the network before the folds, where there is one.
    """

    def __init__(self, model: Classifier, workspace: Path, device: str, console: Console) -> None:
        self.model, self.workspace, self.device, self.console = model, workspace, device, console
        self.embedder = model.embedder(device) if model.reads_photos else None
        self._networks: dict[int, Network] = {}
        self._members = [Scorer(member, workspace, device, console) for member in model.members]

    def scored(
        self,
        frame: pd.DataFrame,
        folds: Sequence[Sequence[int]],
        root: Path | Sequence[Path],
        *,
        encoded: bool = False,
    ) -> FoldScores:
        """What every fold that may answer says.

        Args:
            frame: fused rows.
            folds: of each row, the folds that may answer.
            root: of the cohort's files, or of each row's cohort.
            encoded: whether to keep what they make of the photos, of a model that reads some.
        """
        probability = np.full((len(self.model.folds), len(frame), len(self.model.classes.classes)), np.nan)
        uncertainty = {name: np.full(probability.shape[:2], np.nan) for name in UNCERTAINTIES}
        unlike, mask_failed = (np.full(probability.shape[:2], np.nan) for _ in range(2))
        tasks = {
            name: np.full((*probability.shape[:2], len(of.classes)), np.nan) for name, of in self.model.tasks.items()
        }
        kept: dict[int, Floats] = {}
        turns, failed = self._turns([frame], folds, root)
        for turn in turns:
            novelty = Novelty.load(self.model.folder(turn.fold))
            for part in turn.answers([frame], failed, encoded=encoded or novelty is not None):
                self._refuse_misfit(turn, part)
                probability[turn.index, part.rows] = np.exp(part.scores[0])
                if encoded:
                    photo = part.inputs["image"]
                    of_fold = kept.setdefault(turn.index, np.full((len(frame), photo.shape[1]), np.nan))
                    of_fold[part.rows] = photo
                for name, of_task in tasks.items():
                    of_task[turn.index, part.rows] = np.exp(turn.fold.tasks[name].calibrated(part.beside[name]))
                for name in part.beside.keys() & uncertainty:
                    uncertainty[name][turn.index, part.rows] = part.beside[name]
                if MASK_FAILED in part.beside:
                    mask_failed[turn.index, part.rows] = part.beside[MASK_FAILED]
                if novelty is not None:
                    unlike[turn.index, part.rows] = novelty.percentile(_compared(part.inputs, novelty))
        return FoldScores(probability, uncertainty, unlike, failed, tasks, mask_failed, kept)

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
        turns, failed = self._turns(frames, folds, root)
        for turn in turns:
            for part in turn.answers(frames, failed):
                self._refuse_misfit(turn, part)
                probability[:, turn.index, part.rows] = np.exp(part.scores)
        return probability, failed

    def _refuse_misfit(self, turn: _Turn, part: _Answers) -> None:
        """Refuse, with :class:`InputError`, answers for other classes than the model's."""
        expected = len(self.model.classes.classes)
        if part.scores.shape[-1] != expected:
            raise InputError(
                f"fold {turn.fold.number} of {self.model.name} answers {part.scores.shape[-1]} classes",
                f"the model's {expected}",
                "install the model again from its source, or train it again with --replace",
            )

    def _turns(
        self, frames: Sequence[pd.DataFrame], folds: Sequence[Sequence[int]], root: Path | Sequence[Path]
    ) -> tuple[list[_Turn], dict[int, CaseError]]:
        """The folds that may answer some readable row, and row -> why its photo cannot be read."""
        frame = frames[0]
        images, readable, failed = self._embedded(frame, root)
        heard = [self._heard(each, folds, root, failed) for each in frames] if self._members else []
        readable &= ~np.isin(np.arange(len(frame)), list(failed))
        examples = self._examples(frame, root)
        turns: list[_Turn] = []
        for index, fold in enumerate(self.model.folds):
            chosen = np.array([fold.number in may for may in folds], dtype=bool) & readable
            if not chosen.any():
                continue
            if examples is not None:
                turns.append(
                    _NetworkTurn(index, fold, chosen, self._network(fold), examples, self.device, self.console)
                )
            else:
                part = images[chosen[readable]] if images is not None else None
                turns.append(_EstimatorTurn(index, fold, chosen, part, [of[index][chosen] for of in heard]))
        return turns, failed

    def members_answers(
        self, frame: pd.DataFrame, folds: Sequence[Sequence[int]], root: Path
    ) -> dict[int, npt.NDArray[np.float64]]:
        """Number of a fold -> (rows, members x classes) log-probabilities that it reads of its members.

        Args:
            frame: fused rows.
            folds: of each row, the folds that may answer.
            root: of the cohort's files.

        Raises:
            CaseError: a member cannot read a photo.
        """
        failed: dict[int, CaseError] = {}
        heard = self._heard(frame, folds, root, failed)
        for error in failed.values():
            raise error
        return {fold.number: heard[index] for index, fold in enumerate(self.model.folds)}

    def _heard(
        self,
        frame: pd.DataFrame,
        folds: Sequence[Sequence[int]],
        root: Path | Sequence[Path],
        failed: dict[int, CaseError],
    ) -> Floats:
        """(folds, rows, members x classes) log-probabilities of the same folds of the members; adds to ``failed``."""
        own, parts = [fold.number for fold in self.model.folds], []
        for member in self._members:
            scored = member.scored(frame, folds, root)
            failed.update(scored.failed)
            place = [[fold.number for fold in member.model.folds].index(number) for number in own]
            parts.append(log_answers(scored.probability[place]))
        return np.concatenate(parts, axis=2)

    def _embedded(
        self, frame: pd.DataFrame, root: Path | Sequence[Path]
    ) -> tuple[npt.NDArray[np.float16] | None, npt.NDArray[np.bool_], dict[int, CaseError]]:
        """What the embedder says of the readable rows' photos, (rows,) which are readable, and why others are not."""
        if self.embedder is None:
            return None, np.ones(len(frame), dtype=bool), {}
        store, photos = self.model.store(self.workspace, self.device), photos_of(frame, root)
        vectors, failed = embed(self.embedder, photos, store, device=self.device, console=self.console)
        return *stacked(frame, vectors, failed), failed_rows(photos, failed)

    def _examples(self, frame: pd.DataFrame, root: Path | Sequence[Path]) -> Examples | None:
        """Photos and lesion masks, where the folds are networks."""
        if not self.model.is_network:
            return None
        reads, side_px = self.model.model_class.READS, self.model.config.side_px
        return Examples.of_cases(reads, side_px, frame, root, self.workspace)

    def _network(self, fold: Fold) -> Network:
        if fold.number not in self._networks:
            self._networks[fold.number] = self.model.network(fold, self.device)
        return self._networks[fold.number]


def _compared(inputs: Mapping[str, np.ndarray], novelty: Novelty) -> Floats:
    """(n, width) of what novelty was fitted to; that of some models reads no photo."""
    every = as_matrix(inputs)
    if every.shape[1] == len(novelty.mean):
        return every
    return as_matrix({name: values for name, values in inputs.items() if name != "image"})


def log_answers(probability: Floats) -> Floats:
    """What other models read of probabilities: their logarithms, finite; NaN stays."""
    out: Floats = np.log(np.maximum(probability, _LEAST))
    return out


def nan_mean(values: Floats) -> Floats:
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
