"""Attributes that are the label: columns whose values, alone or in pairs, nearly say the diagnosis.

A model that reads such a column needs no lesion: ``bleed`` that was filled in after histology, a treatment, a code, an
excision margin, or a number that stands for the class. The shortcut audit looks at absence, files, origin and
confirmation; this one looks at *values*, of every attribute, radiomic feature and key.

Each column is read in several ways (:func:`views_of`): its value, how it is written (case, decimals, unit, shape), its
first and last characters, remainders of a whole number, the day, weekday and hour of a date, the words of a text, the
place of a row in the table. Each way is scored out of fold with patients kept together, against malignancy and against
each class (one versus the rest), by :mod:`skinkit.stats.separation`. Then pairs of columns, and triples of attributes
with few values, are scored as combinations, with differences, sums, products and equality of pairs; and all attributes
together. A pair is named only where neither column is named alone.

A column is ``label`` from an out-of-fold AUROC of 0.95 where chance is ruled out (p below 0.05, Bonferroni over all
that was searched in the same way), ``open`` where the AUROC is as high but the patients are too few for that, and
``part`` where one of its values occurs, but for 1 %, on one side only and holds at least a fifth of that side.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tables import write_table
from skinkit.audit import file_cues
from skinkit.errors import listed
from skinkit.schemas import Column, Schema
from skinkit.stats.encoders import ENCODERS, LEAKY, radiomic_columns
from skinkit.stats.metrics import MALIGNANT, SIGNIFICANT, Bools, Floats
from skinkit.stats.separation import FEWEST_CLUSTERS, Codes, Separation, joint
from skinkit.taxonomy import ClassSet

NEAR_PERFECT = 0.95
"""Out-of-fold AUROC from which a column is nearly the label."""
PURE, LEAST_SHARE, FEWEST_PURE = 0.99, 0.2, 10
"""A value decides where this share of its cases is on one side, and it holds such a share of the side and patients."""
GAIN, LITTLE_GAIN, SURE = 0.05, 0.02, 0.99
"""By how much a pair must be better than its better column; and what is enough for a pair of this AUROC."""
GAIN_OF_THREE = 0.15
"""The same for a triple: age, sex and a symptom together tell some classes well, as they should."""
MOST_PAIRS, MOST_TRIPLES, MOST_PAIRED_ROWS = 20_000, 4_000, 6_000
FEW_PAIRS = 500
"""Pairs of columns, attributes first, that are searched beside other work; ``audit`` searches :data:`MOST_PAIRS`."""

ATTRIBUTE, FEATURE, KEY = KINDS = ("attribute", "feature", "key")
LABEL, PART, OPEN = VERDICTS = ("label", "part", "open")
EVERYTHING = "all attributes"
"""Name of the row of all attributes together."""
VALUE = "value"
KEYS = (
    "image_id", "case_id", "image_path", "patient_id", "lesion_id", "accession", "file", "filename",
    "file_name", "img_id", "image", "path",
)  # fmt: skip
"""Columns that name a case: no model reads them."""
ORDER = "order of the rows"

_LEVELS, _FEW, _COARSE, _BINS = 256, 64, 16, 32
_PAIR_BINS = 8
_WORDS, _REMAINDERS = 300, (7, 8, 9, 10, 11, 12)
_NAMED = 5
_SHOWN, _FEATURES_SHOWN = 8, 2
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d{2}.*)?")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_NO_ATTRIBUTE = frozenset({
    "diagnosis", "diagnosis_source", "class", "cluster", "several", "raw_malignancy", "split", "part", "fold",
    "status", "reason", "detail", "fingerprint", "flags", "image_sha256", "pixel_sha256", "dhash", "mask_path",
    "mask_sha256", "truth_mask_path", "truth_mask_sha256", "truth_mask_label", "truth_mask_polarity", "row_date",
    "cohort", "group_id", "level", "malignancy", "call", "top1", "confirmed_by", *file_cues.NUMBERS,
    *file_cues.CATEGORIES,
})  # fmt: skip
"""What is the truth, a prediction, or a cue of the shortcut audit whatever its value."""

ROWS = Schema(
    "label_attributes",
    1,
    ("columns", "target"),
    tuple(
        Column(*column)
        for column in (
            ("columns", "string", "the column, or the columns of a combination with ' and '"),
            ("kind", "string", "attribute, feature or key (names a case; no model reads it)"),
            ("how", "string", "how it was read: value, case, decimals, words, difference, ..."),
            ("target", "string", "malignant, or a class against the rest"),
            ("verdict", "string", "label, part (one value decides) or open (too few patients to rule out chance)"),
            ("auroc", "float", "out-of-fold AUROC, folds grouped by patient"),
            ("p", "float", "of such an AUROC by chance, times the number of ways and targets searched"),
            ("n", "int", "cases"),
            ("n_positive", "int", "cases of the target"),
            ("n_patients", "int", "patients"),
            ("n_positive_patients", "int", "patients with a case of the target"),
            ("levels", "string", "JSON list of {level, n, positive}, of levels with at least 5 cases"),
        )
    ),
)
"""``label_attributes.parquet``."""


@dataclass(frozen=True)
class ColumnReading:
    """One way to read a column.

    Attributes:
        columns: the columns, one or several.
        kind: the weakest of :data:`KINDS` among them.
        how: in which way.
        codes: (n,) level of each row; 0 where the value is unknown.
        names: level -> how it is called; empty where it has no name.
        ranked: (n,) numbers that are also a score as they are, NaN where unknown.
        present: (n, words) instead of levels.
        exact: whether a level is a value, not a range of numbers.
    """

    columns: tuple[str, ...]
    kind: str
    how: str
    codes: Codes
    names: Sequence[str] = ()
    ranked: Floats | None = None
    present: npt.NDArray[np.float32] | None = None
    exact: bool = True

    @property
    def levels(self) -> int:
        """Number of levels, the unknown one included."""
        return int(self.codes.max(initial=0)) + 1


@dataclass(frozen=True)
class AttributeSearch:
    """What :func:`search` found.

    Attributes:
        rows: of :data:`ROWS`, most telling first.
        searched: counts: columns, ways, targets, pairs, pairs_left_out, triples, triples_left_out, rows_of_pairs.
        not_searched: targets with too few patients.
        malignant_set: name of the malignant set.
    """

    rows: pd.DataFrame
    searched: Mapping[str, int]
    not_searched: Sequence[str]
    malignant_set: str
    columns: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with a sentence for every column."""
        records = self.rows.astype(object).where(self.rows.notna(), None).to_dict("records")
        return {
            "threshold": NEAR_PERFECT,
            "malignant_set": self.malignant_set,
            "verdict": self.verdict,
            "sentences": self.sentences,
            "searched": dict(self.searched),
            "not_searched": list(self.not_searched),
            "found": [
                {**row, "levels": json.loads(row["levels"]) if isinstance(row["levels"], str) else None}
                for row in records
            ],
        }

    @property
    def of_model(self) -> pd.DataFrame:
        """The rows that a model could read: all but keys."""
        return self.rows[self.rows["kind"] != KEY]

    @property
    def sentences(self) -> list[str]:
        """One sentence per column or combination, the most telling first; features share one from the third.

        Features of a photo go together, so that where one tells a class many do.
        """
        said, features = [], {verdict: list[str]() for verdict in VERDICTS}
        for name, group in self.rows.groupby("columns", sort=False):
            verdict, kind = (str(group.iloc[0][column]) for column in ("verdict", "kind"))
            if kind == FEATURE:
                features[verdict].append(str(name))
            if kind != FEATURE or len(features[verdict]) <= _FEATURES_SHOWN:
                said.append(_sentence(group))
        for verdict, names in features.items():
            if rest := names[_FEATURES_SHOWN:]:
                said.append(f"Likewise ({verdict}) {len(rest)} more features or pairs with one: {listed(rest, 3)}.")
        return said

    @property
    def verdict(self) -> str:
        """What was searched, how much was found, and what that does and does not prove."""
        s = self.searched
        if not s["targets"]:
            return "Values could not be searched for the label: every class has too few patients."
        names = list(dict.fromkeys(self.of_model.loc[self.of_model["verdict"] == LABEL, "columns"]))
        head = (
            f"{len(names)} of them nearly say the label (out-of-fold AUROC {NEAR_PERFECT} or more): {listed(names)}."
            if names
            else f"none nearly says the label (out-of-fold AUROC {NEAR_PERFECT} or more)."
        )
        if unsure := self.of_model.loc[self.of_model["verdict"] == OPEN, "columns"].nunique():
            head += f" {unsure} {'more ' if names else ''}reach it with too few patients to rule out chance."
        left = [f"{s[f'{name}_left_out']} {name}" for name in ("pairs", "triples") if s[f"{name}_left_out"]]
        return (
            f"Values of {s['columns']} columns in {s['ways']} ways, {s['pairs']} pairs and {s['triples']} triples "
            f"against {s['targets']} targets: {head} With so many tried, a column just above the limit may be chance "
            "where patients are few; p is corrected for their number."
            + (f" Not searched: {' and '.join(left)} beyond the limits." if left else "")
            + (f" Too few patients to search: {listed(self.not_searched)}." if self.not_searched else "")
            + " Combinations of more columns, and what is in the photo itself, were not searched."
        )

    def worth_a_warning(self) -> list[dict[str, Any]]:
        """What a model that reads these columns must carry: all that was found, but features that chance may explain.

        Returns:
            columns, verdict, target, auroc, n, n_positive and sentence of each column or combination.
        """
        kept = ("columns", "kind", "verdict", "target", "auroc", "n", "n_positive", "n_patients")
        return [
            {**{name: group.iloc[0][name] for name in kept}, "sentence": _sentence(group)}
            for _, group in self._of_a_warning.groupby("columns", sort=False)
        ]

    @property
    def warnings(self) -> list[str]:
        """The same in sentences, of which features share one from the third."""
        return replace(self, rows=self._of_a_warning).sentences

    @property
    def _of_a_warning(self) -> pd.DataFrame:
        return self.rows[(self.rows["kind"] != FEATURE) | (self.rows["verdict"] == LABEL)]

    @property
    def text(self) -> str:
        """The verdict and the first sentences, for a terminal."""
        shown = self.sentences
        more = [f"and {len(shown) - _SHOWN} more (label_attributes.json)"] if len(shown) > _SHOWN else []
        return "\n".join([self.verdict, *(f"- {sentence}" for sentence in shown[:_SHOWN]), *more])

    def write(self, folder: Path) -> dict[str, str]:
        """Write ``label_attributes.parquet`` and ``.json``; kind of file -> path."""
        write_table(folder / "label_attributes.parquet", ROWS, self.rows)
        text = json.dumps(self.as_dict(), ensure_ascii=False, indent=1, allow_nan=False)
        write_atomic(folder / "label_attributes.json", text.encode())
        return {f"label_attributes_{kind}": str(folder / f"label_attributes.{kind}") for kind in ("parquet", "json")}


