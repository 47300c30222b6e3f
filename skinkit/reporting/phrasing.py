"""Facts of ``evidence`` as text, shared by both reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from skinkit.reporting.audit_blocks import Trust
from skinkit.reporting.evidence import Alarms, CohortEvidence, Loss, ModelEvidence
from skinkit.reporting.html import with_set_name
from skinkit.reporting.warnings import ReportWarning, of_untrained
from skinkit.reporting.words import Words, plain


@dataclass(frozen=True)
class WarningText:
    """A warning in words."""

    text: str
    loud: bool


@dataclass(frozen=True)
class Teller:
    """Renders facts of a model in one language."""

    words: Words
    model: ModelEvidence

    def warning(self, warning: ReportWarning) -> WarningText:
        """The text of a warning with the places it applies to."""
        places = [
            self.words(f"where.{self._form(warning, place)}", **{k: self._value(k, v) for k, v in place.items()})
            for place in warning.where
            if place
        ]
        if warning.most and len(places) > warning.most:
            places = [*places[: warning.most], self.words("and_more", n=len(places) - warning.most)]
        return WarningText(self.words(f"warn.{warning.key}", where=self.words("semicolon").join(places)), warning.loud)

    def _form(self, warning: ReportWarning, place: Mapping[str, Any]) -> str:
        """The text of a place: Otsu's outlines were compared with a person's there, or not."""
        unmeasured = warning.form == "otsu" and not place["n"]
        return "otsu_unmeasured" if unmeasured else warning.form

    def alarms(self, c: CohortEvidence) -> str:
        """How the alarm did on a cohort, as counts of photos with the most errors that are possible."""
        counts, role = c.alarms, self.words(f"role.{c.cohort.role}")
        if counts is None:
            return self.words("clinic.performance_few", cohort=c.name, role=role)
        return self.words(
            "clinic.performance_line",
            cohort=c.name,
            role=role,
            missed=f"{counts.missed:,}",
            malignant=f"{counts.malignant:,}",
            most_missed=self.possible(counts.most_missed),
            false=f"{counts.false:,}",
            benign=f"{counts.benign:,}",
            most_false=self.possible(counts.most_false),
        )

    def possible(self, most: float) -> str:
        """How many errors are possible, as far as the data show."""
        return self.words("possible.unknown") if math.isnan(most) else self.words("possible", most=self.upper(most))

    def upper(self, share: float) -> str:
        """An upper end, rounded up: never less than what is possible."""
        return self.words("share", value=f"{math.ceil(100 * share - 1e-9)}")

    def table_of_counts(self, c: CohortEvidence) -> dict[str, Any] | None:
        """The two by two table of a cohort: rows malignant and benign, then their sum."""
        counts = c.alarms
        if counts is None:
            return None
        return {"name": c.name, "role": self.words(f"role.{c.cohort.role}"), "rows": self._rows(counts)}

    def _rows(self, a: Alarms) -> list[dict[str, str]]:
        cells = {
            "malignant": (a.found, a.missed),
            "benign": (a.false, a.quiet),
            "both": (a.found + a.false, a.missed + a.quiet),
        }
        return [
            {
                "name": self.words(f"counts.{kind}"),
                "alarm": f"{alarm:,}",
                "none": f"{none:,}",
                "all": f"{alarm + none:,}",
                "missed": "missed" if kind == "malignant" and none else "",
            }
            for kind, (alarm, none) in cells.items()
        ]

    def untrained(self) -> str:
        """The first line of every page and card of a model that has learnt nothing; empty for others."""
        said = [self.warning(warning).text for warning in of_untrained(self.model.untrained) if warning.where]
        return " ".join(said)

    def _value(self, name: str, value: Any) -> str:
        match name:
            case "reasons":
                return self.losses(value)
            case "flags":
                return self.words.listed([f"{n:,} × {self.words.flag(flag)}" for flag, n in value.items()])
            case "columns":
                return self.words.listed([self.words.attribute(name) for name in str(value).split(" and ")])
            case "names":
                return self.words.listed([self.words.attribute(v) for v in value])
            case "cues":
                trust = Trust(self.words, {})
                cues = [
                    self.words("cue.reported", cue=trust.cue(row), auroc=self.words.estimate(row["auroc"]))
                    for row in value
                ]
                return self.words.listed(cues)
            case "gaps":
                return self.words("comma").join(Trust(self.words, {}).gap(row) for row in value)
            case "untrained":
                return self.words.code("untrained", value)
            case "tasks":
                return self.words.listed([self.words.attribute(task) for task in value])
            case "share":
                return self.words.share(value)
            case "most":
                return self.possible(value)
            case "iou" | "before" | "after" | "auroc" | "lower" | "upper":
                return self.words.estimate(value)
        return self.words.listed([plain(v) for v in value]) if isinstance(value, list) else plain(value)

    def losses(self, losses: Sequence[Loss]) -> str:
        """Losses by reason, with counts where there are several."""
        if len(losses) == 1:
            return self.words.reason(losses[0].reason)
        return self.words.listed([f"{loss.count} × {self.words.reason(loss.reason)}" for loss in losses])

    def loss(self, loss: Loss) -> str:
        """One loss with status, reason and count."""
        status, reason = self.words.code("status", loss.status), self.words.reason(loss.reason)
        return f"{loss.count:,} {status}: {reason}" if status != reason else f"{loss.count:,} {reason}"

    def malignant_set(self) -> str:
        """The diagnoses that count as malignant."""
        classes = self.model.classes
        if classes is None:
            return ""
        names = [self.words.diagnosis(label) for label in self.model.malignant_labels]
        return self.words("set_line", classes=self.words.listed(names), set=classes.malignant_set)

    def malignant_set_line(self) -> Markup | str:
        """The same as markup."""
        classes = self.model.classes
        if classes is None:
            return ""
        names = [self.words.diagnosis(label) for label in self.model.malignant_labels]
        return with_set_name(self.words, "set_line", classes.malignant_set, classes=self.words.listed(names))
