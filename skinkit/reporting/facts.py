"""What the pipeline knows of a study, fact by fact, each with the artifact it stands in: for checklists and cards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skinkit.reporting.evidence import CohortEvidence, records, said
from skinkit.reporting.research import ReportContext
from skinkit.reporting.warnings import find_warnings

Fact = tuple[str, str]
"""A sentence, and where it comes from."""

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
"""Name of a fact -> the method that tells it."""


@dataclass(frozen=True)
class FactSheet:
    """Answers by name of the fact.

    Attributes:
        study: evidence and words.
    """

    study: ReportContext

    def facts(self, *names: str) -> list[Fact]:
        """All facts of these names, each once."""
        found: list[Fact] = []
        for name in names:
            found += [fact for fact in getattr(self, _FACTS[name])() if fact not in found]
        return found

    @staticmethod
    def names() -> frozenset[str]:
        """Every name of a fact."""
        return frozenset(_FACTS)

    # -- helpers

    def _say(self, key: str, **values: Any) -> str:
        return self.study.words(f"facts.{key}", **values)

    def _pair(self, name: object, value: object) -> str:
        return self.study.words("pair", name=name, value=value)

    def _labelled(self) -> list[CohortEvidence]:
        return [c for c in self.study.ordered if c.cohort.role != "inference"]

    def _scored(self) -> list[CohortEvidence]:
        return [c for c in self.study.ordered if c.has("metrics")]

    def _settings(self, kind: str) -> Iterator[Fact]:
        """The settings of every artifact of a kind, those alike only once."""
        told: dict[str, list[str]] = {}
        for name, artifact in self.study.inputs.items():
            if artifact.recipe["kind"] == kind:
                config = {k: v for k, v in artifact.config.items() if k not in _SECRET and v not in ("", None)}
                told.setdefault(json.dumps(config, ensure_ascii=False, sort_keys=True), []).append(name)
        for settings, names in told.items():
            yield self._say("settings", what=self._say(f"of.{kind}"), settings=settings), ", ".join(names)

    def _card(self) -> Mapping[str, Any]:
        return self.study.model.card

    def _model_name(self) -> str:
        return f"models/{self.study.model.name}"

    # -- data

    def _sources(self) -> Iterator[Fact]:
        for row in self.study._sources():
            text = self.study.words.listed([v for k in ("source", "licence", "citation") if (v := row[k]) != "–"])
            yield self._pair(row["cohort"], text), f"{row['cohort']}/cases"

    def _flow(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            steps = [f"{self.study.words(f'step.{step.key}')} {step.count:,}" for step in c.flow()]
            yield self._pair(c.name, self.study.words.listed(steps)), f"{c.name}/cases"
            losses = [self.study.teller.loss(loss) for step in c.flow() for loss in step.losses]
            if losses:
                yield self._pair(c.name, self.study.words.listed(losses)), f"{c.name}/cases"

    def _population(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            for line in self.study._population(c):
                yield self._pair(c.name, line), f"{c.name}/cases"

    def _skin(self) -> Iterator[Fact]:
        for c in self._labelled():
            types = [f"{float(name):.0f}: {n}" for name, n in sorted(c.counts("fitzpatrick"))]
            words = self.study.words
            text = words("who.fitzpatrick", values=words.listed(types)) if types else words("who.no_fitzpatrick")
            yield self._pair(c.name, text), f"{c.name}/cases"

    def _acquisition(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            told = [self.study.words("who.modality", values=self.study._tally(c, "modality", "value"))]
            for column in ("centre", "device"):
                if counts := c.counts(column):
                    values = self.study.words.listed([f"{name} {n}" for name, n in counts])
                    told.append(self._pair(self.study.words.attribute(column), values))
            yield self._pair(c.name, self.study.words.listed(told)), f"{c.name}/cases"

    def _synthetic(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            yield self._say("synthetic" if c.is_phantom else "no_synthetic", cohort=c.name), f"{c.name}/cases"

    def _missing(self) -> Iterator[Fact]:
        yield self._say("missing"), self._model_name()
        for c in self._labelled():
            absent = {n: int(c.usable[n].isna().sum()) for n in self.study.model.attributes if n in c.usable}
            told = [f"{self.study.words.attribute(name)} {n}" for name, n in absent.items() if n]
            if told:
                text = self._say("missing_counts", values=self.study.words.listed(told))
                yield self._pair(c.name, text), f"{c.name}/cases"

    def _truth(self) -> Iterator[Fact]:
        words = self.study.words
        for c in self._labelled():
            yield (
                self._pair(c.name, words("who.confirmed", values=self.study._tally(c, "confirmed_by", "value"))),
                (f"{c.name}/cases"),
            )
            yield (
                self._pair(c.name, words("who.diagnoses", values=self.study._tally(c, "diagnosis", "diagnosis"))),
                (f"{c.name}/cases"),
            )

    def _classes(self) -> Iterator[Fact]:
        if self.study.model.classes is not None:
            names = [self.study.words.diagnosis(self.study.model.label(c)) for c in self.study.model.classes.classes]
            yield self._say("classes", classes=self.study.words.listed(names)), self._model_name()
            yield self.study.teller.malignant_set(), self._model_name()

    def _preprocessing(self) -> Iterator[Fact]:
        for kind in ("masks", "features", "fused"):
            yield from self._settings(kind)

    def _segmentation(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            if c.masks is not None:
                text = self.study.words("who.masked", segmenter=c.segmenter)
                iou = c.iou
                if len(iou):
                    text = self.study.words.listed([text, self._say("iou", value=f"{iou.mean():.2f}", n=len(iou))])
                yield self._pair(c.name, text), f"{c.name}/masks"

    def _radiomics(self) -> Iterator[Fact]:
        yield from self._settings("features")

    def _signature(self) -> Iterator[Fact]:
        for name, artifact in self.study.inputs.items():
            if artifact.recipe["kind"] == "signature":
                yield from ((line, name) for line in self.study._signature(artifact))
                yield self._say("signature"), name

    # -- partitions

    def _partitions(self) -> Iterator[Fact]:
        yield from self._settings("split")

    def _sizes(self) -> Iterator[Fact]:
        artifact = self.study.model.artifact
        for row in records(artifact.table()) if artifact is not None else []:
            values = {k: said(row.get(k)) or "–" for k in ("fold", "n_train", "n_validation", "n_held_out")}
            yield self._say("sizes", **values), self._model_name()
        for c in self._scored():
            facts = self.study._panel(c)["facts"]
            yield self._pair(c.name, self.study.words.listed(facts)), f"{c.name}/metrics"

    def _balance(self) -> Iterator[Fact]:
        for c in self._scored():
            counts = c.artifacts["metrics"].info.get("n_by_class") or {}
            told = [f"{code} {n}" for code, n in counts.items()]
            if told:
                yield self._pair(c.name, self.study.words.listed(told)), f"{c.name}/metrics"

    def _leakage(self) -> Iterator[Fact]:
        for c in self._scored():
            found = c.artifacts["metrics"].info.get("leakage")
            if found:
                text = self._say("leakage", n=found["cases"], near=c.n_near, kinds=", ".join(found["compared"]))
                yield self._pair(c.name, text), f"{c.name}/metrics"
            if c.allowed_leakage:
                text = self._say("leakage_allowed", reason=c.allowed_leakage)
                yield self._pair(c.name, text), f"{c.name}/metrics"

    # -- model

    def _model(self) -> Iterator[Fact]:
        if self.study.model.artifact is not None:
            yield self.study._model_line(), self._model_name()

    def _predictors(self) -> Iterator[Fact]:
        names = [self.study.words.attribute(name) for name in self.study.model.attributes]
        if names:
            yield self._say("predictors", names=self.study.words.listed(names)), self._model_name()
        yield from self._signature()

    def _initialisation(self) -> Iterator[Fact]:
        weights = self._card().get("weights")
        if isinstance(weights, Mapping) and weights.get("name"):
            sha = said(weights.get("sha256"))[:16]
            yield self.study.words("model.weights", name=weights["name"], sha=sha), self._model_name()
        elif self._card():
            yield self._say("no_weights", seed=self._card().get("seed")), self._model_name()

    def _training(self) -> Iterator[Fact]:
        yield from self._settings("models")
        if settings := self._card().get("settings"):
            text = json.dumps(settings, ensure_ascii=False, sort_keys=True, default=str)
            yield self._say("settings", what=said(self._card().get("model")), settings=text), self._model_name()

    def _ensemble(self) -> Iterator[Fact]:
        if folds := self._card().get("folds"):
            yield self._say("ensemble", folds=len(folds)), self._model_name()

    def _updating(self) -> Iterator[Fact]:
        yield self._say("updating"), self._model_name()

    def _software(self) -> Iterator[Fact]:
        yield self.study.words.listed(self.study._versions()), "manifest.json"

    def _reproduce(self) -> Iterator[Fact]:
        if self.study.model.artifact is not None:
            yield self._say("identity", identity=self.study.model.artifact.identity), self._model_name()
        yield from self._software()

    # -- evaluation

    def _primary(self) -> Iterator[Fact]:
        found = [(c, self.study._primary(c)) for c in self._scored()]
        yield from ((self._pair(c.name, text), f"{c.name}/metrics") for c, text in found if text)
        if found and not any(text for _, text in found):
            yield self.study.words("primary.none"), "skinkit.toml"

    def _metrics(self) -> Iterator[Fact]:
        for c in self._scored()[:1]:
            names = sorted(set(c.metrics["metric"])) if c.metrics is not None else []
            told = self.study.words.listed([self.study.words.code("metric", name) for name in names])
            yield self._say("metrics", names=told), f"{c.name}/metrics"

    def _intervals(self) -> Iterator[Fact]:
        for c in self._scored()[:1]:
            info = c.artifacts["metrics"].info
            yield self._say("intervals", n=info.get("bootstrap"), minimum=info.get("minimum")), f"{c.name}/metrics"

    def _thresholds(self) -> Iterator[Fact]:
        if rule := self.study._alarm_rule():
            yield rule, self._model_name()
        for line in self.study._how_sure(self._scored())[-1:] if self._scored() else []:
            yield line, self._model_name()

    def _calibration(self) -> Iterator[Fact]:
        words = self.study.words
        for c in self._scored():
            told = []
            for metric in ("brier", "ece", "calibration_slope", "calibration_intercept"):
                figure = c.figure(metric, "none")
                if figure is not None and figure.known:
                    told.append(f"{words.code('metric', metric)} {self.study._with_interval(figure)}")
            if told:
                yield self._pair(c.name, words.listed(told)), f"{c.name}/metrics"

    def _performance(self) -> Iterator[Fact]:
        yield from self._figures(self._scored())

    def _internal(self) -> Iterator[Fact]:
        yield from self._figures([c for c in self._scored() if c.cohort.role == "development"])

    def _external(self) -> Iterator[Fact]:
        outside = [c for c in self._scored() if c.cohort.role == "external"]
        yield from self._figures(outside)
        for c in outside:
            if c.look:
                yield self._pair(c.name, self.study.words("test_access", n=c.look)), "looks.jsonl"
        if self._scored() and not outside:
            yield self._say("no_external"), "skinkit.toml"

    def _figures(self, cohorts: list[CohortEvidence]) -> Iterator[Fact]:
        words = self.study.words
        for c in cohorts:
            told = [
                f"{words.code('metric', metric)} {self.study._with_interval(figure)}"
                for metric, rule in (("auroc", "none"), ("sensitivity", "veto"), ("specificity", "veto"))
                if (figure := c.figure(metric, rule)) is not None
            ]
            yield self._pair(f"{c.name} ({words(f'role.{c.cohort.role}')})", words.listed(told)), f"{c.name}/metrics"

    def _drift(self) -> Iterator[Fact]:
        for name, answer in self.study.drift.items():
            shifted = sum(bool(row["shifted"]) for row in answer["inputs"])
            domain = (answer["domain"] or {}).get("auroc")
            if domain is not None:
                text = self.study.words(
                    "where.drift", cohort=name, n=shifted, total=len(answer["inputs"]), auroc=f"{domain:.2f}"
                )
                yield text, "drift.json"

    def _subgroups(self) -> Iterator[Fact]:
        for c in self._scored():
            gaps = self.study._gaps(c)
            text = self.study.words.listed(gaps) if gaps else self.study.words("gaps.none", n=c.n_gaps_tested)
            yield self._pair(c.name, text), f"{c.name}/metrics"

    def _shortcuts(self) -> Iterator[Fact]:
        for c in self._scored():
            if c.shortcuts is not None:
                counts: dict[str, int] = {}
                for row in c.shortcuts["cues"]:
                    counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
                told = [f"{self.study.words(f'verdict.{verdict}')} {n}" for verdict, n in counts.items()]
                yield self._pair(c.name, self.study.words.listed(told)), f"{c.name}/metrics"

    def _explanations(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            if c.explanations:
                methods = sorted({said(row.get("method")) for row in c.explanations.values()} - {""})
                text = self._say("explanations", n=len(c.explanations), methods=", ".join(methods) or "–")
                yield self._pair(c.name, text), f"{c.name}/explanations"

    def _failures(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            yield self._pair(c.name, self._say("failures", n=len(c.failures()))), f"{c.name}/cases"

    def _warnings(self) -> Iterator[Fact]:
        for fear in find_warnings(self.study.ordered, self.study.drift):
            yield self.study.teller.fear(fear).text, "report"

    def _novelty(self) -> Iterator[Fact]:
        for c in self.study.ordered:
            if c.n_unlike is not None:
                n, total = c.n_unlike
                yield self._pair(c.name, self._say("novelty", n=n, total=total)), f"{c.name}/predictions"
