"""select: features + split -> the radiomic signature of each fold, from that fold's training rows only.

For every class a one-vs-rest Welch t-test of every feature; Holm's correction over all features and classes; features
ranked by their smallest p; one that repeats a better-ranked one (Spearman) is dropped; the best few are kept.
Wang et al. 2024 name a univariate t-test and nine features; class pairing, alpha, correction and redundancy are unsaid
there and chosen here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifact import Artifact
from skinkit.errors import ConfigError, InputError
from skinkit.schemas import OK, SIGNATURE
from skinkit.stages import Job
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

VERSION = 1
SCHEMA = SIGNATURE

_FEATURE = re.compile(r"^([a-z0-9_]+_)?original_[A-Za-z0-9]+_\w+$")
_MOST_MISSING = 0.5


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    limit: Annotated[int, "features kept at most"] = 9
    alpha: Annotated[float, "significance level after Holm's correction"] = 0.05
    max_correlation: Annotated[float, "largest |Spearman r| with a better-ranked feature"] = 0.9


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One signature for a split and a fused table: ``--name FUSED`` or ``--name SPLIT/FUSED``."""
    split, slash, fused = name.partition("/")
    if not slash:
        split, fused = workspace.defaults["split"], name or workspace.defaults["segmenter"]
    check_name(split, "name of the split")
    check_name(fused, "name of the fused table")
    development = workspace.with_role("development")
    if cohorts and set(cohorts) != set(development):
        raise ConfigError(
            f"a signature of {', '.join(cohorts)} alone",
            f"all development cohorts together: {', '.join(development) or 'there is none'}",
            "leave --cohort out, or change the roles in skinkit.toml",
        )
    return [Ref("signature", name=f"{split}/{fused}")] if development else []


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The split, and the fused table of every development cohort."""
    split, _, fused = target.name.partition("/")
    tables = {f"fused/{cohort}": Ref("fused", cohort, fused) for cohort in workspace.with_role("development")}
    return {"split": Ref("split", name=split), **tables}


def run(config: Config, job: Job) -> Artifact:
    """Choose the signature of every fold."""
    import pandas as pd

    _check(config)
    split = job.inputs["split"]
    fused, features = _fused(job)
    rows = split.table()
    # Only training rows are joined with features at all: no other row can have a say.
    training = rows.loc[rows["part"] == "train", ["fold", "cohort", "case_id", "class"]]
    joined = training.merge(fused, on=["cohort", "case_id"], how="inner", validate="many_to_one")
    tables, sizes = [], []
    for fold in sorted(int(f) for f in rows["fold"].unique()):
        inside = joined[joined["fold"] == fold]
        measured = inside[inside[features].notna().any(axis=1)]
        table = signature(measured[features], measured["class"].to_numpy(dtype=str), config)
        chosen = table.loc[table["selected"], "feature"].tolist()
        if not chosen:
            job.console.warn(f"fold {fold}: no radiomic feature is significant; its signature is empty")
        job.console.info(f"  fold {fold}: {len(chosen)} of {len(features)} features from {len(measured)} training rows")
        tables.append(table.assign(fold=fold))
        sizes.append({"fold": fold, "training_rows": len(measured), "selected": chosen})
    with job.build() as build:
        build.clear()
        return build.finish(
            pd.concat(tables, ignore_index=True),
            info={
                "classes": split.info.get("classes"),
                "limit": config.limit,
                "features": len(features),
                "folds": sizes,
            },
        )


def _check(config: Config) -> None:
    if config.limit < 1:
        raise ConfigError(f"limit = {config.limit}", "1 or more", "give --limit 9")
    for name in ("alpha", "max_correlation"):
        value = getattr(config, name)
        if not 0 < value <= 1:
            raise ConfigError(f"{name} = {value}", "more than 0, at most 1", f"mend --{name.replace('_', '-')}")


def _fused(job: Job) -> tuple[pd.DataFrame, list[str]]:
    """Features of all development cases, and their names: those every cohort has."""
    import pandas as pd

    tables: dict[str, pd.DataFrame] = {}
    for name, artifact in job.inputs.items():
        if name.startswith("fused/"):
            table = artifact.table()
            tables[name.removeprefix("fused/")] = table[table["status"] == OK]
    found = [[name for name in table.columns if _FEATURE.match(name)] for table in tables.values()]
    shared = [name for name in found[0] if all(name in others for others in found)] if found else []
    if not shared:
        raise InputError(
            f"no radiomic feature that {', '.join(tables)} all have",
            "fused tables with columns such as original_firstorder_Mean",
            "run 'skinkit radiomics' with the same --channels for every development cohort",
        )
    if lost := sorted({name for names in found for name in names} - set(shared)):
        job.console.warn(f"{len(lost)} features are not in every development cohort and are left out: {lost[0]}, ...")
    kept = [t[["case_id", *shared]].assign(cohort=cohort) for cohort, t in tables.items()]
    return pd.concat(kept, ignore_index=True), shared


def signature(features: pd.DataFrame, labels: npt.NDArray[np.str_], config: Config) -> pd.DataFrame:
    """The signature from some rows: one row per feature, as in the schema but for the fold.

    Args:
        features: (n, features), NaN where a feature is unknown.
        labels: (n,) class of each row.
        config: limit, alpha and largest correlation.
    """
    import numpy as np
    import pandas as pd

    from skinkit.cross_fit import holm

    names = list(features.columns)
    x = features.to_numpy(dtype=np.float64)
    x = np.where(np.isfinite(x), x, np.nan)
    missing, constant = _unusable(x)
    statistic, p, classes = _welch(x, labels)
    p[missing | constant] = np.nan
    p_holm = holm(p)
    tested = (~np.isnan(p)).sum(axis=1) > 0
    everyone = np.arange(len(names))
    best = np.argmin(np.where(np.isnan(p), np.inf, p), axis=1)
    statistic, p, p_holm = (np.where(tested, values[everyone, best], np.nan) for values in (statistic, p, p_holm))
    # With many cases p underflows to 0 for several features: the larger |t| goes first, then the name.
    order = sorted(np.flatnonzero(tested).tolist(), key=lambda i: (float(p[i]), -abs(float(statistic[i])), names[i]))
    rank: list[int | None] = [None] * len(names)
    reason: list[str | None] = ["missing" if missing[i] else "constant" for i in everyone]
    repeats: list[str | None] = [None] * len(names)
    correlation = _Spearman(x)
    kept: list[int] = []
    for place, i in enumerate(order, start=1):
        rank[i], reason[i] = place, None
        if p_holm[i] > config.alpha:
            reason[i] = "not_significant"
            continue
        like = next((k for k in kept if abs(correlation(k, i)) > config.max_correlation), None)
        if like is not None:
            reason[i], repeats[i] = "correlated", names[like]
        elif len(kept) >= config.limit:
            reason[i] = "beyond_limit"
        else:
            kept.append(i)
    return pd.DataFrame(
        {
            "feature": names,
            "statistic": statistic,
            "best_class": _strings([str(classes[best[i]]) if tested[i] else None for i in everyone]),
            "p": p,
            "p_holm": p_holm,
            "rank": pd.array(rank, dtype="Int64"),
            "selected": [i in kept for i in everyone],
            "drop_reason": _strings(reason),
            "correlated_with": _strings(repeats),
        }
    )


def _strings(values: list[str | None]) -> pd.Series:
    import pandas as pd

    return pd.Series(values, dtype=object)


def _unusable(x: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Features unknown in more than half of the rows, and features with one value only."""
    import numpy as np

    known = ~np.isnan(x)
    missing = known.mean(axis=0) < 1 - _MOST_MISSING if len(x) else np.ones(x.shape[1], dtype=bool)
    low = np.where(known, x, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, x, -np.inf).max(axis=0, initial=-np.inf)
    return missing, ~missing & (low >= high)


