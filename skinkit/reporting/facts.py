"""Facts of a study, each with its source artifact, for checklists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skinkit.artifacts.tables import cell_text, records
from skinkit.audit.test_access_log import LEDGER
from skinkit.reporting.evidence import CohortEvidence
from skinkit.reporting.research import ReportContext
from skinkit.reporting.warnings import find_warnings
from skinkit.stats.notes import MINIMUM_PATIENTS

Fact = tuple[str, str]
"""A sentence and its source."""

_SECRET = ("allow_leakage",)
_FACTS = {
    **{
        name: f"_{name}"
        for name in (
            "sources",
            "flow",
            "preprocessing",
            "missing",
            "acquisition",
            "truth",
            "classes",
            "partitions",
            "leakage",
            "sizes",
            "balance",
            "model",
            "initialisation",
            "training",
            "ensemble",
            "updating",
            "predictors",
            "software",
            "reproduce",
            "metrics",
            "intervals",
            "thresholds",
            "calibration",
            "performance",
            "internal",
            "external",
            "drift",
            "subgroups",
            "shortcuts",
            "explanations",
            "failures",
            "warnings",
            "population",
            "skin",
            "synthetic",
            "novelty",
            "segmentation",
            "radiomics",
            "signature",
            "primary",
        )
    },
    "licences": "_sources",
    "selection": "_training",
}
"""Name of a fact -> its method."""


@dataclass(frozen=True)
class FactSheet:
    """Facts by name.

    Attributes:
        context: evidence and words.
    """

    context: ReportContext

    def facts(self, *names: str) -> list[Fact]:
        """All facts of these names, each once."""
        facts: list[Fact] = []
        for name in names:
            facts += [fact for fact in getattr(self, _FACTS[name])() if fact not in facts]
        return facts

    @staticmethod
    def names() -> frozenset[str]:
        """Every name of a fact."""
        return frozenset(_FACTS)

    # -- helpers

    def _say(self, key: str, **values: Any) -> str:
        return self.context.words(f"facts.{key}", **values)

    def _pair(self, name: object, value: object) -> str:
        return self.context.words("pair", name=name, value=value)

    def _labelled(self) -> list[CohortEvidence]:
        return [c for c in self.context.ordered if c.cohort.role != "inference"]

    def _scored(self) -> list[CohortEvidence]:
        return [c for c in self.context.ordered if c.has("metrics")]

    def _settings(self, kind: str) -> Iterator[Fact]:
        """The distinct settings of the artifacts of a kind."""
        names_by_settings: dict[str, list[str]] = {}
        for name, artifact in self.context.inputs.items():
            if artifact.recipe["kind"] == kind:
                config = {k: v for k, v in artifact.config.items() if k not in _SECRET and v not in ("", None)}
                names_by_settings.setdefault(json.dumps(config, ensure_ascii=False, sort_keys=True), []).append(name)
        for settings, names in names_by_settings.items():
            yield self._say("settings", what=self._say(f"of.{kind}"), settings=settings), ", ".join(names)

    def _card(self) -> Mapping[str, Any]:
        return self.context.model.card

    def _model_name(self) -> str:
        return f"models/{self.context.model.name}"

    # -- data

    def _sources(self) -> Iterator[Fact]:
        for row in self.context._sources():
            text = self.context.words.listed([v for k in ("source", "licence", "citation") if (v := row[k]) != "–"])
            yield self._pair(row["cohort"], text), f"{row['cohort']}/cases"

    def _flow(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            steps = [f"{self.context.words(f'step.{step.key}')} {step.count:,}" for step in c.flow()]
            yield self._pair(c.name, self.context.words.listed(steps)), f"{c.name}/cases"
            losses = [self.context.teller.loss(loss) for step in c.flow() for loss in step.losses]
            if losses:
                yield self._pair(c.name, self.context.words.listed(losses)), f"{c.name}/cases"

    def _population(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            for line in self.context._population(c):
                yield self._pair(c.name, line), f"{c.name}/cases"

    def _skin(self) -> Iterator[Fact]:
        for c in self._labelled():
            types = [f"{float(name):.0f}: {n}" for name, n in sorted(c.counts("fitzpatrick"))]
            words = self.context.words
            text = words("who.fitzpatrick", values=words.listed(types)) if types else words("who.no_fitzpatrick")
            yield self._pair(c.name, text), f"{c.name}/cases"

    def _acquisition(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            parts = [self.context.words("who.modality", values=self.context._tally(c, "modality", "value"))]
            for column in ("centre", "device"):
                if counts := c.counts(column):
                    values = self.context.words.listed([f"{name} {n}" for name, n in counts])
                    parts.append(self._pair(self.context.words.attribute(column), values))
            yield self._pair(c.name, self.context.words.listed(parts)), f"{c.name}/cases"

    def _synthetic(self) -> Iterator[Fact]:
        if self.context.model.synthetic:
            yield self._say("synthetic_rows", **self.context.model.synthetic), self._model_name()
        for c in self.context.ordered:
            yield self._say("synthetic" if c.is_phantom else "no_synthetic", cohort=c.name), f"{c.name}/cases"

    def _missing(self) -> Iterator[Fact]:
        yield self._say("missing"), self._model_name()
        for c in self._labelled():
            absent = {n: int(c.usable[n].isna().sum()) for n in self.context.model.attributes if n in c.usable}
            counts = [f"{self.context.words.attribute(name)} {n}" for name, n in absent.items() if n]
            if counts:
                text = self._say("missing_counts", values=self.context.words.listed(counts))
                yield self._pair(c.name, text), f"{c.name}/cases"

    def _truth(self) -> Iterator[Fact]:
        words = self.context.words
        for c in self._labelled():
            yield (
                self._pair(c.name, words("who.confirmed", values=self.context._tally(c, "confirmed_by", "value"))),
                (f"{c.name}/cases"),
            )
            yield (
                self._pair(c.name, words("who.diagnoses", values=self.context._tally(c, "diagnosis", "diagnosis"))),
                (f"{c.name}/cases"),
            )

    def _classes(self) -> Iterator[Fact]:
        if self.context.model.classes is not None:
            names = [
                self.context.words.diagnosis(self.context.model.label(c)) for c in self.context.model.classes.classes
            ]
            yield self._say("classes", classes=self.context.words.listed(names)), self._model_name()
            yield self.context.teller.malignant_set(), self._model_name()

    def _preprocessing(self) -> Iterator[Fact]:
        for kind in ("masks", "features", "fused"):
            yield from self._settings(kind)

    def _segmentation(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            if c.masks is not None:
                text = self.context.words("who.masked", segmenter=c.segmenter)
                iou = c.iou
                if len(iou):
                    text = self.context.words.listed([text, self._say("iou", value=f"{iou.mean():.2f}", n=len(iou))])
                yield self._pair(c.name, text), f"{c.name}/masks"

    def _radiomics(self) -> Iterator[Fact]:
        yield from self._settings("features")

    def _signature(self) -> Iterator[Fact]:
        for name, artifact in self.context.inputs.items():
            if artifact.recipe["kind"] == "signature":
                yield from ((line, name) for line in self.context._signature(artifact))
                yield self._say("signature"), name

    # -- partitions

    def _partitions(self) -> Iterator[Fact]:
        yield from self._settings("split")

    def _sizes(self) -> Iterator[Fact]:
        artifact = self.context.model.artifact
        for row in records(artifact.table()) if artifact is not None else []:
            values = {k: cell_text(row.get(k)) or "–" for k in ("fold", "n_train", "n_validation", "n_held_out")}
            yield self._say("sizes", **values), self._model_name()
        for c in self._scored():
            facts = self.context._panel(c)["facts"]
            yield self._pair(c.name, self.context.words.listed(facts)), f"{c.name}/metrics"

    def _balance(self) -> Iterator[Fact]:
        for c in self._scored():
            counts = c.artifacts["metrics"].info.get("n_by_class") or {}
            parts = [f"{code} {n}" for code, n in counts.items()]
            if parts:
                yield self._pair(c.name, self.context.words.listed(parts)), f"{c.name}/metrics"

    def _leakage(self) -> Iterator[Fact]:
        for c in self._scored():
            leakage = c.artifacts["metrics"].info.get("leakage")
            if leakage:
                text = self._say("leakage", n=leakage["cases"], near=c.n_near, kinds=", ".join(leakage["compared"]))
                yield self._pair(c.name, text), f"{c.name}/metrics"
            searched = ((leakage or {}).get("copies") or {}).get("search")
            if searched and (searched["why_not"] or not searched["photos"][0] or not searched["others"][0]):
                yield self._pair(c.name, self._say("copies_by_hash")), f"{c.name}/metrics"
            elif searched:
                (n, of), (others, of_others) = searched["photos"], searched["others"]
                text = self._say("copies", n=n, of=of, others=others, of_others=of_others)
                yield self._pair(c.name, text), f"{c.name}/metrics"
            if c.allowed_leakage:
                text = self._say("leakage_allowed", reason=c.allowed_leakage)
                yield self._pair(c.name, text), f"{c.name}/metrics"

    # -- model

    def _model(self) -> Iterator[Fact]:
        if self.context.model.artifact is not None:
            yield self.context._model_line(), self._model_name()

    def _predictors(self) -> Iterator[Fact]:
        names = [self.context.words.attribute(name) for name in self.context.model.attributes]
        if names:
            yield self._say("predictors", names=self.context.words.listed(names)), self._model_name()
        yield from self._signature()

    def _initialisation(self) -> Iterator[Fact]:
        weights = self._card().get("weights")
        if isinstance(weights, Mapping) and weights.get("name"):
            sha = cell_text(weights.get("sha256"))[:16]
            yield self.context.words("model.weights", name=weights["name"], sha=sha), self._model_name()
        elif self._card():
            yield self._say("no_weights", seed=self._card().get("seed")), self._model_name()

    def _training(self) -> Iterator[Fact]:
        yield from self._settings("models")
        if settings := self._card().get("settings"):
            text = json.dumps(settings, ensure_ascii=False, sort_keys=True, default=str)
            yield self._say("settings", what=cell_text(self._card().get("model")), settings=text), self._model_name()

    def _ensemble(self) -> Iterator[Fact]:
        if folds := self._card().get("folds"):
            yield self._say("ensemble", folds=len(folds)), self._model_name()

    def _updating(self) -> Iterator[Fact]:
        yield self._say("updating"), self._model_name()

    def _software(self) -> Iterator[Fact]:
        yield self.context.words.listed(self.context._versions()), "manifest.json"

    def _reproduce(self) -> Iterator[Fact]:
        if self.context.model.artifact is not None:
            yield self._say("identity", identity=self.context.model.artifact.identity), self._model_name()
        yield from self._software()

    # -- evaluation

    def _primary(self) -> Iterator[Fact]:
        endpoints = [(c, self.context._primary(c)) for c in self._scored()]
        yield from ((self._pair(c.name, text), f"{c.name}/metrics") for c, text in endpoints if text)
        if endpoints and not any(text for _, text in endpoints):
            yield self.context.words("primary.none"), "skinkit.toml"

    def _metrics(self) -> Iterator[Fact]:
        for c in self._scored()[:1]:
            names = sorted(set(c.metrics["metric"])) if c.metrics is not None else []
            metric_names = self.context.words.listed([self.context.words.code("metric", name) for name in names])
            yield self._say("metrics", names=metric_names), f"{c.name}/metrics"

    def _intervals(self) -> Iterator[Fact]:
        for c in self._scored()[:1]:
            info = c.artifacts["metrics"].info
            yield self._say("intervals", patients=MINIMUM_PATIENTS, minimum=info.get("minimum")), f"{c.name}/metrics"

    def _thresholds(self) -> Iterator[Fact]:
        if rule := self.context._alarm_rule():
            yield rule, self._model_name()
        for line in self.context._how_sure(self._scored())[-1:] if self._scored() else []:
            yield line, self._model_name()

    def _calibration(self) -> Iterator[Fact]:
        words = self.context.words
        for c in self._scored():
            parts = []
            for metric in ("brier", "ece", "calibration_slope", "calibration_intercept"):
                figure = c.figure(metric, "none")
                if figure is not None and figure.has_estimate:
                    parts.append(f"{words.code('metric', metric)} {self.context._with_interval(figure)}")
            if parts:
                yield self._pair(c.name, words.listed(parts)), f"{c.name}/metrics"

    def _performance(self) -> Iterator[Fact]:
        yield from self._figures(self._scored())

    def _internal(self) -> Iterator[Fact]:
        yield from self._figures([c for c in self._scored() if c.cohort.role == "development"])

    def _external(self) -> Iterator[Fact]:
        outside = [c for c in self._scored() if c.cohort.role == "external"]
        yield from self._figures(outside)
        for c in outside:
            if c.test_access_number:
                yield (
                    self._pair(c.name, self.context.words("test_access", n=c.test_access_number)),
                    LEDGER,
                )
        if self._scored() and not outside:
            yield self._say("no_external"), "skinkit.toml"

    def _figures(self, cohorts: list[CohortEvidence]) -> Iterator[Fact]:
        words = self.context.words
        for c in cohorts:
            figures = [
                f"{words.code('metric', metric)} {self.context._with_interval(figure)}"
                for metric, rule in (("auroc", "none"), ("sensitivity", "veto"), ("specificity", "veto"))
                if (figure := c.figure(metric, rule)) is not None
            ]
            yield self._pair(f"{c.name} ({words(f'role.{c.cohort.role}')})", words.listed(figures)), f"{c.name}/metrics"

    def _drift(self) -> Iterator[Fact]:
        for name, answer in self.context.drift.items():
            shifted = sum(bool(row["shifted"]) for row in answer["inputs"])
            domain = (answer["domain"] or {}).get("auroc")
            if domain is not None:
                text = self.context.words(
                    "where.drift", cohort=name, n=shifted, total=len(answer["inputs"]), auroc=f"{domain:.2f}"
                )
                yield text, "drift.json"

    def _subgroups(self) -> Iterator[Fact]:
        for c in self._scored():
            gaps = self.context._gaps(c)
            text = self.context.words.listed(gaps) if gaps else self.context.words("gaps.none", n=c.n_gaps_tested)
            yield self._pair(c.name, text), f"{c.name}/metrics"

    def _shortcuts(self) -> Iterator[Fact]:
        for c in self._scored():
            if c.shortcuts is not None:
                counts: dict[str, int] = {}
                for row in c.shortcuts["cues"]:
                    counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
                verdicts = [f"{self.context.words(f'verdict.{verdict}')} {n}" for verdict, n in counts.items()]
                yield self._pair(c.name, self.context.words.listed(verdicts)), f"{c.name}/metrics"

    def _explanations(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            if c.explanations:
                methods = sorted({cell_text(row.get("method")) for row in c.explanations.values()} - {""})
                text = self._say("explanations", n=len(c.explanations), methods=", ".join(methods) or "–")
                yield self._pair(c.name, text), f"{c.name}/explanations"

    def _failures(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            yield self._pair(c.name, self._say("failures", n=len(c.failures()))), f"{c.name}/cases"

    def _warnings(self) -> Iterator[Fact]:
        for warning in find_warnings(
            self.context.ordered,
            self.context.drift,
            self.context.model.untrained,
            withdrawn=self.context.model.withdrawn,
        ):
            yield self.context.teller.warning(warning).text, "report"

    def _novelty(self) -> Iterator[Fact]:
        for c in self.context.ordered:
            if c.n_unlike is not None:
                n, total = c.n_unlike
                yield self._pair(c.name, self._say("novelty", n=n, total=total)), f"{c.name}/predictions"
