"""The shortcut audit: how well cues other than the lesion separate malignant from benign.

A model can score well by reading how a case was recorded. In PAD-UFES-20 no carcinoma lacks the questionnaire, so the
presence of ``gender`` alone reaches an AUROC of 0.83 (0.75 where actinic keratosis counts as malignant). Each *cue* is
scored alone, with an interval over patients:

* a flag or a number is used as a score (the AUROC is oriented to lie above 0.5, and its direction is reported);
* a category, and all cues of a family together, are fitted out of fold, with patients kept together.

Families: ``missing`` (values absent from a case), ``file`` (size, format, JPEG quality, EXIF, dark borders), ``origin``
(cohort, centre, device, kind of photo) and ``confirmation`` (how the diagnosis was confirmed: no model reads it, but it
shows that malignant and benign cases were collected differently). A cue is *strong* from an AUROC of 0.70 and *some*
from 0.55, both only where Holm's correction over all cues leaves p below 0.05; where the interval reaches beyond 0.65
it is *open*, else *none*.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tables import cell_text, write_table
from skinkit.audit import file_cues
from skinkit.schemas import PAD_ATTRIBUTES, PREDICTIONS, Column, Schema
from skinkit.stats.cross_fit import Area, area_within, areas, fold_of, holm, out_of_fold
from skinkit.stats.metrics import SIGNIFICANT, Bools, Floats
from skinkit.stats.notes import INSUFFICIENT, MINIMUM_PATIENTS, TOO_FEW, TOO_FEW_PATIENTS, UNDEFINED, words_of
from skinkit.taxonomy import ClassSet

MISSING, FILE, ORIGIN, CONFIRMATION = FAMILIES = ("missing", "file", "origin", "confirmation")
TOGETHER = "together"
"""Name of the cue that combines all cues of a family."""
EVERYTHING = "everything"
"""The family of the cue that combines all families but the confirmation."""

STRONG, SOME, OPEN = 0.70, 0.55, 0.65
WITHOUT_AUROC = (TOO_FEW, TOO_FEW_PATIENTS, UNDEFINED, INSUFFICIENT)
"""Verdicts on a cue without an AUROC; the last is that of older versions."""
MINIMUM = 5
ATTRIBUTES = ("age_years", "sex", "site", *(column.name for column in PAD_ATTRIBUTES))
PATIENT_BLOCK = (
    "smoke", "drink", "background_father", "background_mother", "pesticide", "sex", "gender", "skin_cancer_history",
    "cancer_history", "has_piped_water", "has_sewage_system", "fitzpatrick", "fitspatrick", "diameter_1_mm",
    "diameter_2_mm", "diameter_1", "diameter_2",
)  # fmt: skip
"""Attributes that PAD-UFES-20 records almost only for patients with a biopsied lesion."""
ORIGINS = ("cohort", "centre", "center", "hospital", "device", "modality")
CONFIRMATIONS = ("confirmed_by", "biopsed", "biopsied")
UNSURE = "UNK"
"""Value of an attribute that the patient was asked about but did not know."""
_NO_ATTRIBUTE = frozenset({
    *PREDICTIONS.names, "img_id", "image", "image_path", "image_sha256", "pixel_sha256", "dhash", "class", "cluster",
    "several", "diagnosis", "diagnosis_source", "raw_malignancy", "split", "part",
})  # fmt: skip
_LEVELS = 30
_BINS = 5

SHORTCUTS = Schema(
    "shortcuts",
    1,
    ("family", "cue"),
    tuple(
        Column(*column)
        for column in (
            ("family", "string", "missing, file, origin, confirmation, or everything"),
            ("cue", "string", "the cue; together for all cues of the family"),
            ("kind", "string", "flag, number, category or model (several cues)"),
            ("how", "string", "ranked: used as a score; out_of_fold: fitted with patients kept together"),
            ("direction", "string", "value that goes with malignant: known, unknown, high, low, yes, no; null: learnt"),
            ("same_as", "string", "the first cue with identical values in every case; null for that cue itself"),
            ("auroc", "float", "AUROC for malignancy of the cue alone, oriented to lie above 0.5"),
            ("lower", "float", "lower end of the 95 % interval over patients"),
            ("upper", "float", "upper end of the 95 % interval"),
            ("p_holm", "float", "p of AUROC 0.5 after Holm's correction over all cues"),
            ("verdict", "string", "strong, some, open (cannot be ruled out), none, too_few or undefined"),
            ("n", "int", "cases where the cue is known"),
            ("n_positive", "int", "malignant ones among them"),
            ("n_clusters", "int", "patients among them"),
            ("malignant_set", "string", "which diagnoses count as malignant"),
            ("model_auroc", "float", "AUROC of the model over pairs of cases for which the cue is the same"),
            ("model_lower", "float", "lower end of its 95 % interval"),
            ("model_upper", "float", "upper end of its 95 % interval"),
            ("levels", "string", "JSON list of {level, n, malignant} of flags and categories"),
        )
    ),
)
"""``shortcuts.parquet`` beside metrics, and what ``skinkit audit`` writes."""


@dataclass(frozen=True)
class Cue:
    """A property of a case other than the lesion.

    Attributes:
        family: one of :data:`FAMILIES`.
        name: column, or the name of a value derived from columns.
        kind: ``flag`` (1, 0), ``number`` or ``category``.
        values: (n,) numbers with NaN, or text with None.
    """

    family: str
    name: str
    kind: str
    values: npt.NDArray[Any]

    @property
    def recorded(self) -> Bools:
        """(n,) rows that have a value; of a category every row has one."""
        return ~np.isnan(self.values.astype(np.float64)) if self.kind != "category" else np.ones(len(self.values), bool)

    @property
    def levels(self) -> npt.NDArray[np.int64]:
        """(n,) a number per level: flag, category, or fifth of the numbers; unknown ones are a level of their own."""
        if self.kind == "number":
            recorded = self.recorded
            edges = np.quantile(self.values[recorded].astype(float), np.linspace(0, 1, _BINS + 1)[1:-1])
            return np.where(
                recorded, np.searchsorted(np.unique(edges), np.nan_to_num(self.values.astype(float))), _BINS
            )
        values = [cell_text(value) for value in self.values]
        frequent = [name for name, _ in _tally(values)[: _LEVELS - 1]]
        place = {name: i for i, name in enumerate(frequent)}
        return np.array([place.get(value, len(frequent)) for value in values], dtype=np.int64)

    @property
    def columns(self) -> Floats:
        """(n, levels) one column a level, for the regression."""
        levels = self.levels
        columns: Floats = (levels[:, None] == np.unique(levels)[None, 1:]).astype(np.float64)
        return columns


def _tally(values: Sequence[str]) -> list[tuple[str, int]]:
    names, counts = np.unique(np.array(values, dtype=object).astype(str), return_counts=True)
    return sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda entry: (-entry[1], entry[0]))


# ------------------------------------------------------------------------------------------------------- cues


def cues_of(table: pd.DataFrame, attributes: Sequence[str] | None = None) -> list[Cue]:
    """Every possible shortcut in a table; constant columns are left out.

    Args:
        table: one row per image.
        attributes: columns whose missing values are audited; by default those of the case table that exist.
    """
    chosen = [name for name in (ATTRIBUTES if attributes is None else attributes) if name in table]
    cues = [*_missing(table, chosen)]
    numbers = [name for name in file_cues.NUMBERS if name in table]
    cues += [
        Cue(FILE, name, "number", pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan))
        for name in numbers
    ]
    for family, names in ((FILE, file_cues.CATEGORIES), (ORIGIN, ORIGINS), (CONFIRMATION, CONFIRMATIONS)):
        cues += [
            Cue(family, n, "category", np.array([cell_text(v) for v in table[n]], dtype=object))
            for n in names
            if n in table
        ]
    return [cue for cue in cues if _varies(cue)]


def attributes_of(table: pd.DataFrame, *beside: str) -> list[str]:
    """Columns of an outside table whose missing values may be a cue: all but keys, predictions and the other families.

    Args:
        table: one row per image.
        beside: further columns to leave out, such as the truth.
    """
    other = {*_NO_ATTRIBUTE, *beside, *ORIGINS, *CONFIRMATIONS, *file_cues.NUMBERS, *file_cues.CATEGORIES}
    return [str(name) for name in table.columns if str(name) not in other and not str(name).startswith("p__")]


def _varies(cue: Cue) -> bool:
    values = cue.values if cue.kind == "category" else cue.values[cue.recorded]
    return len(set(values.tolist())) > 1


def _missing(table: pd.DataFrame, names: Sequence[str]) -> Iterator[Cue]:
    recorded = {name: np.array([cell_text(value) != "" for value in table[name]]) for name in names}
    for name, here in recorded.items():
        yield Cue(MISSING, name, "flag", here.astype(float))
        unsure = np.array([cell_text(value) == UNSURE for value in table[name]])
        if MINIMUM <= unsure.sum() <= len(unsure) - MINIMUM:
            yield Cue(MISSING, f"{name}={UNSURE}", "flag", unsure.astype(float))
    block = [here for name, here in recorded.items() if name in PATIENT_BLOCK and here.any()]
    if len(block) > 1:
        yield Cue(MISSING, "patient_block", "flag", np.any(block, axis=0).astype(float))
    if len(recorded) > 1:
        yield Cue(MISSING, "n_absent", "number", np.sum([~here for here in recorded.values()], axis=0).astype(float))


# ------------------------------------------------------------------------------------------------------ audit


@dataclass(frozen=True)
class Setting:
    """Settings of the audit.

    Attributes:
        malignant_set: name of the malignant set, always reported.
        seed: of folds and of the groups of many patients.
        minimum: fewest rows of either level of a flag.
    """

    malignant_set: str
    seed: int = 0
    minimum: int = MINIMUM


def audit(
    cues: Sequence[Cue],
    malignant: Bools,
    cluster: npt.NDArray[np.str_],
    setting: Setting,
    *,
    model_score: Floats | None = None,
) -> pd.DataFrame:
    """AUROC for malignancy of each cue, each family and all cues together, in descending order.

    Args:
        cues: of :func:`cues_of`.
        malignant: (n,).
        cluster: (n,) patient of each row.
        setting: settings of the audit.
        model_score: (n,) a model's malignancy; adds its AUROC with each cue held constant.

    Returns:
        Rows of :data:`SHORTCUTS`.
    """
    fold = fold_of(malignant, cluster, seed=setting.seed)
    scored = [_scored(cue, malignant, fold, setting) for cue in cues]
    for family in FAMILIES:
        own = [cue for cue in cues if cue.family == family]
        if len(own) > 1:
            scored.append(_together(family, own, malignant, fold))
    own = [cue for cue in cues if cue.family != CONFIRMATION]
    if len({cue.family for cue in own}) > 1:
        scored.append(_together(EVERYTHING, own, malignant, fold))
    if not scored:
        return pd.DataFrame(columns=list(SHORTCUTS.names))
    measured = areas([score for score, _ in scored], malignant, cluster, seed=setting.seed)
    corrected = holm([area.p for area in measured])
    rows = []
    first: dict[bytes, str] = {}
    for (score, row), area, p in zip(scored, measured, corrected, strict=True):
        cue = row.pop("of")
        alike = first.setdefault(score.tobytes(), str(row["cue"]))
        turned = area.oriented
        direction = row.pop("direction")
        if direction and area.auroc < 0.5:
            direction = {"known": "unknown", "high": "low", "yes": "no"}[direction]
        rows.append(
            {
                **row,
                "direction": direction or None,
                "same_as": alike if alike != row["cue"] and not np.isnan(area.auroc) else None,
                "auroc": turned.auroc,
                "lower": turned.lower,
                "upper": turned.upper,
                "p_holm": float(p),
                **{name: getattr(area, name) for name in ("n", "n_positive", "n_clusters")},
                "verdict": _verdict(turned, float(p), malignant),
                "malignant_set": setting.malignant_set,
                **_held_constant(cue, model_score, malignant, cluster, setting.seed),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.sort_values("auroc", ascending=False, kind="stable", na_position="last").reset_index(drop=True)


def _scored(cue: Cue, malignant: Bools, fold: npt.NDArray[np.int64], setting: Setting) -> tuple[Floats, dict[str, Any]]:
    row = {"family": cue.family, "cue": cue.name, "kind": cue.kind, "of": cue, "levels": _levels(cue, malignant)}
    if cue.kind == "category":
        score = out_of_fold(cue.columns, malignant, fold)
        return score, {**row, "how": "out_of_fold", "direction": ""}
    score = cue.values.astype(np.float64)
    if cue.kind == "flag":
        values = score[~np.isnan(score)]
        if min(values.sum(), len(values) - values.sum()) < setting.minimum:
            score = np.full(len(score), np.nan)
        direction = "yes" if cue.name.endswith(f"={UNSURE}") else "known"
        return score, {**row, "how": "ranked", "direction": direction}
    return score, {**row, "how": "ranked", "direction": "high"}


def _together(
    family: str, cues: Sequence[Cue], malignant: Bools, fold: npt.NDArray[np.int64]
) -> tuple[Floats, dict[str, Any]]:
    score = out_of_fold(np.hstack([cue.columns for cue in cues]), malignant, fold)
    row = {"family": family, "cue": TOGETHER, "kind": "model", "of": None, "levels": None}
    return score, {**row, "how": "out_of_fold", "direction": ""}


def _levels(cue: Cue, malignant: Bools) -> str | None:
    """Cases and malignant cases of every level of a flag or category, as JSON; levels of few cases are joined."""
    if cue.kind == "number":
        return None
    names = [cell_text(value) for value in cue.values]
    if cue.kind == "flag":
        names = ["1" if value == 1 else "0" for value in cue.values]
    kept = {name for name, n in _tally(names)[:_LEVELS] if n >= MINIMUM}
    levels = [name if name in kept else "other" for name in names]
    rows = [
        {"level": name, "n": n, "malignant": int(malignant[[t == name for t in levels]].sum())}
        for name, n in _tally(levels)
    ]
    return json.dumps(rows, ensure_ascii=False)


def _held_constant(
    cue: Cue | None, score: Floats | None, malignant: Bools, cluster: npt.NDArray[np.str_], seed: int
) -> dict[str, float | None]:
    """The model's AUROC over pairs of cases with the same value of the cue."""
    if cue is None or score is None:
        return dict.fromkeys(("model_auroc", "model_lower", "model_upper"))
    area_with_interval = area_within(score, malignant, cue.levels, cluster, seed=seed)
    return dict(zip(("model_auroc", "model_lower", "model_upper"), area_with_interval, strict=True))


