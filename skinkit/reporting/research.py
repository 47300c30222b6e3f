"""The research report: results first, then the supporting evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.tables import cell_text, records
from skinkit.evaluation.instructive import FALSE_ALARM, MISSED, instructive, verdict
from skinkit.learning.trained import effective_prevalence
from skinkit.reporting import cards, svg
from skinkit.reporting.audit_blocks import Trust
from skinkit.reporting.cards import Lesion
from skinkit.reporting.evidence import CohortEvidence, Figure, ModelEvidence, figure_of, number
from skinkit.reporting.html import Block, render, with_set_name
from skinkit.reporting.phrasing import Teller
from skinkit.reporting.warnings import find_warnings
from skinkit.reporting.words import Words, plain
from skinkit.schemas import OK
from skinkit.stats.notes import TOO_FEW_PATIENTS

_BYTES_PER_ROW = 2000
"""More than a row of any table takes, so that as many of them as bytes allow fit on a page."""
_LISTED = 1000
_HEATMAP_CASES = 150
_FEWEST_CLUSTERED = 3
_ENDPOINTS = (("sensitivity", "veto"), ("specificity", "veto"), ("auroc", "none"))
_MALIGNANCY = (
    ("auroc", "none"), ("average_precision", "none"), ("sensitivity", "veto"), ("specificity", "veto"), ("ppv", "veto"),
    ("npv", "veto"), ("balanced_accuracy", "veto"), ("sensitivity", "argmax"), ("specificity", "argmax"),
    ("pauc_above_80_sensitivity", "none"), ("sensitivity_at_95_specificity", "none"),
    ("specificity_at_95_sensitivity", "none"), ("mcc", "veto"), ("brier", "none"), ("ece", "none"),
    ("calibration_slope", "none"), ("calibration_intercept", "none"), ("ppv_at_prevalence", "veto"),
    ("npv_at_prevalence", "veto"),
)  # fmt: skip
_OVERALL = (
    ("balanced_accuracy", "macro", "argmax"), ("accuracy", "none", "argmax"), ("auroc", "macro", "none"),
    ("auroc", "weighted", "none"), ("f1", "macro", "argmax"), ("log_loss", "none", "none"), ("brier", "none", "none"),
    ("ece", "none", "none"), ("set_coverage", "none", "conformal_set"), ("set_size", "none", "conformal_set"),
)  # fmt: skip
_BESIDE = {
    "balanced_accuracy": ("balanced_accuracy", "argmax", "all", "macro"),
    "auroc_macro": ("auroc", "none", "all", "macro"),
    "auroc": ("auroc", "none", "malignant", "none"),
    "sensitivity": ("sensitivity", "veto", "malignant", "none"),
    "specificity": ("specificity", "veto", "malignant", "none"),
}
"""Key of a column -> metric, rule, class and average."""
_FIGURES = ("subgroups", "reliability", "decision", "roc", "referral", "pr", "confusion")
_NO_SHARE = ("calibration_slope", "calibration_intercept", "mcc", "log_loss", "set_size", "pauc_above_80_sensitivity")
_FOLDED = ("referral", "pr", "confusion")
_IN_A_TABLE = ("shortcuts",)
_TAGS = {MISSED: "missed", FALSE_ALARM: "false_alarm"}
"""Verdict of a call -> key of its text."""
_ROLE_ORDER = {"external": 0, "development": 1, "inference": 2}


@dataclass(frozen=True)
class ShownLesion:
    """A lesion chosen to be shown, and why."""

    group: str
    lesion: Lesion
    truth: str
    tag: str

    def key(self, cohort: str) -> str:
        """Of its pictures."""
        return f"{cohort}/{self.lesion.key}"


@dataclass(frozen=True)
class ReportContext:
    """What the report is made from.

    Attributes:
        cohorts: every cohort with cases.
        model: the model.
        inputs: input name -> artifact, for the provenance.
        words: the language.
        show_ids: whether case ids are printed.
        max_lesions: lesions with pictures at most, over all cohorts; 0 for all.
        page_bytes: largest page; long tables are cut into pieces that fit.
        root: the workspace, for places that are named.
        drift: external cohort -> what ``skinkit.audit.drift.compare`` answered.
        beside: name of another model, and a cohort with its metrics.
    """

    cohorts: Sequence[CohortEvidence]
    model: ModelEvidence
    inputs: Mapping[str, Artifact]
    words: Words
    show_ids: bool
    max_lesions: int
    page_bytes: int
    root: Path
    drift: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: Sequence[tuple[str, CohortEvidence]] = ()

    @cached_property
    def teller(self) -> Teller:
        """Renders facts as text."""
        return Teller(self.words, self.model)

    @cached_property
    def ordered(self) -> list[CohortEvidence]:
        """External cohorts first: their figures are the ones to believe."""
        return sorted(self.cohorts, key=lambda c: _ROLE_ORDER[c.cohort.role])

    @property
    def _rows_per_block(self) -> int:
        return max(20, self.page_bytes // _BYTES_PER_ROW)

    # -- which lesions are shown

    @cached_property
    def samples(self) -> dict[str, list[ShownLesion]]:
        """Cohort -> its most instructive lesions, in groups."""
        predicted = [c for c in self.ordered if c.predictions is not None]
        chosen = predicted or [c for c in self.ordered if c.masks is not None]
        share = max(3, self.max_lesions // max(len(chosen), 1) // 3 * 3) if self.max_lesions else 0
        return {c.name: self._samples(c, share) for c in chosen}

    def _samples(self, c: CohortEvidence, limit: int) -> list[ShownLesion]:
        if c.predictions is None:
            rows = records(c.usable.sort_values("image_id"))
            step = max(1, len(rows) // limit) if limit else 1
            picked = [{"level": "image", **row} for row in rows[::step]][: limit or None]
            lesions = cards.lesions_of(c, picked, self._names(picked))
            return [ShownLesion("sample", lesion, self._truth(lesion), "") for lesion in lesions]
        table = c.predictions[(c.predictions["level"] == "image") & (c.predictions["status"] == OK)]
        labelled = c.usable.dropna(subset=["diagnosis"])
        truth = dict(zip(labelled["case_id"], labelled["diagnosis"], strict=True))
        chosen = instructive(table, truth, self.model.classes, limit // 3)
        by_case = {row["case_id"]: row for row in records(table.sort_values("case_id"))}
        names = dict(zip(by_case, self._names(list(by_case.values())), strict=True))
        lesions = cards.lesions_of(c, [by_case[case] for _, case in chosen], [names[case] for _, case in chosen])
        return [
            ShownLesion(group, lesion, self._truth(lesion), self._tag(lesion))
            for (group, _), lesion in zip(chosen, lesions, strict=True)
        ]

    def _names(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        if self.show_ids:
            return [plain(row["case_id"]) for row in rows]
        return [self.words("lesion.n", n=n) for n in range(1, len(rows) + 1)]

    def _truth(self, lesion: Lesion) -> str:
        return cell_text(lesion.case.get("diagnosis"))

    def _tag(self, lesion: Lesion) -> str:
        """``missed``, ``false_alarm``, or empty where the call is right or the truth unknown."""
        return verdict(self._truth(lesion), cell_text(lesion.row.get("call")), self.model.classes)

    def picture_items(self) -> list[dict[str, Any]]:
        """What :func:`cards.draw_pictures` is to draw."""
        by_name = {c.name: c for c in self.cohorts}
        return [
            cards.picture_item(sample.lesion, by_name[name])
            for name, chosen in self.samples.items()
            for sample in chosen
        ]

    # -- the blocks

    def blocks(self, images: Mapping[str, Mapping[str, Any]]) -> list[Block]:
        """The document.

        Args:
            images: pictures by key of :func:`cards.picture_item`.
        """
        return [
            self._answers(),
            *self._trust(),
            *self._side_by_side(),
            *self._metrics(),
            *self._flow(),
            *self._overlap(),
            *self._lesions(images),
            *self._radiomic_heatmaps(),
            *self._failures(),
            *self._provenance(),
        ]

    def _too_large(self, what: str, size: int, place: Path) -> Markup:
        text = self.words(
            "too_large",
            what=self.words(what),
            size=f"{size / 1e6:.1f} MB",
            place=place.relative_to(self.root) if place.is_relative_to(self.root) else place.name,
        )
        return render("note.html", self.words, text=text)

    def _trust(self) -> Iterator[Block]:
        """Shortcuts and drift, where anything was scored."""
        trust = Trust(self.words, self.drift)
        scored = [c for c in self.ordered if c.has("metrics")]
        if scored:
            yield from trust.shortcuts(scored)
            yield from trust.from_inside_to_outside([c for c in scored if c.cohort.role == "external"])

    # answers

    def _answers(self) -> Block:
        scored = [c for c in self.ordered if c.has("metrics")]
        found = find_warnings(self.ordered, self.drift, measures=self.model.measures, withdrawn=self.model.withdrawn)
        warnings = [self.teller.warning(warning) for warning in found]
        html = render(
            "answers.html",
            self.words,
            untrained=self.teller.untrained(),
            about=self.words(
                "report.about", model=self.model.name, cohorts=self.words.listed([c.name for c in self.ordered])
            ),
            loud=[warning.text for warning in warnings if warning.loud],
            quiet=[warning.text for warning in warnings if not warning.loud],
            panels=[self._panel(c) for c in scored],
            populations=[
                {"name": c.name, "role": self.words(f"role.{c.cohort.role}"), "lines": self._population(c)}
                for c in self.ordered
            ],
            sure=self._how_sure(scored),
            no_primary=self.words("primary.none") if scored and not any(c.primary for c in scored) else "",
            alarm_rule=self._alarm_rule(),
            not_made=self._not_made("evaluate") if not scored else "",
        )
        return Block(html, "answers", self.words("answers"))

    def _not_made(self, stage: str) -> str:
        return self.words("not_made", command=f"skinkit {stage}")

    def _alarm_rule(self) -> Markup | str:
        if self.model.classes is None or math.isnan(self.model.threshold):
            return ""
        names = [self.words.diagnosis(label) for label in self.model.malignant_labels]
        rule = with_set_name(
            self.words,
            "alarm_rule",
            self.model.classes.malignant_set,
            threshold=self.words.share(self.model.threshold),
            classes=self.words.listed(names),
        )
        holds = effective_prevalence(self.model.card, self.model.classes.malignant)
        return rule if holds is None else rule + " " + self.words("stated_for", share=self.words.share(holds))

    def _panel(self, c: CohortEvidence) -> dict[str, Any]:
        figures = {metric: c.figure(metric, rule) for metric, rule in _ENDPOINTS}
        about = next((f for f in figures.values() if f is not None), None)
        facts = []
        if about is not None:
            facts = [self.words("n_cases", n=f"{about.n:,}"), self.words("n_clusters", n=f"{about.n_clusters:,}")]
            if about.n_positive is not None:
                facts.append(self.words("n_malignant", n=f"{about.n_positive:,}"))
                facts.append(self.words("n_benign", n=f"{about.n - about.n_positive:,}"))
        if c.test_access_number:
            facts.append(self.words("test_access", n=c.test_access_number))
        return {
            "name": c.name,
            "role": self.words(f"role.{c.cohort.role}"),
            "facts": facts,
            "primary": self._primary(c),
            "endpoints": [self._endpoint(metric, figure, c) for metric, figure in figures.items()],
            "counts": self.teller.table_of_counts(c),
            "levels": self._levels(c),
            "diagnosis": self._diagnosis_line(c),
        }

    def _primary(self, c: CohortEvidence) -> str:
        """The primary endpoint with its figure, and whether it was declared before the first access."""
        row = c.primary
        if row is None:
            return ""
        name = self.words.code("metric", row["metric"])
        if row["class"] not in ("all", "malignant"):
            name = f"{name}, {self.words.diagnosis(self.model.label(cell_text(row['class'])))}"
        figure = self._with_interval(figure_of(row))
        said_as = f"{name} ({self.words.code('rule', row['decision_rule'])}): {figure}"
        return self.words("pair", name=self._declared(row), value=said_as)

    def _declared(self, row: Mapping[str, Any]) -> str:
        """Whether the endpoint was declared before the first access, as the test access log has it."""
        on, first = (str(row.get(name) or "")[:10] for name in ("declared_on", "first_look"))
        if row.get("declared") == "beforehand":
            return self.words("primary", first=first)
        if row.get("declared") == "after":
            return self.words("primary.after", on=on, first=first)
        return self.words("primary.default" if row.get("declared") == "default" else "primary.unknown")

    def _levels(self, c: CohortEvidence) -> str:
        """The same three figures counted by lesion and by patient, where there are such rows."""
        lines = []
        for level in ("lesion", "patient"):
            figures = {m: c.figure(m, rule, subgroup=f"level={level}") for m, rule in _ENDPOINTS}
            about = next((f for f in figures.values() if f is not None), None)
            if about is not None and any(f is not None and f.has_estimate for f in figures.values()):
                values = {m: self._brief(f, share=m != "auroc") for m, f in figures.items()}
                lines.append(self.words("levels.one", level=self.words(f"level.{level}"), n=f"{about.n:,}", **values))
        return self.words("levels", others=self.words("levels.joined").join(lines)) if lines else ""

    def _brief(self, figure: Figure | None, *, share: bool) -> str:
        return "–" if figure is None else self._with_interval(figure, share=share)

    def _endpoint(self, metric: str, figure: Figure | None, c: CohortEvidence) -> dict[str, Any]:
        words = self.words
        label = words(f"endpoint.{metric}")
        if figure is None:
            return {"label": label, "value": "–", "interval": words("not_computed"), "plain": "", "bar": ""}
        if not figure.has_estimate:
            short, plainly = (words(f"{key}.{figure.note}") for key in ("missing_figure", "why_missing"))
            return {"label": label, "value": "–", "interval": short, "plain": plainly, "bar": ""}
        share = metric != "auroc"
        say = words.share if share else words.estimate
        interval = (
            words("interval", lower=say(figure.lower), upper=say(figure.upper))
            if figure.has_interval
            else words("too_few_patients" if figure.note == TOO_FEW_PATIENTS else "no_interval")
        )
        sentence, counts = "", c.alarms
        if metric == "sensitivity" and counts is not None:
            possible = self.teller.possible(counts.most_missed)
            sentence = words("plain.sensitivity", missed=counts.missed, n=counts.malignant, most=possible)
        elif metric == "specificity" and counts is not None:
            possible = self.teller.possible(counts.most_false)
            sentence = words("plain.specificity", false=counts.false, n=counts.benign, most=possible)
        bar = svg.whisker(figure.estimate, figure.lower, figure.upper, f"{label}: {say(figure.estimate)}")
        return {"label": label, "value": say(figure.estimate), "interval": interval, "plain": sentence, "bar": bar}

    def _diagnosis_line(self, c: CohortEvidence) -> str:
        bacc = c.figure("balanced_accuracy", "argmax", class_="all", average="macro")
        auroc = c.figure("auroc", "none", class_="all", average="macro")
        if bacc is None or auroc is None or self.model.classes is None or not bacc.has_estimate:
            return ""
        return self.words(
            "diagnosis_line",
            k=len(self.model.classes.classes),
            bacc=self._with_interval(bacc, share=True),
            auroc=self._with_interval(auroc),
        )

    def _with_interval(self, figure: Figure, *, share: bool = False) -> str:
        say = self.words.share if share else self.words.estimate
        if not figure.has_estimate:
            return self.words(f"missing_figure.{figure.note}")
        if not figure.has_interval:
            return say(figure.estimate)
        return f"{say(figure.estimate)} ({say(figure.lower)} – {say(figure.upper)})"

    def _how_sure(self, scored: Sequence[CohortEvidence]) -> list[str]:
        if not scored:
            return [self.words("no_metrics")]
        sentences = [self.words("sure_intervals", clusters=self.words("sure_clusters"))]
        if any(f is not None and f.exact for c in scored for f in (c.sensitivity, c.specificity)):
            sentences.append(self.words("sure_exact"))
        external = sum(c.cohort.role == "external" for c in scored)
        if external:
            sentences.append(self.words("sure_external", n=external))
        if any(c.test_access_number for c in scored):
            accesses = [
                self.words("where.test_access", cohort=c.name, n=c.test_access_number)
                for c in scored
                if c.test_access_number
            ]
            sentences.append(self.words("sure_test_access", where=self.words.listed(accesses)))
        rule = self.model.card.get("veto_rule")
        sources = [self.words("sure_frozen_rule", rule=rule) if rule else self.words("sure_frozen_veto")]
        if any(f is not None and (f.threshold_source or "").startswith("validation") for f in map(_frozen, scored)):
            sources.append(self.words("sure_frozen_youden"))
        sentences.append(self.words("sure_thresholds", source=self.words.listed(sources)))
        return sentences

    def _population(self, c: CohortEvidence) -> list[str]:
        words, usable = self.words, c.usable
        patients, lesions = int(usable["patient_id"].nunique()), int(usable["lesion_id"].nunique())
        lines = [
            words("who.patients", images=f"{len(usable):,}", lesions=f"{lesions:,}", patients=f"{patients:,}")
            if patients and lesions
            else words("who.images", images=f"{len(usable):,}")
        ]
        median, low, high, missing = c.ages()
        lines.append(
            words("who.no_age")
            if math.isnan(median)
            else words("who.age", median=f"{median:.0f}", low=f"{low:.0f}", high=f"{high:.0f}", missing=missing)
        )
        sexes = dict(c.counts("sex"))
        unknown = len(usable) - sum(sexes.values())
        lines.append(
            words("who.sex", female=sexes.get("female", 0), male=sexes.get("male", 0), missing=unknown)
            if sexes
            else words("who.no_sex")
        )
        lines.append(words("who.modality", values=self._tally(c, "modality", "value")))
        types = [(f"{float(name):.0f}", n) for name, n in c.counts("fitzpatrick")]
        lines.append(
            words("who.fitzpatrick", values=words.listed([f"{name}: {n}" for name, n in sorted(types)]))
            if types
            else words("who.no_fitzpatrick")
        )
        if c.cohort.role != "inference":
            lines.append(words("who.confirmed", values=self._tally(c, "confirmed_by", "value")))
            lines.append(words("who.diagnoses", values=self._tally(c, "diagnosis", "diagnosis")))
        if c.segmenter:
            lines.append(words("who.masked", segmenter=c.segmenter))
        return lines

    def _tally(self, c: CohortEvidence, column: str, family: str) -> str:
        counts = c.counts(column)
        say = self.words.diagnosis if family == "diagnosis" else lambda v: self.words.code(family, v)
        parts = [f"{say(name)} {n}" for name, n in counts]
        rest = len(c.usable) - sum(n for _, n in counts)
        return self.words.listed([*parts, *([f"{self.words('unknown')} {rest}"] if rest else [])])

    # flow

    def _flow(self) -> Iterator[Block]:
        for index, c in enumerate(self.ordered):
            steps = c.flow()
            boxes = [
                svg.FlowBox(
                    title=self.words(f"step.{step.key}"),
                    count=step.count,
                    notes=self._facts(dict(step.facts)),
                    losses=[self.teller.loss(loss) for loss in step.losses],
                )
                for step in steps
            ]
            rows = [
                {
                    "step": self.words(f"step.{step.key}"),
                    "status": self.words.code("status", loss.status),
                    "reason": self.words.reason(loss.reason),
                    "count": f"{loss.count:,}",
                }
                for step in steps
                for loss in step.losses
            ]
            html = render(
                "flow.html",
                self.words,
                first=index == 0,
                name=c.name,
                role=self.words(f"role.{c.cohort.role}"),
                drawing=svg.flow(boxes, self.words("flow.alt", cohort=c.name)),
                rows=rows,
            )
            anchor = "flow" if index == 0 else f"flow-{index + 1}"
            yield Block(html, anchor, self.words("flow") if index == 0 else "")

    def _facts(self, facts: Mapping[str, int]) -> list[str]:
        lines = []
        if facts.get("patients") or facts.get("lesions"):
            lines.append(self.words("step.people", patients=f"{facts['patients']:,}", lesions=f"{facts['lesions']:,}"))
        lines += [self.words(f"step.{k}", n=f"{facts[k]:,}") for k in ("labelled", "mask_failed") if k in facts]
        return lines

    # outlines

    def _overlap(self) -> Iterator[Block]:
        """Agreement with the manual masks; nothing where there are none, or where they are the masks themselves."""
        rows = []
        for c in self.ordered:
            if c.segmenter == "truth":
                continue
            for metric, figures in c.overlap().items():
                about = figures["mean"]
                rows.append(
                    {
                        "cohort": c.name,
                        "segmenter": c.segmenter,
                        "metric": self.words.code("metric", metric),
                        **{how: self._with_interval(figure) for how, figure in figures.items()},
                        "n": f"{about.n:,}",
                        "clusters": f"{about.n_clusters:,}",
                    }
                )
        if rows:
            yield Block(render("overlap.html", self.words, rows=rows), "overlap", self.words("overlap"))

    # lesions

    def _lesions(self, images: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
        intro = render("heading.html", self.words, anchor="lesions", title="lesions", text=self.words("lesions.intro"))
        yield Block(intro, "lesions", self.words("lesions"))
        if not any(self.samples.values()):
            yield Block(render("note.html", self.words, text=self._not_made("segment")))
        for c in self.ordered:
            chosen = self.samples.get(c.name, [])
            group = ""
            for sample in chosen:
                if sample.group != group:
                    group = sample.group
                    heading = self.words("pair", name=c.name, value=self.words(f"lesions.{group}"))
                    yield Block(render("subheading.html", self.words, text=heading))
                yield Block(self._lesion(sample, images[sample.key(c.name)]))
            total = self._n_lesions(c)
            if chosen and len(chosen) < total:
                text = self.words("lesions.left", shown=len(chosen), total=f"{total:,}")
                yield Block(render("note.html", self.words, text=self.words("pair", name=c.name, value=text)))

    @staticmethod
    def _n_lesions(c: CohortEvidence) -> int:
        p = c.predictions
        return len(c.usable) if p is None else int(((p["level"] == "image") & (p["status"] == OK)).sum())

    def _lesion(self, sample: ShownLesion, images: Mapping[str, Any]) -> Markup:
        lesion, words = sample.lesion, self.words
        said_line, worst = "", cards.worst_malignant(lesion, self.model)
        if cell_text(lesion.row.get("top1")) and not self.model.knows_nothing:
            first = words.diagnosis(self.model.label(cell_text(lesion.row["top1"])))
            said = [f"{first} {words.probability(number(lesion.row['top1_p']))}"]
            if worst is not None and worst[0] != cell_text(lesion.row["top1"]):
                name, share = words.diagnosis(self.model.label(worst[0])), words.probability(worst[1])
                said.append(words("say.worst", name=name, share=share))
            said_line = words("pair", name=words("said"), value=words("semicolon").join(said))
        malignancy = lesion.malignancy
        bar: Markup | str = ""
        if not math.isnan(malignancy):
            value, threshold = cards.two_figures(malignancy, lesion.threshold, words)
            label = words("bar.alt", value=value, threshold=threshold)
            bar = svg.small_bar(malignancy, label, threshold=lesion.threshold, alarm=lesion.alarm)
        entropy = number(lesion.row.get("entropy"))
        return render(
            "lesion.html",
            words,
            name=lesion.name,
            pictures=cards.pictures(lesion, images, words),
            truth=words("pair", name=words("truth"), value=words.diagnosis(sample.truth))
            if sample.truth
            else words("truth.unknown"),
            said=said_line,
            tag=words(_TAGS[sample.tag]) if sample.tag else "",
            reasons=[
                words("pair", name=one.name, value=one.effect) for one in cards.influences(lesion, words, limit=3)
            ],
            suspicion="" if math.isnan(malignancy) else words("suspicion", value=words.probability(malignancy)),
            undecided="" if math.isnan(entropy) else words("undecided", value=words.share(entropy)),
            bar=bar,
        )

    # radiomic heatmap

    def _radiomic_heatmaps(self) -> Iterator[Block]:
        text = self.words("radiomic_heatmap.intro")
        heading = render("heading.html", self.words, anchor="radiomics", title="radiomic_heatmap", text=text)
        yield Block(heading, "radiomics", self.words("radiomic_heatmap"))
        fused = [c for c in self.ordered if c.has("fused")]
        if not fused:
            yield Block(render("note.html", self.words, text=self._not_made("radiomics")))
        for index, c in enumerate(fused):
            yield from self._radiomic_heatmap(c, folded=index > 0)

    def _radiomic_heatmap(self, c: CohortEvidence, *, folded: bool) -> Iterator[Block]:
        from skinkit.figures.curves import radiomic_heatmap
        from skinkit.stats.encoders import radiomic_columns

        fused = c.artifacts["fused"].table()
        names = radiomic_columns(fused.columns)
        measured = fused[fused[names].notna().any(axis=1)].sort_values("case_id") if names else fused.iloc[:0]
        if len(measured) < _FEWEST_CLUSTERED:
            return
        total = len(measured)
        if total > _HEATMAP_CASES:
            step = (total - 1) / (_HEATMAP_CASES - 1)
            measured = measured.iloc[[round(i * step) for i in range(_HEATMAP_CASES)]]
        values = measured[names].to_numpy(float)
        spread = np.nanstd(values, axis=0)
        varied = spread > 1e-12 * np.maximum(1.0, np.abs(np.nanmean(values, axis=0)))
        z = ((values - np.nanmean(values, axis=0)) / np.where(varied, spread, 1.0))[:, varied]
        diagnoses = [cell_text(value) or "unknown" for value in measured["diagnosis"]]
        labels = {code: self._diagnosis_or_unknown(code) for code in self._diagnoses}
        varied_names = [n for n, v in zip(names, varied, strict=True) if v]
        drawing = radiomic_heatmap(z.T, varied_names, diagnoses, order=self._diagnoses, labels=labels)
        figure = svg.clean(
            drawing,
            f"radiomics-{c.name}-",
            label=self.words("pair", name=self.words("radiomic_heatmap"), value=c.name),
            translate=self.words.in_figure,
        )
        text = self.words("radiomic_heatmap.sample", shown=len(measured), total=f"{total:,}")
        text = text if len(measured) < total else ""
        html = render("figure.html", self.words, title=c.name, text=text, figure=figure, folded=folded)
        yield Block(html, instead=self._too_large("the_figure", len(html), c.artifacts["fused"].path))

    @cached_property
    def _diagnoses(self) -> list[str]:
        """Every diagnosis of any cohort, so that each has one colour throughout."""
        return [*sorted({str(d) for c in self.cohorts for d in c.usable["diagnosis"].dropna()}), "unknown"]

    def _diagnosis_or_unknown(self, code: str) -> str:
        return self.words("unknown") if code == "unknown" else self.words.diagnosis(code)

    # metrics

    def _metrics(self) -> Iterator[Block]:
        heading = render("heading.html", self.words, anchor="metrics", title="metrics", text=self.words("metrics.note"))
        yield Block(heading, "metrics", self.words("metrics"))
        scored = [c for c in self.ordered if c.metrics is not None]
        for note in dict.fromkeys(note for c in scored for note in c.notes()):
            yield Block(render("note.html", self.words, text=self.words(f"why_missing.{note}")))
        if not scored:
            yield Block(render("note.html", self.words, text=self._not_made("evaluate")))
        for c in scored:
            yield Block(self._tables(c))
            yield from self._curves(c)
            yield from self._full_table(c)

    def _side_by_side(self) -> Iterator[Block]:
        """The figures of every model that answers the same question, cohort by cohort; nothing where there is one."""
        rows = []
        for c in self.ordered:
            others = [(name, other) for name, other in self.beside if other.name == c.name and c.asks_as(other)]
            for name, scored in [(self.model.name, c), *others] if others else ():
                figures = {
                    key: scored.figure(metric, rule, class_=class_, average=average)
                    for key, (metric, rule, class_, average) in _BESIDE.items()
                }
                about = next((figure for figure in figures.values() if figure is not None), None)
                if about is None:
                    continue
                cells = {
                    key: "–" if figure is None else self._with_interval(figure, share="auroc" not in key)
                    for key, figure in figures.items()
                }
                counts = {"n": f"{about.n:,}", "clusters": f"{about.n_clusters:,}"}
                rows.append({"cohort": c.name, "model": name, "own": scored is c, **counts, **cells})
        if rows:
            html = render("beside.html", self.words, rows=rows, own=self.model.name)
            yield Block(html, "beside", self.words("beside"))

    def _tables(self, c: CohortEvidence) -> Markup:
        words = self.words
        malignancy = [
            self._line(
                words.code("metric", metric),
                words.code("rule", rule),
                c.figure(metric, rule),
                share=metric not in _NO_SHARE,
            )
            for metric, rule in _MALIGNANCY
        ]
        overall = [
            self._line(self._averaged(metric, average), words.code("rule", rule), figure, share=metric not in _NO_SHARE)
            for metric, average, rule in _OVERALL
            for figure in [c.figure(metric, rule, class_="all", average=average)]
        ]
        classes = [self._class_line(c, code) for code in self.model.classes.classes] if self.model.classes else []
        return render(
            "tables.html",
            words,
            name=c.name,
            role=words(f"role.{c.cohort.role}"),
            set=self.teller.malignant_set_line(),
            malignancy=[line for line in malignancy if line],
            overall=[line for line in overall if line],
            classes=[line for line in classes if line],
            tasks=[self._task_line(name, figures) for name, figures in c.tasks.items()],
            subgroups=self._subgroups(c),
            gaps=self._gaps(c),
            no_gaps=words("gaps.none", n=c.n_gaps_tested) if c.n_gaps_tested and not c.gaps else "",
        )

    def _averaged(self, metric: str, average: str) -> str:
        name, kind = self.words.code("metric", metric), self.words.code("average", average)
        return f"{name} ({kind})" if kind else name

    def _line(self, name: str, rule: str, figure: Figure | None, *, share: bool) -> dict[str, Any] | None:
        """One line of a table, drawn too where the figure is a share from 0 to 1."""
        if figure is None:
            return None
        return {
            "name": name,
            "rule": rule,
            "estimate": self._estimate(figure),
            "interval": self._ends(figure),
            "n": f"{figure.n:,}",
            "clusters": f"{figure.n_clusters:,}",
            "bar": svg.whisker(figure.estimate, figure.lower, figure.upper, name)
            if figure.has_estimate and share
            else "",
        }

    def _ends(self, figure: Figure) -> str:
        """The ends of the interval, or that patients are too few for one."""
        if figure.has_interval:
            return f"{figure.lower:.3f} – {figure.upper:.3f}"
        return self.words("interval_of_few") if figure.note == TOO_FEW_PATIENTS else "–"

    def _estimate(self, figure: Figure) -> str:
        """A figure, or a few words on why there is none."""
        if figure.has_estimate:
            return self.words.estimate(figure.estimate, 3)
        return self.words(f"missing_figure.{figure.note}")

    def _class_line(self, c: CohortEvidence, code: str) -> dict[str, Any] | None:
        auroc = c.figure("auroc", "none", class_=code)
        if auroc is None:
            return None
        frozen = {m: c.figure(m, "frozen_threshold", class_=code) for m in ("sensitivity", "specificity")}
        threshold = next((f.threshold for f in frozen.values() if f is not None), math.nan)
        return {
            "name": self.words.diagnosis(self.model.label(code)),
            "code": code,
            "n": auroc.n_positive if auroc.n_positive is not None else "–",
            "auroc": self._with_interval(auroc),
            **{m: self._with_interval(f) if f is not None else "–" for m, f in frozen.items()},
            "threshold": self.words.estimate(threshold, 3),
        }

    def _task_line(self, name: str, figures: Mapping[str, Figure]) -> dict[str, Any]:
        shown = ("accuracy", "balanced_accuracy", "macro_auroc")
        cells = {key: self._with_interval(figures[key]) for key in shown}
        return {"name": self.words.attribute(name), "n": figures["accuracy"].n, **cells}

    def _gaps(self, c: CohortEvidence) -> list[str]:
        """Gaps between subgroups that stand out, in words."""
        return Trust(self.words, self.drift).gaps(c)

    def _subgroups(self, c: CohortEvidence) -> list[dict[str, Any]]:
        assert c.metrics is not None
        names = sorted(set(c.metrics["subgroup"].dropna()) - {"all"})
        lines = []
        for name in names:
            figures = {m: c.figure(m, rule, subgroup=name) for m, rule in _ENDPOINTS}
            about = next((f for f in figures.values() if f is not None), None)
            if about is not None:
                cells = {m: self._with_interval(f) if f is not None else "–" for m, f in figures.items()}
                lines.append(
                    {"name": self.words.subgroup(name), "n": about.n, "n_positive": about.n_positive or 0, **cells}
                )
        return lines

    def _curves(self, c: CohortEvidence) -> Iterator[Block]:
        metrics = c.artifacts["metrics"]
        names = [Path(name) for name in metrics.manifest["files"] if name.startswith("figures/")]
        files = {path.stem: path for path in names if path.suffix == ".svg" and path.stem not in _IN_A_TABLE}
        order = [*(n for n in _FIGURES if n in files), *(n for n in files if n not in _FIGURES)]
        for name in order:
            label = self.words("pair", name=c.name, value=self.words.code("figure", name))
            try:
                text = metrics.data(files[name].as_posix()).decode("utf-8")
                figure = svg.clean(text, f"{name}-{c.name}-", label=label, translate=self.words.in_figure)
            except (svg.UnsafeFigureError, UnicodeDecodeError) as error:
                yield Block(render("note.html", self.words, text=self.words("pair", name=label, value=error)))
                continue
            html = render("figure.html", self.words, title=label, text="", figure=figure, folded=name in _FOLDED)
            yield Block(html, instead=self._too_large("the_figure", len(html), metrics.path / files[name]))

    def _full_table(self, c: CohortEvidence) -> Iterator[Block]:
        assert c.metrics is not None
        rows = records(c.metrics)
        for start in range(0, len(rows), self._rows_per_block):
            chunk = rows[start : start + self._rows_per_block]
            html = render(
                "full_table.html",
                self.words,
                title=self.words("pair", name=c.name, value=self.words("metrics.full", n=f"{len(rows):,}")),
                part=self.words("metrics.rows", first=start + 1, last=start + len(chunk))
                if len(rows) > len(chunk)
                else "",
                rows=[self._full_row(row) for row in chunk],
            )
            yield Block(html, instead=self._too_large("the_section", len(html), c.artifacts["metrics"].path))

    def _full_row(self, row: Mapping[str, Any]) -> list[str]:
        figure, words = figure_of(row), self.words
        class_ = cell_text(row["class"])
        return [
            words.subgroup(cell_text(row["subgroup"])),
            words("class.all") if class_ == "all" else words.diagnosis(self.model.label(class_)),
            words.code("average", row["average"]),
            words.code("rule", row["decision_rule"]),
            words.code("metric", row["metric"]),
            self._estimate(figure),
            self._ends(figure),
            f"{figure.n:,}",
            "–" if figure.n_positive is None else f"{figure.n_positive:,}",
            f"{figure.n_clusters:,}",
            words.estimate(figure.threshold, 3),
            plain(figure.threshold_source or "–"),
        ]

    # failures

    def _failures(self) -> Iterator[Block]:
        text = self.words("failures.intro")
        heading = render("heading.html", self.words, anchor="failures", title="failures", text=text)
        yield Block(heading, "failures", self.words("failures"))
        failed = [failure for c in self.ordered for failure in c.failures()]
        if not failed:
            yield Block(render("note.html", self.words, text=self.words("failures.none")))
        for start in range(0, min(len(failed), _LISTED), self._rows_per_block):
            rows = [
                {
                    "cohort": failure.cohort,
                    "stage": failure.stage,
                    "case": plain(failure.case) if self.show_ids else "–",
                    "reason": self.words.reason(failure.reason),
                    "detail": plain(failure.detail) if self.show_ids else "",
                }
                for failure in failed[start : min(start + self._rows_per_block, _LISTED)]
            ]
            yield Block(render("failures.html", self.words, rows=rows))
        if len(failed) > _LISTED:
            text = self.words("failures.left", n=f"{len(failed) - _LISTED:,}")
            yield Block(render("note.html", self.words, text=text))

    # provenance

    def _provenance(self) -> Iterator[Block]:
        text = self.words("provenance.intro")
        heading = render("heading.html", self.words, anchor="provenance", title="provenance", text=text)
        yield Block(heading, "provenance", self.words("provenance"))
        model = self.model.artifact
        if model is None:
            yield Block(render("note.html", self.words, text=self._not_made("train")))
        else:
            yield Block(self._model_block(model))
        yield Block(
            render(
                "provenance.html",
                self.words,
                rows=[self._artifact_row(name, artifact) for name, artifact in self.inputs.items()],
                versions=self._versions(),
                sources=self._sources(),
            )
        )

    def _model_line(self) -> str:
        """The model in one line."""
        words, card, classes, artifact = self.words, self.model.card, self.model.classes, self.model.artifact
        rows = artifact.manifest["counts"]["rows"] if artifact is not None else 0
        line = words(
            "model.line",
            model=cell_text(card.get("model")) or self.model.name,
            folds=len(card.get("folds") or ()) or rows,
            classes=", ".join(classes.classes) if classes else words("unknown"),
            set=classes.malignant_set if classes else words("unknown"),
            threshold=words.estimate(self.model.threshold),
        )
        return f"{line} {self._veto_line()}".rstrip()

    def _veto_line(self) -> str:
        """How the alarm threshold was chosen; empty where it was given as a number."""
        rule, folds = self.model.card.get("veto_rule"), self.model.card.get("folds") or ()
        if not rule:
            return ""
        fold_lines = []
        for fold in folds:
            if chosen := fold.get("veto"):
                line = self.words(
                    "model.veto_fold",
                    fold=fold["fold"],
                    threshold=self.words.estimate(chosen["threshold"]),
                    n=chosen["n"],
                    malignant=chosen["n_malignant"],
                    sensitivity=self._reached(chosen["sensitivity"]),
                    specificity=self._reached(chosen["specificity"]),
                )
                reached = chosen.get("reached", True)
                fold_lines.append(line if reached else self.words("model.veto_unreached", fold=line))
        return self.words("model.veto_rule", rule=rule, folds=self.words.listed(fold_lines))

    def _reached(self, share: Mapping[str, float | None]) -> str:
        value, lower, upper = (share[name] for name in ("estimate", "lower", "upper"))
        ends = f" ({lower:.2f}–{upper:.2f})" if lower is not None and upper is not None else ""
        return f"{value:.2f}{ends}"

    def _model_block(self, artifact: Artifact) -> Markup:
        words, card = self.words, self.model.card
        weights = card.get("weights") or {}
        line = self._model_line()
        named = isinstance(weights, Mapping) and weights.get("name")
        signature = next((a for a in self.inputs.values() if a.recipe["kind"] == "signature"), None)
        return render(
            "model.html",
            words,
            line=line,
            weights=words("model.weights", name=weights["name"], sha=cell_text(weights.get("sha256"))[:16])
            if named
            else "",
            synthetic=words("model.synthetic", **self.model.synthetic) if self.model.synthetic else "",
            folds=[
                {k: cell_text(row.get(k)) or "–" for k in ("fold", "n_train", "n_validation", "n_held_out")}
                for row in records(artifact.table())
            ],
            signature=self._signature(signature) if signature is not None else [],
            tests=self._tests(signature) if signature is not None else [],
        )

    def _signature(self, artifact: Artifact) -> list[str]:
        table = artifact.table()
        chosen: dict[int, list[str]] = {}
        for row in records(table[table["selected"].fillna(False)].sort_values(["fold", "rank"])):
            chosen.setdefault(int(row["fold"]), []).append(plain(row["feature"]))
        return [
            self.words("signature.line", fold=fold, features=self.words.listed(names)) for fold, names in chosen.items()
        ]

    def _tests(self, artifact: Artifact) -> list[dict[str, Any]]:
        """The features of the signature with the test that chose them."""
        table = artifact.table()
        chosen = table[table["selected"].fillna(False)].sort_values(["fold", "rank"])
        return [
            {
                "fold": row["fold"],
                "feature": plain(row["feature"]),
                "class": self.words.diagnosis(self.model.label(cell_text(row["best_class"]))),
                "statistic": f"{number(row['statistic']):.2f}",
                "p": f"{number(row['p_holm']):.1e}",
            }
            for row in records(chosen)
        ]

    def _artifact_row(self, name: str, artifact: Artifact) -> dict[str, str]:
        recipe, provenance = artifact.recipe, artifact.manifest["made"]
        return {
            "name": name,
            "identity": artifact.identity[:12],
            "stage": f"{recipe['stage']} {recipe['stage_version']}",
            "made": cell_text(provenance.get("at")),
            "rows": f"{artifact.manifest['counts']['rows']:,}",
            "settings": json.dumps(recipe["config"], ensure_ascii=False, sort_keys=True),
        }

    def _versions(self) -> list[str]:
        versions: dict[str, set[str]] = {}
        for artifact in self.inputs.values():
            provenance = artifact.manifest["made"]
            commit = provenance.get("commit")
            suffix = f" ({self.words('commit', commit=commit[:10])})" if commit else ""
            program = cell_text(provenance.get("skinkit")) + suffix
            versions.setdefault("skinkit", set()).add(program)
            versions.setdefault("Python", set()).add(cell_text(provenance.get("python")))
            for library, version in dict(provenance.get("libraries") or {}).items():
                versions.setdefault(library, set()).add(version)
        return [f"{name} {' / '.join(sorted(versions))}" for name, versions in versions.items()]

    def _sources(self) -> list[dict[str, str]]:
        from skinkit.data import load_source

        rows = []
        for c in self.ordered:
            source = load_source(c.cohort.source)
            rows.append(
                {
                    "cohort": c.name,
                    "source": f"{source.name}: {source.title}",
                    "licence": source.licence or "–",
                    "citation": source.citation or "–",
                }
            )
        return rows


def _frozen(c: CohortEvidence) -> Figure | None:
    if c.metrics is None:
        return None
    hit = c.metrics[c.metrics["decision_rule"] == "frozen_threshold"]
    return figure_of(records(hit)[0]) if len(hit) else None
