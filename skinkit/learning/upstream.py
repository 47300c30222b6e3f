"""Models that another model learns from: what they answer, fold by fold, and what they have learnt from themselves.

A fold reads the answers of the same fold of the other model, whose held-out rows are the same or are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.tables import read_table
from skinkit.audit import leakage
from skinkit.audit.leakage import ComparedPhotos
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.learning.rows import DevelopmentRows
from skinkit.learning.scorer import Scorer, in_chunks, log_answers
from skinkit.learning.trained import Classifier, open_classifier, temperature_prior
from skinkit.models.parts.protocol import DIAGNOSIS, SEEN
from skinkit.schemas import LEARNT, TRAINED_ON_FILE
from skinkit.taxonomy import ClassSet


class Upstream:
    """A trained classifier whose answers another model reads.

    Args:
        artifact: the classifier.
        name: how it is called in the workspace.
        workspace: root of the workspace.
        device: ``cpu`` or ``cuda``.
        console: messages and progress.

    Raises:
        InputError: it is no classifier, or cannot be read.
        RefusedError: a file of it is missing or is not what was written.
    """

    def __init__(self, artifact: Artifact, name: str, workspace: Path, device: str, console: Console) -> None:
        self.artifact, self.name = artifact, name
        self.classifier: Classifier = open_classifier(artifact, name)
        self._places = workspace, device, console

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.classifier, *self._places)

    def as_dict(self) -> dict[str, str]:
        """Plain values for ``model.json``."""
        return {"name": self.name, "identity": self.artifact.identity}

    def class_prior(self, fold: int) -> np.ndarray:
        """(classes,) shares of the classes for which the answers of one fold hold."""
        about = next(each for each in self.classifier.about["folds"] if int(each["fold"]) == fold)
        shares = temperature_prior(about)
        return np.array([shares.get(code, 0.0) for code in self.classifier.classes.classes], dtype=np.float64)

    def answers(
        self, fold: int, frame: pd.DataFrame, rows: np.ndarray, roots: Sequence[Path], *, encoded: bool = False
    ) -> dict[str, np.ndarray]:
        """What one fold says of some rows.

        Args:
            fold: its number.
            frame: n fused rows, numbered from 0.
            rows: positions in it.
            roots: (n,) of each row's cohort.
            encoded: whether to add what it makes of the photos (:meth:`check_encodes`).

        Returns:
            Task -> (n, classes) log-probabilities with the fold's temperature, and with ``encoded`` ``seen``, (n,
            width); NaN in all other rows and in those whose photo it cannot read.
        """
        place = [each.number for each in self.classifier.folds].index(fold)
        sizes = {DIAGNOSIS: self.classifier.classes, **self.classifier.tasks}
        out = {task: np.full((len(frame), len(of.classes)), np.nan) for task, of in sizes.items()}
        for part in in_chunks(frame.iloc[rows]):
            at = part.index.to_numpy()
            scored = self._scorer.scored(
                part.reset_index(drop=True), [(fold,)] * len(part), [roots[row] for row in at], encoded=encoded
            )
            for of_fold in scored.encoded.values():
                out.setdefault(SEEN, np.full((len(frame), of_fold.shape[1]), np.nan))[at] = of_fold
            for task, probability in {DIAGNOSIS: scored.probability, **scored.tasks}.items():
                out[task][at] = log_answers(probability[place])
        return out

    def check_encodes(self, role: str) -> None:
        """Refuse, with :class:`ConfigError`, one that makes nothing of photos that another could learn."""
        if not (self.classifier.is_network or self.classifier.reads_photos):
            raise ConfigError(
                f"the {role} {self.name} is a {self.classifier.about['model']}, which reads no photo",
                "a network, or another model of photos, where objective.features is above 0",
                "give --settings objective.features=0, or choose another one",
            )

    def check(self, role: str, rows: DevelopmentRows, classes: ClassSet, fused: str) -> None:
        """Refuse one that cannot answer for these rows and classes, or has learnt from validation rows.

        Args:
            role: how messages call it.
            rows: cases and split of the model that reads it.
            classes: of that model.
            fused: name of the fused tables of that model.

        Raises:
            InputError: it lacks a fold of the split.
            ConfigError: it answers other classes, or reads other measurements.
            RefusedError: it was fitted once more on the validation rows.
        """
        model, train = self.classifier, f"skinkit train --name {self.name} --replace"
        refuse_lacking_folds(self.name, [fold.number for fold in model.folds], rows, f"run '{train}' over that split")
        if model.classes.classes != classes.classes:
            raise ConfigError(
                f"the {role} {self.name} answers {listed(model.classes.classes)}",
                listed(classes.classes),
                "give --classes as it was trained with, or choose another one",
            )
        if model.measures and model.about["fused"] != fused:
            raise ConfigError(
                f"the {role} {self.name} was trained on the fused tables {model.about['fused']}",
                f"{fused}, like this model",
                f"give --fused {model.about['fused']}, or train it on {fused}",
            )
        if model.model_class.REFITS and self.artifact.config.get("refit", True):
            raise RefusedError(
                f"the {role} {self.name} was fitted once more on the validation rows",
                "one that has learnt from the training rows alone",
                f"run '{train} --no-refit'",
            )

    def refuse_leakage(
        self,
        rows: DevelopmentRows,
        allowed: str,
        near: Mapping[str, int],
        photos: ComparedPhotos,
        *,
        may_train: bool,
    ) -> None:
        """Refuse one whose fold has learnt from what the same fold of ``rows`` holds out or validates on.

        Validation rows may be its own validation rows. Unless ``may_train`` the same holds for training rows: its
        answers for cases that it has learnt from are not like those for new ones. Arguments and errors as of
        :func:`refuse_overlap`.
        """
        table = read_table(self.artifact.path / TRAINED_ON_FILE)
        learnt = table[table["part"].isin(LEARNT)]
        trained_on = learnt[learnt["part"] != "validation"]
        unseen = {"held_out": learnt, "validation": trained_on, **({} if may_train else {"train": trained_on})}
        fix = f"train {self.name} again over the split of this model (--split, --replace)"
        refuse_overlap(rows, what_learnt(self.name), unseen, allowed, near, photos, fix, few=True)


def refuse_lacking_folds(name: str, there: Sequence[int], rows: DevelopmentRows, fix: str) -> None:
    """Refuse, with :class:`InputError`, a model that has not every fold of the split."""
    lacking = [str(fold) for fold in rows.folds if fold not in there]
    if lacking:
        raise InputError(
            f"{name} has no fold {listed(lacking)}, which the split has", "a model with the folds of the split", fix
        )


def what_learnt(name: str) -> str:
    """How messages call what a model learnt from, fold by fold."""
    return f"what the same fold of {name} learnt from"


def refuse_overlap(
    rows: DevelopmentRows,
    what: str,
    unseen: Mapping[str, pd.DataFrame],
    allowed: str,
    near: Mapping[str, int],
    photos: ComparedPhotos,
    fix: str,
    *,
    few: bool = False,
) -> None:
    """Refuse a model that learnt, in some fold, from what the same fold must not have seen.

    Args:
        rows: cases and split of the model that reads it or starts from it.
        what: is compared with the rows, for the message.
        unseen: part of the split -> what must share nothing with it, as rows of ``trained_on.parquet``.
        allowed: reason of ``--allow-leakage``, or empty.
        near: ``near_distance_bits`` and ``near_limit`` of the split.
        photos: for :func:`skinkit.audit.leakage.verified_on_photos`.
        fix: how to mend it.
        few: a few near-identical photos are accepted, which ``evaluate`` then leaves out of the scores.

    Raises:
        RefusedError: it has learnt from such a case, its patient, lesion or photo, and no reason allows it.
    """
    overlaps = []
    for fold in rows.folds:
        for part, learnt in unseen.items():
            mine = rows.split[(rows.split["fold"] == fold) & (rows.split["part"] == part)]
            overlaps.append(leakage.check(rows.frame.iloc[mine["row"]], learnt[learnt["fold"] == fold], photos, **near))
    overlap = leakage.verified_on_photos(leakage.joined(*overlaps), photos)
    leakage.refuse(
        overlap.tolerating_few(len(rows.frame)) if few else overlap,
        allowed,
        f"the {' and '.join(unseen)} cases of a fold and {what}",
        fix,
    )
