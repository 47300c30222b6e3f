"""Predicts a cohort's rows by the folds of a trained classifier, on tables changed at will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.console import Console
from skinkit.errors import CaseError
from skinkit.learning.embeddings import embed
from skinkit.learning.examples import Examples, photos_of
from skinkit.learning.forward import Floats, head_answers, run
from skinkit.learning.trained import Classifier, Fold, batch_of, lesion_masks
from skinkit.models.parts.protocol import DIAGNOSIS, SEEN, UNCERTAINTIES, Network
from skinkit.stats.novelty import Novelty, as_matrix

_ROWS_AT_ONCE = 2048


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
        failed: pixel hash -> why its photo cannot be read.
    """

    probability: Floats
    uncertainty: Mapping[str, Floats]
    unlike_training: Floats
    failed: Mapping[str, CaseError]


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
        images, readable, failed = self._embedded(frame, root)
        examples = self._examples(frame, root)
        for index, fold in enumerate(self.model.folds):
            chosen = np.array([fold.number in may for may in folds], dtype=bool) & readable
            if not chosen.any():
                continue
            novelty = Novelty.load(self.model.folder(fold))
            if examples is None:
                part = images[chosen[readable]] if images is not None else None
                batch = batch_of(frame[chosen], fold.encoder, fold.radiomics, part)
                probability[index, chosen] = np.exp(fold.scores(batch))
                if novelty is not None:
                    unlike[index, chosen] = novelty.percentile(as_matrix(batch))
                continue
            arrays = batch_of(frame, fold.encoder, fold.radiomics)
            for row, answer in run(
                self._network(fold),
                examples.with_arrays(arrays),
                np.flatnonzero(chosen),
                device=self.device,
                seen=novelty is not None,
                console=self.console,
            ):
                if isinstance(answer, CaseError):
                    failed[examples.photos[row].pixel_sha256] = answer
                    continue
                probability[index, row] = np.exp(fold.calibrated(answer[DIAGNOSIS][None])[0])
                for name in answer.keys() & uncertainty:
                    uncertainty[name][index, row] = answer[name]
                if novelty is not None:
                    known = {name: values[[row]] for name, values in arrays.items()}
                    if len(novelty.mean) > as_matrix(known).shape[1]:  # else a model from before photos were looked at
                        known["image"] = answer[SEEN][None]
                    unlike[index, row] = novelty.percentile(as_matrix(known))[0]
        return FoldScores(probability, uncertainty, unlike, failed)

    def altered(
        self, frames: Sequence[pd.DataFrame], folds: Sequence[Sequence[int]], root: Path
    ) -> tuple[Floats, dict[str, CaseError]]:
        """Probabilities, as :meth:`scored` gives them, of the same cases with other things known of them.

        Their photos are looked at once.

        Args:
            frames: fused rows of the cases, each time the same ones, with other attributes.
            folds: of each row, the folds that may answer.
            root: of the cohort's files.

        Returns:
            (frames, folds, rows, classes), and pixel hash -> why a photo cannot be read.
        """
        first, n = frames[0], len(self.model.classes.classes)
        probability = np.full((len(frames), len(self.model.folds), len(first), n), np.nan)
        images, readable, failed = self._embedded(first, root)
        examples = self._examples(first, root)
        for index, fold in enumerate(self.model.folds):
            chosen = np.array([fold.number in may for may in folds], dtype=bool) & readable
            if not chosen.any():
                continue
            if examples is None:
                part = images[chosen[readable]] if images is not None else None
                for at, frame in enumerate(frames):
                    batch = batch_of(frame[chosen], fold.encoder, fold.radiomics, part)
                    probability[at, index, chosen] = np.exp(fold.scores(batch))
                continue
            tables = [batch_of(frame, fold.encoder, fold.radiomics) for frame in frames]
            known = examples.with_arrays(tables[0])
            rows, network = np.flatnonzero(chosen), self._network(fold)
            for row, answer in head_answers(network, known, tables, rows, device=self.device, console=self.console):
                if isinstance(answer, CaseError):
                    failed[examples.photos[row].pixel_sha256] = answer
                else:
                    probability[:, index, row] = np.exp(fold.calibrated(answer))
        return probability, failed

    def _embedded(
        self, frame: pd.DataFrame, root: Path
    ) -> tuple[npt.NDArray[np.float16] | None, npt.NDArray[np.bool_], dict[str, CaseError]]:
        """What the embedder says of the readable rows' photos, (rows,) which are readable, and why others are not."""
        if self._embedder is None:
            return None, np.ones(len(frame), dtype=bool), {}
        store, photos = self.model.store(self.workspace, self.device), photos_of(frame, root)
        vectors, failed = embed(self._embedder, photos, store, device=self.device, console=self.console)
        return *stacked(frame, vectors, failed), failed

    def _examples(self, frame: pd.DataFrame, root: Path) -> Examples | None:
        """Photos and lesion masks, where the folds are networks."""
        if not self.model.is_network:
            return None
        masks = lesion_masks(frame, self.workspace) if "mask" in self.model.module.READS else None
        return Examples(self.model.module.READS, self.model.config.side_px, photos_of(frame, root), masks=masks)

    def _network(self, fold: Fold) -> Network:
        if fold.number not in self._networks:
            self._networks[fold.number] = self.model.network(fold, self.device)
        return self._networks[fold.number]


def mean_of_known(values: Floats) -> Floats:
    """(rows,) means over the folds of (folds, rows), of those that are not NaN; NaN where none is."""
    known = (~np.isnan(values)).sum(axis=0)
    mean: Floats = np.divide(np.nansum(values, axis=0), known, out=np.full(values.shape[1], np.nan), where=known > 0)
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
