"""One fold of a pretraining: a network that learns from photos without labels, for others to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.tables import read_table
from skinkit.audit import leakage
from skinkit.errors import InputError, listed
from skinkit.learning.examples import Examples
from skinkit.learning.fold_network import Training, train, write_fold, write_state
from skinkit.learning.fold_segmenter import strata
from skinkit.learning.pack import checked, refuse_other_task
from skinkit.learning.rows import DevelopmentRows
from skinkit.learning.trained import BACKBONE, FOLD
from skinkit.models.parts.protocol import Network, Sizes
from skinkit.models.parts.weights import OF_MODEL, Start
from skinkit.schemas import LEARNT_BEFORE, TRAINED_ON


def fit_pretraining(
    fold: int,
    rows: DevelopmentRows,
    examples: Examples,
    model: type[Network],
    settings: Any,
    start: Start,
    training: Training,
    folder: Path,
) -> dict[str, Any]:
    """Train a network on one fold's photos, write its files, and describe it in a row of the model's table.

    The loss on the validation rows decides the epoch; without such rows the last epoch is kept.
    """
    train_rows, validation = rows.part(fold, "train"), rows.part(fold, "validation")
    places: dict[str, Any] = {"start": start, "training": training, "folder": folder, "strata": strata(rows)}
    network, course = train(model, settings, Sizes(()), examples, train_rows, validation, None, **places)
    write_state(folder / BACKBONE, network.backbone_state())
    about = write_fold(folder, fold, rows, course)
    return {**about, "path": folder.name}


# ----------------------------------------------------------------------------------------- starting from one


def start_from(artifact: Artifact, name: str) -> Start:
    """The backbones of a pretraining, one per fold, after every file of it was hashed again.

    Args:
        artifact: the pretraining.
        name: how it is called in the workspace.

    Raises:
        InputError: it is a model of another task.
        RefusedError: a file of it is missing or is not what was written.
    """
    about = checked(artifact).json("model.json")
    refuse_other_task(about, "pretrain", name)
    folders = {int(fold["fold"]): artifact.path / FOLD.format(fold["fold"]) for fold in about["folds"]}
    return Start(
        None, OF_MODEL + name, None, artifact.identity, {fold: path / BACKBONE for fold, path in folders.items()}
    )


def learnt_before(artifact: Artifact, folds: Sequence[int]) -> pd.DataFrame:
    """The rows of ``trained_on.parquet`` that these folds of a pretraining learnt from, as part ``pretrain``."""
    table = read_table(artifact.path / "trained_on.parquet")
    table = table.loc[(table["part"] != "held_out") & table["fold"].isin(folds), list(TRAINED_ON.names)]
    return table.assign(part=LEARNT_BEFORE).reset_index(drop=True)


def refuse_learnt_before(
    rows: DevelopmentRows,
    before: pd.DataFrame,
    start: Start,
    unseen: Sequence[str],
    allowed: str,
    near: Mapping[str, int],
    photo: Callable[[str, str], Path | None],
) -> None:
    """Refuse a pretraining that learnt, in some fold, from what the same fold must not have seen.

    Args:
        rows: cases and split of the model that starts from it.
        before: of :func:`learnt_before`.
        start: of :func:`start_from`.
        unseen: parts of the split that nothing may have been learnt from.
        allowed: reason of ``--allow-leakage``, or empty.
        near: ``near_distance_bits`` and ``near_limit`` of the split.
        photo: finds photos to look at, see :func:`skinkit.audit.leakage.look_at`.

    Raises:
        InputError: the pretraining lacks a fold of the split.
        RefusedError: it has learnt from such a case, its patient, lesion or photo, and no reason allows it.
    """
    name = start.name.removeprefix(OF_MODEL)
    lacking = [str(fold) for fold in rows.folds if fold not in start.of_folds]
    if lacking:
        raise InputError(
            f"{name} has no fold {listed(lacking)}, which the split has",
            "a pretraining with the folds of the split",
            f"run 'skinkit split --over all', then 'skinkit train --name {name} --replace'",
        )
    overlaps = []
    for fold in rows.folds:
        mine = rows.split[(rows.split["fold"] == fold) & rows.split["part"].isin(unseen)]
        overlaps.append(leakage.check(rows.frame.iloc[mine["row"]], before[before["fold"] == fold], **near))
    leakage.refuse(
        leakage.look_at(leakage.joined(*overlaps), photo),
        allowed,
        f"the {' and '.join(unseen)} cases of a fold and what the same fold of {name} learnt from",
        f"run 'skinkit split --over all', which follows the workspace's split, then 'skinkit train --name {name} "
        "--replace'",
    )