def _welch(
    x: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """Welch's t and two-sided p of each class against the rest: two (features, classes), and the classes.

    t = (m1 - m2) / sqrt(s1^2/n1 + s2^2/n2) with Welch-Satterthwaite degrees of freedom (Welch, Biometrika 1947). NaN
    where a side has fewer than two known values.
    """
    import numpy as np
    from scipy.stats import t as student

    classes = np.unique(labels)
    statistic = np.full((x.shape[1], len(classes)), np.nan)
    p = np.full_like(statistic, np.nan)
    for column, name in enumerate(classes):
        sides = []
        for rows in (labels == name, labels != name):
            values = x[rows]
            n = (~np.isnan(values)).sum(axis=0)
            safe = np.maximum(n, 1)
            mean = np.nansum(values, axis=0) / safe
            variance = np.nansum((values - mean) ** 2, axis=0) / np.maximum(n - 1, 1)
            sides.append((n, mean, variance / safe))
        (n1, m1, e1), (n2, m2, e2) = sides
        good = (n1 >= 2) & (n2 >= 2) & (e1 + e2 > 0)
        e1, e2, n1, n2 = e1[good], e2[good], n1[good], n2[good]
        t = (m1 - m2)[good] / np.sqrt(e1 + e2)
        freedom = (e1 + e2) ** 2 / (e1**2 / (n1 - 1) + e2**2 / (n2 - 1))
        statistic[good, column] = t
        p[good, column] = 2 * student.sf(np.abs(t), freedom)
    return statistic, p, classes


class _Spearman:
    """Spearman's r of two columns over the rows where both are known; ranks of complete columns are kept."""

    def __init__(self, x: npt.NDArray[np.float64]) -> None:
        self.x = x
        self._ranks: dict[int, Any] = {}

    def __call__(self, i: int, j: int) -> float:
        import numpy as np

        a, b = self._ranked(i), self._ranked(j)
        if a is None or b is None:
            both = ~np.isnan(self.x[:, i]) & ~np.isnan(self.x[:, j])
            a, b = _unit_ranks(self.x[both, i]), _unit_ranks(self.x[both, j])
        return float(a @ b)

    def _ranked(self, i: int) -> Any:
        import numpy as np

        if i not in self._ranks:
            column = self.x[:, i]
            self._ranks[i] = None if np.isnan(column).any() else _unit_ranks(column)
        return self._ranks[i]


def _unit_ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks centred and scaled to length 1, so that a dot product is a correlation; zeros where all are equal."""
    import numpy as np
    from scipy.stats import rankdata

    ranks = np.asarray(rankdata(values), dtype=np.float64)
    centred = ranks - ranks.mean() if len(ranks) else ranks
    length = float(np.sqrt(centred @ centred))
    return centred / length if length else centred
