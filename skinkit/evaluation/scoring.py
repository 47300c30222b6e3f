"""Score predictions against their truth: metrics table, subgroup gaps, curves, figures and a text summary."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tables import write_table
from skinkit.evaluation import endpoint
from skinkit.evaluation.decision import Decided, decision_curve, referral_curve, veto_by_class, veto_sweep
from skinkit.evaluation.markdown import digits_of
from skinkit.evaluation.metric_table import Replicated, ScoredCases, confusion_matrix, replicated, rows_of
from skinkit.evaluation.subgroups import ALWAYS, COMPARED, GAPS, PARTS, gap_row, gaps_table, subgroups
from skinkit.schemas import IMAGE, LEVELS, PRIMARY_TASK, Schema, probability_prefix
from skinkit.stats.calibration import parse_sets, reliability, shift_classes, shift_malignancy
from skinkit.stats.intervals import LeaveOut
from skinkit.stats.metrics import ALL, MALIGNANT, PAUC, Bools, Floats, pr_curve, roc_curve
from skinkit.stats.notes import SENTENCES, TOO_FEW_PATIENTS, words_of
from skinkit.taxonomy import ClassSet

TRUTH = "class"
SCORED = Schema("scored", 1, ("level", "case_id"), ())
SWEEP = Schema("veto_sweep", 1, ("threshold",), ())
BY_CLASS = Schema("veto_by_class", 1, ("threshold", "class"), ())
SHIFTED = "malignancy_at_prevalence"
PREDICTION_SET = "prediction_set"

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
    "malignant_pauc": (MALIGNANT, "none", PAUC, "none", "malignant: pAUC above 80 % sensitivity (0 to 0.2)"),
    "malignant_brier": (MALIGNANT, "none", "brier", "none", "malignant: Brier score (0 to 1)"),
    "malignant_calibration_slope": (MALIGNANT, "none", "calibration_slope", "none", "malignant: calibration slope"),
    "malignant_calibration_intercept": (
        MALIGNANT, "none", "calibration_intercept", "none", "malignant: calibration intercept",
    ),
}  # fmt: skip
HEADLINE_PREVALENCE = {
    f"malignant_{name}_at_prevalence": (
        MALIGNANT, "veto", f"{name}_at_prevalence", "none", f"malignant: {name.upper()} at the stated prevalence",
    )
    for name in ("ppv", "npv")
}  # fmt: skip


@dataclass(frozen=True)
class ScoringSettings:
    """Settings of intervals, subgroups and endpoints.

    Attributes:
        bootstrap: draws of noise for the interval of the ECE; 0 makes no intervals.
        seed: of the draws.
        minimum: smallest denominator of a class metric.
        subgroups: whether all subgroups are scored, or only the biopsied.
        primary: the primary endpoint in words (``evaluation.endpoint``), or empty.
        prevalence: prevalence of malignancy where the model is used; None if not stated.
        by: further columns whose values make subgroups.
    """

    bootstrap: int
    seed: int
    minimum: int
    subgroups: bool
    primary: str = ""
    prevalence: float | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """All results for one set of predictions.

    Attributes:
        rows: the metrics table.
        gaps: figures of subgroups minus those of the rest.
        sweep: metrics at other veto thresholds; empty without a malignant set.
        sweep_by_class: the share of each true class called malignant at these thresholds; empty likewise.
        curves: data behind the figures.
        prevalence: shift of malignancy to the stated prevalence: ``source``, ``source_of`` and ``target``; None if not
            stated.
    """

    rows: pd.DataFrame
    gaps: pd.DataFrame
    sweep: pd.DataFrame
    sweep_by_class: pd.DataFrame
    curves: dict[str, Any]
    prevalence: dict[str, Any] | None


@dataclass(frozen=True)
class Evaluation:
    """Predictions with their truth, ready to be scored.

    Attributes:
        table: level, case_id, group_id, class (the truth), several, probabilities, malignancy, threshold, call, and
            columns of subgroups. ``several`` marks a lesion or patient with cases of more than one class: it is
            scored as malignant or benign only. Optional: malignancy_raw, prediction_set, entropy, refer.
        classes: the model's classes.
        thresholds: class -> (threshold of every row or one for all, source).
        malignant_set: name of the malignant set; empty if unknown.
        veto_source: source of the malignancy threshold.
        trained_prevalence: share of malignant cases among those the model was fitted on; None if unknown.
        task: whose probabilities are scored; a further task's table has the same columns beside its probabilities.
    """

    table: pd.DataFrame
    classes: ClassSet
    thresholds: Mapping[str, tuple[Any, str]]
    malignant_set: str
    veto_source: str = "model"
    trained_prevalence: float | None = None
    task: str = PRIMARY_TASK

    def probability_columns(self) -> list[str]:
        """Columns of the class probabilities, in the order of the classes."""
        return [f"{probability_prefix(self.task)}{name}" for name in self.classes.classes]

    @property
    def images(self) -> Bools:
        """Rows of level image: (n,)."""
        return np.asarray(self.table["level"] == IMAGE, dtype=bool)

    def scored(self, prevalence: float | None) -> ScoredCases:
        """All rows of all levels as arrays."""
        table, names = self.table, self.classes.classes
        has_malignancy = bool(self.malignant_set)
        veto = sorted({float(t) for t in table["threshold"].dropna()}) if has_malignancy else []
        raw = has_malignancy and "malignancy_raw" in table and bool(table["malignancy_raw"].notna().all())
        set_column = PREDICTION_SET if self.task == PRIMARY_TASK else f"{PREDICTION_SET}__{self.task}"
        sets = set_column in table and bool(table[set_column].notna().all())
        return ScoredCases(
            classes=names,
            truth=np.array([names.index(name) for name in table[TRUTH]], dtype=np.int64),
            probability=table[self.probability_columns()].to_numpy(dtype=np.float64),
            cluster=table["group_id"].to_numpy(dtype=str),
            malignant=self.classes.is_malignant if has_malignancy else None,
            malignancy=table["malignancy"].to_numpy(dtype=np.float64) if has_malignancy else None,
            called=np.asarray(table["call"] == MALIGNANT, dtype=bool) if has_malignancy else None,
            veto=float(np.mean(veto)) if veto else float("nan"),
            veto_source=self.veto_source if veto else None,
            thresholds=self.thresholds,
            raw=table["malignancy_raw"].to_numpy(dtype=np.float64) if raw else None,
            sets=parse_sets(table[set_column].tolist(), names) if sets else None,
            prevalence=math.nan if prevalence is None else prevalence,
        )

    def scores(self, settings: ScoringSettings, *, cohort: str, model: str) -> Scores:
        """Compute all results; every part leaves out the same patients."""
        shift = self.shift(settings.prevalence)
        scored = self.scored(settings.prevalence if shift else None)
        left_out = LeaveOut(scored.cluster, settings.seed, draws=settings.bootstrap)
        several = np.asarray(self.table["several"], dtype=bool)
        rows: list[dict[str, Any]] = []
        whole = replicated(scored.take(self.images), left_out)
        rows += [{"subgroup": "all", **row} for row in rows_of(whole, settings.minimum)]
        for level in LEVELS[1:]:
            chosen = np.asarray(self.table["level"] == level, dtype=bool)
            if chosen.any():
                level_rows = self._level(scored, chosen, several, left_out, settings.minimum)
                rows += [{"subgroup": f"level={level}", **row} for row in level_rows]
        gaps = self._subgroups(scored, left_out, settings, rows)
        frame = pd.DataFrame(rows).assign(cohort=cohort, model=model, task=self.task)
        frame["primary"] = self._primary(frame, settings.primary)
        frame = frame.astype({"class": object, "note": object, "threshold_source": object})
        images = scored.take(self.images)
        curves = self._curves(frame, images)
        sweep: list[dict[str, Any]] = []
        by_class: list[dict[str, Any]] = []
        if images.malignancy is not None:
            decided = self._decided(images, left_out)
            sweep = veto_sweep(decided)
            by_class = veto_by_class(decided, images.truth, images.classes)
            curves |= self._decisions(images, decided, left_out, shift)
        gaps = gaps.assign(cohort=cohort, model=model)
        return Scores(frame, gaps, pd.DataFrame(sweep), pd.DataFrame(by_class), curves, shift)

    @staticmethod
    def _level(
        scored: ScoredCases, chosen: Bools, several: Bools, left_out: LeaveOut, minimum: int
    ) -> list[dict[str, Any]]:
        """Rows of lesions or patients; those of several classes count only for malignancy."""
        whole = rows_of(replicated(scored.take(chosen), left_out), minimum)
        if not several[chosen].any():
            return whole
        single = chosen & ~several
        rows = rows_of(replicated(scored.take(single), left_out), minimum) if single.any() else []
        return [r for r in whole if r["class"] == MALIGNANT] + [r for r in rows if r["class"] != MALIGNANT]

    def _subgroups(
        self, scored: ScoredCases, left_out: LeaveOut, settings: ScoringSettings, rows: list[dict[str, Any]]
    ) -> pd.DataFrame:
        """Add the rows of every subgroup, and compare each with the rest."""
        images = self.images
        gap_rows: dict[str, list[dict[str, Any]]] = {}
        groups = list(subgroups(self.table, images, every=settings.subgroups, by=settings.by))
        values: dict[str, list[tuple[str, Bools]]] = {}
        for column, value, chosen in groups:
            values.setdefault(column, []).append((value, chosen))
        for column, of in values.items():
            metrics = {value: replicated(scored.take(chosen), left_out) for value, chosen in of}
            for value, chosen in of:
                name = f"{column}={value}"
                rows += [{"subgroup": name, **row} for row in rows_of(metrics[value], settings.minimum)]
                if len(of) == 2 and value == max(metrics, key=lambda v: (len(metrics[v].table.s), v)):
                    continue  # the same gap with the other sign
                rest = images & ~chosen
                other = next((v for v, _ in of if v != value), "") if len(of) == 2 else "rest"
                if rest.any() and settings.bootstrap:
                    outside = metrics[other] if len(of) == 2 else replicated(scored.take(rest), left_out, PARTS)
                    gap_rows[name] = self._gaps(metrics[value], outside, other, settings.minimum)
        return gaps_table(gap_rows)

    @staticmethod
    def _gaps(inside: Replicated, outside: Replicated, against: str, minimum: int) -> list[dict[str, Any]]:
        keys = [key for key in COMPARED if key in inside.point and key in outside.point]
        return [{"against": against, **gap_row(key, inside, outside, minimum)} for key in keys]

    def _primary(self, frame: pd.DataFrame, primary: str) -> Bools:
        columns = ["class", "average", "decision_rule", "metric"]
        keys = list(frame[columns].itertuples(index=False, name=None))
        if not primary:
            return np.zeros(len(frame), dtype=bool)
        wanted = endpoint.find(primary, keys)
        chosen: Bools = np.array([key == wanted for key in keys]) & np.asarray(frame["subgroup"] == "all", dtype=bool)
        return chosen

    def shift(self, target: float | None) -> dict[str, Any] | None:
        """Source and target prevalence of the shift of malignancy; None without a target or a malignant set."""
        if target is None or not self.malignant_set:
            return None
        truth = self.table.loc[self.images, TRUTH]
        here = float(truth.isin(self.classes.malignant).mean())
        source, of = (here, "scored cases") if self.trained_prevalence is None else (self.trained_prevalence, "model")
        return {"source": source, "source_of": of, "target": target} if 0 < source < 1 else None

    def shifted(self, shift: Mapping[str, Any]) -> pd.DataFrame:
        """The table with malignancy and class probabilities shifted to the stated prevalence."""
        names = self.probability_columns()
        malignant = self.classes.is_malignant
        ends = (float(shift["source"]), float(shift["target"]))
        p = shift_classes(self.table[names].to_numpy(dtype=np.float64), malignant, *ends)
        columns = {f"{name}_at_prevalence": p[:, i] for i, name in enumerate(names)}
        m = shift_malignancy(self.table["malignancy"].to_numpy(dtype=np.float64), *ends)
        return self.table.assign(**{SHIFTED: m, **columns})

    def write(self, folder: Path, scores: Scores) -> None:
        """Write the figures, ``curves.json``, ``gaps.parquet``, ``veto_*.parquet`` and ``scored.parquet``."""
        from skinkit.figures import curves

        curve_data = scores.curves
        labels = {**self.classes.labels, MALIGNANT: f"malignant (set: {self.malignant_set})"}
        names = list(self.classes.classes)
        pictures = {
            "roc": curves.roc(curve_data["roc"], labels=labels),
            "pr": curves.pr(curve_data["pr"], labels=labels),
            "confusion": curves.confusion(curve_data["confusion"], names, labels=self.classes.labels),
        }
        if "decision" in curve_data:
            pictures["reliability"] = curves.reliability(curve_data["reliability"])
            pictures["decision"] = curves.decision(curve_data["decision"])
            pictures["referral"] = curves.referral(curve_data["referral"])
        if len(gaps := forest_rows(scores)):
            pictures["subgroups"] = curves.forest(gaps)
        for name, svg in pictures.items():
            write_atomic(folder / "figures" / f"{name}.svg", svg.encode())
        text = json.dumps({"classes": names, "labels": labels, **curve_data}, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / "curves.json", text.encode())
        table = self.table if scores.prevalence is None else self.shifted(scores.prevalence)
        write_table(folder / "scored.parquet", SCORED, table.drop(columns=["fingerprint"], errors="ignore"))
        write_table(folder / "gaps.parquet", GAPS, scores.gaps)
        if len(scores.sweep):
            write_table(folder / "veto_sweep.parquet", SWEEP, scores.sweep)
            write_table(folder / "veto_by_class.parquet", BY_CLASS, scores.sweep_by_class)

    def _decided(self, images: ScoredCases, left_out: LeaveOut) -> Decided:
        assert images.malignancy is not None
        assert images.called is not None
        assert images.malignant is not None
        thresholds = self.table.loc[self.images, "threshold"].to_numpy(dtype=np.float64)
        several = len(np.unique(thresholds)) > 1
        return Decided(
            images.malignancy,
            images.is_malignant,
            images.called,
            images.malignant[images.predicted],
            images.cluster,
            math.nan if several else images.veto,
            left_out,
        )

    def _decisions(
        self, images: ScoredCases, decided: Decided, left_out: LeaveOut, shift: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Reliability, decision and referral curves of the images."""
        table = self.table[self.images]
        probabilities = {"calibrated": decided.malignancy, **({"raw": images.raw} if images.raw is not None else {})}
        curves: dict[str, Any] = {
            "reliability": {name: reliability(p, decided.truth, decided.cluster) for name, p in probabilities.items()},
            "decision": decision_curve(decided),
            "referral": referral_curve(
                decided,
                images.predicted == images.truth,
                _uncertainty(table, images.probability),
                np.asarray(table["refer"].fillna(False), dtype=bool) if "refer" in table else None,
            ),
        }
        if shift is not None:
            moved = shift_malignancy(decided.malignancy, float(shift["source"]), float(shift["target"]))
            curves["decision_at_prevalence"] = decision_curve(
                Decided(moved, decided.truth, decided.called, decided.by_class, decided.cluster, math.nan, left_out),
                float(shift["target"]),
            )
        return curves

    def _curves(self, rows: pd.DataFrame, scored: ScoredCases) -> dict[str, Any]:
        """The images' confusion matrix, and ROC and precision-recall curves of classes with positives and negatives.

        ``point`` is (1 - specificity, sensitivity) at the threshold in use.
        """
        answers = Answers(rows, self.task)
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

    def _whole_sets(self) -> dict[str, int] | None:
        """Images whose prediction set holds every class, and all with a set; None without sets."""
        if PREDICTION_SET not in self.table:
            return None
        sets = self.table.loc[self.images, PREDICTION_SET].dropna().tolist()
        inside = parse_sets(sets, list(self.classes.classes))
        return {"n": int(inside.all(axis=1).sum()), "of": len(sets)} if sets else None

    def info(self, scores: Scores, settings: ScoringSettings) -> dict[str, Any]:
        """The scored cases and the headline figures."""
        rows, gaps = scores.rows, scores.gaps
        images = self.table[self.images]
        n_by_class = {name: int((images[TRUTH] == name).sum()) for name in self.classes.classes}
        several = self.table.loc[np.asarray(self.table["several"], dtype=bool), "level"].value_counts()
        return {
            "primary": primary_of(rows, settings.primary),
            "headline": headline(
                Answers(rows, self.task), malignant=bool(self.malignant_set), prevalence=scores.prevalence is not None
            ),
            "miscalibrated": miscalibrated(Answers(rows, self.task)),
            "gaps": [plain(row) for row in gaps[gaps["flagged"].astype(bool)].to_dict("records")],
            "gaps_tested": int(gaps["p"].notna().sum()),
            "prevalence": scores.prevalence,
            "effective_prevalence": self.trained_prevalence if self.malignant_set else None,
            "whole_sets": self._whole_sets(),
            "classes": self.classes.as_dict(),
            "malignant_set": self.malignant_set or None,
            "n": len(images),
            "n_clusters": int(images["group_id"].nunique()),
            "clusters": "patients" if "patient_id" in images and images["patient_id"].notna().all() else "groups",
            "n_by_class": n_by_class,
            "absent_classes": [name for name, n in n_by_class.items() if not n],
            "without_threshold": [
                name for name, n in n_by_class.items() if n and self.thresholds and name not in self.thresholds
            ],
            "several_classes": {level: int(several[level]) for level in LEVELS if level in several},
            "bootstrap": settings.bootstrap,
            "seed": settings.seed,
            "minimum": settings.minimum,
        }