# ------------------------------------------------------------------------------------------------------- columns
def columns_of(table: pd.DataFrame, *beside: str) -> dict[str, str]:
    """Column -> its kind, of all columns of a table of cases but the truth, predictions and what the pipeline made.

    Args:
        table: one row per case.
        beside: further columns to leave out, such as the column of the truth.
    """
    features = set(radiomic_columns([str(name) for name in table]))
    kinds = {}
    for name in map(str, table.columns):
        if name == "case_id" and "image_id" in table:  # mostly the same
            continue
        if name in _NO_ATTRIBUTE or name in beside or name.startswith(("p__", "view__")):
            continue
        kinds[name] = FEATURE if name in features else KEY if name in KEYS else ATTRIBUTE
    return kinds


def search(
    table: pd.DataFrame,
    classes: ClassSet,
    kinds: Mapping[str, str],
    *,
    seed: int = 0,
    ordered: bool = False,
    most_pairs: int = MOST_PAIRS,
    most_triples: int = MOST_TRIPLES,
) -> AttributeSearch:
    """Search every column, pair and small triple for the label.

    Args:
        table: one row per case, with ``class`` and ``cluster`` (patient).
        classes: class set; its malignant classes are a target of their own.
        kinds: column -> kind, of :func:`columns_of`.
        seed: of the folds, and of the rows that pairs are searched in.
        ordered: the order of the rows is that of the source, and is searched too.
        most_pairs: largest number of pairs.
        most_triples: largest number of triples.
    """
    present = [code for code in classes.classes if (table["class"] == code).any()]
    label: Codes = np.array([present.index(code) for code in table["class"]], dtype=np.int64)
    names, columns = [MALIGNANT, *present], [[code in classes.malignant for code in present]]
    columns += [[other == code for other in present] for code in present]
    everything = Separation.of(label, np.array(columns, dtype=bool).T, table["cluster"].to_numpy(dtype=str), seed=seed)
    enough = everything.n_patients.min(axis=1) >= FEWEST_CLUSTERS
    if len(present) == 2:
        enough[1:] = enough[1:] & ~enough[0]  # two classes are one question
    lacking = [name for name, n in zip(names, everything.n_patients.min(axis=1), strict=True) if n < FEWEST_CLUSTERS]
    keep = np.flatnonzero(enough)
    targets = [names[i] for i in keep]
    folded = Separation(label, everything.targets[:, keep], everything.cluster, everything.fold)
    searched = dict.fromkeys(("pairs", "pairs_left_out", "triples", "triples_left_out"), 0)
    views = [view for name, kind in kinds.items() for view in views_of(table[name], kind)]
    views += views_of(pd.Series(np.arange(len(table)), name=ORDER), KEY) if ordered and len(table) else []
    searched |= {"columns": len(kinds), "ways": len(views), "targets": len(targets), "rows_of_pairs": 0}
    rows: list[dict[str, Any]] = []
    if targets and views:
        best, named = _alone(views, folded, targets, rows)
        _combined(views, folded, targets, best, named, rows, searched, seed=seed, most=(most_pairs, most_triples))
    frame = pd.DataFrame(rows, columns=list(ROWS.names))
    place = {verdict: i for i, verdict in enumerate(VERDICTS)}
    frame = frame.assign(
        _kind=[KINDS.index(kind) == 2 for kind in frame["kind"]], _verdict=frame["verdict"].map(place)
    ).sort_values(["_kind", "_verdict", "auroc"], ascending=[True, True, False], kind="stable")
    frame = frame.drop(columns=["_kind", "_verdict"]).reset_index(drop=True)
    return AttributeSearch(frame, searched, lacking, classes.malignant_set)


