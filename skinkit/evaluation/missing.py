"""Robustness of a classifier to missing metadata: the same cases, predicted again with attributes hidden.

A hidden attribute is set to null before encoding, so the model handles it as it handles an unrecorded one.

    as_is           nothing is hidden
    patient_block   the attributes that are missing together in PAD-UFES-20, where their absence predicts the class
    all             every attribute
    single          one attribute, for everyone
    random          a share of each case's attributes, drawn at random; the mean over several draws

Each patient is left out of all variants at once, so a difference to ``as_is`` is paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifacts.tables import write_table
from skinkit.evaluation.altered import (
    AUROC,
    BALANCED,
    FIGURES,
    MACRO,
    SENSITIVITY,
    SHORT,
    CasesWithTruth,
    Figures,
    cell,
    change,
)
from skinkit.schemas import Schema
from skinkit.stats.encoders import PATIENT_ATTRIBUTES
from skinkit.stats.intervals import LeaveOut
from skinkit.stats.metrics import Bools, Floats

AS_IS, BLOCK, ALL, SINGLE, RANDOM = "as_is", "patient_block", "all", "single", "random"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TABLE = Schema("missing", 1, ("variant", "attribute", "share", "metric"), ())


@dataclass(frozen=True)
class Variant:
    """One way of hiding attributes.

    Attributes:
        kind: ``as_is``, ``patient_block``, ``all``, ``single`` or ``random``.
        attribute: the hidden one, of ``single``.
        share: hidden share of each case's attributes, for ``random``.
        hidden: (n, attributes); for ``random`` one of several draws.
    """

    kind: str
    attribute: str
    share: float
    hidden: Bools

    @property
    def key(self) -> tuple[str, str, float]:
        """The variant that several random draws share."""
        return self.kind, self.attribute, self.share


def variants(n: int, attributes: Sequence[str], *, draws: int, seed: int) -> list[Variant]:
    """Every way of hiding these attributes of n cases; ``as_is`` comes first.

    Within a draw the attributes hidden at a smaller share stay hidden at a larger one.

    Args:
        n: cases.
        attributes: those a model reads.
        draws: of ``random``, at shares between 0 and 1.
        seed: of these draws.
    """
    width = len(attributes)

    def everyone(chosen: Sequence[str]) -> Bools:
        return np.tile(np.array([name in chosen for name in attributes], dtype=bool), (n, 1))

    ways = [Variant(AS_IS, "", 0.0, everyone(()))]
    if block := [name for name in attributes if name in PATIENT_ATTRIBUTES]:
        ways.append(Variant(BLOCK, "", len(block) / width, everyone(block)))
    ways.append(Variant(ALL, "", 1.0, everyone(attributes)))
    ways += [Variant(SINGLE, name, 1 / width, everyone([name])) for name in attributes]
    for draw in range(draws):
        place = np.random.default_rng([seed, draw]).random((n, width)).argsort(axis=1).argsort(axis=1)
        inner = [share for share in SHARES if 0 < share < 1]
        ways += [Variant(RANDOM, "", share, place < round(share * width)) for share in inner]
    ways += [Variant(RANDOM, "", end, everyone(attributes if end else ())) for end in (0.0, 1.0)]
    return ways


def without(frame: pd.DataFrame, attributes: Sequence[str], hidden: Bools) -> pd.DataFrame:
    """The cases with the hidden attributes set to null.

    Args:
        frame: fused rows.
        attributes: columns; absent ones are skipped.
        hidden: (n, attributes).
    """
    columns = {
        name: frame[name].astype(object).where(~hidden[:, at], None)
        for at, name in enumerate(attributes)
        if name in frame and hidden[:, at].any()
    }
    return frame.assign(**columns)


def scored(
    ways: Sequence[Variant],
    probabilities: Sequence[Floats],
    cases: CasesWithTruth,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Figures of every variant, with intervals and paired differences to ``as_is``.

    Args:
        ways: the variants, ``as_is`` first.
        probabilities: (n, classes) of each.
        cases: their truth.
        seed: of the groups of many patients.

    Returns:
        Rows with variant, attribute, share, metric, estimate, lower, upper, difference, difference_lower,
        difference_upper, p, draws, n and n_clusters; single attributes sorted by their loss of balanced accuracy, then
        of macro AUROC. NaN where a figure is undefined.
    """
    left_out = LeaveOut(cases.cluster, seed)
    remembered: dict[bytes, Figures] = {}
    by_key: dict[tuple[str, str, float], list[Figures]] = {}
    for variant, probability in zip(ways, probabilities, strict=True):
        same = variant.hidden.tobytes()
        if same not in remembered:
            remembered[same] = cases.figures(probability, left_out)
        by_key.setdefault(variant.key, []).append(remembered[same])
    whole = by_key[ways[0].key][0]
    rows = [
        {"variant": kind, "attribute": attribute, "share": share, **row}
        for (kind, attribute, share), draws in by_key.items()
        for row in cases.against(whole, draws)
    ]
    return _ordered(rows)


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Variants in the order of the module's docstring; single attributes by descending loss."""
    order = (AS_IS, BLOCK, ALL, SINGLE, RANDOM)
    lost = {(row["attribute"], row["metric"]): row["difference"] for row in rows if row["variant"] == SINGLE}

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        costs = [lost.get((row["attribute"], metric), 0.0) for metric in (BALANCED, MACRO)]
        share = row["share"] if row["variant"] == RANDOM else 0.0
        return order.index(row["variant"]), *costs, row["attribute"], share, list(FIGURES).index(row["metric"])

    return sorted(rows, key=place)


