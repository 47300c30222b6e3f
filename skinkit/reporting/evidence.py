"""Facts read from the artifacts: cohort composition, case flow and model performance.

Nothing here knows a language or HTML; numbers that are unknown are NaN.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.flags import count_flags
from skinkit.artifacts.tables import TABLE, cell_text, records
from skinkit.errors import SkinkitError
from skinkit.evaluation.scoring import of_task
from skinkit.learning import untrained
from skinkit.learning.untrained import Untrained
from skinkit.models import load_model
from skinkit.schemas import EXCLUDED, FAILED, OK, PENDING, PROBABILITY, UNTRAINED, probability_columns
from skinkit.stats.metrics import EXACT_INTERVAL
from skinkit.stats.notes import INSUFFICIENT, NOTES, TOO_FEW_PATIENTS
from skinkit.taxonomy import ClassSet
from skinkit.workspace import Cohort

UNLIKE = 99.0
"""Percentile of the validation rows from which a case is called unlike the training data."""

SCORED_TABLE = "scored.parquet"
"""The scored predictions with their truth, beside the metrics."""
COHORT_KINDS = ("cases", "masks", "features", "fused", "predictions", "explanations", "metrics")


@dataclass(frozen=True)
class Figure:
    """One row of the metrics table; ``note`` says why there is no estimate, where there is none."""

    estimate: float
    lower: float
    upper: float
    n: int
    n_positive: int | None
    n_clusters: int
    threshold: float
    threshold_source: str | None
    exact: bool = False
    note: str = INSUFFICIENT

    @property
    def has_estimate(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.estimate)

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval; one of no width promises what it cannot know."""
        return not (math.isnan(self.lower) or math.isnan(self.upper)) and self.lower < self.upper


@dataclass(frozen=True)
class Loss:
    """Cases that left the chain at one step.

    Attributes:
        status: excluded, failed, pending, not_predicted, not_scored or other_view.
        reason: its code.
        count: how many.
    """

    status: str
    reason: str
    count: int


@dataclass(frozen=True)
class FlowStep:
    """One step of the flow: what is counted, how many are left, who was lost on the way to it."""

    key: str
    count: int
    losses: tuple[Loss, ...] = ()
    facts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Failure:
    """One case that failed."""

    cohort: str
    stage: str
    case: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Alarms:
    """The two by two table of the alarm, counted by photo, and how many errors are possible.

    Attributes:
        found: malignant, alarm.
        missed: malignant, no alarm.
        false: benign, alarm.
        quiet: benign, no alarm.
        most_missed: upper end of the 95 % interval of the share missed; NaN where there is none.
        most_false: likewise of the share of benign cases with an alarm.
    """

    found: int
    missed: int
    false: int
    quiet: int
    most_missed: float
    most_false: float

    @property
    def malignant(self) -> int:
        """Malignant cases."""
        return self.found + self.missed

    @property
    def benign(self) -> int:
        """Benign cases."""
        return self.false + self.quiet

    @property
    def n(self) -> int:
        """All cases."""
        return self.malignant + self.benign

    @property
    def share_missed(self) -> float:
        """The worst that the data allow of the share missed, else the share itself."""
        share = self.missed / self.malignant if self.malignant else math.nan
        return share if math.isnan(self.most_missed) else self.most_missed


