"""The cases a model is made of, and who of them is in which part of which fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

from skinkit.artifacts.artifact import Artifact
from skinkit.audit import leakage
from skinkit.audit.leakage import ComparedPhotos
from skinkit.data import views
from skinkit.errors import InputError, listed
from skinkit.models.parts.protocol import UNKNOWN
from skinkit.schemas import OK, REPLAYED, UNUSED
from skinkit.taxonomy import ClassSet

if TYPE_CHECKING:
    from skinkit.errors import CaseError

KEY = ["cohort", "case_id"]


@dataclass(frozen=True)
class DevelopmentRows:
    """Cases of the development cohorts that are trained on, and the split over them.

    Attributes:
        frame: fused rows (of a classifier) or primary photos (of a generator), one per (cohort, case_id), or cases
            with a truth mask (of a segmenter) or any photo (of a pretraining), one per image.
        split: fold, cohort, case_id, part, and row: a position in ``frame``.
        barred: why cases are not trained on -> how many.
        synthetic: fold -> positions in ``frame`` of synthetic images, training rows of this fold that no part holds.
        joining: fold -> the training rows that other models, whose answers are read, have not learnt from; empty where
            none are read, or where these are all training rows.
    """

    frame: pd.DataFrame
    split: pd.DataFrame
    barred: Mapping[str, int]
    synthetic: Mapping[int, np.ndarray] = field(default_factory=dict)
    joining: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds, in order."""
        return [int(fold) for fold in sorted(self.split["fold"].unique())]

    def part(self, fold: int, name: str) -> np.ndarray:
        """Positions of one part of a fold."""
        chosen = self.split[(self.split["fold"] == fold) & (self.split["part"] == name)]
        return chosen["row"].to_numpy(dtype=int)

    def learnt_synthetic(self, fold: int) -> np.ndarray:
        """Positions of the synthetic images that a fold is trained on."""
        return self.synthetic.get(fold, np.zeros(0, dtype=int))

    def without(self, failed: Mapping[int, CaseError]) -> DevelopmentRows:
        """The rows whose photos can be read.

        Args:
            failed: row -> why one of them cannot.
        """
        reasons = [failed[row].reason if row in failed else OK for row in range(len(self.frame))]
        kept = np.array([reason == OK for reason in reasons], dtype=bool)
        counts = pd.Series(reasons)[~kept].value_counts().sort_index()
        barred = {f"their photo cannot be read ({reason})": int(n) for reason, n in counts.items()}
        position = dict(zip(np.flatnonzero(kept), range(int(kept.sum())), strict=True))
        split = self.split[self.split["row"].isin(position)]
        return DevelopmentRows(
            self.frame[kept].reset_index(drop=True),
            split.assign(row=split["row"].map(position)),
            {**self.barred, **barred},
            {
                fold: np.array([position[row] for row in of if row in position], int)
                for fold, of in self.synthetic.items()
            },
        )

    def halved(self, *, keep: bool = False) -> DevelopmentRows:
        """The validation rows alone, for a model that reads the answers of others that learnt from the training rows.

        By patient every second group of a class is for training, the others for validation; held-out rows stay.

        Args:
            keep: whether the training rows stay too, because the model also learns by itself; those that come from the
                validation rows are ``joining``.

        Raises:
            InputError: a fold has nothing left in one of the halves.
        """
        parts = ["train", "validation", "held_out"] if keep else ["validation", "held_out"]
        kept = self.split[self.split["part"].isin(parts)].copy()
        rows = self.frame.iloc[kept["row"]]
        groups = pd.DataFrame(
            {"fold": kept["fold"].to_numpy(), "group": rows["group_id"].to_numpy(), "class": rows["class"].to_numpy()}
        )[(kept["part"] == "validation").to_numpy()]
        once = groups.sort_values(["fold", "class", "group"]).drop_duplicates(["fold", "group"])
        turn = once.groupby(["fold", "class"]).cumcount() % 2
        learnt = pd.MultiIndex.from_frame(once.loc[turn == 0, ["fold", "group"]])
        here = pd.MultiIndex.from_arrays([kept["fold"], rows["group_id"]]).isin(learnt)
        moved = here & (kept["part"] == "validation").to_numpy()
        joining = {fold: kept.loc[moved & (kept["fold"] == fold), "row"].to_numpy(dtype=int) for fold in self.folds}
        kept.loc[moved, "part"] = "train"
        there = {part: set(kept.loc[kept["part"] == part, "fold"]) for part in ("train", "validation")}
        if lacking := [str(fold) for fold in self.folds if not all(fold in folds for folds in there.values())]:
            raise InputError(
                f"fold {listed(lacking)} has too few validation patients to learn from half and calibrate on half",
                "two validation patients of a class in every fold",
                "split with a larger --validation, or add cases",
            )
        return replace(self, split=kept.reset_index(drop=True), joining=joining if keep else {})

    def not_learnt_by_members(self, fold: int, rows: np.ndarray) -> np.ndarray:
        """Those of some training and validation rows of a fold that the models whose answers are read may answer."""
        if not self.joining:
            return rows
        return np.intersect1d(rows, np.concatenate([self.joining[fold], self.part(fold, "validation")]))

    def as_members_see_it(self) -> DevelopmentRows:
        """The same rows without the training rows that the models whose answers are read may have learnt from too."""
        if not self.joining:
            return self
        here = pd.MultiIndex.from_frame(self.split[["fold", "row"]])
        joining = pd.MultiIndex.from_tuples([(fold, row) for fold, rows in self.joining.items() for row in rows])
        kept = (self.split["part"] != "train").to_numpy() | here.isin(joining)
        return replace(self, split=self.split[kept].reset_index(drop=True))

    def replaying(self, cohorts: Sequence[str]) -> DevelopmentRows:
        """The same rows, where those of some cohorts are only replayed: their training rows, and no others of them."""
        again = self.split["row"].map(self.frame["cohort"]).isin(list(cohorts))
        split = self.split[~again | (self.split["part"] == "train")]
        part = split["part"].mask(again, REPLAYED)
        return replace(self, split=split.assign(part=part).reset_index(drop=True))

    def drawn(self, share: float, seed: int) -> DevelopmentRows:
        """The same rows, where a fold learns from this share of its training patients alone, drawn at random.

        Of one seed a smaller share is part of a larger one. Two classes stay in every fold that has them.
        """
        part = self.split["part"].astype(object).copy()
        for fold in self.folds:
            train = self.split.index[(self.split["fold"] == fold) & (self.split["part"] == "train")]
            rows = self.frame.iloc[self.split.loc[train, "row"]]
            groups = rows["group_id"].to_numpy(dtype=str)
            order = np.random.default_rng([seed, fold]).permutation(np.unique(groups))
            n = max(1, round(share * len(order)))
            while n < len(order) and rows["class"][np.isin(groups, order[:n])].nunique() < 2:
                n += 1
            part[train[~np.isin(groups, order[:n])]] = UNUSED
        return replace(self, split=self.split.assign(part=part))

    def refuse_leakage(self, allowed: str, near: Mapping[str, int], photos: ComparedPhotos) -> None:
        """Refuse a split whose validation or held-out rows share a patient, lesion or image with training rows.

        Args:
            allowed: reason of ``--allow-leakage``, or empty.
            near: ``near_distance_bits`` and ``near_limit``, as the split had them.
            photos: for :func:`skinkit.audit.leakage.verified_on_photos`.

        Raises:
            RefusedError: they share something, or more near-identical photos than a few, and no reason allows it.
        """
        overlaps = []
        for fold in self.folds:
            rest = (self.split["fold"] == fold) & (self.split["part"] != UNUSED)
            train = rest & self.split["part"].isin(["train", REPLAYED])
            left = self.frame.iloc[self.split.loc[rest & ~train, "row"]]
            overlaps.append(leakage.check(left, self.frame.iloc[self.split.loc[train, "row"]], photos, **near))
        overlap = leakage.verified_on_photos(leakage.joined(*overlaps), photos).tolerating_few(len(self.frame))
        leakage.refuse(overlap, allowed, "the parts of the split", "draw the split anew")

    def content(self, fold: int, columns: Sequence[str], *, every: bool = False) -> list[Any]:
        """What a fold's files depend on: its training and validation rows, and which rows are in which part.

        Of the held-out rows only their keys count.

        Args:
            fold: the fold.
            columns: that are read.
            every: something is learnt from the held-out rows too, so they count like the others.
        """
        parts = self.split[self.split["fold"] == fold]
        keys = self.frame.loc[parts["row"], KEY].assign(part=parts["part"].to_numpy())
        learnt = parts["row"] if every else parts.loc[parts["part"] != "held_out", "row"]
        hashed = hash_pandas_object(self.frame.loc[learnt, list(columns)], index=False).astype(str).tolist()
        return [keys.to_numpy().tolist(), hashed]