def _verdict(area: Area, p: float, malignant: Bools) -> str:
    if np.isnan(area.auroc):
        return TOO_FEW if malignant.any() and not malignant.all() else UNDEFINED
    if area.n_rarer < MINIMUM_PATIENTS:
        return TOO_FEW_PATIENTS
    if p < SIGNIFICANT and area.auroc >= SOME:
        return "strong" if area.auroc >= STRONG else "some"
    return "open" if np.isnan(area.upper) or area.upper >= OPEN else "none"


@dataclass(frozen=True)
class Audit:
    """An audit of scored cases, ready to write.

    Attributes:
        rows: of :func:`audit`.
        malignant_set: its name.
    """

    rows: pd.DataFrame
    malignant_set: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return as_dict(self.rows, self.malignant_set)

    def write(self, folder: Path | None) -> dict[str, Any]:
        """Write the files, if there is a folder; returns ``shortcuts`` for the manifest."""
        if folder is not None:
            write(folder, self.rows, self.malignant_set)
        verdict = overall(self.rows, self.malignant_set)
        return {"shortcuts": {"malignant_set": self.malignant_set, "verdict": verdict, **found_among(self.rows)}}


def audited(table: pd.DataFrame, cues: Sequence[Cue], classes: ClassSet, *, seed: int = 0) -> Audit:
    """The audit of scored cases together with their model's malignancy.

    Args:
        table: one row per case with ``class``, ``group_id`` and ``malignancy``.
        cues: of :func:`cues_of`.
        classes: which classes are malignant.
        seed: of folds and of the groups of many patients.
    """
    rows = audit(
        cues,
        np.array([code in classes.malignant for code in table["class"]], dtype=bool),
        table["group_id"].to_numpy(dtype=str),
        Setting(classes.malignant_set, seed=seed),
        model_score=table["malignancy"].to_numpy(dtype=np.float64),
    )
    return Audit(rows, classes.malignant_set)


