"""select: features + split -> the radiomic signature of each fold, from that fold's training rows only.

For every class a one-vs-rest Welch t-test of every feature over patients, not photos; Holm's correction over all
features and classes; features ranked by their smallest p; one that repeats a better-ranked one (Spearman) is dropped;
the best few are kept. The table gives the outcome of every feature. Beside it, ``tests.parquet`` holds every test that
was made, and ``signature.json`` the chosen features in order with the settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tables import write_table
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, listed
from skinkit.schemas import OK, SIGNATURE, SIGNATURE_TESTS
from skinkit.stages import Job
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.signature.selection import Choice

VERSION = 3
SCHEMA = SIGNATURE

_FEATURE = re.compile(r"^([a-z0-9_]+_)?original_[A-Za-z0-9]+_\w+$")
_OF = "+"
"""Before each cohort in the name of a signature that only some of the development cohorts choose."""
TESTS, CHOSEN = "tests.parquet", "signature.json"
"""Files beside the table."""


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    limit: Annotated[int, "largest number of features"] = 9
    alpha: Annotated[float, "significance level after Holm's correction"] = 0.05
    max_correlation: Annotated[float, "largest |Spearman r| with a better-ranked feature"] = 0.9


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One signature for a split and a fused table: ``--name FUSED`` or ``--name SPLIT/FUSED``."""
    split, slash, fused = name.partition("/")
    if not slash:
        split, fused = workspace.defaults["split"], name or workspace.defaults["segmenter"]
    check_name(split, "name of the split")
    check_name(fused, "name of the fused table")
    development = workspace.development(cohorts, "a signature")
    return [Ref("signature", name=f"{split}/{fused}")] if development else []


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The split, and the fused table of every development cohort, or of those that the name ends with."""
    split, _, name = target.name.partition("/")
    fused, *cohorts = name.split(_OF)
    tables = {f"fused/{c}": Ref("fused", c, fused) for c in cohorts or workspace.with_role("development")}
    return {"split": Ref("split", name=split), **tables}


def name_of(split: str, fused: str, cohorts: Sequence[str], workspace: Workspace) -> str:
    """Name of the signature that these development cohorts choose together."""
    some = cohorts if set(cohorts) != set(workspace.with_role("development")) else ()
    return _OF.join([f"{split}/{fused}", *some])


def run(config: Config, job: Job) -> Artifact:
    """Choose the signature of every fold."""
    import pandas as pd

    from skinkit.signature.selection import SignatureRule, choose

    _check(config)
    split = job.inputs["split"]
    rows, features = measured_rows(job.inputs, job.console)
    # Nothing but training rows goes further: no other row can have a say.
    training = rows[rows["part"] == "train"]
    rule = SignatureRule(config.limit, config.alpha, config.max_correlation)
    tables, tests, folds = [], [], []
    for fold in sorted(int(fold) for fold in split.table()["fold"].unique()):
        measured = training[training["fold"] == fold]
        labels, patients = (measured[column].to_numpy(dtype=str) for column in ("class", "group_id"))
        choice = choose(measured[features].to_numpy(), labels, patients, features, rule)
        chosen = [features[i] for i in choice.kept]
        if not chosen:
            job.console.warn(f"fold {fold}: no radiomic feature is significant; its signature is empty")
        job.console.info(f"  fold {fold}: {len(chosen)} of {len(features)} features from {len(measured)} training rows")
        tables.append(choice.table(features).assign(fold=fold))
        tests.append(choice.tests.table(features).assign(fold=fold))
        folds.append({"fold": fold, "training_rows": len(measured), "selected": chosen, **_counts(choice)})
    with job.build() as build:
        build.clear()
        info = {"classes": split.info.get("classes"), "limit": config.limit, "features": len(features), "folds": folds}
        write_table(build.partial / TESTS, SIGNATURE_TESTS, pd.concat(tests, ignore_index=True))
        settings = {"limit": config.limit, "alpha": config.alpha, "max_correlation": config.max_correlation}
        body = {"settings": settings, "features_tested": len(features), "folds": folds}
        write_atomic(build.partial / CHOSEN, json.dumps(body, indent=1, ensure_ascii=False).encode())
        return build.finish(pd.concat(tables, ignore_index=True), info=info)


def measured_rows(inputs: Mapping[str, Artifact], console: Console) -> tuple[pd.DataFrame, list[str]]:
    """The split's rows joined with their measured features, and the names of those every development cohort has.

    Args:
        inputs: ``split``, and ``fused/<cohort>`` of every development cohort.
        console: says which features are left out.
    """
    fused, features = _fused(inputs, console)
    rows = inputs["split"].table()[["fold", "cohort", "case_id", "group_id", "class", "part"]]
    joined = rows.merge(fused, on=["cohort", "case_id"], how="inner", validate="many_to_one")
    return joined[joined[features].notna().any(axis=1)], features


def _counts(choice: Choice) -> dict[str, Any]:
    """Training rows of each class, and how many features were dropped for which reason."""
    reasons = [reason for reason in choice.reason if reason is not None]
    return {
        "rows_of_class": {str(name): int(n) for name, n in zip(choice.tests.classes, choice.tests.n, strict=True)},
        "dropped": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
    }


def _check(config: Config) -> None:
    if config.limit < 1:
        raise ConfigError(f"limit = {config.limit}", "1 or more", "give --limit 9")
    for name in ("alpha", "max_correlation"):
        value = getattr(config, name)
        if not 0 < value <= 1:
            raise ConfigError(f"{name} = {value}", "more than 0, at most 1", f"correct --{name.replace('_', '-')}")


def _fused(inputs: Mapping[str, Artifact], console: Console) -> tuple[pd.DataFrame, list[str]]:
    """Features of all development cases, and their names: those every cohort has."""
    import pandas as pd

    tables: dict[str, pd.DataFrame] = {}
    for name, artifact in inputs.items():
        if name.startswith("fused/"):
            table = artifact.table()
            tables[name.removeprefix("fused/")] = table[table["status"] == OK]
    column_sets = [[name for name in table.columns if _FEATURE.match(name)] for table in tables.values()]
    shared = [name for name in column_sets[0] if all(name in others for others in column_sets)] if column_sets else []
    if not shared:
        raise InputError(
            f"no radiomic feature that {listed(tables)} all have",
            "fused tables with columns such as original_firstorder_Mean",
            "run 'skinkit radiomics' with the same --channels for every development cohort",
        )
    if lost := sorted({name for names in column_sets for name in names} - set(shared)):
        console.warn(f"{len(lost)} features are not in every development cohort and are left out: {lost[0]}, ...")
    parts = [t[["case_id", *shared]].assign(cohort=cohort) for cohort, t in tables.items()]
    return pd.concat(parts, ignore_index=True), shared