@dataclass(frozen=True)
class Replay:
    """Rows of an earlier training that are drawn again.

    Attributes:
        rows: to draw from.
        share: of each epoch's draws, above 0 and below 1; the network's own rows are the rest.
        strata: of each row, where a phase balances its draws.
    """

    rows: tuple[int, ...]
    share: float
    strata: tuple[int, ...] = ()

    def beside(self, own: int) -> int:
        """Draws that make up the share of an epoch which sees so many rows of its own."""
        return round(own * self.share / (1 - self.share))


def drawn(
    photos: np.ndarray, synthetic: np.ndarray, share: float, replay: Replay | None = None
) -> tuple[np.ndarray, Replay | None]:
    """The rows that an epoch sees once, and those that it draws beside them.

    Args:
        photos: positions of the training rows.
        synthetic: of the synthetic images of the fold.
        share: of these among the draws; 0 sees each once, 1 sees them alone.
        replay: of an earlier training, only where ``share`` is 0.

    Raises:
        InputError: no synthetic image where nothing else is to be seen.
    """
    if share == 1:
        if not len(synthetic):
            raise InputError(
                "a fold without synthetic images, which is to learn from these alone",
                "some in every fold",
                "run 'skinkit synthesise' for this split, or give --settings recipe.synthetic_share=0.5",
            )
        return synthetic, None
    if share and len(synthetic):
        return photos, Replay(tuple(synthetic.tolist()), share)
    return np.concatenate([photos, synthetic]), replay


