"""The clinic's document: a worklist, most urgent first, and one printable card per lesion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from skinkit.artifacts.tables import cell_text, records
from skinkit.reporting import cards, svg
from skinkit.reporting.cards import Lesion, Picture
from skinkit.reporting.evidence import CohortEvidence, ModelEvidence, number
from skinkit.reporting.html import Block, data_uri, render
from skinkit.reporting.phrasing import Teller
from skinkit.reporting.warnings import ReportWarning, find_warnings
from skinkit.reporting.words import Words, plain
from skinkit.schemas import FAILED, OK, PENDING

_ROWS_PER_BLOCK = 100
_LISTED, _LISTED_BRIEFLY = 200, 12
"""Failed photos are all listed, because a person must check them; of absent or duplicate ones only the first."""


@dataclass(frozen=True)
class Unassessed:
    """Photos without an assessment for one reason: their number and names."""

    reason: str
    count: int
    cases: str


@dataclass(frozen=True)
class Ward:
    """Inputs of the document.

    Attributes:
        cohort: the cohort of the worklist.
        scored: every cohort with metrics of the model.
        model: the model.
        words: the language.
        show_ids: whether lesion and patient ids are printed.
        max_lesions: largest number of cards; 0 for all.
    """

    cohort: CohortEvidence
    scored: Sequence[CohortEvidence]
    model: ModelEvidence
    words: Words
    show_ids: bool
    max_lesions: int

    def lesions(self) -> list[Lesion]:
        """Every assessed lesion, most urgent first."""
        rows = cards.one_per_lesion(self.cohort)
        lesions = cards.most_urgent_first(cards.lesions_of(self.cohort, rows, [""] * len(rows)))
        return [replace(lesion, name=self._name(lesion.row, n)) for n, lesion in enumerate(lesions, 1)]

    def _name(self, row: Mapping[str, Any], number_: int) -> str:
        if not self.show_ids:
            return self.words("lesion.n", n=number_)
        return plain(row["lesion_id"] if row["level"] == "lesion" and row["lesion_id"] else row["case_id"])

    def with_card(self, lesions: Sequence[Lesion]) -> list[Lesion]:
        """The lesions with a card."""
        return list(lesions[: self.max_lesions] if self.max_lesions else lesions)

    def _by_trust(self) -> list[CohortEvidence]:
        """Cohorts with metrics, external ones first, of each kind the one with most misses first."""
        return sorted(self.scored, key=lambda c: (c.cohort.role != "external", -_most_missed(c)))

    def _state(self, lesion: Lesion) -> str:
        """What a lesion calls for; a model that has learnt nothing says nothing of any."""
        return cards.UNLEARNT if self.model.knows_nothing else lesion.state

    def _refers(self, lesion: Lesion) -> bool:
        """Whether a dermatologist should look; at every lesion where the model has learnt nothing."""
        return self._state(lesion) in (cards.UNLEARNT, cards.ALARM, cards.CANNOT_TELL)

    # -- the blocks

    def blocks(self, images: Mapping[str, Mapping[str, Any]]) -> list[Block]:
        """The document.

        Args:
            images: pictures by key of :func:`cards.picture_item`, for the lesions of :meth:`with_card`.
        """
        lesions = self.lesions()
        with_card = self.with_card(lesions)
        return [
            Block(self._head(lesions, len(with_card)), "top"),
            *self._worklist(lesions, len(with_card), images),
            *(self._card(lesion, n, len(lesions), images[self._key(lesion)]) for n, lesion in enumerate(with_card, 1)),
        ]

    def _key(self, lesion: Lesion) -> str:
        return f"{self.cohort.name}/{lesion.key}"

    def _head(self, lesions: Sequence[Lesion], n_cards: int) -> Markup:
        teller = Teller(self.words, self.model)
        refer = sum(map(self._refers, lesions))
        states = Counter(map(self._state, lesions))
        left = self.not_assessed()
        first_row = lesions[0].row if lesions else {}
        warnings = [teller.warning(warning) for warning in self._warnings()]
        return render(
            "worklist_head.html",
            self.words,
            title=self.words("worklist.title", cohort=self.cohort.name),
            untrained=teller.untrained(),
            warnings=[w.text for w in warnings if w.loud],
            quiet=[w.text for w in warnings if not w.loud],
            counts={"total": len(lesions), "refer": refer, "rest": len(lesions) - refer},
            states=[
                {"name": self.words(f"state.{state}"), "n": states[state]} for state in cards.STATES if states[state]
            ],
            tables=[table for c in self._by_trust() if (table := teller.table_of_counts(c))],
            not_assessed=left,
            n_not_assessed=sum(group.count for group in left),
            performance=self._performance(),
            set_line=teller.malignant_set_line(),
            cards_left={"shown": n_cards, "total": len(lesions)} if n_cards < len(lesions) else None,
            model_line=self._model_line(first_row),
        )

    def _warnings(self) -> list[ReportWarning]:
        """Every warning about this cohort and those the model was scored on, as in the report for research."""
        others = [c for c in self._by_trust() if c.name != self.cohort.name]
        return find_warnings([self.cohort, *others], measures=self.model.measures, withdrawn=self.model.withdrawn)

    def _model_line(self, row: Mapping[str, Any]) -> str:
        identity = cell_text(row.get("model_identity"))
        if not identity and self.model.artifact is not None:
            identity = self.model.artifact.identity
        return self.words(
            "model_line",
            model=self.model.name,
            identity=identity[:12] or self.words("unknown"),
            at=self._predicted_on(),
        )

    def _predicted_on(self) -> str:
        made = self.cohort.artifacts["predictions"].manifest["made"] if self.cohort.has("predictions") else {}
        return cell_text(made.get("at"))[:10] or self.words("unknown")

    def _performance(self) -> list[str]:
        teller = Teller(self.words, self.model)
        return [teller.alarms(c) for c in self._by_trust()] or [self.words("clinic.performance_none")]

    def _performance_on_a_card(self) -> list[str]:
        """The cohort to trust most and, where the alarm missed more elsewhere, that one beside it."""
        cohorts = self._by_trust()
        worst = max(cohorts, key=_most_missed, default=None)
        shown = cohorts[:1] + [c for c in cohorts[1:] if c is worst]
        teller = Teller(self.words, self.model)
        return [teller.alarms(c) for c in shown] or [self.words("clinic.performance_none")]

    def not_assessed(self) -> list[Unassessed]:
        """Photos and cases of the cohort without an assessment, by reason, failures first."""
        c = self.cohort
        outcomes = {str(row["image_id"]): _outcome(row) for row in records(c.cases[c.cases["status"] != OK])}
        if c.predictions is not None:
            images = c.predictions[c.predictions["level"] == "image"]
            outcomes |= {str(row["case_id"]): _outcome(row) for row in records(images[images["status"] != OK])}
            reason = "trained_on" if c.cohort.role == "development" else "not_predicted"
            outcomes |= {str(case): (PENDING, reason) for case in set(c.usable["case_id"]) - set(images["case_id"])}
        groups: dict[tuple[bool, str], list[str]] = {}
        for case, (status, reason) in sorted(outcomes.items()):
            groups.setdefault((status != FAILED, reason), []).append(plain(case))
        return [
            self._unassessed(reason, cases, failed=not not_failed)
            for (not_failed, reason), cases in sorted(groups.items())
        ]

    def _unassessed(self, reason: str, cases: list[str], *, failed: bool) -> Unassessed:
        named = cases[: _LISTED if failed else _LISTED_BRIEFLY] if self.show_ids else []
        more = [self.words("and_more", n=len(cases) - len(named))] if named and len(named) < len(cases) else []
        return Unassessed(self.words.reason(reason), len(cases), self.words.listed([*named, *more]))

    def _worklist(
        self, lesions: Sequence[Lesion], n_cards: int, images: Mapping[str, Mapping[str, Any]]
    ) -> list[Block]:
        blocks = []
        for start in range(0, len(lesions), _ROWS_PER_BLOCK):
            rows = [
                self._row(lesion, n, images.get(self._key(lesion)) if n <= n_cards else None)
                for n, lesion in enumerate(lesions[start : start + _ROWS_PER_BLOCK], start + 1)
            ]
            html = render("worklist.html", self.words, rows=rows, first=start == 0)
            blocks.append(Block(html, "worklist" if start == 0 else f"worklist-{start + 1}"))
        return blocks

    def _row(self, lesion: Lesion, rank: int, images: Mapping[str, Any] | None) -> dict[str, Any]:
        words = self.words
        value, threshold = cards.two_figures(lesion.malignancy, lesion.threshold, words)
        picture = None
        if images is not None and images.get("status") != "failed":
            picture = Picture(data_uri(images["thumbnail"]), "", "")
        label = words("bar.alt", value=value, threshold=threshold)
        bar = svg.small_bar(lesion.malignancy, label, threshold=lesion.threshold, alarm=lesion.alarm)
        silent = self.model.knows_nothing
        return {
            "rank": rank,
            "anchor": f"lesion-{rank}" if images is not None else "",
            "name": lesion.name,
            "picture": picture,
            "first": "–" if silent else words.diagnosis(self.model.label(cell_text(lesion.row["top1"]))),
            "first_p": "" if silent else words.probability(number(lesion.row["top1_p"])),
            "worst": "" if silent else self._worst(lesion),
            "malignancy": "–" if silent or math.isnan(lesion.malignancy) else value,
            "bar": "" if silent else bar,
            "refer": self._refers(lesion),
            "state": self._state(lesion),
            "advice": words(f"state.{self._state(lesion)}"),
            "why": words.listed(cards.reasons(lesion, self.model, words)),
        }

    def _card(self, lesion: Lesion, rank: int, total: int, images: Mapping[str, Any]) -> Block:
        words, model, row = self.words, self.model, lesion.row
        recorded, missing = cards.recorded_and_missing(lesion, model, words)
        share = cards.photo_share(lesion)
        unlearnt = model.untrained.tasks if model.untrained is not None else ()
        reads_attributes = bool(model.attributes) or bool(recorded) or bool(missing)
        values = {
            "rank": rank,
            "total": total,
            "name": lesion.name,
            "cohort": self.cohort.name,
            "patient": plain(row["patient_id"]) if self.show_ids and row.get("patient_id") else "",
            "photos": int(row["n_cases"]) if row.get("n_cases") else 1,
            "untrained": Teller(words, model).untrained(),
            "silent": model.knows_nothing,
            "refer": self._refers(lesion),
            "state": self._state(lesion),
            "advice": words(f"state.{self._state(lesion)}"),
            "summary": cards.summary(lesion, model, words),
            "of_patient": cards.of_patient(lesion, words, self._predicted_on()),
            "boxes": cards.paper_boxes(words),
            "why": cards.reasons(lesion, model, words),
            "sentences": cards.plain_words(lesion, model, words),
            "malignancy": cards.two_figures(lesion.malignancy, lesion.threshold, words)[0],
            "bar": cards.bar_of_lesion(lesion, words),
            "candidates": self._candidates(lesion),
            "criteria": cards.criteria(lesion, words, unlearnt),
            "checklist": "" if unlearnt else cards.checklist_score(lesion, words),
            "known": recorded,
            "missing": missing,
            "reads_attributes": reads_attributes,
            "influences": cards.influences(lesion, words),
            "unknown": cards.unknown_influences(lesion, words),
            "photo_share": "" if math.isnan(share) else words("photo_share", share=words.probability(share)),
            "target": cards.explained(lesion, model, words),
            "cautions": [*cards.cautions(lesion, self.cohort, model, words), *self._cautions_of_all(missing)],
            "performance": self._performance_on_a_card(),
            "model_line": self._model_line(row),
        }
        full = render("card.html", words, pictures=cards.pictures(lesion, images, words), **values)
        bare = render("card.html", words, pictures={}, **values)
        return Block(full, f"lesion-{rank}", "", bare)

    def _cautions_of_all(self, missing: Sequence[str]) -> list[str]:
        """What the worklist warns of and a card alone must say too: shortcuts, and what the model reads and lacks."""
        found = {warning.key for warning in self._warnings()}
        loud = [key for key in ("shortcuts", "label_attributes") if key in found]
        lacking = [self.words("caution.missing", n=len(missing))] if missing else []
        return [*(self.words(f"caution.{key}") for key in loud), *lacking]

    def _worst(self, lesion: Lesion) -> str:
        """The most likely malignant diagnosis, where it is not the most likely one of all."""
        worst = cards.worst_malignant(lesion, self.model)
        if worst is None or worst[0] == cell_text(lesion.row["top1"]):
            return ""
        name = self.words.diagnosis(self.model.label(worst[0]))
        return self.words("worst", name=name, share=self.words.probability(worst[1]))

    def _candidates(self, lesion: Lesion) -> list[dict[str, Any]]:
        """The two most likely diagnoses, and the most likely malignant one where it is neither."""
        codes = {cell_text(lesion.row.get(f"top{n}")): number(lesion.row.get(f"top{n}_p")) for n in (1, 2)}
        worst = cards.worst_malignant(lesion, self.model)
        codes |= dict([worst]) if worst is not None else {}
        candidates = []
        for code, p in codes.items():
            if not code:
                continue
            name = self.words.diagnosis(self.model.label(code))
            malignant = self.model.classes is not None and code in self.model.classes.malignant
            share = self.words.probability(p)
            alt = self.words("candidate.alt", name=name, value=share)
            candidates.append(
                {"name": name, "share": share, "malignant": malignant, "bar": svg.small_bar(p, alt, alarm=malignant)}
            )
        return candidates


def _most_missed(c: CohortEvidence) -> float:
    """The worst share of missed malignant lesions that a cohort's counts allow; 0 where there are none."""
    share = c.alarms.share_missed if c.alarms is not None else math.nan
    return 0.0 if math.isnan(share) else share


def _outcome(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["status"]), cell_text(row["reason"]) or "unsaid"