def _uncertainty(table: pd.DataFrame, probability: Floats) -> Floats:
    """The entropy column of the predictions, else the entropy of their probabilities divided by ln(classes)."""
    if "entropy" in table and table["entropy"].notna().all():
        return table["entropy"].to_numpy(dtype=np.float64)
    entropy: Floats = -(probability * np.log(np.clip(probability, 1e-300, 1))).sum(axis=1) / np.log(
        probability.shape[1]
    )
    return entropy


def _ends(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {"lower": figure["lower"], "upper": figure["upper"]}


# ---------------------------------------------------------------------------------------------------- headline


_INTEGERS = ("n", "n_positive", "n_clusters", "n_rest", "n_positive_rest")


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the metrics table as JSON values: None for what is unknown, counts as integers."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or pd.isna(value):
            out[str(name)] = None
        elif isinstance(value, (str, bool)):
            out[str(name)] = value
        else:
            out[str(name)] = int(value) if name in _INTEGERS else float(value)
    return out


def of_task(rows: pd.DataFrame, task: str = PRIMARY_TASK) -> pd.DataFrame:
    """The rows of a metrics table that belong to one task; tables of older versions know the diagnosis alone."""
    return rows[rows["task"].fillna(PRIMARY_TASK) == task] if "task" in rows else rows


class Answers:
    """Figures of the diagnosis, of all images, looked up by class, rule and metric."""

    _FIELDS = ("estimate", "lower", "upper", "n", "n_positive", "n_clusters", "threshold", "note")

    def __init__(self, rows: pd.DataFrame, task: str = PRIMARY_TASK) -> None:
        whole = of_task(rows[rows["subgroup"] == "all"], task).to_dict("records")
        self._rows = {
            (r["class"], r["average"], r["decision_rule"], r["metric"]): plain({f: r[f] for f in self._FIELDS})
            for r in whole
        }

    def get(self, class_: str, rule: str, metric: str, average: str = "none") -> dict[str, Any]:
        """The figure and its interval; every value is None if there is no such row."""
        return self._rows.get((class_, average, rule, metric), dict.fromkeys(self._FIELDS))

    def estimate(self, class_: str, rule: str, metric: str) -> float | None:
        """The estimate alone."""
        value: float | None = self.get(class_, rule, metric)["estimate"]
        return value


def primary_of(rows: pd.DataFrame, primary: str) -> dict[str, Any] | None:
    """The declared primary endpoint with its figure; None where none was declared."""
    hit = rows[rows["primary"]]
    return {"endpoint": primary, **plain(hit.iloc[0].to_dict())} if len(hit) else None


def forest_rows(scores: Scores) -> list[dict[str, Any]]:
    """Subgroups with AUROC, sensitivity and specificity of malignancy, and whether they have a gap; for the figure."""
    metrics = {"auroc": "none", "sensitivity": "veto", "specificity": "veto"}
    m = scores.rows
    m = m[(m["class"] == MALIGNANT) & ~m["subgroup"].str.startswith("level=")]
    m = m[[metrics.get(metric) == rule for metric, rule in zip(m["metric"], m["decision_rule"], strict=True)]]
    flagged = scores.gaps[scores.gaps["flagged"].astype(bool)]
    with_gap = set(zip(flagged["subgroup"], flagged["metric"], strict=True))
    by_name: dict[str, dict[str, Any]] = {}
    for row in m.to_dict("records"):
        name = str(row["subgroup"])
        figures = by_name.setdefault(name, {"name": name, "n": int(row["n"]), "n_positive": int(row["n_positive"])})
        figures[str(row["metric"])] = {**plain(row), "flagged": (name, row["metric"]) in with_gap}
    return list(by_name.values()) if len(by_name) > 1 else []


def headline(answers: Answers, *, malignant: bool, prevalence: bool = False) -> dict[str, Any]:
    """The headline figures by name."""
    chosen = {
        **HEADLINE,
        **(HEADLINE_MALIGNANT if malignant else {}),
        **(HEADLINE_PREVALENCE if prevalence else {}),
    }
    return {name: answers.get(c, rule, metric, average) for name, (c, rule, metric, average, _) in chosen.items()}


def declared(primary: Mapping[str, Any]) -> str:
    """Whether a primary endpoint was declared before the first access to the cases, with the dates."""
    on, first = (str(primary.get(name) or "")[:10] for name in ("declared_on", "first_look"))
    if primary.get("declared") == "beforehand":
        return f"declared beforehand, with the first access ({first})"
    if primary.get("declared") == "after":
        return f"NOT declared beforehand: stated on {on}, after the first access on {first}; exploratory"
    if primary.get("declared") == "default":
        return (
            'chosen by default, not declared: before the first access, write declared = "DATE NAME" beside it in '
            "[stage.evaluate]"
        )
    return "no log shows whether it was declared before the first access"


def text(rows: pd.DataFrame, info: Mapping[str, Any]) -> str:
    """The headline figures as a plain table, the primary endpoint first."""
    answers = Answers(rows)
    cohort, model = str(rows["cohort"].iloc[0]), str(rows["model"].iloc[0])
    lines = [f"{cohort}, model {model}: {info['n']} cases of {info['n_clusters']} {info['clusters']}"]
    if info["allow_leakage"]:
        lines.append(f"  LEAKAGE ALLOWED: {info['allow_leakage']}")
    if (whole := info["whole_sets"]) and whole["n"]:
        lines.append(
            f"  THE MODEL RULES NOTHING OUT for {whole['n']} of {whole['of']} cases: their sets hold every class"
        )
    if info["malignant_set"]:
        threshold = answers.get(MALIGNANT, "veto", "sensitivity")["threshold"]
        at = f" or malignancy of at least {threshold:g}" if threshold is not None else " or the case's threshold"
        lines.append(f"  malignant set {info['malignant_set']}: {', '.join(sorted(info['classes']['malignant']))}")
        lines.append(f"  veto, called malignant: most probable class malignant{at}")
    words = {**HEADLINE, **HEADLINE_MALIGNANT, **HEADLINE_PREVALENCE}
    lines += ["", f"  {'':50}{'estimate':>9}   95 % interval"]
    if primary := info["primary"]:
        lines.append(f"  {'PRIMARY: ' + primary['endpoint']:50}{_shown(primary)}")
        lines.append(f"    {declared(primary)}")
    else:
        lines.append("  no primary endpoint was declared: all of these figures are exploratory")
    lines += [f"  {words[name][4]:50}{_shown(figure)}" for name, figure in info["headline"].items()]
    frozen = bool((rows["decision_rule"] == "frozen_threshold").any())
    rule, at = ("frozen_threshold", "at frozen thresholds") if frozen else ("argmax", "of the most probable class")
    lines += ["", f"  {'class':<12}{'n':>6}   {'AUROC':<28}{'sensitivity':<28}specificity ({at})"]
    for name, n in info["n_by_class"].items():
        three = (("none", "auroc"), (rule, "sensitivity"), (rule, "specificity"))
        lines.append(f"  {name:<12}{n:>6}   " + "".join(f"{_cell(answers.get(name, *which)):<28}" for which in three))
    warnings = [f"MISCALIBRATED: {sentence}" for sentence in info["miscalibrated"]]
    missing = [SENTENCES[note] for note in SENTENCES if any(words_of(note) in line for line in lines)]
    lines += ["", *_biopsied(rows), *(f"  {line}" for line in (*warnings, *_gap_lines(info), *missing, *remarks(info)))]
    return "\n".join(line.rstrip() for line in lines).rstrip()


TASK_COLUMNS = ("accuracy", "balanced_accuracy", "macro_auroc", "macro_f1")
"""Headline figures of further tasks in short tables."""


def tasks_text(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """The further tasks as a plain table, one row each."""
    titles = [HEADLINE[name][4] for name in TASK_COLUMNS]
    lines = ["", "", f"  {'task':<24}{'n':>6}   " + "".join(f"{title:<28}" for title in titles)]
    for name, info in tasks.items():
        cells = [_cell(info["headline"][column]) if info["n"] else "-" for column in TASK_COLUMNS]
        lines.append(f"  {name:<24}{info['n']:>6}   " + "".join(f"{cell:<28}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def miscalibrated(answers: Answers) -> list[str]:
    """Sentences on miscalibration of malignancy, where an interval excludes the ideal value; none without interval."""
    slope, shift = (answers.get(MALIGNANT, "none", f"calibration_{name}") for name in ("slope", "intercept"))
    sentences = []
    if slope["lower"] is not None and not slope["lower"] <= 1 <= slope["upper"]:
        way = "extreme" if slope["upper"] < 1 else "timid"
        sentences.append(f"probabilities of malignancy are too {way}: slope {_cell(slope)}, 1 would be right")
    if shift["lower"] is not None and not shift["lower"] <= 0 <= shift["upper"]:
        way = "low" if shift["lower"] > 0 else "high"
        odds = math.exp(shift["estimate"])
        sentences.append(
            f"probabilities of malignancy are too {way} on the whole: intercept {_cell(shift)}, 0 would be right; "
            f"the true odds are about {odds:.2g} times those stated"
        )
    return sentences


def _biopsied(rows: pd.DataFrame) -> list[str]:
    """The analysis of the biopsied cases alone."""
    if not (hit := rows[rows["subgroup"] == ALWAYS]).shape[0]:
        return ["  confirmed by histopathology alone: no case says that it was"]
    answers = Answers(hit.assign(subgroup="all"))
    figures = [(MALIGNANT, "none", "auroc"), (MALIGNANT, "veto", "sensitivity"), (MALIGNANT, "veto", "specificity")]
    parts = [f"{metric} {_cell(answers.get(c, rule, metric))}" for c, rule, metric in figures]
    return [f"  confirmed by histopathology alone, n = {int(hit['n'].iloc[0])}: {', '.join(parts)}"]


def _gap_lines(info: Mapping[str, Any]) -> list[str]:
    """Subgroups with a significant gap to the rest."""
    lines = [
        f"GAP {gap['subgroup']} against {gap['against']}: {gap['class']} {gap['metric']} {gap['gap']:+.3f} "
        f"({gap['lower']:+.3f} to {gap['upper']:+.3f}), p = {gap['p_holm']:.2g} after Holm over {info['gaps_tested']}"
        for gap in info["gaps"]
    ]
    if not lines and info["gaps_tested"]:
        return [f"no gap between a subgroup and the rest stands out among {info['gaps_tested']} compared"]
    return lines


def _shown(figure: Mapping[str, Any]) -> str:
    if figure["estimate"] is None:
        return f"{'-':>9}   {words_of(figure['note'])}"
    digits = digits_of(figure["lower"], figure["upper"])
    none = words_of(figure["note"]) if figure["note"] == TOO_FEW_PATIENTS else "none"
    ends = f"{figure['lower']:.{digits}f} to {figure['upper']:.{digits}f}" if digits is not None else none
    return f"{figure['estimate']:>9.{digits or 3}f}   {ends}"


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["estimate"] is None:
        return words_of(figure["note"]) if figure["n"] is not None else "-"
    digits = digits_of(figure["lower"], figure["upper"])
    none = f" ({words_of(figure['note'])})" if figure["note"] == TOO_FEW_PATIENTS else ""
    ends = f" ({figure['lower']:.{digits}f}-{figure['upper']:.{digits}f})" if digits is not None else none
    return f"{figure['estimate']:.{digits or 3}f}{ends}"


def remarks(info: Mapping[str, Any]) -> list[str]:
    """Caveats for the reader of the figures."""
    sentences = []
    if info["excluded"]:
        sentences.append("not scored: " + ", ".join(f"{reason} {n}" for reason, n in info["excluded"].items()))
    if shift := info["prevalence"]:
        of = "the mix for which the model states them" if shift["source_of"] == "model" else "the scored cases"
        sentences.append(
            f"stated prevalence {shift['target']:g}; probabilities are shifted from {shift['source']:.3g}, that of {of}"
        )
    if (holds := info["effective_prevalence"]) is not None:
        share = sum(n for name, n in info["n_by_class"].items() if name in info["classes"]["malignant"]) / info["n"]
        sentences.append(
            f"malignancy is stated for a mix with {holds:.1%} malignant cases; of these cases {share:.1%} are malignant"
        )
    if info["absent_classes"]:
        sentences.append(f"no case is {', '.join(info['absent_classes'])}: averages are over the other classes")
    if classes := info.get("without_threshold"):
        sentences.append(f"{', '.join(classes)} have no threshold: no averages over classes at frozen thresholds")
    for level, n in info["several_classes"].items():
        sentences.append(f"{n} {level}s have cases of several classes: scored as malignant or benign only")
    return [*sentences, *info.get("remarks", [])]