def truth_of(frame: pd.DataFrame, classes: ClassSet) -> tuple[np.ndarray, dict[str, int]]:
    """(n,) int64 class index of each row, -1 where it is unknown, and the values without a class -> rows.

    Args:
        frame: rows; one without the task's column knows nothing.
        classes: of the task.
    """
    index = {code: i for i, code in enumerate(classes.classes)}
    truth, unmapped = np.full(len(frame), UNKNOWN, dtype=np.int64), Counter[str]()
    for row, value in enumerate(frame.get(classes.column, ())):
        if pd.isna(value):
            continue
        code = classes.to_class(str(value))
        if code is None:
            unmapped[str(value)] += 1
        else:
            truth[row] = index[code]
    return truth, dict(sorted(unmapped.items()))


def labelled(fused: Mapping[str, Artifact], split: Artifact, classes: ClassSet) -> DevelopmentRows:
    """The fused rows of the split's cases that have a class.

    Args:
        fused: cohort -> its fused table.
        split: the split.
        classes: the classes.

    Raises:
        InputError: there is none.
    """
    return _with_class(_joined(fused), split, classes, "fused table")


def diagnosed(cases: Mapping[str, Artifact], split: Artifact, classes: ClassSet) -> DevelopmentRows:
    """The primary photo of the split's cases that have a class.

    Args:
        cases: cohort -> its cases.
        split: the split.
        classes: the classes.

    Raises:
        InputError: there is none.
    """
    frame = _joined(cases)
    frame = views.primary_images(frame[frame["status"] == OK]).reset_index(drop=True)
    return _with_class(frame, split, classes, "cases")


def _with_class(frame: pd.DataFrame, split: Artifact, classes: ClassSet, named: str) -> DevelopmentRows:
    """The rows of a table, called so in messages, with one row per case, that are in the split and have a class."""
    frame["class"] = [classes.to_class(diagnosis) for diagnosis in frame["diagnosis"]]
    table = _rows_of(split, frame["cohort"])
    cases = table[KEY].drop_duplicates()
    present = cases.merge(frame[[*KEY, "status", "class"]], on=KEY, how="left")
    usable = present["status"] == OK
    outside = frame.merge(cases, on=KEY, how="left", indicator=True)["_merge"].to_numpy() == "left_only"
    ok = (frame["status"] == OK).to_numpy()
    barred = {
        f"not in the {named}": int((~usable).sum()),
        f"their diagnosis has no class in {classes.name}": int((usable & present["class"].isna()).sum()),
        "no diagnosis": int((outside & ok & frame["diagnosis"].isna()).sum()),
        "in no part of the split": int((outside & ok & frame["diagnosis"].notna()).sum()),
    }
    return _divided(
        frame[ok & ~outside & frame["class"].notna()],
        table,
        barred,
        InputError(
            f"no case of the split {split.path} has a class of {classes.name!r}",
            f"labelled cases in the {named}",
            f"look at 'skinkit show' of the split and of the {named}, or choose another --classes",
        ),
    )