class CohortEvidence:
    """The artifacts of one cohort.

    Args:
        cohort: from the workspace.
        artifacts: kind -> artifact, those that exist.
    """

    def __init__(self, cohort: Cohort, artifacts: Mapping[str, Artifact]) -> None:
        self.cohort = cohort
        self.artifacts = artifacts

    @property
    def name(self) -> str:
        """The cohort's name."""
        return self.cohort.name

    def has(self, kind: str) -> bool:
        """Whether it was made."""
        return kind in self.artifacts

    def frame(self, kind: str, *columns: str) -> pd.DataFrame:
        """Columns of an artifact's table; those it does not have are left out."""
        import pyarrow.parquet as pq

        artifact = self.artifacts[kind]
        present = set(pq.read_schema(artifact.path / TABLE).names)
        return artifact.table([column for column in columns if column in present])

    @cached_property
    def cases(self) -> pd.DataFrame:
        """The case table."""
        return self.artifacts["cases"].table()

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The images that are ok."""
        return self.cases[self.cases["status"] == OK]

    @cached_property
    def masks(self) -> pd.DataFrame | None:
        """The mask table."""
        return self.artifacts["masks"].table() if self.has("masks") else None

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """The predictions of every level."""
        return self.artifacts["predictions"].table() if self.has("predictions") else None

    @cached_property
    def whole_sets(self) -> tuple[int, int]:
        """Predicted images whose prediction set holds every class, and all that have a set."""
        if self.predictions is None or "prediction_set" not in self.predictions:
            return 0, 0
        images = self.predictions[(self.predictions["level"] == "image") & self.predictions["prediction_set"].notna()]
        return sum(map(holds_every_class, records(images))), len(images)

    @cached_property
    def explanations(self) -> dict[str, dict[str, Any]]:
        """Case -> its explanation, for those that are ok."""
        if not self.has("explanations"):
            return {}
        table = self.artifacts["explanations"].table()
        return {row["case_id"]: row for row in records(table[table["status"] == OK])}

    @cached_property
    def metrics(self) -> pd.DataFrame | None:
        """The metrics of the diagnosis."""
        return of_task(self.artifacts["metrics"].table()) if self.has("metrics") else None

    @property
    def is_phantom(self) -> bool:
        """Whether the cohort says of itself that its lesions are drawn."""
        options = {**self.cohort.options, **self.artifacts["cases"].info}
        return self.cohort.source == "phantoms" or any(bool(options.get(key)) for key in ("phantom", "phantoms"))

    @property
    def segmenter(self) -> str:
        """The segmenter of the masks; empty without masks."""
        if self.masks is None:
            return ""
        names = sorted(self.masks["segmenter"].dropna().unique())
        return ", ".join(names) or str(self.artifacts["masks"].info.get("segmenter") or "")

    @property
    def n_mask_failed(self) -> int:
        """Number of failed masks."""
        if self.masks is None:
            return 0
        return int((self.masks["mask_failed"].fillna(False) & (self.masks["status"] == OK)).sum())

    @cached_property
    def flags(self) -> dict[str, int]:
        """What was done to photos, masks and cells while they were read: flag -> rows."""
        of_masks: Iterable[object] = [] if self.masks is None else self.masks.get("flags", [])
        return count_flags([*self.cases["flags"], *of_masks])

    @property
    def allowed_leakage(self) -> str:
        """The reason with which leakage was allowed; empty where there was none."""
        for kind, key in (("metrics", "allow_leakage"), ("predictions", "leakage_allowed")):
            reason = self.artifacts[kind].info.get(key) if self.has(kind) else None
            if reason:
                return str(reason)
        return ""

    @cached_property
    def shortcuts(self) -> dict[str, Any] | None:
        """What ``shortcuts.json`` says, or None where there was no audit."""
        if not self.has("metrics") or not (self.artifacts["metrics"].path / "shortcuts.json").is_file():
            return None
        audit: dict[str, Any] = self.artifacts["metrics"].json("shortcuts.json")
        return audit

    @property
    def test_access_number(self) -> int:
        """Which access to these test cases, counted from 1, the figures come from; 0 if not recorded."""
        return int((self._info("look") or {}).get("number") or 0)

    @property
    def primary(self) -> Mapping[str, Any] | None:
        """The primary endpoint and its row, or None where none was declared."""
        endpoint: Mapping[str, Any] | None = self._info("primary")
        return endpoint

    @property
    def iou(self) -> pd.Series[float]:
        """IoU with the manual masks."""
        return self._comparable_masks["iou"]

    @property
    def _comparable_masks(self) -> pd.DataFrame:
        """Masks with a manual mask to compare with, without the images the segmenter was trained on."""
        if self.masks is None:
            return pd.DataFrame({"image_id": [], "iou": pd.Series(dtype=float), "dice": pd.Series(dtype=float)})
        learnt = self.masks["in_sample"].fillna(False).astype(bool) if "in_sample" in self.masks else False
        return self.masks[self.masks["iou"].notna() & ~pd.Series(learnt, index=self.masks.index)]

    def overlap(self) -> dict[str, dict[str, Figure]]:
        """``iou`` and ``dice`` -> ``mean`` and ``median`` over photos, with intervals over patients; empty without."""
        from skinkit.evaluation.overlap import FIGURES, overlap

        rows = self._comparable_masks.merge(self.usable[["image_id", "group_id"]], on="image_id")
        if rows.empty:
            return {}
        groups = rows["group_id"].to_numpy(dtype=str)
        estimates = overlap({name: rows[name].astype(float) for name in FIGURES}, groups)
        n, clusters = len(rows), len(set(groups))
        return {
            name: {
                how: figure_of({**estimates[f"{name}_{how}"], "n": n, "n_clusters": clusters})
                for how in ("mean", "median")
            }
            for name in FIGURES
        }

    @property
    def gaps(self) -> list[Mapping[str, Any]]:
        """Gaps between a subgroup and the rest that stand out."""
        return list(self._info("gaps") or [])

    @property
    def n_gaps_tested(self) -> int:
        """Comparisons of a subgroup with the rest that were made."""
        return int(self._info("gaps_tested") or 0)

    @property
    def n_unlike(self) -> tuple[int, int] | None:
        """Cases unlike the training data, and cases for which that is known; None where it was not asked."""
        if self.predictions is None or "unlike_training" not in self.predictions:
            return None
        images = self.predictions[self.predictions["level"] == "image"]["unlike_training"].dropna()
        return int((images >= UNLIKE).sum()), len(images)

    @property
    def n_near(self) -> int:
        """Scored cases with a near-identical training image."""
        return int(((self._info("leakage") or {}).get("counts") or {}).get("near_identical") or 0)

    @property
    def label_attributes(self) -> list[Mapping[str, Any]]:
        """Columns that the model reads and that nearly are the label among its training rows."""
        return list(self._info("label_attributes") or [])

    @property
    def doubtful_external(self) -> bool:
        """Whether the cohort is called external, but nothing distinguishes it from the development cohorts."""
        return bool((self._info("external") or {}).get("questioned"))

    @property
    def n_relabelled(self) -> int:
        """Cases with another label now than the model learnt."""
        return int((self._info("relabelled") or {}).get("n") or 0)

    def asks_as(self, other: CohortEvidence) -> bool:
        """Whether both were scored for the same classes and the same malignant set."""
        return self.has("metrics") and all(self._info(key) == other._info(key) for key in ("classes", "malignant_set"))

    def _info(self, name: str) -> Any:
        return self.artifacts["metrics"].info.get(name) if self.has("metrics") else None

    # -- how good

    def figure(
        self, metric: str, rule: str, *, class_: str = "malignant", average: str = "none", subgroup: str = "all"
    ) -> Figure | None:
        """One figure, or None where the table has no such row."""
        row = self._metric_rows.get((subgroup, class_, average, rule, metric))
        return None if row is None else figure_of(row)

    @cached_property
    def _metric_rows(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """Subgroup, class, average, rule and metric -> the first row of the metrics table with them."""
        keys = ("subgroup", "class", "average", "decision_rule", "metric")
        rows = [] if self.metrics is None else records(self.metrics)
        return {tuple(row[key] for key in keys): row for row in reversed(rows)}

    def notes(self) -> list[str]:
        """The reasons why figures of the metrics table have no estimate, each once."""
        if self.metrics is None:
            return []
        missing = self.metrics.loc[self.metrics["estimate"].isna(), "note"].dropna()
        return [note for note in (*NOTES, INSUFFICIENT) if (missing == note).any()]

    @property
    def tasks(self) -> dict[str, dict[str, Figure]]:
        """Further task -> its headline figures; those that could be scored."""
        tasks = {name: of for name, of in (self._info("tasks") or {}).items() if of["n"]}
        return {name: {key: figure_of(row) for key, row in of["headline"].items()} for name, of in tasks.items()}

    @property
    def sensitivity(self) -> Figure | None:
        """Share of malignant cases that raise the alarm."""
        return self.figure("sensitivity", "veto")

    @property
    def specificity(self) -> Figure | None:
        """Share of benign cases that do not."""
        return self.figure("specificity", "veto")

    @cached_property
    def alarms(self) -> Alarms | None:
        """The counts behind sensitivity and specificity, photo by photo; None where nothing was scored."""
        s, p = self.sensitivity, self.specificity
        about = s or p or self.auroc
        if about is None or about.n_positive is None:
            return None
        malignant, benign = about.n_positive, about.n - about.n_positive
        counts = self._scored_alarms
        if counts is None or (sum(counts[:2]), sum(counts[2:])) != (malignant, benign):
            if any(n and (f is None or not f.has_estimate) for n, f in ((malignant, s), (benign, p))):
                return None  # too few cases for an estimate, and the table that would tell is another's
            found = round(s.estimate * malignant) if s is not None and malignant else 0
            quiet = round(p.estimate * benign) if p is not None and benign else 0
            counts = found, malignant - found, benign - quiet, quiet
        most = [1 - f.lower if f is not None and f.has_interval else math.nan for f in (s, p)]
        return Alarms(*counts, *most)

    @property
    def _scored_alarms(self) -> tuple[int, int, int, int] | None:
        """Malignant with and without alarm, benign with and without, of the scored photos; None without their table."""
        metrics, classes = self.artifacts["metrics"], self._info("classes")
        if not isinstance(classes, Mapping) or not (metrics.path / SCORED_TABLE).is_file():
            return None
        rows = metrics.table(file=SCORED_TABLE)
        rows = rows[rows["level"] == "image"]
        malignant = rows["class"].isin(sorted(ClassSet.from_dict(dict(classes)).malignant))
        alarm = rows["call"] == "malignant"
        pairs = ((malignant, alarm), (malignant, ~alarm), (~malignant, alarm), (~malignant, ~alarm))
        found, missed, false, quiet = (int((of & called).sum()) for of, called in pairs)
        return found, missed, false, quiet

    @property
    def auroc(self) -> Figure | None:
        """AUROC of malignancy."""
        return self.figure("auroc", "none")

    # -- where the cases went

    def flow(self) -> list[FlowStep]:
        """From everything found to everything scored."""
        steps = [FlowStep("found", len(self.cases))]
        usable = self.usable
        people = (("patients", int(usable["patient_id"].nunique())), ("lesions", int(usable["lesion_id"].nunique())))
        labelled = int(usable["diagnosis"].notna().sum())
        facts = (*people, *((("labelled", labelled),) if self.cohort.role != "inference" else ()))
        steps.append(FlowStep("usable", len(usable), losses_of(self.cases), facts))
        if self.masks is not None:
            failed = self.n_mask_failed
            outlined = int((self.masks["status"] == OK).sum())
            steps.append(
                FlowStep("outlined", outlined, losses_of(self.masks), (("mask_failed", failed),) if failed else ())
            )
        if self.has("features"):
            features = self.frame("features", "image_id", "status", "reason")
            steps.append(FlowStep("measured", int((features["status"] == OK).sum()), losses_of(features)))
        steps += self._case_steps()
        return steps

    def _case_steps(self) -> Iterator[FlowStep]:
        """The steps after several photos of a case became one; from here on cases are counted, not images."""
        left: int | None = None
        if self.has("fused"):
            fused = self.frame("fused", "case_id", "status", "reason")
            left = int((fused["status"] == OK).sum())
            others = len(self.usable) - len(fused)
            extra = (Loss("other_view", "other_view", others),) if others > 0 else ()
            yield FlowStep("fused", left, (*losses_of(fused), *extra))
        if self.predictions is not None:
            images = self.predictions[self.predictions["level"] == "image"]
            predicted = int((images["status"] == OK).sum())
            losses = losses_of(images)
            absent = (left if left is not None else len(images)) - len(images)
            if absent > 0:
                reason = "trained_on" if self.cohort.role == "development" else "not_predicted"
                losses = (*losses, Loss("not_predicted", reason, absent))
            yield FlowStep("predicted", predicted, losses)
        if self.metrics is not None and len(self.metrics):
            whole = self.metrics[self.metrics["subgroup"] == "all"]
            scored = int(whole["n"].max()) if len(whole) else 0
            yield FlowStep("scored", scored, self.not_scored)

    @property
    def not_scored(self) -> tuple[Loss, ...]:
        """Predicted cases that evaluation had to leave out, by reason."""
        excluded = self.artifacts["metrics"].info.get("excluded") if self.has("metrics") else None
        if not isinstance(excluded, Mapping):
            return ()
        counts = {str(reason): _count(value) for reason, value in sorted(excluded.items())}
        return tuple(Loss("not_scored", reason, count) for reason, count in counts.items() if count)

    def failures(self) -> list[Failure]:
        """Every failed case of every stage."""
        failures = []
        for kind in COHORT_KINDS:
            if kind == "metrics" or not self.has(kind):
                continue
            key = "image_id" if kind in ("cases", "masks", "features") else "case_id"
            table = self.frame(kind, key, "level", "status", "reason", "detail")
            failed = table[table["status"] == FAILED]
            failures += [
                Failure(
                    self.name,
                    kind,
                    str(row[key]),
                    cell_text(row.get("reason")) or "unsaid",
                    cell_text(row.get("detail")),
                )
                for row in records(failed)
                if row.get("level") in (None, "image")
            ]
        return failures

    # -- for whom

    def counts(self, column: str, *, limit: int = 12) -> list[tuple[str, int]]:
        """Values of a column of the usable images, most frequent first; unknown ones are not counted."""
        values = self.usable[column].dropna() if column in self.usable else pd.Series(dtype=object)
        tally = Counter(str(value) for value in values)
        return sorted(tally.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def ages(self) -> tuple[float, float, float, int]:
        """Median, youngest, oldest, and how many are unknown; NaN where none is known."""
        ages = self.usable["age_years"] if "age_years" in self.usable else pd.Series(dtype=float)
        recorded = ages.dropna()
        if not len(recorded):
            return math.nan, math.nan, math.nan, len(ages)
        return float(recorded.median()), float(recorded.min()), float(recorded.max()), len(ages) - len(recorded)


def figure_of(row: Mapping[str, Any]) -> Figure:
    """A row of the metrics table."""
    n_positive = row.get("n_positive")
    return Figure(
        estimate=number(row.get("estimate")),
        lower=number(row.get("lower")),
        upper=number(row.get("upper")),
        n=_count(row.get("n")),
        n_positive=None if n_positive is None or pd.isna(n_positive) else int(n_positive),
        n_clusters=_count(row.get("n_clusters")),
        threshold=number(row.get("threshold")),
        threshold_source=cell_text(row.get("threshold_source")) or None,
        exact=row.get("note") == EXACT_INTERVAL,
        note=note if (note := row.get("note")) in (*NOTES, TOO_FEW_PATIENTS) else INSUFFICIENT,
    )


def holds_every_class(row: Mapping[str, Any]) -> bool:
    """Whether the prediction set of a row of predictions holds every class: its model rules nothing out."""
    inside = {code for code in cell_text(row.get("prediction_set")).split(",") if code}
    classes = {name.removeprefix(PROBABILITY) for name in probability_columns(list(row))}
    return bool(classes) and classes <= inside


def losses_of(table: pd.DataFrame) -> tuple[Loss, ...]:
    """Rows that are not ok, counted by status and reason."""
    lost = table[table["status"].isin((EXCLUDED, FAILED, PENDING))]
    tally = Counter(
        (str(status), cell_text(reason) or "unsaid")
        for status, reason in zip(lost["status"], lost["reason"], strict=True)
    )
    ordered = sorted(tally.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return tuple(Loss(status, reason, count) for (status, reason), count in ordered)


def number(value: Any) -> float:
    """A cell as a number, NaN where it is unknown."""
    return math.nan if value is None or pd.isna(value) else float(value)


def _count(value: Any) -> int:
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    return 0 if value is None or pd.isna(value) else int(value)


@dataclass(frozen=True)
class ModelEvidence:
    """The model behind the predictions.

    Attributes:
        name: of the artifact.
        artifact: the model, or None where only predictions are there.
        card: its ``model.json``.
        classes: its classes and which are malignant.
        threshold: alarm threshold.
        attributes: names of the attributes it reads, in order.
        untrained: what it has not learnt; None where it has learnt, or where that is not known.
        measures: whether it reads the outline or what was measured inside it; True where that is not known.
        withdrawn: photos it has learnt from whose patients withdrew their consent since.
    """

    name: str
    artifact: Artifact | None
    card: Mapping[str, Any]
    classes: ClassSet | None
    threshold: float
    attributes: tuple[str, ...]
    untrained: Untrained | None = None
    measures: bool = True
    withdrawn: int = 0

    @property
    def knows_nothing(self) -> bool:
        """Whether it has not learnt the diagnosis: what it says of a lesion is not shown."""
        return untrained.knows_nothing(self.untrained)

    def label(self, class_: str) -> str:
        """The English label of a class."""
        labels = self.classes.labels if self.classes else {}
        return str(labels.get(class_, class_))

    @property
    def synthetic(self) -> dict[str, str] | None:
        """Of synthetic images among its training rows: how many, the generator, and how many of each class and fold."""
        about = self.card.get("synthetic")
        if not about:
            return None
        folds = about["images"]
        counts = (f"{fold}: {', '.join(f'{code} {n}' for code, n in of.items())}" for fold, of in folds.items())
        n = sum(n for of in folds.values() for n in of.values())
        return {"n": str(n), "parent": str(about["parent"]), "counts": "; ".join(counts)}

    @property
    def malignant_labels(self) -> list[str]:
        """English labels of the malignant classes, in the model's order."""
        if self.classes is None:
            return []
        return [self.label(c) for c in self.classes.classes if c in self.classes.malignant]