def _alone(
    views: Sequence[ColumnReading], folded: Separation, targets: Sequence[str], rows: list[dict[str, Any]]
) -> tuple[dict[str, Floats], set[tuple[str, int]]]:
    """The best AUROC of each column for each target, and which (column, target) are the label."""
    best: dict[str, Floats] = {}
    of_best: dict[tuple[str, int], ColumnReading] = {}
    pure: dict[tuple[str, int], tuple[float, ColumnReading]] = {}
    tried = max(len(views) * len(targets), 1)
    for view in views:
        (name,) = view.columns
        area = _scored(view, folded)
        before = best.get(name, np.zeros(len(targets)))
        of_best |= {(name, int(t)): view for t in np.flatnonzero(area > before)}
        best[name] = np.maximum(area, before)
        for i, share in _decided(view, folded, targets, tried):
            if share > pure.get((name, i), (0.0, view))[0]:
                pure[name, i] = share, view
    named = set()
    for (name, t), most_telling in of_best.items():
        view = most_telling
        p = float(np.minimum(folded.chance(best[name])[t] * tried, 1.0))
        if best[name][t] >= NEAR_PERFECT:
            verdict = LABEL if p < SIGNIFICANT else OPEN
            named.add((name, t))
        elif (name, t) in pure:
            verdict = PART
            view = pure[name, t][1]
        else:
            continue
        rows.append(_row(view, folded, t, targets[t], verdict, float(best[name][t]), p))
    return best, named