def outlined(cases: Mapping[str, Artifact], split: Artifact) -> DevelopmentRows:
    """The cases of the split that have a truth mask, one row per image.

    Args:
        cases: cohort -> its cases.
        split: the split.

    Raises:
        InputError: there is none.
    """
    frame = _joined(cases)
    ok = (frame["status"] == OK).to_numpy()
    has_mask = frame["truth_mask_path"].notna().to_numpy()
    table = _rows_of(split, frame["cohort"])
    inside = frame.merge(table[KEY].drop_duplicates(), on=KEY, how="left", indicator=True)["_merge"] == "both"
    barred = {
        "no truth mask": int((ok & ~has_mask).sum()),
        "in no part of the split": int((ok & has_mask & ~inside.to_numpy()).sum()),
    }
    return _divided(
        frame[ok & has_mask & inside.to_numpy()],
        table,
        barred,
        InputError(
            f"no case of the split {split.path} has a truth mask",
            "development cohorts with masks drawn by people",
            "see 'skinkit show' of the cases; folder cohorts name them with 'masks' in cohort.toml",
        ),
    )


def pictured(cases: Mapping[str, Artifact], split: Artifact, *, by_case: bool) -> DevelopmentRows:
    """The photos of the split's cases, with or without a label.

    Args:
        cases: cohort -> its cases.
        split: the split.
        by_case: one row per case, its views beside each other, instead of one per photo.

    Raises:
        InputError: there is none.
    """
    frame = _joined(cases)
    frame = frame[frame["status"] == OK].reset_index(drop=True)
    if by_case:
        tables = [views.beside(views.primary_images(rows), rows) for _, rows in frame.groupby("cohort", sort=True)]
        frame = pd.concat(tables, ignore_index=True) if tables else frame
    table = _rows_of(split, frame["cohort"])
    inside = frame.merge(table[KEY].drop_duplicates(), on=KEY, how="left", indicator=True)["_merge"] == "both"
    return _divided(
        frame[inside.to_numpy()],
        table,
        {"in no part of the split": int((~inside).sum())},
        InputError(
            f"no usable photo belongs to a case of the split {split.path}",
            "photos of development cohorts",
            "run 'skinkit split --over all', which covers every development photo",
        ),
    )


def _rows_of(split: Artifact, cohorts: Iterable[str]) -> pd.DataFrame:
    """Fold, key and part of the split's cases of these cohorts."""
    table = split.table(["fold", *KEY, "part"])
    return table[table["cohort"].isin(list(cohorts))]


def _joined(artifacts: Mapping[str, Artifact]) -> pd.DataFrame:
    tables = [artifact.table().assign(cohort=cohort) for cohort, artifact in artifacts.items()]
    return pd.concat(tables, ignore_index=True)


def _divided(
    frame: pd.DataFrame, split: pd.DataFrame, barred: Mapping[str, int], nothing: InputError
) -> DevelopmentRows:
    if frame.empty:
        raise nothing
    frame = frame.sort_values([*KEY, "image_id"], kind="stable").reset_index(drop=True)
    positions = frame[KEY].assign(row=range(len(frame)))
    split = split.merge(positions, on=KEY, how="inner").sort_values(["fold", "row"], kind="stable")
    return DevelopmentRows(frame, split.reset_index(drop=True), {reason: n for reason, n in barred.items() if n})


def of_kind(inputs: Mapping[str, Artifact], kind: str) -> dict[str, Artifact]:
    """Cohort -> artifact, of the inputs called ``kind/cohort``, in the order of their names."""
    chosen: Iterable[str] = sorted(name for name in inputs if name.startswith(f"{kind}/"))
    return {name.removeprefix(f"{kind}/"): inputs[name] for name in chosen}
