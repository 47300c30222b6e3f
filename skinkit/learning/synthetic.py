"""Synthetic images as training rows of their fold: what the leakage guard compares, and what is refused.

They stand after the real rows of a classifier, with a class and a photo and nothing else. No part of the split holds
them, so nothing but the training of a network meets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.tables import read_table
from skinkit.audit.leakage import ComparedPhotos
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning import upstream
from skinkit.learning.pack import checked
from skinkit.learning.rows import DevelopmentRows
from skinkit.schemas import LEARNT_BEFORE, OK, SYNTHETIC_COHORT, TRAINED_ON, TRAINED_ON_FILE
from skinkit.taxonomy import ClassSet

PARENT = "parent.json"
"""Files beside the images: what their generator is, and what it was trained on."""


def as_photos(images: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of a synthetic table with the keys and hashes that photos have; an image is a case and group of its own.

    Args:
        images: rows of ``artifacts/synthetic/<name>``.
        name: of the artifact.
    """
    cohort = SYNTHETIC_COHORT + name
    return images.assign(
        cohort=cohort, case_id=images["image_id"], group_id=f"{cohort}:image:" + images["image_id"].astype(str)
    )


def learnt_by(folder: Path) -> pd.DataFrame:
    """Rows of ``trained_on.parquet`` in this folder that a generator has learnt from; validation rows are not."""
    table = read_table(folder / TRAINED_ON_FILE)
    return table[table["part"].isin(("train", LEARNT_BEFORE))]


@dataclass(frozen=True)
class SyntheticImages:
    """The images of one name, for the training of one model.

    Attributes:
        name: of the artifact.
        identity: of the artifact.
        parent: of ``parent.json``: name, identity, split, classes and licence of the generator.
        images: of :func:`as_photos`, those of the model's folds.
        learnt: what those folds of the generator have learnt from, as ``trained_on.parquet`` has it.
    """

    name: str
    identity: str
    parent: Mapping[str, Any]
    images: pd.DataFrame
    learnt: pd.DataFrame

    @staticmethod
    def opened(artifact: Artifact, name: str, folds: Sequence[int]) -> SyntheticImages:
        """The images of these folds that are not excluded, after every file of the artifact was hashed again.

        Raises:
            InputError: there is none.
            RefusedError: a file of it is missing or is not what was written.
        """
        fix = f"remove {artifact.path}, then run 'skinkit synthesise' with the options that it was made with"
        images = as_photos(checked(artifact, "the images that were written", fix).table(), name)
        images = images[images["fold"].isin(folds) & (images["status"] == OK)].reset_index(drop=True)
        if images.empty:
            raise InputError(
                f"none of the synthetic images {name} of these folds is usable: {len(artifact.table())} were excluded",
                "at least one",
                f"see 'skinkit show synthetic/{name}', and train its generator otherwise",
            )
        learnt = learnt_by(artifact.path)
        learnt = learnt.loc[learnt["fold"].isin(folds), list(TRAINED_ON.names)]
        learnt = learnt.assign(part=LEARNT_BEFORE).reset_index(drop=True)
        return SyntheticImages(name, artifact.identity, artifact.json(PARENT), images, learnt)

    def about(self) -> dict[str, Any]:
        """What ``model.json`` says of them."""
        counts = self.images.groupby(["fold", "class"]).size()
        return {
            "name": self.name,
            "identity": self.identity,
            "parent": self.parent["name"],
            "parent_identity": self.parent["identity"],
            "licence": self.parent["licence"],
            "images": {
                str(fold): {str(code): int(n) for code, n in of_fold.droplevel("fold").items()}
                for fold, of_fold in counts.groupby("fold")
            },
        }

    def note(self) -> str:
        """What ``skinkit show`` says of a model that learnt from them."""
        return f"{len(self.images)} synthetic images by {self.parent['name']} among its training rows"

    def content(self, fold: int) -> list[Any]:
        """What the training of a fold depends on: class and pixels of its images."""
        of_fold = self.images[self.images["fold"] == fold]
        return of_fold[["image_id", "class", "pixel_sha256"]].to_numpy().tolist()

    def trained_on(self) -> pd.DataFrame:
        """The images as rows of ``trained_on.parquet``: training rows of their fold."""
        return self.images[
            ["fold", "cohort", "case_id", "image_id", "group_id", "image_sha256", "pixel_sha256", "dhash"]
        ].assign(part="train")

    def beside(self, rows: DevelopmentRows, folder: str) -> DevelopmentRows:
        """The rows, followed by the images, which no part of the split holds.

        Args:
            rows: of a classifier.
            folder: of the artifact, relative to the workspace.
        """
        columns = ["cohort", "case_id", "image_id", "group_id", "class", "pixel_sha256", "image_sha256", "dhash"]
        further = self.images[columns].assign(
            image_path=[f"{folder}/{file}" for file in self.images["image_file"]], status=OK
        )
        places = pd.Series(range(len(rows.frame), len(rows.frame) + len(further)))
        of_folds = {int(fold): part.to_numpy() for fold, part in places.groupby(self.images["fold"])}
        return replace(rows, frame=pd.concat([rows.frame, further], ignore_index=True), synthetic=of_folds)

    def refuse_other_classes(self, classes: ClassSet) -> None:
        """Refuse images whose classes mean something else to the model.

        Raises:
            ConfigError: other classes, or other diagnoses in them.
        """
        theirs = ClassSet.from_dict(self.parent["classes"])
        if (theirs.classes, dict(theirs.members)) != (classes.classes, dict(classes.members)):
            raise ConfigError(
                f"--synthetic {self.name}, images of the classes {theirs.name!r}, for a model of {classes.name!r}",
                "the same classes",
                f"give --classes {theirs.name}, or train the generator with --classes {classes.name}",
            )

    def refuse_leakage(
        self,
        rows: DevelopmentRows,
        split: Artifact,
        allowed: str,
        near: Mapping[str, int],
        photos: ComparedPhotos,
    ) -> None:
        """Refuse images that may show, in some fold, what the same fold must not have seen.

        Args:
            rows: cases and split of the model.
            split: that split.
            allowed: reason of ``--allow-leakage``, or empty.
            near: ``near_distance_bits`` and ``near_limit`` of the split.
            photos: for :func:`skinkit.audit.leakage.verified_on_photos`.

        Raises:
            RefusedError: the generator has learnt from a validation or held-out case, its patient, lesion or photo, or
                an image is such a photo, and no reason allows it; or its folds are those of another split, whatever
                the reason.
        """
        generator = self.parent["name"]
        again = (
            f"run 'skinkit train --name {generator} --replace' on this split, then 'skinkit synthesise --model "
            f"{generator} --name {self.name}'"
        )
        learnt = f"{upstream.what_learnt(generator)} before it wrote {self.name}"
        for what, of_folds in (
            (learnt, self.learnt),
            (f"the synthetic images {self.name} of the same fold", self.images),
        ):
            unseen = dict.fromkeys(("validation", "held_out"), of_folds)
            upstream.refuse_overlap(rows, what, unseen, allowed, near, photos, again)
        if self.parent["split"]["identity"] != split.identity:  # whatever the reason
            raise RefusedError(
                f"the generator of {self.name} learnt on the folds of another split ({self.parent['split']['name']}, "
                f"{self.parent['split']['identity'][:12]})",
                f"the split of this model, {split.identity[:12]}",
                again,
            )
