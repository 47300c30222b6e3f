"""Predictions with their truth -> the metrics table, curves, figures and the headline figures in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifact import write_atomic, write_table
from skinkit.metrics import ALL, MALIGNANT, Bools, Scored, confusion_matrix, measure, pr_curve, roc_curve
from skinkit.schemas import PROBABILITY, Schema
from skinkit.taxonomy import ClassSet

IMAGE = "image"
LEVELS = (IMAGE, "lesion", "patient")
TRUTH = "class"
SCORED = Schema("scored", 1, ("level", "case_id"), ())
AGE_BANDS = ((0, 40, "<40"), (40, 60, "40-59"), (60, 200, "60+"))
SUBGROUPS = ("sex", "age_band", "site", "modality", "confirmed_by")
ALWAYS = "confirmed_by=histopathology"
"""The subgroup that is given even without the others: a biopsy is a better truth than the eye."""

HEADLINE = {
    "balanced_accuracy": (ALL, "argmax", "balanced_accuracy", "macro", "balanced accuracy"),
    "accuracy": (ALL, "argmax", "accuracy", "none", "accuracy"),
    "macro_auroc": (ALL, "none", "auroc", "macro", "AUROC, macro"),
    "macro_f1": (ALL, "argmax", "f1", "macro", "F1, macro"),
    "log_loss": (ALL, "none", "log_loss", "none", "log loss"),
    "brier": (ALL, "none", "brier", "none", "Brier score (0 to 2)"),
    "ece": (ALL, "none", "ece", "none", "calibration error (ECE)"),
}
"""Name -> class, rule, metric, average and words."""
HEADLINE_MALIGNANT = {
    "malignant_auroc": (MALIGNANT, "none", "auroc", "none", "malignant: AUROC"),
    "malignant_average_precision": (MALIGNANT, "none", "average_precision", "none", "malignant: average precision"),
    "malignant_sensitivity": (MALIGNANT, "veto", "sensitivity", "none", "malignant: sensitivity, veto"),
    "malignant_specificity": (MALIGNANT, "veto", "specificity", "none", "malignant: specificity, veto"),
    "malignant_ppv": (MALIGNANT, "veto", "ppv", "none", "malignant: positive predictive value, veto"),
    "malignant_npv": (MALIGNANT, "veto", "npv", "none", "malignant: negative predictive value, veto"),
    "malignant_brier": (MALIGNANT, "none", "brier", "none", "malignant: Brier score (0 to 1)"),
}


@dataclass(frozen=True)
class Settings:
    """How intervals are made, and what is small.

    Attributes:
        bootstrap: replicates.
        seed: of the bootstrap.
        minimum: fewest cases a class metric may divide by.
        subgroups: whether all subgroups are scored, or only the biopsied.
    """

    bootstrap: int
    seed: int
    minimum: int
    subgroups: bool


@dataclass(frozen=True)
class Evaluation:
    """Predictions with their truth, ready to be scored.

    Attributes:
        table: level, case_id, group_id, class (the truth), several, probabilities, malignancy, threshold, call, and
            columns of subgroups. ``several`` marks a lesion or patient with cases of more than one class: it tells
            malignant from benign and nothing else.
        classes: the model's classes.
        thresholds: class -> (threshold of every row or one for all, source).
        malignant_set: name of the malignant set; empty where none is known.
        veto_source: where the malignancy threshold came from.
    """

    table: pd.DataFrame
    classes: ClassSet
    thresholds: Mapping[str, tuple[Any, str]]
    malignant_set: str
    veto_source: str = "model"

    @property
    def images(self) -> Bools:
        """Rows of level image: (n,)."""
        return np.asarray(self.table["level"] == IMAGE, dtype=bool)

    @property
    def scored(self) -> Scored:
        """All rows of all levels as arrays."""
        table, names = self.table, self.classes.classes
        veto = sorted({float(t) for t in table["threshold"].dropna()})
        known = bool(self.malignant_set)
        return Scored(
            classes=names,
            truth=np.array([names.index(name) for name in table[TRUTH]], dtype=np.int64),
            probability=table[[f"{PROBABILITY}{name}" for name in names]].to_numpy(dtype=np.float64),
            cluster=table["group_id"].to_numpy(dtype=str),
            malignant=np.array([name in self.classes.malignant for name in names]) if known else None,
            malignancy=table["malignancy"].to_numpy(dtype=np.float64) if known else None,
            called=np.asarray(table["call"] == MALIGNANT, dtype=bool) if known else None,
            veto=veto[0] if len(veto) == 1 else float("nan"),
            veto_source=self.veto_source if veto else None,
            thresholds=self.thresholds,
        )

    def rows(self, settings: Settings, *, cohort: str, model: str) -> pd.DataFrame:
        """The metrics table."""
        scored, several = self.scored, np.asarray(self.table["several"], dtype=bool)
        rows: list[dict[str, Any]] = []
        for subgroup, chosen in self.subgroups(every=settings.subgroups):
            whole = _measured(scored.take(chosen), settings)
            if several[chosen].any():
                single = _measured(scored.take(chosen & ~several), settings)
                whole = [r for r in whole if r["class"] == MALIGNANT] + [r for r in single if r["class"] != MALIGNANT]
            rows += [{"subgroup": subgroup, **row} for row in whole]
        frame = pd.DataFrame(rows).assign(cohort=cohort, model=model)
        return frame.astype({"class": object, "note": object, "threshold_source": object})

    def subgroups(self, *, every: bool) -> Iterator[tuple[str, Bools]]:
        """Name and rows of everything that is scored: all images, lesions, patients, then subgroups of the images."""
        yield "all", self.images
        for level in LEVELS[1:]:
            rows = np.asarray(self.table["level"] == level, dtype=bool)
            if rows.any():
                yield f"level={level}", rows
        table = self.table
        if "age_years" in table:
            table = table.assign(age_band=pd.Series([_age_band(a) for a in table["age_years"]], table.index, object))
        for column in SUBGROUPS:
            if column not in table:
                continue
            values = np.array([_named(value) for value in table[column]], dtype=object)
            present = sorted(set(values[self.images]))
            for value in present:
                # A column that says the same, or nothing, of everybody makes no subgroup.
                if f"{column}={value}" == ALWAYS or (every and len(present) > 1):
                    yield f"{column}={value}", self.images & (values == value)

    def write(self, folder: Path, rows: pd.DataFrame) -> None:
        """Write ``figures/{roc,pr,confusion}.svg``, ``curves.json`` and ``scored.parquet``."""
        from skinkit import figures

        drawn = self.curves(rows)
        labels = {**self.classes.labels, MALIGNANT: f"malignant (set: {self.malignant_set})"}
        names = list(self.classes.classes)
        pictures = {
            "roc": figures.roc(drawn["roc"], labels=labels),
            "pr": figures.pr(drawn["pr"], labels=labels),
            "confusion": figures.confusion(drawn["confusion"], names, labels=self.classes.labels),
        }
        for name, svg in pictures.items():
            write_atomic(folder / "figures" / f"{name}.svg", svg.encode())
        text = json.dumps({"classes": names, "labels": labels, **drawn}, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / "curves.json", text.encode())
        write_table(folder / "scored.parquet", SCORED, self.table.drop(columns=["fingerprint"], errors="ignore"))

    def curves(self, rows: pd.DataFrame) -> dict[str, Any]:
        """ROC and precision-recall curves of every class that has both sides, and the confusion matrix; of images.

        ``point`` is (1 - specificity, sensitivity) at the threshold in use.
        """
        scored, answers = self.scored.take(self.images), Answers(rows)
        sides = {name: (scored.probability[:, i], scored.truth == i) for i, name in enumerate(scored.classes)}
        if scored.malignancy is not None:
            sides[MALIGNANT] = (scored.malignancy, scored.is_malignant)
        roc: dict[str, Any] = {}
        pr: dict[str, Any] = {}
        for name, (score, positive) in sides.items():
            if not positive.any() or positive.all():
                continue
            rule = "veto" if name == MALIGNANT and scored.malignancy is not None else "frozen_threshold"
            specificity, sensitivity = (answers.estimate(name, rule, m) for m in ("specificity", "sensitivity"))
            point = None if specificity is None or sensitivity is None else [1 - specificity, sensitivity]
            area, precision = (answers.get(name, "none", metric) for metric in ("auroc", "average_precision"))
            roc[name] = {**roc_curve(score, positive), "auroc": area["estimate"], **_ends(area), "point": point}
            pr[name] = {
                **pr_curve(score, positive),
                "average_precision": precision["estimate"],
                **_ends(precision),
                "prevalence": float(positive.mean()),
            }
        matrix = confusion_matrix(scored.truth, scored.predicted, len(scored.classes))
        return {"roc": roc, "pr": pr, "confusion": matrix.tolist()}

    def info(self, rows: pd.DataFrame, settings: Settings) -> dict[str, Any]:
        """What was scored, and the headline figures."""
        images = self.table[self.images]
        n_by_class = {name: int((images[TRUTH] == name).sum()) for name in self.classes.classes}
        several = self.table.loc[np.asarray(self.table["several"], dtype=bool), "level"].value_counts()
        return {
            "headline": headline(Answers(rows), malignant=bool(self.malignant_set)),
            "classes": self.classes.as_dict(),
            "malignant_set": self.malignant_set or None,
            "n": len(images),
            "n_clusters": int(images["group_id"].nunique()),
            "clusters": "patients" if "patient_id" in images and images["patient_id"].notna().all() else "groups",
            "n_by_class": n_by_class,
            "absent_classes": [name for name, n in n_by_class.items() if not n],
            "several_classes": {level: int(several[level]) for level in LEVELS if level in several},
            "bootstrap": settings.bootstrap,
            "seed": settings.seed,
            "minimum": settings.minimum,
        }


def _measured(scored: Scored, settings: Settings) -> list[dict[str, Any]]:
    return measure(scored, bootstrap=settings.bootstrap, seed=settings.seed, minimum=settings.minimum)


def _ends(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {"lower": figure["lower"], "upper": figure["upper"]}


def _age_band(age: Any) -> str | None:
    known = age is not None and not pd.isna(age)
    return next((name for low, high, name in AGE_BANDS if known and low <= age < high), None)


def _named(value: Any) -> str:
    return "unknown" if value is None or pd.isna(value) or value == "" else str(value)


# ---------------------------------------------------------------------------------------------------- headline


_INTEGERS = ("n", "n_positive", "n_clusters")


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the metrics table as JSON values: None for what is unknown, counts as integers."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or pd.isna(value):
            out[str(name)] = None
        elif isinstance(value, str):
            out[str(name)] = value
        else:
            out[str(name)] = int(value) if name in _INTEGERS else float(value)
    return out


class Answers:
    """Figures of all images, looked up by class, rule and metric."""

    _FIELDS = ("estimate", "lower", "upper", "n", "n_positive", "n_clusters", "threshold")

    def __init__(self, rows: pd.DataFrame) -> None:
        whole = rows[rows["subgroup"] == "all"].to_dict("records")
        self._rows = {
            (r["class"], r["average"], r["decision_rule"], r["metric"]): plain({f: r[f] for f in self._FIELDS})
            for r in whole
        }

    def get(self, class_: str, rule: str, metric: str, average: str = "none") -> dict[str, Any]:
        """The figure and its interval; all of it None where there is no such row."""
        return self._rows.get((class_, average, rule, metric), dict.fromkeys(self._FIELDS))

    def estimate(self, class_: str, rule: str, metric: str) -> float | None:
        """The estimate alone."""
        found: float | None = self.get(class_, rule, metric)["estimate"]
        return found


def headline(answers: Answers, *, malignant: bool) -> dict[str, Any]:
    """The figures to look at first, by name."""
    chosen = {**HEADLINE, **(HEADLINE_MALIGNANT if malignant else {})}
    return {name: answers.get(c, rule, metric, average) for name, (c, rule, metric, average, _) in chosen.items()}


def text(rows: pd.DataFrame, info: Mapping[str, Any]) -> str:
    """The headline figures as a plain table."""
    answers = Answers(rows)
    cohort, model = str(rows["cohort"].iloc[0]), str(rows["model"].iloc[0])
    lines = [f"{cohort}, model {model}: {info['n']} cases of {info['n_clusters']} {info['clusters']}"]
    if info["allow_leakage"]:
        lines.append(f"  LEAKAGE ALLOWED: {info['allow_leakage']}")
    if info["malignant_set"]:
        threshold = answers.get(MALIGNANT, "veto", "sensitivity")["threshold"]
        at = f"; called malignant from {threshold:g}" if threshold is not None else ""
        lines.append(f"  malignant set {info['malignant_set']}: {', '.join(sorted(info['classes']['malignant']))}{at}")
    words = {**HEADLINE, **HEADLINE_MALIGNANT}
    lines += ["", f"  {'':44}{'estimate':>9}   95 % interval"]
    lines += [f"  {words[name][4]:44}{_shown(figure)}" for name, figure in info["headline"].items()]
    frozen = bool((rows["decision_rule"] == "frozen_threshold").any())
    rule, at = ("frozen_threshold", "at frozen thresholds") if frozen else ("argmax", "of the most probable class")
    lines += ["", f"  {'class':<12}{'n':>6}   {'AUROC':<24}{'sensitivity':<24}specificity ({at})"]
    for name, n in info["n_by_class"].items():
        three = (("none", "auroc"), (rule, "sensitivity"), (rule, "specificity"))
        lines.append(f"  {name:<12}{n:>6}   " + "".join(f"{_cell(answers.get(name, *which)):<24}" for which in three))
    lines += ["", *(f"  {line}" for line in remarks(info))]
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _shown(figure: Mapping[str, Any]) -> str:
    if figure["estimate"] is None:
        return f"{'-':>9}   insufficient n"
    ends = f"{figure['lower']:.3f} to {figure['upper']:.3f}" if figure["lower"] is not None else "none"
    return f"{figure['estimate']:>9.3f}   {ends}"


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["estimate"] is None:
        return "insufficient n" if figure["n"] is not None else "-"
    ends = f" ({figure['lower']:.3f}-{figure['upper']:.3f})" if figure["lower"] is not None else ""
    return f"{figure['estimate']:.3f}{ends}"


def remarks(info: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures must know."""
    said = []
    if info["excluded"]:
        said.append("not scored: " + ", ".join(f"{reason} {n}" for reason, n in info["excluded"].items()))
    if info["absent_classes"]:
        said.append(f"no case is {', '.join(info['absent_classes'])}: averages are over the other classes")
    for level, n in info["several_classes"].items():
        said.append(f"{n} {level}s have cases of several classes: scored as malignant or benign only")
    return [*said, *info.get("remarks", [])]
