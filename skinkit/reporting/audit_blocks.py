"""Validity of the results: shortcuts, drift and gaps between subgroups, as blocks of the research report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from skinkit.artifacts.tables import cell_text
from skinkit.audit.shortcuts import TOGETHER, UNSURE
from skinkit.reporting import svg
from skinkit.reporting.evidence import CohortEvidence, number
from skinkit.reporting.html import Block, render, with_set_name
from skinkit.reporting.words import Words

_SHOWN = 12
_INPUTS = 12
_UNSURE = f"={UNSURE}"


@dataclass(frozen=True)
class Trust:
    """Blocks for the results of the shortcut audit, the comparison of cohorts and the subgroup gaps.

    Attributes:
        words: the language.
        drift: external cohort -> result of ``skinkit.audit.drift.compare``.
    """

    words: Words
    drift: Mapping[str, Mapping[str, Any]]

    # -- shortcuts

    def shortcuts(self, scored: Sequence[CohortEvidence]) -> Iterator[Block]:
        """One table per cohort, the strongest cues first; the others collapsed."""
        text = self.words("shortcuts.intro")
        heading = render("heading.html", self.words, anchor="shortcuts", title="shortcuts", text=text)
        yield Block(heading, "shortcuts", self.words("shortcuts"))
        for c in scored:
            audit = c.shortcuts
            if audit is None or not audit["cues"]:
                text = self.words("shortcuts.not_made" if audit is None else "shortcuts.none")
                yield Block(render("note.html", self.words, text=self.words("pair", name=c.name, value=text)))
                continue
            rows = [self._cue_row(row, audit["cues"]) for row in audit["cues"] if not row["same_as"]]
            verdict = with_set_name(self.words, "set_name", audit["malignant_set"])
            html = render(
                "shortcuts.html",
                self.words,
                name=c.name,
                role=self.words(f"role.{c.cohort.role}"),
                set=verdict,
                rows=rows[:_SHOWN],
                more=rows[_SHOWN:],
                n=len(rows),
            )
            yield Block(html)

    def _cue_row(self, row: Mapping[str, Any], every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        alike = sum(o["same_as"] == row["cue"] and o["family"] == row["family"] for o in every)
        name = self.cue(row)
        estimate, lower, upper = (number(row[key]) for key in ("auroc", "lower", "upper"))
        held = number(row["model_auroc"])
        return {
            "name": self.words("cue.alike", cue=name, n=alike) if alike else name,
            "value": self.words.estimate(estimate),
            "interval": "–" if lower != lower else f"{lower:.2f} – {upper:.2f}",
            "bar": svg.whisker(estimate, lower, upper, name),
            "held": self.words.estimate(held),
            "verdict": self.words(f"verdict.{row['verdict']}"),
            "loud": row["verdict"] == "strong",
        }

    def cue(self, row: Mapping[str, Any]) -> str:
        """A cue in words."""
        name, family = str(row["cue"]), str(row["family"])
        if name == TOGETHER:
            return self.words(f"cue.together.{family}")
        if name.endswith(_UNSURE):
            return self.words("cue.unsure", name=self.words.attribute(name.removesuffix(_UNSURE)))
        label = self.words.code("cue", name)
        if family == "missing" and name not in ("n_absent", "patient_block"):
            return self.words("cue.known", name=self.words.attribute(name))
        return label

    # -- drift

    def from_inside_to_outside(self, externals: Sequence[CohortEvidence]) -> Iterator[Block]:
        """The drop, how well inputs separate the cohorts, and the most shifted inputs."""
        text = self.words("drift.intro")
        heading = render("heading.html", self.words, anchor="drift", title="drift", text=text)
        yield Block(heading, "drift", self.words("drift"))
        comparisons = [(c, self.drift[c.name]) for c in externals if c.name in self.drift]
        if not comparisons:
            yield Block(render("note.html", self.words, text=self.words("drift.none")))
        for c, answer in comparisons:
            yield Block(self._drift(c, answer))

    def _drift(self, c: CohortEvidence, answer: Mapping[str, Any]) -> Markup:
        words, domain = self.words, answer["domain"]
        shifted = [row for row in answer["inputs"] if row["shifted"]]
        domain_text = ""
        if domain is not None and domain["auroc"] is not None:
            lower, upper = number(domain["lower"]), number(domain["upper"])
            value = words.estimate(domain["auroc"])
            if lower == lower:
                value = f"{value} ({lower:.2f} – {upper:.2f})"
            domain_text = words("drift.domain", columns=domain["n_columns"], value=value)
        return render(
            "drift.html",
            words,
            name=c.name,
            falls=[self._fall(row) for row in answer["drop"]],
            domain=domain_text,
            title=words("drift.inputs", n=len(shifted), total=len(answer["inputs"])) if answer["inputs"] else "",
            inputs=[self._input(row) for row in answer["inputs"][:_INPUTS]],
        )

    def _fall(self, row: Mapping[str, Any]) -> dict[str, Any]:
        lower, upper = number(row["lower"]), number(row["upper"])
        return {
            "metric": self.words.code("metric", row["metric"]),
            "how": self.words("drift.adjusted" if row["adjusted"] else "drift.as_is"),
            "inside": self.words.estimate(number(row["inside"]), 3),
            "outside": self.words.estimate(number(row["outside"]), 3),
            "fall": self.words.estimate(number(row["difference"]), 3).replace("-", "−"),
            "interval": "–" if lower != lower else f"{lower:.3f} – {upper:.3f}".replace("-", "−"),
            "loud": lower == lower and lower > 0,
        }

    def _input(self, row: Mapping[str, Any]) -> dict[str, Any]:
        p = number(row["p_holm"])
        return {
            "name": self.words.attribute(str(row["column"])),
            "code": str(row["column"]),
            "smd": self.words.estimate(number(row["smd"])).replace("-", "−"),
            "psi": self.words.estimate(number(row["psi"])),
            "p": "–" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}",
            "shifted": self.words("yes") if row["shifted"] else self.words("no"),
        }

    # -- gaps

    def gaps(self, c: CohortEvidence) -> list[str]:
        """The significant gaps of a cohort, one line each."""
        return [self.gap(row) for row in c.gaps]

    def gap(self, row: Mapping[str, Any]) -> str:
        """One gap in words."""
        return self.words(
            "gap",
            subgroup=self.words.subgroup(cell_text(row["subgroup"])),
            metric=self.words.code("metric", row["metric"]),
            estimate=self.words.estimate(number(row["estimate"])),
            rest=self.words.estimate(number(row["estimate_rest"])),
        )