# ------------------------------------------------------------------------------------------------------ words


def sentence(row: Mapping[Any, Any]) -> str:
    """One row in plain English."""
    ends = "" if pd.isna(row["lower"]) else f" (95 % interval {row['lower']:.2f} to {row['upper']:.2f})"
    if row["verdict"] in WITHOUT_AUROC:
        return f"{_subject(row)}: {words_of(row['verdict'])}: nothing can be said."
    text = f"Who looks only at {_subject(row)} scores AUROC {row['auroc']:.2f}{ends} for malignancy"
    if row["verdict"] in ("strong", "some") and row["family"] == CONFIRMATION:
        return f"{text}: malignant and benign cases were not confirmed the same way, nor are they equally sure."
    if row["verdict"] in ("strong", "some"):
        left = row.get("model_auroc")
        within = "" if left is None or pd.isna(left) else f"; with it held constant the model's AUROC is {left:.2f}"
        return f"{text}; the model may do the same{within}."
    if row["verdict"] == "open":
        return f"{text}: too few cases to rule a shortcut out."
    return f"{text}: no shortcut seen."


def _subject(row: Mapping[Any, Any]) -> str:
    name = str(row["cue"])
    if name == TOGETHER:
        of = {
            MISSING: "what is missing, all of it together",
            FILE: "properties of the file, all together",
            ORIGIN: "where the photo came from, all of it together",
            CONFIRMATION: "how the diagnosis was confirmed",
        }
        return of.get(str(row["family"]), "all of this together, never at a lesion,")
    if name == "n_absent":
        return "how many attributes are missing"
    if name == "patient_block":
        return "whether the patient's questionnaire is there"
    if name.endswith(f"={UNSURE}"):
        return f"whether `{name.partition('=')[0]}` was answered with 'not known'"
    return f"whether `{name}` is known" if row["family"] == MISSING else f"`{name}`"


