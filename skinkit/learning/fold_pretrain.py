"""One fold of a pretraining: a network that learns from photos without labels, for others to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit.artifacts.artifact import Artifact
from skinkit.audit.leakage import ComparedPhotos
from skinkit.errors import InputError
from skinkit.learning import upstream
from skinkit.learning.examples import Examples
from skinkit.learning.fold_network import Runtime, train, write_fold, write_state
from skinkit.learning.fold_segmenter import strata
from skinkit.learning.pack import checked, refuse_other_task
from skinkit.learning.rows import DevelopmentRows, drawn
from skinkit.learning.trained import BACKBONE, FOLD, NETWORK
from skinkit.models.parts.protocol import Network, Objective, Sizes
from skinkit.models.parts.weights import OF_MODEL, Start, lineage, trained_further
from skinkit.schemas import LEARNT, TRAINED_ON, TRAINED_ON_FILE


def fit_pretraining(
    fold: int,
    rows: DevelopmentRows,
    examples: Examples,
    model: type[Network],
    settings: Any,
    start: Start,
    training: Runtime,
    folder: Path,
    objective: Objective | None = None,
) -> dict[str, Any]:
    """Train a network on one fold's photos, write its files, and describe it in a row of the model's table.

    The loss on the validation rows decides the epoch; without such rows the last epoch is kept.
    """
    synthetic = rows.learnt_synthetic(fold)
    train_rows, beside = drawn(rows.part(fold, "train"), synthetic, settings.recipe.synthetic_share)
    validation = rows.part(fold, "validation")
    places: dict[str, Any] = {"start": start, "training": training, "folder": folder, "replay": beside}
    places |= {"strata": strata(rows), "objective": objective}
    sizes = Sizes((), cohorts=tuple(sorted(set(rows.frame["cohort"])))) if model.LABELLED else Sizes(())
    network, course = train(model, settings, sizes, examples, train_rows, validation, None, **places)
    write_state(folder / BACKBONE, network.backbone_state())
    course |= {"n_synthetic": len(synthetic)} if len(synthetic) else {}
    about = write_fold(folder, fold, rows, course)
    return {**about, "path": folder.name}


# ----------------------------------------------------------------------------------------- starting from one


def start_from(artifact: Artifact, name: str, kind: str = "", backbone: str = "") -> Start:
    """The backbones of a pretraining, or the networks of a classifier, one per fold; every file is hashed again.

    Args:
        artifact: the model.
        name: how it is called in the workspace.
        kind: the classifier that starts from it, which may be trained further from one of its own kind; empty for
            other models.
        backbone: of the network that starts from a pretraining; empty where it has none.

    Raises:
        InputError: it is a model of another task or kind, or has another backbone.
        RefusedError: a file of it is missing or is not what was written.
    """
    about = checked(artifact).json("model.json")
    whole = bool(kind) and trained_further(about)
    if not whole:
        refuse_other_task(about, "pretrain", name)
        theirs = about["settings"].get("backbone", "")
        if backbone and theirs and theirs != backbone:  # of one shape they may still see colours otherwise
            raise InputError(
                f"{name} was trained as {theirs}, and {backbone} is to start from it",
                "one backbone",
                f"give --settings backbone={theirs}, or other --weights",
            )
    elif about["model"] != kind:
        raise InputError(
            f"{name} is a {about['model']}, and a {kind} is to start from it",
            f"a classifier of the kind {kind}, or a pretraining",
            f"give --model {about['model']}, or other --weights",
        )
    file = NETWORK if whole else BACKBONE
    files = {int(fold["fold"]): artifact.path / FOLD.format(fold["fold"]) / file for fold in about["folds"]}
    return Start(None, OF_MODEL + name, None, artifact.identity, files, whole, lineage(about) if whole else ())


def learnt_before(artifact: Artifact, folds: Sequence[int]) -> pd.DataFrame:
    """The rows of ``trained_on.parquet`` that these folds of a model learnt from, with the part they were in."""
    table = artifact.table(file=TRAINED_ON_FILE)
    table = table.loc[table["part"].isin(LEARNT) & table["fold"].isin(folds), list(TRAINED_ON.names)]
    return table.reset_index(drop=True)


def refuse_learnt_before(
    rows: DevelopmentRows,
    before: pd.DataFrame,
    start: Start,
    unseen: Sequence[str],
    allowed: str,
    near: Mapping[str, int],
    photos: ComparedPhotos,
) -> None:
    """Refuse a model that learnt, in some fold, from what the same fold must not have seen.

    What a model was validated on may be validated on again: it chose an epoch, of a classifier a temperature, and no
    weights. So a pretraining may be made over the split of the classifier that starts from it.

    Args:
        rows: cases and split of the model that starts from it.
        before: of :func:`learnt_before`.
        start: of :func:`start_from`.
        unseen: parts of the split that nothing may have been learnt from.
        allowed: reason of ``--allow-leakage``, or empty.
        near: ``near_distance_bits`` and ``near_limit`` of the split.
        photos: for :func:`skinkit.audit.leakage.verified_on_photos`.

    Raises:
        InputError: the pretraining lacks a fold of the split.
        RefusedError: it has learnt from such a case, its patient, lesion or photo, and no reason allows it.
    """
    name = start.name.removeprefix(OF_MODEL)
    train = f"'skinkit train --name {name} --replace'"
    again = f"run {train} over this split (--split)"
    upstream.refuse_lacking_folds(
        name, list(start.of_folds), rows, again if start.whole else f"run 'skinkit split --over all', then {train}"
    )
    against = dict.fromkeys(unseen, before)
    if "validation" in against:
        against["validation"] = before[before["part"] != "validation"]
    fix = f"run 'skinkit split --over all', which follows the workspace's split, then {train}"
    upstream.refuse_overlap(
        rows, upstream.what_learnt(name), against, allowed, near, photos, again if start.whole else fix
    )
