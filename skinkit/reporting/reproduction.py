"""The page of a reproduced paper: for each table and figure the command, its numbers, ours, and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skinkit.evaluation.markdown import markdown_table, with_interval
from skinkit.stats.notes import words_of
from skinkit.studies import Cited, Exhibit, Protocol, Published, Study, Wanted
from skinkit.studies.study import CITED_METRICS

NO, PARTLY, PRINTED_ONLY = "no", "in part", "printed only"
OUTLINED = {"iou_mean": "IoU", "iou_thresholded": "IoU, below 0.65 as 0", "dice_mean": "Dice"}
"""Figures of a table of outlines."""


@dataclass(frozen=True)
class Beside:
    """A number of the paper and ours.

    Attributes:
        published: the paper's.
        words: name of its arm.
        ours: protocol -> ``estimate``, ``lower``, ``upper`` and ``n``; absent if not computed.
        comparable: :data:`NO`, :data:`PARTLY` or :data:`PRINTED_ONLY`; other cases are never fully comparable.
        why: the differences that limit the comparison.
    """

    published: Published
    words: str
    ours: Mapping[str, Mapping[str, Any]]
    comparable: str
    why: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        p = self.published
        paper = {
            "part": p.part,
            "cohort": p.cohort,
            "arm": p.arm,
            "figure": p.figure,
            "paper": p.value,
            "paper_sd": p.sd,
            "unit": p.unit,
            "source": p.source,
            "printed_only": p.printed_only,
        }
        return {**paper, "ours": dict(self.ours), "comparable": self.comparable, "why": list(self.why)}


@dataclass
class Section:
    """One table or figure of the paper.

    Attributes:
        part: the table or figure.
        commands: commands that make it separately.
        rows: numbers side by side.
        body: paragraphs, tables and pictures of Markdown.
        missing: why some or all of it could not be computed.
    """

    part: Exhibit
    commands: list[str] = field(default_factory=list)
    rows: list[Beside] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.part.title,
            "commands": self.commands,
            "numbers": [row.as_dict() for row in self.rows],
            "missing": self.missing,
        }


@dataclass(frozen=True)
class Run:
    """The conditions of the run.

    Attributes:
        study: the paper.
        preset: of the networks.
        settings: settings on top of the preset.
        weights: requested starting weights of the networks; empty for each model's default.
        segmenter: segmenter of the masks.
        cohorts: name of a cohort -> description of its data.
        missing: cohorts of the paper without data.
        protocols: protocols that were run.
        not_run: protocol -> why it was not run.
        seeds: of the models, where every one was trained with several.
    """

    study: Study
    preset: str
    settings: Sequence[str]
    weights: str
    segmenter: str
    cohorts: Mapping[str, str]
    missing: Sequence[Wanted]
    protocols: Sequence[Protocol]
    not_run: Mapping[str, str]
    seeds: Sequence[str] = ()

    def differences(self) -> list[str]:
        """Differences from the paper that affect every number of this run."""
        texts = []
        if self.preset != self.study.preset:
            texts.append(f"the networks learnt with the preset {self.preset}, not {self.study.preset}")
        if self.settings:
            texts.append(f"settings of the networks were changed: {', '.join(self.settings)}")
        if self.weights == "none":
            texts.append("the networks started from random numbers, not from pretrained weights")
        absent = [cohort.name for cohort in self.missing if cohort.role == "development"]
        if absent:
            texts.append(f"of the paper's development data {', '.join(absent)} could not be learnt from")
        return texts


def beside(run: Run, part: Exhibit, numbers: Mapping[str, Mapping[Published, Mapping[str, Any]]]) -> list[Beside]:
    """The paper's numbers of a part with ours.

    Args:
        run: the conditions of our run.
        part: the table or figure.
        numbers: protocol -> the paper's number -> our figure; absent where it was not computed.
    """
    rows = []
    absent = {cohort.name for cohort in run.missing}
    shared = [*run.differences(), *([part.caution] if part.caution else [])]
    for published in run.study.numbers(part.name):
        ours = {name: of[published] for name, of in numbers.items() if published in of}
        words = run.study.arm(published.arm).words
        if published.printed_only:
            rows.append(Beside(published, words, {}, PRINTED_ONLY, []))
            continue
        why = list(shared)
        if published.cohort in absent:
            why = [f"the cohort {published.cohort} is not there"]
        elif not ours:
            why = ["this cohort, class or arm was not scored"]
        same = ours and not run.differences() and any(p.leaks for p in run.protocols if p.name in ours)
        rows.append(Beside(published, words, ours, PARTLY if same else NO, why))
    return rows


def page(run: Run, sections: Sequence[Section]) -> str:
    """The whole page as Markdown."""
    study = run.study
    parts = [f"# {study.title}, again", f"{study.citation}.", _how(run), "## What keeps the numbers apart"]
    parts.append("\n".join(f"- {_sentence(text)}" for text in (*run.differences(), *study.remarks)))
    parts += [_section(run, section) for section in sections]
    return "\n\n".join(part for part in parts if part) + "\n"


def _how(run: Run) -> str:
    settings = f" with {', '.join(run.settings)}" if run.settings else ""
    lines = [f"Networks: preset {run.preset}{settings}. Outlines: {run.segmenter}. Cohorts:", ""]
    lines += [f"- {name}: {words}" for name, words in run.cohorts.items()]
    lines += [f"- {cohort.name}: NOT THERE. {_sentence(cohort.words)}" for cohort in run.missing]
    lines += ["", "Protocols:", ""]
    for protocol in run.protocols:
        leaks = f" It leaks: {protocol.leaks}." if protocol.leaks else ""
        lines.append(f"- {protocol.name}: {protocol.words}.{leaks}")
    lines += [f"- {name}: NOT RUN. {_sentence(why)}" for name, why in run.not_run.items()]
    if run.seeds:
        seeds = (
            f"Seeds of the models: {', '.join(run.seeds)}. Our numbers are means over them; pictures and what other "
        )
        lines += ["", f"{seeds}commands say are of the first."]
    lines += ["", "WORKSPACE is the folder that holds this page's folder."]
    return "\n".join(lines)


def _section(run: Run, section: Section) -> str:
    parts = [f"## {section.part.title}"]
    if section.commands:
        parts.append("```sh\n" + "\n".join(section.commands) + "\n```")
    if section.rows:
        parts.append(_side_by_side(run, section.rows))
        # Each reason once, in the order of the rows.
        why = dict.fromkeys(text for row in section.rows for text in row.why)
        if why:
            parts.append("Why they are not comparable:\n\n" + "\n".join(f"- {_sentence(t)}" for t in why))
    if section.part.caution and not any(row.why for row in section.rows):
        parts.append(_sentence(section.part.caution))
    if section.part.findings:
        findings = "\n".join(f"- {_sentence(text)}" for text in section.part.findings)
        parts.append(f"The paper also states:\n\n{findings}")
    parts += section.body
    if section.missing:
        parts.append("Not computed:\n\n" + "\n".join(f"- {_sentence(text)}" for text in section.missing))
    return "\n\n".join(parts)


def _side_by_side(run: Run, rows: Sequence[Beside]) -> str:
    # Masks do not depend on the protocol: their column is named after the segmenter.
    names = list(dict.fromkeys([*(p.name for p in run.protocols), *(name for row in rows for name in row.ours)]))
    header = ["cohort", "model", "figure", "paper", "printed in", *(f"ours, {n} (n)" for n in names), "comparable"]
    lines = []
    for row in rows:
        p = row.published
        ours = ["-" if p.printed_only else _ours(row.ours.get(name)) for name in names]
        lines.append([p.cohort or "-", row.words, p.figure, _printed(p), p.source, *ours, row.comparable])
    return markdown_table(header, lines)


def _printed(number: Published) -> str:
    """A number of the paper with its SD and unit; per cent as shares, small thresholds with all their digits."""
    digits = ".3f" if number.unit == "%" or (number.unit == "cases" and number.value < 1) else "g"
    sd = "" if number.sd is None else f" ± {number.sd:.4f}" if number.unit == "%" else f" ± {number.sd:g}"
    unit = "" if number.unit in ("share", "%", "count", "cases") else f" {number.unit}"
    return f"{number.value:{digits}}{sd}{unit}"


def _ours(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "not computed"
    if figure["estimate"] is None:
        return words_of(figure.get("note"))
    return f"{with_interval(figure)}, n = {figure['n']}"


def outline_table(segmenter: str, answers: Mapping[str, Mapping[str, Any]]) -> str:
    """Agreement of several methods with the outlines of people on the same photos.

    Args:
        segmenter: whose masks the others are compared with.
        answers: words of another method -> what ``skinkit gallery`` says of the segmenter's masks against its own; of
            the first also of an outline that never looks.
    """
    first = next(iter(answers.values()))
    rows = []
    for part in ("", *first["parts"]):
        own = {words: answer["parts"].get(part, {}) if part else answer for words, answer in answers.items()}
        others = {words: of["against"] for words, of in own.items() if of}
        ours = next(of for of in own.values() if of)
        if ours.get("control"):
            others[ours["control"]["masks"]] = ours["control"]
        photos = [part or "all photos", str(ours["n"])]
        rows.append([*photos, segmenter, *(with_interval(ours[key]) for key in OUTLINED), ""])
        rows += [
            ["", "", words, *(with_interval(of[key]) for key in OUTLINED),
             with_interval(of["difference"]["iou_mean"], signed=True)]
            for words, of in others.items()
        ]  # fmt: skip
    titles = [*OUTLINED.values(), f"IoU of {segmenter} minus it"]
    return markdown_table([first["by"] or "photos", "n", "outlines", *titles], rows)


def cited_table(cited: Sequence[Cited], ours: Sequence[tuple[str, str, int, Mapping[str, Any]]]) -> str:
    """A paper's table of other people's work, with our rows below it.

    Args:
        cited: its rows.
        ours: (who, data, classes, metric -> ``estimate``, ``lower`` and ``upper``).
    """
    lines = []
    for row in cited:
        cells = [f"{row.values[name]:.3f}" if name in row.values else "-" for name in CITED_METRICS]
        lines.append([row.who, row.data, str(row.classes), *cells, f"no: {row.caution}"])
    for who, data, classes, figures in ours:
        lines.append(
            [who, data, str(classes), *(with_interval(figures.get(name) or {}) for name in CITED_METRICS), "-"]
        )
    return markdown_table(["who", "tested on", "classes", "ACC", "SN", "SP", "AUROC", "comparable with ours"], lines)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")