def model_evidence(
    name: str, artifact: Artifact | None, cohorts: Sequence[CohortEvidence], withdrawn: int = 0
) -> ModelEvidence:
    """What is known of the model: from its own file, else from predictions made with it."""
    from skinkit.stats.encoders import ENCODERS

    card: dict[str, Any] = {}
    if artifact is not None and (artifact.path / "model.json").is_file():
        card = artifact.json("model.json")
    info = next((c.artifacts["predictions"].info for c in cohorts if c.has("predictions")), {})
    classes = card.get("classes") or info.get("classes")
    encoder = card.get("attributes")
    encoder = encoder.get("name") if isinstance(encoder, Mapping) else encoder
    attributes = tuple(a.name for a in ENCODERS[encoder]) if encoder in ENCODERS else ()
    return ModelEvidence(
        name=name,
        artifact=artifact,
        card=card,
        classes=ClassSet.from_dict(classes) if isinstance(classes, Mapping) else None,
        threshold=number(card.get("threshold", info.get("threshold"))),
        attributes=attributes,
        untrained=_untrained(card, info),
        measures=_measures(card),
        withdrawn=withdrawn,
    )


def _measures(card: Mapping[str, Any]) -> bool:
    """Whether the model of a card reads outlines; of one that is not installed here that is taken for granted."""
    name, radiomics = cell_text(card.get("model")), card.get("radiomics")
    try:
        reads = load_model(name).READS if name else ("mask",)
    except (SkinkitError, ImportError):
        return True
    measured = not isinstance(radiomics, Mapping) or bool(radiomics.get("features"))
    return "mask" in reads or ("radiomics" in reads and measured) or bool(card.get("members"))


def _untrained(card: Mapping[str, Any], info: Mapping[str, Any]) -> Untrained | None:
    """By ``model.json``, else by what the predictions recorded."""
    if card:
        return untrained.of_model(card)
    recorded = info.get(UNTRAINED)
    return Untrained.from_dict(recorded) if recorded else None


def attributions(explanation: Mapping[str, Any] | None, *, limit: int) -> list[dict[str, Any]]:
    """The strongest contributions of an explanation: attribute, value, contribution."""
    text = cell_text(explanation.get("attributions_json")) if explanation else ""
    if not text:
        return []
    rows = [row for row in json.loads(text) if math.isfinite(number(row.get("contribution")))]
    rows.sort(key=lambda row: (-abs(float(row["contribution"])), str(row["attribute"])))
    return rows[:limit]
