"""Which training cases a pack keeps replay features of, and these features (``skinkit.learning.replay_features``).

The sample is balanced: as many cases of each class as asked for, where there are so many, and at most one of a patient.
Which ones is decided by the hash of seed and photo: not by the order of a table, and alike in all folds, so that few
patients are in it altogether.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.files import digest
from skinkit.artifacts.tables import read_table
from skinkit.console import Console
from skinkit.errors import InputError, listed
from skinkit.learning.features import head_inputs
from skinkit.learning.penultimate import Penultimate
from skinkit.learning.replay_features import APART, FILE, ReplayFeatures
from skinkit.learning.rows import truth_of
from skinkit.learning.trained import Classifier, log_softmax
from skinkit.models.parts.protocol import UNKNOWN
from skinkit.schemas import OK, TRAINED_ON_FILE
from skinkit.workspace import Ref, Workspace

_SAME = ("cohort", "case_id", "pixel_sha256")
"""By which a case is found again: one whose photo was changed since is another."""


@dataclass(frozen=True)
class Sample:
    """Replay features of all folds of a model.

    Attributes:
        of_folds: folder of the fold -> its replay features.
        files: the model's files that hold them -> their bytes.
        why_none: why there are none; empty where there are some.
    """

    of_folds: Mapping[str, ReplayFeatures] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    why_none: str = ""


def draw(
    model: Classifier, workspace: Workspace, *, per_class: int, seed: int, device: str, console: Console
) -> Sample:
    """Draw cases of each fold's training part and compute what its head reads of them.

    Args:
        model: a classifier that was trained in this workspace.
        workspace: with its cohorts and photos.
        per_class: most cases of a class.
        seed: of the draw.
        device: ``cpu`` or ``cuda``.
        console: progress, and photos that cannot be read.

    Raises:
        InputError: the cases that a fold was trained on are no longer there.
    """
    if why := _why_none(model):
        return Sample(why_none=why)
    trained_on = read_table(model.path / TRAINED_ON_FILE, ["fold", "cohort", "case_id", "part", "pixel_sha256"])
    frame = _frame(model, workspace)
    labels, _ = truth_of(frame, model.classes)
    of_folds: dict[str, ReplayFeatures] = {}
    files: dict[str, bytes] = {}
    for fold in model.folds:
        learnt = trained_on[(trained_on["part"] == "train") & (trained_on["fold"] == max(fold.number, 0))]
        chosen = _chosen(frame, labels, learnt, per_class, seed)
        rows = frame.iloc[chosen].reset_index(drop=True)
        roots = [workspace.cohort(cohort).root for cohort in rows["cohort"]]
        read = head_inputs(model, fold, rows, roots, workspace.root, device=device, console=console)
        if lost := int((~read.readable).sum()):
            console.warn(f"fold {fold.number}: {lost} photos cannot be read, and have no replay features")
        if not read.readable.any():
            raise InputError(
                f"no training case of fold {fold.number} of {model.name} is in {workspace.root} as it was then",
                "the cases that it was trained on, for their replay features",
                "give --no-replay, or bring the cases and their photos back and pack again",
            )
        kept = ReplayFeatures(read.inputs, labels[chosen[read.readable]], log_softmax(read.scores))
        if (apart := kept.difference(read.head)) > APART:
            return Sample(why_none=f"its last linear layer alone does not answer as it does (off by {apart:.2f})")
        folder = model.folder(fold).relative_to(model.path).as_posix()
        of_folds[folder], files[f"{folder}/{FILE}"] = kept, kept.as_bytes(read.head)
    return Sample(of_folds, files)


def _why_none(model: Classifier) -> str:
    """Why a classifier can have no replay features; empty where it can, or must be tried."""
    if model.members:
        return f"it reads the answers of {listed(member.name for member in model.members)}"
    if not model.reads_photos and not model.is_network:
        return "it reads tables, and no backbone stands before it"
    if model.is_network:
        try:
            Penultimate(model.network(model.folds[0], "cpu"), len(model.classes.classes))
        except InputError as error:
            return error.found
    return ""


def _frame(model: Classifier, workspace: Workspace) -> pd.DataFrame:
    """The fused rows of the cohorts that a model was trained on."""
    tables = []
    for cohort in model.about["cohorts"]:
        place = workspace.path(Ref("fused", cohort, str(model.about["fused"])))
        fix = f"run 'skinkit fuse --cohort {cohort}', then pack again"
        tables.append(open_artifact(place, fix=fix).table().assign(cohort=cohort))
    frame = pd.concat(tables, ignore_index=True)
    return frame[frame["status"] == OK].reset_index(drop=True)


def _chosen(
    frame: pd.DataFrame, labels: npt.NDArray[np.int64], learnt: pd.DataFrame, per_class: int, seed: int
) -> npt.NDArray[np.int64]:
    """Positions of the drawn cases, the rarest classes first, so that no patient is lost to a frequent one."""
    here = set(zip(*(learnt[name] for name in _SAME), strict=True))
    same = np.array([key in here for key in zip(*(frame[name] for name in _SAME), strict=True)], dtype=bool)
    rows = np.flatnonzero(same & (labels != UNKNOWN))
    counts = np.bincount(labels[rows])
    photos, groups = frame["pixel_sha256"].to_numpy(), frame["group_id"].to_numpy()
    rank = {row: (counts[labels[row]], labels[row], digest([seed, photos[row]])) for row in rows}
    drawn: list[int] = []
    seen: set[str] = set()
    taken: Counter[int] = Counter()
    for row in sorted(rows, key=rank.__getitem__):
        if groups[row] not in seen and taken[labels[row]] < per_class:
            drawn.append(int(row))
            seen.add(groups[row])
            taken[labels[row]] += 1
    return np.array(drawn, dtype=np.int64)