def _scored(view: ColumnReading, folded: Separation) -> Floats:
    """(T,) the AUROC of a view: of its levels, or of its numbers as they are."""
    if view.present is not None:
        return folded.of_presence(view.present)
    area = folded.of_levels(view.codes, view.levels)
    return area if view.ranked is None else np.maximum(area, folded.of_ranks(view.ranked))


def _decided(
    view: ColumnReading, folded: Separation, targets: Sequence[str], tried: int
) -> Iterator[tuple[int, float]]:
    """Targets for which one value is, but for a hundredth, on one side only; and the share of the side that it holds.

    Of a class only its own side counts: that a value is never of a rare class says little.
    """
    if not view.exact or view.present is not None or view.levels > _FEW:
        return
    n = np.bincount(view.codes, minlength=view.levels)
    for t, target in enumerate(targets):
        y = folded.positive[:, t]
        hits = np.bincount(view.codes, y, view.levels)
        for side, count in ((True, hits), (False, n - hits)) if target == MALIGNANT else ((True, hits),):
            total, base = count.sum(), count.sum() / len(y)
            pure = (count >= PURE * n) & (count >= max(LEAST_SHARE * total, FEWEST_PURE))
            for level in np.flatnonzero(pure[1:]) + 1:  # what is unknown is a cue of the shortcut audit
                mask = view.codes == level
                patients = len(np.unique(folded.cluster[mask]))
                if patients >= FEWEST_PURE and base**patients * tried * view.levels < SIGNIFICANT and base < PURE:
                    yield t, float((mask & (y == side)).sum() / total)


