"""What is lost between dermoscopic and clinical photos.

Arms are regressions on the features of a backbone that is not trained, balanced over classes, or networks that are
fine-tuned so, scored on held-out cases of both domains:

    EqualDermoscopic   as many dermoscopic cases as there are clinical ones
    FullDermoscopic    all dermoscopic cases
    Clinical30         30 % of the clinical patients
    FullClinical       all clinical cases
    FineClinic         FullDermoscopic, drawn towards 30 % of the clinical patients
    FineFull           the same with all of them
    Joint              both domains together
    JointBalanced      both, each weighing half

    (1) G(arm) = score on dermoscopic cases - score on clinical ones
    (2) transfer gain = score(arm) - score(FullClinical) on clinical cases
    (3) cost = score(FullDermoscopic) - score(arm) on dermoscopic cases

Source of the names: "An analysis of data variation and bias in image-based dermatological datasets for machine learning
classification", arXiv:2501.08962, 2025, whose networks are fine-tuned; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.evaluation.altered import BALANCED, FIGURES, CasesWithTruth, Figures
from skinkit.models.frozen_probe import Config as ProbeConfig
from skinkit.models.frozen_probe import signed_sqrt
from skinkit.stats import domains
from skinkit.stats.encoders import Standardiser
from skinkit.stats.intervals import LeaveOut, patients_of
from skinkit.stats.metrics import Bools, Floats, Ints
from skinkit.stats.paired import paired_difference
from skinkit.stats.regression import balanced_path, balanced_regression, log_probabilities
from skinkit.stats.shapley import exact_shapley_values

ARMS = (
    "EqualDermoscopic", "FullDermoscopic", "Clinical30", "FullClinical", "FineClinic", "FineFull", "Joint",
    "JointBalanced",
)  # fmt: skip
WHOLE = ("FullDermoscopic", "FullClinical")
"""The arms of one domain, which the others are compared with."""
SHARE = 0.3
"""Of the clinical patients in FineClinic."""
C, C_FINE = ProbeConfig.c, 1e-2
"""Penalties, fixed beforehand: that of ``frozen_probe``, and a looser one for what starts from another domain."""
THRESHOLD = 0.3
COMPONENTS = 64
"""Principal components of both domains in which distances are measured."""
_FEWEST_RECORDED = 0.8
"""Share of either side of which a property must be recorded."""
FEWEST_MATCHED = 20
"""Cases of either side, with all properties recorded, that are matched."""
_MOST = 1500
"""Cases of each domain in distances of pairs."""


@dataclass(frozen=True)
class Domain:
    """Cases of one domain.

    Attributes:
        name: of the cohort.
        features: (n, width).
        labels: (n,) class indices.
        groups: (n,) patients.
        trained: (n,) whether a case may be learnt from; the others are held out.
        factors: name -> (n,) a property of the photo, NaN where unknown.
    """

    name: str
    features: Floats
    labels: Ints
    groups: npt.NDArray[Any]
    trained: Bools
    factors: Mapping[str, Floats] = field(default_factory=dict)

    def rows(self, chosen: npt.NDArray[Any]) -> Domain:
        """Some of the cases."""
        return Domain(
            self.name, self.features[chosen], self.labels[chosen], self.groups[chosen], self.trained[chosen],
            {name: values[chosen] for name, values in self.factors.items()},
        )  # fmt: skip

    def share(self, share: float, seed: int) -> Domain:
        """The cases of a share of the patients, at random; at least two classes stay."""
        names = np.unique(self.groups)
        order = np.random.default_rng(seed).permutation(names)
        n = max(1, round(share * len(names)))
        while n < len(names) and len(np.unique(self.labels[np.isin(self.groups, order[:n])])) < 2:
            n += 1
        return self.rows(np.isin(self.groups, order[:n]))


@dataclass(frozen=True)
class Linear:
    """A fitted arm.

    Attributes:
        weight: (K, width).
        bias: (K,).
    """

    weight: Floats
    bias: Floats

    def probability(self, u: Floats) -> Floats:
        """(n, K)."""
        return np.exp(log_probabilities(u @ self.weight.T + self.bias))


def fitted(
    arm: str, d: Domain, c: Domain, n_classes: int, *, seed: int = 0, share: float = SHARE, first: Linear | None = None
) -> Linear:
    """An arm, from training cases of both domains.

    Args:
        arm: of :data:`ARMS`.
        d: dermoscopic training cases, standardised.
        c: clinical ones.
        n_classes: K.
        seed: of what is drawn.
        share: of the clinical patients in Clinical30 and FineClinic.
        first: FullDermoscopic, where it is there already.
    """

    def plain(of: Domain) -> Linear:
        return Linear(*balanced_regression(of.features, of.labels, n_classes, C))

    if arm == "EqualDermoscopic":
        return plain(d.rows(_few_of_each(d.labels, len(c.labels), seed)))
    if arm == "FullDermoscopic":
        return first or plain(d)
    if arm == "FullClinical":
        return plain(c)
    if arm == "Clinical30":
        return plain(c.share(share, seed))
    if arm in ("FineClinic", "FineFull"):
        first, part = first or plain(d), c if arm == "FineFull" else c.share(share, seed)
        return Linear(*domains.regression_towards(part.features, part.labels, C_FINE, first.weight, first.bias))
    u, y = np.concatenate([d.features, c.features]), np.concatenate([d.labels, c.labels])
    each = np.concatenate([np.full(len(x.labels), 0.5 * len(y) / len(x.labels)) for x in (d, c)])
    weights = each if arm == "JointBalanced" else np.ones(len(y))
    return Linear(*balanced_path(u, y, n_classes, [C], weights)[0])


def _few_of_each(labels: Ints, n: int, seed: int) -> Ints:
    """About n cases at random, of every class its share and at least one."""
    rng, counts = np.random.default_rng(seed), np.bincount(labels)
    chosen = [
        rng.permutation(np.flatnonzero(labels == k))[: max(1, round(n * counts[k] / len(labels)))]
        for k in np.flatnonzero(counts)
    ]
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class Gap:
    """Both domains, standardised on their training cases together, and what arms say of them.

    Attributes:
        d: dermoscopic cases.
        c: clinical cases.
        classes: codes.
        malignant: (K,).
        seed: of all that is drawn.
    """

    d: Domain
    c: Domain
    classes: tuple[str, ...]
    malignant: Bools
    seed: int = 0

    @cached_property
    def _first(self) -> Linear:
        """FullDermoscopic, which several arms start from."""
        return fitted("FullDermoscopic", *self._parts()[0], len(self.classes), seed=self.seed)

    def cases(self, of: Domain) -> CasesWithTruth:
        """Truth and patients of held-out cases."""
        return CasesWithTruth(of.labels, of.groups, self.malignant, np.full(len(of.labels), THRESHOLD))

    def said(self, arms: Sequence[str] = ARMS) -> dict[str, dict[str, Floats]]:
        """Arm -> domain -> (n, K) what the regressions say of held-out cases; FullDermoscopic, FullClinical always."""
        train, held = self._parts()
        return {
            arm: {side.name: model.probability(side.features) for side in held}
            for arm in dict.fromkeys((*arms, *WHOLE))
            for model in [fitted(arm, *train, len(self.classes), seed=self.seed, first=self._first)]
        }

    def table(self, said: Mapping[str, Mapping[str, Floats]], arms: Sequence[str] = ()) -> dict[str, Any]:
        """Figures of each arm on both sides, eqs. 1 to 3 with intervals.

        Args:
            said: of :meth:`said`, or of networks; with :data:`WHOLE`.
            arms: that are given; empty for all.

        Returns:
            ``arms``: arm -> domain -> rows of ``CasesWithTruth.against`` with differences to FullClinical on clinical
            and to FullDermoscopic on dermoscopic cases (eq. 2, and eq. 3 with its sign turned); ``gap``: arm -> figure
            -> ``estimate``, ``lower``, ``upper`` of eq. 1.
        """
        held = self._parts()[1]
        sides = {side.name: (side, self.cases(side), LeaveOut(side.groups, self.seed)) for side in held}
        # Patients may have photos in both domains: each is left out of both at once.
        everyone = LeaveOut(np.concatenate([side.groups for side in held]), self.seed)
        whole = dict(zip((self.d.name, self.c.name), WHOLE, strict=True))
        figures = {
            arm: {name: cases.figures(said[arm][name], left_out) for name, (_, cases, left_out) in sides.items()}
            for arm in said
        }
        answer: dict[str, Any] = {"arms": {}, "gap": {}}
        for arm in arms or said:
            of, both = figures[arm], [cases.figures(said[arm][name], everyone) for name, (_, cases, _) in sides.items()]
            answer["arms"][arm] = {
                name: cases.against(figures[whole[name]][name], [of[name]]) for name, (_, cases, _) in sides.items()
            }
            behind = {
                figure: min(patients_of(cases.cluster, *cases.sides(figure)) for _, cases, _ in sides.values())
                for figure in FIGURES
                if all(figure in point for point, _ in both)
            }
            answer["gap"][arm] = {figure: _gap_of(both, figure, n) for figure, n in behind.items()}
        return answer

    def curve(self, fractions: Sequence[float], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Balanced accuracy on clinical cases by the share of clinical patients that is learnt from.

        Returns:
            Rows with ``arm`` (Clinical30 and FineClinic, with that share), ``share``, ``seed`` and ``value``.
        """
        train, (_, held) = self._parts()
        cases, nobody, rows = self.cases(held), LeaveOut(np.zeros(0), draws=0), []
        for arm in ("Clinical30", "FineClinic"):
            for share in fractions:
                for seed in seeds if share < 1 else seeds[:1]:
                    model = fitted(arm, *train, len(self.classes), seed=seed, share=share, first=self._first)
                    value = cases.figures(model.probability(held.features), nobody)[0][BALANCED]
                    rows.append({"arm": arm, "share": share, "seed": seed, "value": value})
        return rows

    def distances(self) -> dict[str, Any]:
        """Frechet distance, MMD and proxy A-distance in principal components of both domains, and each case's odds.

        Returns:
            ``frechet``, ``mmd2``, ``proxy_a_distance``, ``domain_accuracy``, and ``log_odds``, domain -> (n,) of
            being clinical.
        """
        both = [self.d, self.c]
        drawn = [self._few(x) for x in both]
        features = np.concatenate([x.features for x in drawn])
        centre = features.mean(axis=0)
        _, _, axes = np.linalg.svd(features - centre, full_matrices=False)
        components, few = ([(x.features - centre) @ axes[:COMPONENTS].T for x in of] for of in (both, drawn))
        domain = np.repeat([False, True], [len(x) for x in components])
        groups = np.concatenate([x.groups for x in both])
        odds = domains.domain_log_odds(np.concatenate(components), domain, groups, seed=self.seed)
        proxy = domains.proxy_a_distance(odds, domain)
        return {
            "frechet": domains.frechet_distance(*few),
            "mmd2": domains.mmd2(*few),
            "proxy_a_distance": proxy,
            "domain_accuracy": (proxy / 2 + 1) / 2,
            "log_odds": {self.d.name: odds[~domain], self.c.name: odds[domain]},
        }

    def factors(self, said: Mapping[str, Floats]) -> dict[str, Any]:
        """How much of the gap of FullDermoscopic goes with properties of the photos, of what it says in each domain.

        Held-out dermoscopic cases are weighted so that a property is spread as in the clinical ones, class by class
        alike; what the gap then loses is the property's, by its Shapley share over all subsets of properties. One that
        is unknown in more than a fifth of either side is left out, and so are cases of which one is unknown.

        Returns:
            ``gap`` and ``matched`` (of all properties), None with too few cases; ``effective`` (Kish's number of
            dermoscopic cases then), ``n`` (cases of both sides), ``alone`` (property -> gap lost when it alone is
            matched) and ``shares`` (property -> Shapley share).
        """
        held = self._parts()[1]
        names = tuple(
            name
            for name in self.d.factors
            if name in self.c.factors and all((~np.isnan(of.factors[name])).mean() >= _FEWEST_RECORDED for of in held)
        )
        columns = [np.array([of.factors[name] for name in names]).reshape(len(names), -1).T for of in held]
        columns = [x if names else np.zeros((len(of.labels), 0)) for x, of in zip(columns, held, strict=True)]
        rows = [~np.isnan(x).any(axis=1) for x in columns]
        values = [x[r] for x, r in zip(columns, rows, strict=True)]
        labels = [of.labels[r] for of, r in zip(held, rows, strict=True)]
        shared = sorted(set(labels[0].tolist()) & set(labels[1].tolist()))
        n = [len(of) for of in labels]
        if len(shared) < 2 or min(n) < FEWEST_MATCHED:
            return {"gap": None, "matched": None, "effective": 0.0, "n": n, "alone": {}, "shares": {}}
        hits = [said[of.name][r].argmax(axis=1) == y for of, r, y in zip(held, rows, labels, strict=True)]

        def balanced(side: int, weights: Floats) -> float:
            of_class = [labels[side] == k for k in shared]
            return float(np.mean([np.average(hits[side][rows], weights=weights[rows]) for rows in of_class]))

        clinical = balanced(1, np.ones(len(labels[1])))

        @cache
        def weights_of(subset: tuple[str, ...]) -> Floats:
            chosen = [names.index(name) for name in subset]
            return domains.matched_weights(values[0][:, chosen], values[1][:, chosen], (labels[0], labels[1]))

        whole = balanced(0, np.ones(len(labels[0]))) - clinical

        def lost(subset: tuple[str, ...]) -> float:
            return whole - (balanced(0, weights_of(subset)) - clinical)

        every = weights_of(names)
        shares = exact_shapley_values(
            lambda present: np.array([lost(tuple(compress(names, row))) for row in present]), len(names)
        )
        return {
            "gap": whole,
            "matched": whole - lost(names),
            "effective": float(every.sum() ** 2 / (every**2).sum()),
            "n": n,
            "alone": {name: lost((name,)) for name in names},
            "shares": dict(zip(names, map(float, shares), strict=True)),
        }

    def _parts(self) -> tuple[tuple[Domain, Domain], tuple[Domain, Domain]]:
        """Training and held-out cases of both domains."""
        both = (self.d, self.c)
        train = tuple(x.rows(x.trained) for x in both)
        held = tuple(x.rows(~x.trained) for x in both)
        return train, held  # type: ignore[return-value]

    def _few(self, of: Domain) -> Domain:
        chosen = np.random.default_rng(self.seed).permutation(len(of.labels))[:_MOST]
        return of.rows(np.sort(chosen))


def _gap_of(both: Sequence[Figures], figure: str, patients: int) -> dict[str, float]:
    """Eq. 1 with its interval, of the figures on dermoscopic and on clinical cases."""
    (d, d_out), (c, c_out) = ((point[figure], left_out[figure]) for point, left_out in both)
    found = paired_difference(d - c, d_out - c_out, patients)
    return {"estimate": d - c, "lower": max(found.lower, -1.0), "upper": min(found.upper, 1.0)}


def standardised(d: Domain, c: Domain) -> tuple[Domain, Domain]:
    """Both domains with signed roots of their features, standardised on the training cases of both together."""
    roots = [signed_sqrt(x.features) for x in (d, c)]
    learnt = np.concatenate([root[x.trained] for root, x in zip(roots, (d, c), strict=True)])
    scaler = Standardiser.fit([str(column) for column in range(learnt.shape[1])], learnt, [0.0] * learnt.shape[1])
    out = [replace(x, features=scaler.apply(root)) for x, root in zip((d, c), roots, strict=True)]
    return out[0], out[1]
