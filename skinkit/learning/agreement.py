"""What a trained classifier of the same folds says of synthetic images: whether they show their class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from skinkit.artifacts.artifact import Artifact
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.learning.trained import TrainedGenerator
from skinkit.learning.upstream import Upstream
from skinkit.models.parts.protocol import DIAGNOSIS


class AgreementClassifier:
    """A classifier whose fold scores the images of the same fold, which has held out the same cases.

    Args:
        artifact: the classifier.
        name: how it is called.
        generator: whose images it scores.
        workspace: root of the workspace.
        device: ``cpu`` or ``cuda``.
        console: messages and progress.

    Raises:
        InputError: it is no classifier, or lacks a fold of the generator.
        ConfigError: it has other classes, reads more than the photo, or has learnt from synthetic images.
        RefusedError: it learnt on another split, from the validation rows, or in spite of leakage.
    """

    def __init__(
        self, artifact: Artifact, name: str, generator: TrainedGenerator, workspace: Path, device: str, console: Console
    ) -> None:
        self.name, self._workspace = name, workspace
        self._model = Upstream(artifact, name, workspace, device, console)
        _check(self._model, generator)
        self._codes = self._model.classifier.classes.classes

    def agreement(self, fold: int, images: pd.DataFrame, folder: Path) -> np.ndarray:
        """(n,) probability of the class that each image is to show; NaN where it cannot be read.

        Args:
            fold: of the images, which the same fold of the classifier scores.
            images: with ``class``, ``pixel_sha256``, ``image_file`` and ``image_sha256``.
            folder: that the files lie in.
        """
        frame = images.assign(image_path=images["image_file"], case_id=images["image_id"]).reset_index(drop=True)
        rows = np.arange(len(frame))
        said = np.exp(self._model.answers(fold, frame, rows, [folder] * len(frame))[DIAGNOSIS])
        out: np.ndarray = said[rows, [self._codes.index(code) for code in frame["class"]]]
        return out


def _check(model: Upstream, generator: TrainedGenerator) -> None:
    classifier, named = model.classifier, f"--agree {model.name}"
    again = f"run 'skinkit train --name {model.name} --replace' over the split of {generator.name}"
    if classifier.classes.classes != generator.classes.classes:
        raise ConfigError(
            f"{named}, which answers {listed(classifier.classes.classes)}",
            f"{listed(generator.classes.classes)}, the classes of {generator.name}",
            "name another classifier, or train one with the same --classes",
        )
    tables = "attributes" in classifier.model_class.READS and any(fold.encoder.attributes for fold in classifier.folds)
    if tables or classifier.measures or classifier.members or not classifier.uses_device:
        raise ConfigError(
            f"{named}, which reads more than a photo",
            "a classifier that reads the photo alone: of a synthetic image nothing else is known",
            "train one with --attributes none --radiomics none",
        )
    if classifier.about.get("synthetic"):
        raise ConfigError(
            f"{named}, which has learnt from the synthetic images {classifier.about['synthetic']['name']}",
            "a classifier that has learnt from photos alone",
            "name one that was trained without --synthetic",
        )
    ours, theirs = generator.about["split"], classifier.about["split"]
    if ours["identity"] != theirs["identity"]:
        raise RefusedError(
            f"{named} learnt on the folds of another split ({theirs['name']}, {theirs['identity'][:12]})",
            f"the split of {generator.name}, {ours['identity'][:12]}",
            again,
        )
    if classifier.about.get("leakage_allowed"):
        raise RefusedError(
            f"{named} was trained in spite of leakage ({classifier.about['leakage_allowed']})",
            "a classifier whose folds have seen nothing of what they hold out",
            again,
        )
    if classifier.model_class.REFITS and model.artifact.config.get("refit", True):
        raise RefusedError(
            f"{named} was fitted once more on the validation rows",
            "one that has learnt from the training rows alone",
            f"{again}, with --no-refit",
        )
    if lacking := sorted(set(generator.class_counts) - {fold.number for fold in classifier.folds}):
        raise InputError(f"{named} has no fold {listed(lacking)}", f"every fold of {generator.name}", again)