def _row(
    view: ColumnReading, folded: Separation, t: int, target: str, verdict: str, auroc: float, p: float
) -> dict[str, Any]:
    y = folded.positive[:, t]
    levels = None
    if view.names:
        n, hits = np.bincount(view.codes, minlength=view.levels), np.bincount(view.codes, y, view.levels)
        order = np.lexsort((-n, -hits / np.maximum(n, 1))).tolist()
        shown = [i for i in order if n[i] >= _NAMED]
        shown = shown if len(shown) <= _SHOWN else [*shown[: _SHOWN // 2], *shown[-_SHOWN // 2 :]]
        levels = json.dumps(
            [{"level": view.names[i], "n": int(n[i]), "positive": int(hits[i])} for i in shown], ensure_ascii=False
        )
    return {
        "columns": " and ".join(view.columns),
        "kind": view.kind,
        "how": view.how,
        "target": target,
        "verdict": verdict,
        "auroc": auroc,
        "p": p,
        "n": len(y),
        "n_positive": int(y.sum()),
        "n_patients": len(np.unique(folded.cluster)),
        "n_positive_patients": int(folded.n_patients[t, 0]),
        "levels": levels,
    }


# -------------------------------------------------------------------------------------------------- combinations
def _combined(
    views: Sequence[ColumnReading],
    folded: Separation,
    targets: Sequence[str],
    best: Mapping[str, Floats],
    named: set[tuple[str, int]],
    rows: list[dict[str, Any]],
    searched: dict[str, int],
    *,
    seed: int,
    most: tuple[int, int],
) -> None:
    """Pairs, triples of attributes with few values, and all attributes together; adds to ``rows`` and ``searched``."""
    most_pairs, most_triples = most
    chosen = _sampled(folded, seed)
    sample = folded.rows(chosen)
    coarse = [_coarse(view, chosen) for view in views if view.kind != KEY and view.how in _PAIRED]
    coarse = [view for view in coarse if view.levels > 1]
    of_attributes = [view for view in coarse if view.kind == ATTRIBUTE]
    of_features = [view for view in coarse if view.kind == FEATURE]
    pairs = [
        *itertools.combinations(of_attributes, 2),
        *itertools.product([view for view in of_attributes if view.how in _WHOLE], of_features),
        *itertools.combinations(of_features, 2),
    ]
    pairs = [pair for pair in pairs if pair[0].columns != pair[1].columns]
    searched["pairs"], searched["pairs_left_out"] = min(len(pairs), most_pairs), max(len(pairs) - most_pairs, 0)
    small = [view for view in of_attributes if view.how == VALUE and view.levels <= _PAIR_BINS + 1]
    triples = list(itertools.islice(itertools.combinations(small, 3), most_triples))
    of_triples = len(small) * (len(small) - 1) * (len(small) - 2) // 6
    searched["triples"], searched["triples_left_out"] = len(triples), of_triples - len(triples)
    searched["rows_of_pairs"] = len(chosen)
    combinations: list[tuple[ColumnReading, ...]] = [*pairs[:most_pairs], *triples]
    tried = max(len(combinations) * len(targets), 1)
    paired: dict[tuple[frozenset[str], int], tuple[float, ColumnReading]] = {}
    for parts in combinations:
        names = [name for part in parts for name in part.columns]
        alone = np.max([best[name] for name in names], axis=0)
        bar = np.maximum(NEAR_PERFECT, alone + (GAIN if len(parts) == 2 else GAIN_OF_THREE))
        if len(parts) == 2:
            bar = np.minimum(bar, np.maximum(SURE, alone + LITTLE_GAIN))
        bar[[t for t in range(len(targets)) if any((name, t) in named for name in names)]] = np.inf
        if (bar > 1).all():
            continue
        for view in _together(parts):
            area = _scored(view, sample)
            for t in map(int, np.flatnonzero(area >= bar)):
                key = frozenset(names), t
                if len(parts) > 2 and any(k[1] == t and k[0] < key[0] for k in paired):
                    continue  # a pair of the three already says it
                if area[t] > paired.get(key, (0.0, view))[0]:
                    paired[key] = float(area[t]), view
    for (_, t), (area_t, view) in sorted(paired.items(), key=lambda item: -item[1][0]):
        p = float(np.minimum(sample.chance(np.full(len(targets), area_t))[t] * tried, 1.0))
        if p < SIGNIFICANT:
            rows.append(_row(view, sample, t, targets[t], LABEL, area_t, p))
    single = [view for view in of_attributes if view.how == VALUE]
    # Of malignancy alone: a class is often figures by age, site and symptoms together, as it should be.
    if len(single) > 1 and MALIGNANT in targets and not any(row["kind"] == ATTRIBUTE for row in rows):
        t = targets.index(MALIGNANT)
        columns = np.hstack([(view.codes[:, None] == np.arange(1, view.levels)).astype(np.float64) for view in single])
        together = sample.of_columns(columns, t)
        p = float(sample.chance(np.full(len(targets), together))[t])
        if together >= NEAR_PERFECT and p < SIGNIFICANT:
            view = ColumnReading((EVERYTHING,), ATTRIBUTE, "together", np.zeros(len(chosen), np.int64))
            rows.append(_row(view, sample, t, MALIGNANT, LABEL, together, p))


_WHOLE = (VALUE, "date")
_PAIRED = (*_WHOLE, "case", "decimals", "unit", "last character", "weekday", "recorded")


def _sampled(folded: Separation, seed: int) -> npt.NDArray[np.int64]:
    """Rows that pairs are searched in: of each class about as many patients, at most ``MOST_PAIRED_ROWS`` rows."""
    if len(folded.label) <= MOST_PAIRED_ROWS:
        return np.arange(len(folded.label))
    rank = np.random.default_rng(seed).permutation(int(folded.cluster.max()) + 1)[folded.cluster]
    within = pd.Series(rank).groupby(folded.label).rank(method="dense").to_numpy()
    chosen = np.sort(np.argsort(within, kind="stable")[:MOST_PAIRED_ROWS])
    return chosen.astype(np.int64)


def _coarse(view: ColumnReading, chosen: npt.NDArray[np.int64]) -> ColumnReading:
    """A view with few levels, on the chosen rows."""
    ranked = None if view.ranked is None else view.ranked[chosen]
    if view.ranked is not None and view.how in _WHOLE:
        codes, names, exact = _binned(view.ranked, few=_COARSE, bins=_PAIR_BINS)
        return ColumnReading(view.columns, view.kind, view.how, codes[chosen], names, ranked, exact=exact)
    codes = np.minimum(view.codes[chosen], _COARSE)
    names = [*view.names[:_COARSE], "other"] if view.names else []
    return ColumnReading(view.columns, view.kind, view.how, codes, names, exact=view.exact)


def _together(parts: Sequence[ColumnReading]) -> Iterator[ColumnReading]:
    """The ways in which columns are read together."""
    columns = tuple(name for part in parts for name in part.columns)
    kind = KINDS[max(KINDS.index(part.kind) for part in parts)]
    codes, _ = joint([(part.codes, part.levels) for part in parts])
    how = "combination" if all(part.how == VALUE for part in parts) else " and ".join(part.how for part in parts)
    yield ColumnReading(columns, kind, how, codes)
    if len(parts) != 2 or kind != ATTRIBUTE or any(part.how not in _WHOLE for part in parts):
        return
    a, b = parts
    if a.ranked is not None and b.ranked is not None:
        with np.errstate(all="ignore"):
            numbers = {
                "difference": a.ranked - b.ranked,
                "sum": a.ranked + b.ranked,
                "product": a.ranked * b.ranked,
                "ratio": a.ranked / b.ranked,
            }
        for name, values in numbers.items():
            finite = np.where(np.isfinite(values), values, np.nan)
            if np.isfinite(finite).any():
                yield ColumnReading(columns, kind, name, _binned(finite)[0], ranked=finite)
    elif a.names and b.names:
        texts = [np.array(part.names, dtype=object)[part.codes] for part in parts]
        yield ColumnReading(columns, kind, "equality", (texts[0] == texts[1]).astype(np.int64), ["different", "equal"])


# --------------------------------------------------------------------------------------------- ways to read a column
def views_of(column: pd.Series, kind: str) -> list[ColumnReading]:
    """The ways in which a column is read; those that do not vary, or say the same as an earlier one, are left out."""
    name = str(column.name)
    texts = [_text(value) for value in column]
    known = np.array([text is not None for text in texts], dtype=bool)
    views: list[ColumnReading] = []
    seen: set[bytes] = set()

    def add(how: str, codes: Codes, names: Sequence[str] = (), **more: Any) -> None:
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        same = np.argsort(np.argsort(first))[inverse].astype(np.int32).tobytes()
        if len(first) > 1 and same not in seen:
            seen.add(same)
            views.append(ColumnReading((name,), kind, how, codes, names, **more))

    if not known.any():
        return []
    numbers, how_numeric = _numbers(texts, known)
    if numbers is not None:
        codes, names, exact = _binned(numbers)
        add(VALUE, codes, names, ranked=numbers, exact=exact)
    else:
        add(VALUE, *_levelled([None if text is None else text.casefold().strip() for text in texts]))
    if kind == FEATURE:
        return views
    distinct = {text for text in texts if text is not None}
    if numbers is not None and len(distinct) > _FEW:
        add("exact value", *_levelled(texts))
    if how_numeric == "unit":
        add("unit", *_levelled([None if text is None else re.sub(r"[\d.,+\-\s]", "", text) for text in texts]))
    if how_numeric:
        add("decimals", *_levelled([None if text is None else _decimals(text) for text in texts]))
        _add_remainders(add, numbers)
    else:
        add("case", *_levelled([None if text is None else _case(text) for text in texts]))
    if dates := _dates(texts, known):
        for part, values in dates.items():
            codes, names, exact = _binned(values)
            add(part, codes, names, ranked=values, exact=exact)
    add("shape", *_levelled([None if text is None else _shape(text) for text in texts], most=_FEW))
    length = np.array([np.nan if text is None else len(text) for text in texts], dtype=np.float64)
    codes, names, exact = _binned(length)
    add("length", codes, names, ranked=length, exact=exact)
    add("last character", *_levelled([None if text is None else text[-1:] for text in texts], most=_FEW))
    if len(distinct) > _COARSE:
        for size in (1, 2, 3):
            add(f"first {size} characters", *_levelled([None if t is None else t[:size].casefold() for t in texts]))
        for size in (2, 3):
            add(f"last {size} characters", *_levelled([None if t is None else t[-size:].casefold() for t in texts]))
        if numbers is None:
            order = np.array(pd.Series(texts, dtype=object).rank(method="dense"), dtype=np.float64)
            add("alphabetical order", _binned(order)[0], ranked=order, exact=False)
            inside = [re.findall(r"\d+", text or "") for text in texts]
            last = np.array([float(of[-1][:15]) if of else np.nan for of in inside])
            if np.isfinite(last).any():
                add("number in the text", _binned(last)[0], ranked=last, exact=False)
                _add_remainders(add, last)
    if numbers is None and any(len(_WORD.findall(text)) > 1 for text in distinct):
        present = _words(texts)
        if present.shape[1]:
            views.append(ColumnReading((name,), kind, "words", np.zeros(len(texts), np.int64), present=present))
    add("recorded", known.astype(np.int64), ["not known", "known"])
    return views


def _text(value: Any) -> str | None:
    """A value as it is written; None where it is unknown."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    if isinstance(value, (float, np.floating)):
        return repr(float(value)).removesuffix(".0")
    return str(value) or None


def _numbers(texts: Sequence[str | None], known: Bools) -> tuple[Floats | None, str]:
    """(n,) numbers, NaN where unknown, and ``plain`` or ``unit``; None where the column is not one of numbers."""
    out, plain = np.full(len(texts), np.nan), 0
    for i, text in enumerate(texts):
        if text is None:
            continue
        found = _NUMBER.match(text.strip())
        if found and (found.end() == len(text.strip()) or len(_NUMBER.findall(text)) == 1):
            out[i] = float(found.group().replace(",", "."))
            plain += found.end() == len(text.strip())
    n = int(np.isfinite(out).sum())
    if n < 0.9 * known.sum():
        return None, ""
    return out, "plain" if plain >= 0.9 * n else "unit"


def _dates(texts: Sequence[str | None], known: Bools) -> dict[str, Floats]:
    """Parts of dates, where the column is one of dates: part -> (n,)."""
    dated = [text is not None and _DATE.fullmatch(text.strip()) is not None for text in texts]
    if sum(dated) < 0.9 * known.sum():
        return {}
    chosen = pd.Series([text if of else None for text, of in zip(texts, dated, strict=True)], dtype=object)
    first = next(text for text, of in zip(texts, dated, strict=True) if of) or ""
    moment = pd.to_datetime(chosen, errors="coerce", format="mixed", dayfirst=not re.match(r"\d{4}", first), utc=True)
    parts = {
        "date": (moment - pd.Timestamp("1900-01-01", tz="UTC")).dt.days,
        "weekday": moment.dt.day_of_week,
        "month": moment.dt.month,
        "day of the month": moment.dt.day,
        "hour": moment.dt.hour,
        "minute": moment.dt.minute,
        "second": moment.dt.second,
    }
    numbers: dict[str, Floats] = {}
    for name, of in parts.items():
        if of.notna().any():
            numbers[name] = np.array(of, dtype=np.float64)
    return numbers


def _add_remainders(add: Any, numbers: Floats | None) -> None:
    if numbers is None:
        return
    known = numbers[np.isfinite(numbers)]
    if len(np.unique(known)) <= _COARSE or (known != np.round(known)).mean() > 0.1:
        return
    for m in _REMAINDERS:
        rest = np.nan_to_num(np.mod(np.round(numbers), m), nan=-1).astype(np.int64) + 1
        add(f"remainder of {m}", rest, ["not known", *map(str, range(m))])


def _decimals(text: str) -> str:
    """How many decimals a number is written with."""
    found = _NUMBER.match(text.strip())
    return str(len(re.split(r"[.,]", found.group())[1])) if found and re.search(r"[.,]", found.group()) else "0"


def _case(text: str) -> str:
    if text == text.casefold():
        return "lower case"
    if text == text.upper():
        return "upper case"
    return "capitalised" if text[1:] == text[1:].casefold() else "title case" if text.istitle() else "mixed case"


def _shape(text: str) -> str:
    """The text with every letter as A or a and every digit as 9, runs shortened, so that only its form is left."""
    form = "".join("9" if c.isdigit() else "A" if c.isupper() else "a" if c.isalpha() else c for c in text)
    return re.sub(r"(.)\1+", r"\1+", form)


def _words(texts: Sequence[str | None]) -> npt.NDArray[np.float32]:
    """(n, words) which of the most frequent words, and pairs of neighbouring ones, each text has."""
    of_rows = []
    for text in texts:
        words = _WORD.findall((text or "").casefold())
        of_rows.append({*words, *(" ".join(two) for two in itertools.pairwise(words))})
    counts = Counter(word for row in of_rows for word in row)
    chosen = [word for word, n in counts.most_common(_WORDS) if 2 <= n < len(texts)]
    place = {word: i for i, word in enumerate(chosen)}
    present = np.zeros((len(texts), len(chosen)), dtype=np.float32)
    for i, row in enumerate(of_rows):
        present[i, [place[word] for word in row if word in place]] = 1
    return present


def _levelled(texts: Sequence[str | None], most: int = _LEVELS) -> tuple[Codes, list[str]]:
    """Codes of texts, the most frequent first, and their names; 0 is unknown, what is rarer than ``most`` is one."""
    counts = Counter(text for text in texts if text is not None)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]
    place = {name: i for i, name in enumerate(names, 1)}
    codes = [0 if text is None else place.get(text, len(names) + 1) for text in texts]
    return np.array(codes, dtype=np.int64), ["not known", *names, "other"]


def _binned(numbers: Floats, *, few: int = _FEW, bins: int = _BINS) -> tuple[Codes, list[str], bool]:
    """Codes of numbers, their names, and whether levels are values: where these are few, else equal parts; 0: unknown.

    Equal parts have at least 20 cases, so that a fold can learn them.
    """
    known = np.isfinite(numbers)
    values = np.unique(numbers[known])
    if len(values) <= few:
        codes = np.where(known, np.searchsorted(values, np.where(known, numbers, 0)) + 1, 0)
        return codes.astype(np.int64), ["not known", *(f"{value:g}" for value in values)], True
    parts = int(np.clip(known.sum() // 20, 4, bins))
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, parts + 1)[1:-1]))
    codes = np.where(known, np.searchsorted(edges, np.where(known, numbers, 0)) + 1, 0)
    ends = [f"up to {edges[0]:.4g}", *(f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(edges))]
    return codes.astype(np.int64), ["not known", *ends, f"above {edges[-1]:.4g}"], False


# ------------------------------------------------------------------------------------------------------ words
_HOW = {VALUE: "its value", "words": "its words", "combination": "their values", "together": "all of them together"}


def _sentence(rows: pd.DataFrame) -> str:
    """What is known about one column or combination, over its targets, and what to do."""
    first = rows.iloc[0]
    name, kind = str(first["columns"]), str(first["kind"])
    shown = {ORDER: f"the {ORDER}", EVERYTHING: f"what {EVERYTHING} hold"}.get(name) or " and ".join(
        f"`{n}`" for n in name.split(" and ")
    )
    how = _HOW.get(str(first["how"]), str(first["how"]))
    figures = "; ".join(
        f"{row['target']} AUROC {row['auroc']:.3f} ({row['n_positive']} of {row['n']} cases, "
        f"{row['n_positive_patients']} of {row['n_patients']} patients)"
        for row in rows.head(3).to_dict("records")
    )
    more = f" and {len(rows) - 3} more classes" if len(rows) > 3 else ""
    alone = "alone" if " and " not in name else "together"
    text = {
        LABEL: f"{shown} {alone} nearly says the label, by {how}: {figures}{more}, out of fold",
        OPEN: f"{shown} {alone} says the label of these cases, by {how}: {figures}{more}, out of fold; with so few "
        "patients and so much tried that may be chance",
        PART: f"one value of {shown} decides, by {how}: {_pure(first.to_dict())}; {figures}",
    }[str(first["verdict"])]
    return f"{text}. {advice_on(name.split(' and '), kind)}"


def _pure(row: Mapping[Any, Any]) -> str:
    levels = json.loads(row["levels"]) if isinstance(row["levels"], str) else []
    one_sided = [of for of in levels if not PURE * of["n"] > of["positive"] > (1 - PURE) * of["n"]]
    largest = max(one_sided, key=lambda of: int(of["n"]), default=None)
    if largest is None:
        return str(row["target"])
    return f"{largest['level']} is {row['target']} in {largest['positive']} of {largest['n']} cases"


def advice_on(names: Sequence[str], kind: str) -> str:
    """What to do about columns that are nearly the label."""
    if kind == KEY:
        return (
            "No model reads it, but the cases were named or sorted by class: they may also differ in date, device or "
            "source."
        )
    if kind == FEATURE:
        return (
            "Measured from the photo, so it may be legitimate (a class that is defined by its colour); look whether "
            "photos or masks of the class were made differently. 'train --radiomics none' leaves the features out."
        )
    reading = [
        encoder
        for encoder, of in ENCODERS.items()
        if encoder not in LEAKY and not {attribute.name for attribute in of}.intersection(names)
    ]
    encoders = f"'train --attributes {' or '.join(reading)}'"
    known = any(name in {attribute.name for of in ENCODERS.values() for attribute in of} for name in names)
    leave = f"{encoders} leaves it out" if known else "no encoder of this toolkit reads it; leave it out elsewhere too"
    return f"Unless it is known before the diagnosis and will be at the clinic, leave it out: {leave}."
