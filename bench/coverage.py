"""How often the 95 % intervals of the metrics table hold the truth, by simulation.

    python bench/coverage.py                          every design, 200 studies each
    python bench/coverage.py --studies 1000 --patients 12 20

A design is a population of patients with a known distribution. A study draws some of them; the truth of each figure is
its value over ``POPULATION`` other patients of the same population. Nothing here uses the code that makes intervals.

The population: a patient has a number of photos, a class (or, in part, each photo one of its own) and an effect on the
score of every class that all photos share. A photo's log odds are ``strength`` for its class, plus the patient's effect
and its own noise, whose variances sum to 1 with the share ``correlation`` for the patient.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from skinkit.evaluation import comparison, metric_table
from skinkit.stats.intervals import LeaveOut
from skinkit.stats.paired import paired_difference

POPULATION = 15_000
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Design:
    """A population and how many of its patients a study has.

    Attributes:
        patients: in the study.
        photos: a patient's photos: ``one``, ``few`` (1 to 5), ``many`` (1 to 20) or ``uneven`` (log-normal, up to 60).
        correlation: share of the noise variance that a patient's photos have in common.
        classes: number of them.
        rarest: share of the rarest class, which is malignant; the others are even.
        strength: distance of the classes in standard deviations of the noise.
        mixed: share of patients whose photos have a class each.
        sharpness: factor of the log odds; 1 are the right ones without correlation.
    """

    patients: int
    photos: str = "few"
    correlation: float = 0.5
    classes: int = 2
    rarest: float = 0.5
    strength: float = 1.5
    mixed: float = 0.3
    sharpness: float = 1.0

    def __str__(self) -> str:
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))


def photos_of(law: str, patients: int, rng: np.random.Generator) -> np.ndarray:
    """(patients,) numbers of photos."""
    if law == "uneven":
        return np.minimum(np.ceil(rng.lognormal(1.2, 1.0, patients)), 60).astype(int)
    return rng.integers(1, {"one": 1, "few": 5, "many": 20}[law] + 1, patients)


def draw(design: Design, patients: int, rng: np.random.Generator) -> metric_table.ScoredCases:
    """Predictions and truth of some patients of the population."""
    k = design.classes
    share = np.full(k, (1 - design.rarest) / (k - 1))
    share[0] = design.rarest
    n = photos_of(design.photos, patients, rng)
    patient = np.repeat(np.arange(patients), n)
    whole = rng.choice(k, patients, p=share)[patient]
    truth = np.where((rng.random(patients) < design.mixed)[patient], rng.choice(k, len(patient), p=share), whole)
    shared = rng.normal(size=(patients, k))[patient] * np.sqrt(design.correlation)
    own = rng.normal(size=(len(patient), k)) * np.sqrt(1 - design.correlation)
    # With x = strength * onehot + noise, the log odds of the classes are strength * x plus those of the shares.
    evidence = shared + own
    evidence[np.arange(len(patient)), truth] += design.strength
    logits = design.sharpness * design.strength * evidence + np.log(share)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    names = tuple(f"C{c}" for c in range(k))
    malignant = np.arange(k) < max(1, k // 4)
    malignancy = p[:, malignant].sum(axis=1)
    order = np.argsort(-p, axis=1)
    sets = np.zeros_like(p, dtype=bool)
    enough = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1) - np.take_along_axis(p, order, axis=1) < 0.8
    np.put_along_axis(sets, order, enough, axis=1)
    return metric_table.ScoredCases(
        classes=names,
        truth=truth,
        probability=p,
        cluster=np.char.add("p", patient.astype(str)),
        malignant=malignant,
        malignancy=malignancy,
        called=(malignancy >= 0.3) | malignant[p.argmax(axis=1)],
        veto=0.3,
        veto_source="given",
        thresholds={names[0]: (0.25, "given"), names[1]: (0.4, "given")},
        raw=malignancy**2 / (malignancy**2 + (1 - malignancy) ** 2),
        sets=sets,
        prevalence=0.05,
    )


def keyed(rows: Sequence[Mapping[str, Any]]) -> dict[Key, Mapping[str, Any]]:
    """Rows of the metrics table by class, average, rule and metric."""
    return {(r["class"], r["average"], r["decision_rule"], r["metric"]): r for r in rows}


def noisier(scored: metric_table.ScoredCases, rng: np.random.Generator) -> metric_table.ScoredCases:
    """A second model on the same cases: flatter, with noise of its own."""
    logits = 0.8 * np.log(np.maximum(scored.probability, 1e-12)) + rng.normal(size=scored.probability.shape)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert scored.malignant is not None
    malignancy = p[:, scored.malignant].sum(axis=1)
    called = (malignancy >= 0.3) | scored.malignant[p.argmax(axis=1)]
    return replace(scored, probability=p, malignancy=malignancy, called=called, raw=None, sets=None)


def differences(a: metric_table.ScoredCases, b: metric_table.ScoredCases, draws: int) -> dict[Key, tuple[float, ...]]:
    """What ``compare`` compares, the second less the first model, with its interval."""
    left_out = LeaveOut(a.cluster, draws=draws)
    one, other = (metric_table.replicated(side, left_out, comparison.PARTS) for side in (a, b))
    rows = {}
    for key in comparison.COMPARED:
        if key not in one.point or min(side.point[key][1] for side in (one, other)) < metric_table.MINIMUM_N:
            continue
        gap = other.point[key][0] - one.point[key][0]
        change = other.replicates[key] - one.replicates[key]
        patients = one.table.clusters_behind(key)
        unseen = max(side.table.unseen_variance(key, side.point[key][0], patients) for side in (one, other))
        found = paired_difference(gap, change, patients, share=key[3] in comparison.SHARES, unseen=unseen)
        rows[key] = (gap, found.lower, found.upper)
    return rows


def kind_of(key: Key) -> str:
    """The kind of interval that a figure has."""
    class_, average, _, metric = key
    if average != "none":
        return f"{metric}, {'micro' if average == 'micro' else 'average of classes'}"
    if metric in ("ppv", "npv", "precision"):
        return "predictive values"
    if metric.startswith(("sensitivity_at", "specificity_at")):
        return "_".join(metric.split("_")[:2]) + "_fixed_" + metric.split("_")[-1]
    return metric.removesuffix("_raw") + (", all classes" if class_ == "all" and metric in ("ece", "brier") else "")


def judge(design: Design, studies: int, seed: int = 0) -> Iterator[tuple[int, str, Key, int, float]]:
    """Study, kind, figure, side and width of every interval; the side is -1 for a truth below it, 0 within, 1 above."""
    first = zlib.crc32(f"{replace(design, patients=0)}".encode())
    rng = np.random.default_rng((seed, first))
    population = draw(design, POPULATION, rng)
    truth = {key: row["estimate"] for key, row in keyed(metric_table.measure(population, bootstrap=0)).items()}
    apart = {key: row[0] for key, row in differences(population, noisier(population, rng), 0).items()}
    for study in range(studies):
        rng = np.random.default_rng((seed, first, design.patients, study))
        sample = draw(design, design.patients, rng)
        rows = keyed(metric_table.measure(sample, bootstrap=300, seed=study))
        ends = [(kind_of(key), key, truth.get(key, np.nan), row["lower"], row["upper"]) for key, row in rows.items()]
        for key, (_, *of) in differences(sample, noisier(sample, rng), 1).items():
            ends.append(("difference of two models", key, apart.get(key, np.nan), *of))
        for kind, key, true, lower, upper in ends:
            if not np.isnan([true, lower, upper]).any():
                yield study, kind, key, int(true > upper + 1e-12) - int(true < lower - 1e-12), upper - lower


DESIGNS = (
    Design(0),
    Design(0, photos="one", correlation=0.0),
    Design(0, photos="many", correlation=0.3),
    Design(0, photos="uneven", correlation=0.8, strength=2.5),
    Design(0, photos="few", classes=4, rarest=0.2),
    Design(0, photos="many", classes=3, rarest=0.15, strength=1.0),
    Design(0, photos="few", strength=4.0),
    Design(0, photos="many", correlation=0.8, strength=0.5, mixed=0.0),
    Design(0, photos="few", classes=8, rarest=0.1, strength=2.5, mixed=0.6),
    Design(0, photos="few", classes=3, rarest=0.1, sharpness=2.0),
)


def table(patients: Sequence[int], studies: int, seed: int = 0) -> Iterator[str]:
    """Lines of a Markdown table: coverage and its standard error by kind and number of patients, and worst design."""
    yield "| interval | patients | coverage, % | standard error | truth below / above, % | worst design | intervals |"
    yield "|---|---|---|---|---|---|---|"
    for m in patients:
        tally: dict[str, dict[tuple[int, int], list[int]]] = {}
        for at, design in enumerate(DESIGNS):
            for study, kind, _, side, _ in judge(replace(design, patients=m), studies, seed):
                sums = tally.setdefault(kind, {}).setdefault((at, study), [0, 0, 0])
                sums[0] += 1
                sums[1] += side < 0
                sums[2] += side > 0
        for kind, by_study in sorted(tally.items()):
            sums = np.array(list(by_study.values()), dtype=float)
            n, missed = sums[:, 0], sums[:, 1] + sums[:, 2]
            miss = missed.sum() / n.sum()
            error = np.sqrt(((missed - miss * n) ** 2).sum()) / n.sum()
            place = np.array([at for at, _ in by_study])
            each = [
                1 - missed[place == at].sum() / n[place == at].sum()
                for at in np.unique(place)
                if (place == at).sum() >= studies / 2
            ]
            below, above = 100 * sums[:, 1:].sum(axis=0) / n.sum()
            lowest = f"{100 * min(each):.1f}" if each else "-"
            yield (
                f"| {kind} | {m} | {100 * (1 - miss):.1f} | {100 * error:.1f} | {below:.1f} / {above:.1f} | {lowest} | "
                f"{int(n.sum())} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[12, 20, 40, 80, 150])
    parser.add_argument("--studies", type=int, default=200, help="of each design")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for line in table(asked.patients, asked.studies, asked.seed):
        print(line, flush=True)