def found_among(rows: pd.DataFrame) -> dict[str, Any]:
    """For a manifest: the malignant set and which cues are strong, some or open."""
    cues = rows[(rows["cue"] != TOGETHER) & (rows["family"] != CONFIRMATION)]
    return {verdict: cues.loc[cues["verdict"] == verdict, "cue"].tolist() for verdict in ("strong", "some", "open")}


def overall(rows: pd.DataFrame, malignant_set: str) -> str:
    """The verdict over all cues, naming the malignant set."""
    cues = rows[(rows["cue"] != TOGETHER) & (rows["family"] != CONFIRMATION)]
    strong, some = (cues[cues["verdict"] == verdict] for verdict in ("strong", "some"))
    counted = f"Malignant means the set '{malignant_set}'. "
    if not len(rows):
        return counted + "Nothing but the lesion differs between these cases: no shortcut can be looked for."
    telling = list(strong["cue"]) + list(some["cue"])
    if not telling:
        unsure = int((cues["verdict"] == "open").sum())
        more = f" {unsure} of them could not be ruled out with so few cases." if unsure else ""
        return f"{counted}No shortcut was found among {len(cues)} cues.{more}"
    best = cues.iloc[0].to_dict()
    text = f"{len(telling)} of {len(cues)} cues tell malignancy without the lesion, {len(strong)} of them strongly. "
    return counted + text + sentence(best)