# ------------------------------------------------------------------------------------------------------ text


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on the loss: without the patient block, without any attribute, without single attributes."""
    sentences = []
    for kind, words in ((BLOCK, "without the patient block"), (ALL, "without any attribute")):
        fall = {row["metric"]: row for row in rows if row["variant"] == kind}
        if not fall:
            continue
        alarm = [m for m in (SENSITIVITY, AUROC, BALANCED) if m in fall and fall[m]["difference_upper"] < 0]
        listed = ", ".join(f"{FIGURES[m]} {change(fall[m])}" for m in alarm)
        sentences.append(f"{words}: {listed or 'no figure falls beyond what chance explains'}")
        if kind == BLOCK and SENSITIVITY in alarm:
            sentences.append("  missing data are taken for a benign sign: cancers are missed when they are hidden")
    single = [row for row in rows if row["variant"] == SINGLE and row["metric"] == BALANCED]
    needed = [row for row in single if row["difference_upper"] < 0]
    names = ", ".join(f"{row['attribute']} {change(row)}" for row in needed[:5])
    sentences.append(f"single attributes whose absence costs balanced accuracy: {names or 'none, beyond chance'}")
    return sentences


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The verdict and the table as plain text."""
    names = {AS_IS: "as it is", BLOCK: "patient block hidden", ALL: "everything hidden"}
    metrics = [name for name in FIGURES if any(row["metric"] == name for row in rows)]
    lines = [*verdict(rows), "", f"  {'':30}" + "".join(f"{SHORT[name]:>19}" for name in metrics)]
    for key in dict.fromkeys((row["variant"], row["attribute"], row["share"]) for row in rows):
        kind, attribute, share = key
        if kind == RANDOM and share in (0.0, 1.0):
            continue
        label = names.get(kind) or (f"{attribute} hidden" if attribute else f"{share:.0%} hidden at random")
        here = {r["metric"]: r for r in rows if (r["variant"], r["attribute"], r["share"]) == key}
        lines.append(f"  {label:30}" + "".join(f"{_cell(here[name]):>19}" for name in metrics))
    lines.append("  in brackets the difference to 'as it is', * where its 95 % interval leaves out 0")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['estimate']:.3f}         " if row["variant"] == AS_IS else cell(row)


def write(folder: Path, stem: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Write ``stem`` as Parquet, SVG and PNG; returns kind of file -> path."""
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    write_table(folder / f"{stem}.parquet", TABLE, pd.DataFrame(plain))
    return {"parquet": str(folder / f"{stem}.parquet"), **_draw(folder, stem, rows)}


def _draw(folder: Path, stem: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The curve from full to no metadata, and the loss for each hidden attribute."""
    from skinkit.figures import canvas

    single = [row for row in rows if row["variant"] in (BLOCK, ALL, SINGLE) and row["metric"] == BALANCED]
    label = {BLOCK: "patient block", ALL: "everything"}
    with canvas.canvas(9.0, max(3.2, 0.2 * len(single) + 1.0)) as figure:
        curve, bars = figure.subplots(1, 2, width_ratios=(1.0, 1.1))
        plotted = [name for name in (BALANCED, MACRO, AUROC, SENSITIVITY) if any(r["metric"] == name for r in rows)]
        for at, name in enumerate(plotted):
            points = [row for row in rows if row["variant"] == RANDOM and row["metric"] == name]
            x, y, low, high = (
                np.array([row[k] for row in points], float) for k in ("share", "estimate", "lower", "upper")
            )
            colour = canvas.PALETTE[at]
            curve.plot(x, y, color=colour, linestyle=canvas.DASHES[at % len(canvas.DASHES)], label=FIGURES[name])
            curve.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        curve.set(
            xlim=(0, 1), ylim=(0, 1.01), xlabel="share of attributes hidden, at random", title="from full to none"
        )
        curve.set_xticks(SHARES)
        curve.legend(loc="lower left")
        bars.axvline(0, color=canvas.ALL_COLOUR, linewidth=0.8)
        for place, row in enumerate(single):
            colour = canvas.PALETTE[1] if row["difference_upper"] < 0 else canvas.PALETTE[0]
            bars.hlines(place, row["difference_lower"], row["difference_upper"], color=colour, linewidth=1.8)
            bars.plot(row["difference"], place, "o", color=colour, markersize=4.5)
        bars.set_yticks(range(len(single)), [row["attribute"] or label[row["variant"]] for row in single])
        bars.set(ylim=(len(single) - 0.5, -0.5), xlabel="change of balanced accuracy", title="hidden for everyone")
        bars.grid(visible=False, axis="y")
        return canvas.write(figure, folder, stem)
