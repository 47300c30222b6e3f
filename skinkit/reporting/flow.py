"""The flow of images into a study: the exclusions at each step with reasons, and the analysed images.

The steps are those of :mod:`skinkit.studies.selection`. A cohort read without a selection has the same steps, without
exclusions at the second one.

Source of the diagram's form: STARD 2015 and CONSORT, flow of participants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.figures.canvas import MUTED
from skinkit.schemas import OK
from skinkit.studies import selection

if TYPE_CHECKING:
    import pandas as pd

IMAGE, SUBJECT, DIAGNOSIS = STEPS = ("image", "subject", "diagnosis")
LABELS = {
    IMAGE: "No usable image",
    SUBJECT: "Age, sex or site not known",
    DIAGNOSIS: "Diagnosis unconfirmed, image repeated, or class too small",
}
_STEP_OF = {
    selection.SUBJECT_UNKNOWN: SUBJECT,
    **dict.fromkeys(
        (
            selection.UNCONFIRMED,
            selection.REPEATED,
            selection.CLASS_TOO_SMALL,
            "duplicate_content",
            "duplicate_row",
            "duplicate_file",
        ),
        DIAGNOSIS,
    ),
}
"""Reason -> step; every other reason means that there is no usable image."""
PRESENT, READ = "identified", "kept"


@dataclass(frozen=True)
class Flow:
    """Counts of images, step by step.

    Attributes:
        roles: cohort -> development, external or inference, in the order of the workspace.
        identified: cohort -> images and table rows before any exclusion.
        left_out: step -> reason -> cohort -> images.
        rule: name of the selection in force; empty for none.
    """

    roles: Mapping[str, str]
    identified: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, Mapping[str, int]]]
    rule: str

    def lost(self, step: str, cohort: str = "") -> int:
        """Images left out at a step, of one cohort or of all."""
        return sum(n for of in self.left_out[step].values() for name, n in of.items() if name == cohort or not cohort)

    def after(self, step: str, cohort: str = "") -> int:
        """Images left after a step."""
        began = self.identified[cohort] if cohort else sum(self.identified.values())
        return began - sum(self.lost(name, cohort) for name in STEPS[: STEPS.index(step) + 1])

    def analysed(self, role: str) -> dict[str, int]:
        """Cohort of that role -> analysed images."""
        return {name: self.after(DIAGNOSIS, name) for name, of in self.roles.items() if of == role}

    def rows(self) -> list[dict[str, Any]]:
        """The table: one row per step and reason, one column per cohort, and ``total``."""

        def row(step: str, reason: str, counts: Mapping[str, int]) -> dict[str, Any]:
            own = {name: int(counts.get(name, 0)) for name in self.roles}
            return {"step": step, "reason": reason, **own, "total": sum(own.values())}

        rows = [row(PRESENT, "", self.identified)]
        for step in STEPS:
            rows.append(row(step, "", {name: self.lost(step, name) for name in self.roles}))
            rows += [row(step, reason, of) for reason, of in self.left_out[step].items()]
        return [*rows, row(READ, "", {name: self.after(DIAGNOSIS, name) for name in self.roles})]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "rule": self.rule or None,
            "roles": dict(self.roles),
            "rows": self.rows(),
            "development": sum(self.analysed("development").values()),
            "external": sum(self.analysed("external").values()),
        }


def count(tables: Mapping[str, pd.DataFrame], roles: Mapping[str, str], rule: str) -> Flow:
    """The flow of cohorts that have been read.

    Args:
        tables: cohort -> its cases, in the order in which repeated images are kept.
        roles: cohort -> development, external or inference.
        rule: the selection all development cohorts were read with; empty for none.
    """
    import pandas as pd

    left_out: dict[str, dict[str, Counter[str]]] = {step: {} for step in STEPS}

    def leave(cohort: str, reason: str) -> None:
        step = _STEP_OF.get(reason, IMAGE)
        left_out[step].setdefault(reason, Counter())[cohort] += 1

    usable = []
    for name, table in tables.items():
        fine = table["status"] == OK
        for reason in table.loc[~fine, "reason"].fillna(table["status"]):
            leave(name, str(reason))
        # Patients whose diagnosis nobody knows yet are not left out for it.
        unknown = fine & table["diagnosis"].isna() & (roles[name] != "inference")
        for _ in range(int(unknown.sum())):
            leave(name, selection.UNCONFIRMED)
        if roles[name] == "development":
            usable.append(table[fine & ~unknown].assign(cohort=name))
    if rule and usable:
        together = pd.concat(usable, ignore_index=True)
        reasons = selection.across(together, rule).dropna()
        for cohort, reason in zip(together.loc[reasons.index, "cohort"], reasons, strict=True):
            leave(cohort, reason)
    ordered = {step: dict(sorted(of.items(), key=lambda entry: -entry[1].total())) for step, of in left_out.items()}
    return Flow(dict(roles), {name: len(table) for name, table in tables.items()}, ordered, rule)


# ------------------------------------------------------------------------------------------------------ the diagram


def write_diagram(flow: Flow, folder: Path, paper: Mapping[str, int] | None = None) -> dict[str, str]:
    """Draw the flow as boxes: ``flow.svg`` and ``flow.png``.

    Args:
        flow: the counts.
        folder: where the files go.
        paper: a paper's own counts, shown under the diagram.

    Returns:
        Kind of file -> path.
    """
    from skinkit.figures import canvas

    boxes = [_text("Images identified", sum(flow.identified.values()), flow.identified)]
    sides = []
    for step in STEPS:
        reasons = {
            _reason_text(reason): sum(of.values()) for reason, of in flow.left_out[step].items() if step != SUBJECT
        }
        sides.append(_text(LABELS[step], flow.lost(step), reasons))
        boxes.append("" if step == DIAGNOSIS else f"n = {flow.after(step):,}")
    ends = [
        _text(title, sum(counts.values()), counts) for role, title in _ENDS.items() if (counts := flow.analysed(role))
    ]
    boxes[-1] = f"Analysed\nn = {flow.after(DIAGNOSIS):,}"
    with canvas.canvas(8.4, 0.17 * sum(_lines(t) for t in (*boxes, *sides, max(ends, key=_lines))) + 2.2) as figure:
        _draw(figure.add_subplot(), boxes, sides, ends, _caption(paper, flow) if paper else "")
        return canvas.write(figure, folder, "flow")


_ENDS = {"development": "Development", "external": "External test", "inference": "Inference"}


def _reason_text(reason: str) -> str:
    return reason.replace("_", " ")


def _text(title: str, n: int, parts: Mapping[str, int]) -> str:
    return "\n".join([title, f"n = {n:,}", *(f"{name}: {k:,}" for name, k in parts.items() if k)])


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _caption(paper: Mapping[str, int], flow: Flow) -> str:
    ours = {PRESENT: sum(flow.identified.values()), **{s: flow.lost(s) for s in STEPS}, READ: flow.after(DIAGNOSIS)}
    titles = {PRESENT: "images identified", **{s: label.lower() for s, label in LABELS.items()}, READ: "analysed"}
    counts = "; ".join(f"{titles[name]} {paper[name]:,} (here {ours[name]:,})" for name in ours)
    return f"The paper's own counts: {counts}."


def _draw(axes: Any, boxes: Sequence[str], sides: Sequence[str], ends: Sequence[str], caption: str) -> None:
    """Boxes from top to bottom, exclusions to the right of each arrow, the final boxes side by side."""
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": MUTED, "linewidth": 0.9}
    arrow = {"arrowstyle": "-|>", "color": MUTED, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9}
    axes.axis("off")
    left, right, y = 0.27, 0.56, 0.0
    for index, text in enumerate(boxes):
        height = _lines(text) + 1.0
        axes.text(left, y - height / 2, text, ha="center", va="center", bbox=box)
        y -= height
        if index < len(sides):
            side = _lines(sides[index]) + 1.6
            axes.annotate("", (left, y - side), (left, y), arrowprops=arrow)
            axes.annotate("", (right - 0.02, y - side / 2), (left, y - side / 2), arrowprops=arrow)
            axes.text(right, y - side / 2, sides[index], ha="left", va="center", bbox=box)
            y -= side
    places = [[left], [left - 0.13, left + 0.33], [left - 0.2, left + 0.15, left + 0.5]][len(ends) - 1]
    height = max(map(_lines, ends)) + 1.0
    for place, text in zip(places, ends, strict=True):
        axes.annotate("", (place, y - 1.8), (left, y), arrowprops=arrow)
        axes.text(place, y - 1.8 - (_lines(text) + 1.0) / 2, text, ha="center", va="center", bbox=box)
    y -= 1.8 + height
    if caption:
        import textwrap

        axes.text(0.0, y - 1.0, textwrap.fill(caption, 100), ha="left", va="top", fontsize=8)
        y -= 3.5
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(y - 0.3, 0.3)