def bar_chart(rows: pd.DataFrame, *, most: int = 24, into: tuple[Path, str] | None = None) -> str:
    """Bars with intervals in descending order, as SVG; cues with identical values share a bar.

    If ``into`` names a folder and a stem, SVG and PNG files are also written.
    """
    from skinkit.figures import curves

    top = rows[rows["auroc"].notna() & rows["same_as"].isna()].head(most)
    paint = {"strong": "alarm", "some": "notice"}
    bars = [
        {
            "label": f"{row['family']}: {str(row['cue']).replace('_', ' ')}{_and_more(rows, row)}",
            **{name: row[name] for name in ("lower", "upper")},
            "estimate": row["auroc"],
            "tone": paint.get(str(row["verdict"]), "plain"),
        }
        for row in top.to_dict("records")
    ]
    return curves.interval_bars(
        bars, start=0.5, x_label="AUROC for malignancy without looking at the lesion", limits=(0.45, 1.0), into=into
    )


def _and_more(rows: pd.DataFrame, row: Mapping[Any, Any]) -> str:
    n = int(((rows["same_as"] == row["cue"]) & (rows["family"] == row["family"])).sum())
    return f" and {n} alike" if n else ""


def as_dict(rows: pd.DataFrame, malignant_set: str) -> dict[str, Any]:
    """Plain values: the verdict in words and every row."""
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    cues = [
        {**row, "levels": json.loads(row["levels"]) if row["levels"] else None, "sentence": sentence(row)}
        for row in records
    ]
    return {"malignant_set": malignant_set, "verdict": overall(rows, malignant_set), "cues": cues}


def write(folder: Path, rows: pd.DataFrame, malignant_set: str) -> None:
    """Write ``shortcuts.parquet``, ``shortcuts.json`` and ``figures/shortcuts.svg``."""
    write_table(folder / "shortcuts.parquet", SHORTCUTS, rows)
    text = json.dumps(as_dict(rows, malignant_set), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomic(folder / "shortcuts.json", text.encode())
    if rows["auroc"].notna().any():
        write_atomic(folder / "figures" / "shortcuts.svg", bar_chart(rows).encode())
