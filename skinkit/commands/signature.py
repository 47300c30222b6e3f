"""signature: analyse the stability of the radiomic signature.

For one split and fused table it reports: each selected feature with its test over patients (Welch t, degrees of
freedom, Holm's p, Cohen's d); how often it is selected on bootstrap samples of the training patients, with Nogueira's
stability; Spearman's correlations within and between categories of features; and LightGBM on the signature alone, with
Shapley values of out-of-sample cases. --outlines A,B (names of features, such as truth,annotator2) adds the ICC of
every feature between outlines of the same lesions. Files are written to 'signature/<split>/<fused>' of the workspace:
signature.json, tables as CSV, and figures as SVG and PNG.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts import csv
from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.artifacts.files import json_values, write_atomic
from skinkit.commands import Context
from skinkit.commands._output import write_study
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.options import Help, folder_for_files
from skinkit.schemas import OK
from skinkit.workspace import Ref

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.signature.trees import Explained, SplitRows
    from skinkit.taxonomy import ClassSet

PANEL = "Data study", 3
SHARED_OPTIONS = ("workspace", "jobs", "no_upstream")

FOLDER = "signature"
_FEWEST_ROWS = 3
_MALIGNANCY = "malignancy"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    name: Annotated[
        str, Help("fused table, or SPLIT/FUSED (default: the workspace's split and segmenter)", metavar="NAME")
    ] = ""
    fold: Annotated[int, "fold whose training rows are analysed"] = 0
    outlines: Annotated[
        tuple[str, ...], "names of two or more feature tables of the same photos, such as truth,annotator2: their ICC"
    ] = ()
    bootstrap: Annotated[int, "bootstrap samples of patients for the stability; 0: none"] = 100
    target: Annotated[str, "target of LightGBM on the signature: malignancy, or one class against all others"] = (
        _MALIGNANCY
    )
    case: Annotated[str, "case of the waterfall (default: the most typical positive one)"] = ""
    seed: Annotated[int, "seed of all random draws"] = 0
    out: Annotated[str, folder_for_files(f"{FOLDER}/<split>/<fused>")] = ""


@dataclass(frozen=True)
class SignatureData:
    """The signature and the rows it is analysed on.

    Attributes:
        artifact: the signature.
        name: its split and fused table.
        fold: the fold.
        rows: measured cases of the fold with ``class``, ``part`` and features.
        features: all of them.
        chosen: those of the signature, best first.
        classes: the split's class set.
    """

    artifact: Artifact
    name: str
    fold: int
    rows: pd.DataFrame
    features: list[str]
    chosen: list[str]
    classes: ClassSet

    def part(self, name: str) -> pd.DataFrame:
        """Rows of train, validation or held_out."""
        return self.rows[self.rows["part"] == name]


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Analyse one signature."""
    if config.bootstrap < 0 or config.bootstrap == 1:
        raise ConfigError(f"--bootstrap {config.bootstrap}", "2 or more draws, or 0 for none", "100 is the default")
    if len(config.outlines) == 1 or len(set(config.outlines)) < len(config.outlines):
        raise ConfigError(
            f"--outlines {','.join(config.outlines)}", "two or more different names", "give --outlines truth,annotator2"
        )
    artifacts = _Artifacts(context)
    workspace = artifacts.workspace
    material = _material(config, artifacts)
    folder = Path(config.out) if config.out else workspace.root / FOLDER / material.name
    trees = _trees(config, material, folder)  # first, because it is what can be misused
    parts: dict[str, Any] = {
        "signature": _statistics(material),
        "correlation": _correlation(material, folder),
        "stability": _stability(config, material, context, folder),
        "reliability": _reliability(config, material, artifacts, folder),
        "trees": trees,
    }
    body = {
        "name": material.name,
        "fold": material.fold,
        "settings": dict(material.artifact.config),
        "training_rows": len(material.part("train")),
        "features": len(material.features),
        **{key: value for key, value in parts.items() if value is not None},
        "folder": str(folder),
    }
    body = json_values(body)
    study = write_study(folder, "signature", body, _text(body))
    return {**study.body, "files": study.files, "text": study.text}


# -------------------------------------------------------------------------------------------------- what is read


class _Artifacts:
    """Artifacts, brought up to date unless ``--no-upstream`` says otherwise."""

    def __init__(self, context: Context) -> None:
        self.workspace = context.workspace()
        self.pipeline = context.pipeline(self.workspace)

    def __call__(self, ref: Ref) -> Artifact:
        if self.pipeline.upstream:
            return self.pipeline.bring(ref)
        return open_artifact(self.workspace.path(ref), fix=f"leave --no-upstream out, so that {ref} is made")


def _material(config: Config, artifacts: _Artifacts) -> SignatureData:
    """The signature and the cases of its fold."""
    from skinkit.stages import select
    from skinkit.taxonomy import ClassSet

    refs = select.targets(select.Config(), artifacts.workspace, (), config.name)
    if not refs:
        raise InputError(
            f"{artifacts.workspace.root} has no development cohort", "one", "change the roles in skinkit.toml"
        )
    artifact = artifacts(refs[0])
    _, _, needs = artifacts.pipeline.plan(refs[0])
    inputs = {name: artifacts(ref) for name, ref in needs.items()}
    table = artifact.table()
    folds = sorted(int(fold) for fold in table["fold"].unique())
    if config.fold not in folds:
        raise ConfigError(f"--fold {config.fold}", f"one of {listed(folds)}", "name a fold of the split")
    rows, features = select.measured_rows(inputs, artifacts.pipeline.console)
    rows = rows[rows["fold"] == config.fold].reset_index(drop=True)
    if (n := int((rows["part"] == "train").sum())) < _FEWEST_ROWS:
        raise InputError(
            f"{n} measured training rows in fold {config.fold} of {refs[0].name}",
            f"{_FEWEST_ROWS} or more",
            "draw another split, or see 'skinkit status' for photos that could not be measured",
        )
    chosen = table[(table["fold"] == config.fold) & table["selected"]].sort_values("rank")["feature"].tolist()
    classes = ClassSet.from_dict(inputs["split"].info["classes"])
    return SignatureData(artifact, refs[0].name, config.fold, rows, features, chosen, classes)


def _statistics(material: SignatureData) -> dict[str, Any]:
    """The selected features with their tests, and why the others were dropped."""
    from skinkit.stages.select import TESTS

    tests = material.artifact.table(file=TESTS)
    table = material.artifact.table()
    table = table[table["fold"] == material.fold]
    best = table.loc[table["selected"], ["feature", "best_class", "rank"]].rename(columns={"best_class": "class"})
    chosen = best.merge(tests[tests["fold"] == material.fold], on=["feature", "class"]).sort_values("rank")
    chosen = chosen.drop(columns=["rank", "fold"])
    dropped = table["drop_reason"].dropna().value_counts().sort_index()
    return {"chosen": chosen.to_dict("records"), "dropped": dropped.to_dict()}


# --------------------------------------------------------------------------------------------------- the parts


def _correlation(material: SignatureData, folder: Path) -> dict[str, Any]:
    """Spearman's r on the training rows, and the heatmap of the same rows."""
    import pandas as pd

    from skinkit.figures import signature
    from skinkit.signature.correlation import between_categories, correlations, extremes

    train = material.part("train")
    x = train[material.features].to_numpy(dtype=float)
    varied = [name for name in material.features if train[name].nunique() > 1]
    r = correlations(train[varied].to_numpy(dtype=float))
    _csv(folder / "correlation.csv", pd.DataFrame(r, index=varied, columns=varied).rename_axis("feature").reset_index())
    categories = between_categories(r, varied)
    _csv(folder / "correlation_categories.csv", categories)
    heatmap = signature.heatmap(
        folder, x, train["class"].tolist(), material.features, material.chosen, material.classes.labels
    )
    within = categories[categories["a"] == categories["b"]]
    return {
        "categories": categories.to_dict("records"),
        "extremes": extremes(x, material.features),
        "share_high_within": _pooled(within),
        "share_high_between": _pooled(categories.drop(within.index)),
        "figures": {"heatmap": heatmap, "correlation": signature.correlation(folder, r, varied, material.chosen)},
    }


def _pooled(table: pd.DataFrame) -> float:
    """Share of pairs above 0.9, over categories."""
    pairs = float(table["pairs"].sum())
    return float((table["pairs"] * table["share_high"]).sum()) / pairs if pairs else math.nan


def _stability(config: Config, material: SignatureData, context: Context, folder: Path) -> dict[str, Any] | None:
    """Stability over resampled patients, and over folds where there are several."""
    import numpy as np
    import pandas as pd

    from skinkit.figures import signature
    from skinkit.signature.selection import SignatureRule
    from skinkit.signature.stability import drawn_again, stability

    table = material.artifact.table()
    over_folds = table.pivot(index="fold", columns="feature", values="selected").reindex(columns=material.features)
    held = over_folds.to_numpy(dtype=bool)
    answer: dict[str, Any] = {"folds": asdict(stability(held)) if len(held) > 1 else None, "patients": None}
    frequency = pd.DataFrame({"feature": material.features, "folds": held.mean(axis=0)})
    if config.bootstrap:
        train = material.part("train")
        choices = drawn_again(
            train[material.features].to_numpy(dtype=float),
            train["class"].to_numpy(dtype=str),
            train["group_id"].to_numpy(dtype=str),
            material.features,
            SignatureRule(**{name: material.artifact.config[name] for name in ("limit", "alpha", "max_correlation")}),
            bootstrap=config.bootstrap,
            seed=config.seed,
            console=context.console,
        )
        agreement = stability(choices)
        answer["patients"] = {**asdict(agreement), "mean_size": float(np.mean(choices.sum(axis=1)))}
        frequency["frequency"] = choices.mean(axis=0)
        title = f"Chosen again on {config.bootstrap} draws of patients: stability {_interval(asdict(agreement))}"
        answer["figures"] = {"stability": signature.frequencies(folder, frequency, material.chosen, title)}
    _csv(folder / "stability.csv", frequency)
    answer["frequency"] = frequency.set_index("feature").to_dict("index")
    return answer


def _reliability(config: Config, material: SignatureData, artifacts: _Artifacts, folder: Path) -> dict[str, Any] | None:
    """The ICC of every feature between outlines, over the lesions measured under all of them."""
    import pandas as pd

    from skinkit.figures import signature
    from skinkit.signature.reliability import GOOD, reliability

    if not config.outlines:
        return None
    cohorts = artifacts.workspace.with_role("development")
    tables = [_outlined(name, cohorts, artifacts) for name in config.outlines]
    shared = tables[0].index
    for table in tables[1:]:
        shared = shared.intersection(table.index)
    features = [name for name in material.features if all(name in table for table in tables)]
    if len(shared) < 3 or not features:
        raise InputError(
            f"{len(shared)} lesions with {len(features)} features in all of {listed(config.outlines)}",
            "the same lesions measured under each outline",
            "run 'skinkit segment' and 'skinkit radiomics' under both names for the same cohorts",
        )
    shared = shared.sort_values()
    groups = pd.concat([_groups(cohort, artifacts) for cohort in cohorts]).loc[shared].to_numpy(dtype=str)
    table = reliability([one.loc[shared] for one in tables], features, groups, seed=config.seed, good=GOOD)
    _csv(folder / "reliability.csv", table)
    title = f"{' and '.join(config.outlines)}: {len(shared)} lesions of {len(set(groups))} patients"
    counts = {
        "poor": int((table["icc"] < 0.5).sum()),
        "moderate": int(((table["icc"] >= 0.5) & (table["icc"] < GOOD)).sum()),
        "good": int(((table["icc"] >= GOOD) & (table["icc"] < 0.9)).sum()),
        "excellent": int((table["icc"] >= 0.9).sum()),
    }
    return {
        "outlines": list(config.outlines),
        "n": len(shared),
        "n_clusters": len(set(groups)),
        "flagged_below": GOOD,
        "counts": counts,
        "icc": table.set_index("feature").to_dict("index"),
        "figures": {"reliability": signature.reliabilities(folder, table, material.chosen, GOOD, title)},
    }


def _outlined(name: str, cohorts: list[str], artifacts: _Artifacts) -> pd.DataFrame:
    """Features under one outline by cohort and image.

    Failed masks are left out, and so are masks of photos in sample for the segmenter.
    """
    import pandas as pd

    tables = []
    for cohort in cohorts:
        features = artifacts(Ref("features", cohort, name))
        masks = artifacts(Ref("masks", cohort, str(features.config.get("masks") or name))).table()
        learnt = set(masks.loc[masks["in_sample"].fillna(value=False).astype(bool), "image_id"])
        table = features.table()
        table = table[(table["status"] == OK) & ~table["mask_failed"].fillna(value=True).astype(bool)]
        table = table[~table["image_id"].isin(list(learnt))]
        tables.append(table.assign(cohort=cohort).set_index(["cohort", "image_id"]))
    return pd.concat(tables)


def _groups(cohort: str, artifacts: _Artifacts) -> pd.Series[str]:
    """Patient of each image."""
    cases = artifacts(Ref("cases", cohort)).table()
    groups: pd.Series[str] = cases.assign(cohort=cohort).set_index(["cohort", "image_id"])["group_id"]
    return groups


def _trees(config: Config, material: SignatureData, folder: Path) -> dict[str, Any] | None:
    """LightGBM on the signature, scored and explained on held-out rows (validation rows where none are held out)."""
    import numpy as np

    from skinkit.signature.trees import SplitRows, explain, most_typical
    from skinkit.stats.cross_fit import areas

    if not material.chosen:
        return None
    positive = _positive(config, material)
    where = "held_out" if len(material.part("held_out")) else "validation"
    parts = {
        name: SplitRows(rows[material.chosen].to_numpy(dtype=float), positive[rows.index.to_numpy()])
        for name in ("train", "validation", "held_out")
        for rows in [material.part(name)]
    }
    train = parts["train"].positive
    if train.all() or not train.any():
        raise ConfigError(
            f"--target {config.target}: {int(train.sum())} of {len(train)} training rows are positive",
            "positive and other cases among them",
            "name another class, or draw the split anew",
        )
    explained_rows, rows = parts[where], material.part(where)
    if not len(rows):
        return None
    nothing = SplitRows(explained_rows.x[:0], explained_rows.positive[:0])
    explained = explain(
        parts["train"], parts["validation"] if where == "held_out" else nothing, explained_rows.x, seed=config.seed
    )
    (area,) = areas(
        [explained.log_odds],
        explained_rows.positive,
        rows["group_id"].to_numpy(dtype=str),
        seed=config.seed,
    )
    cases = rows["case_id"].tolist()
    if config.case and config.case not in cases:
        raise ConfigError(
            f"--case {config.case!r}", did_you_mean(config.case, cases), f"name a {where} case of fold {material.fold}"
        )
    right = explained_rows.positive & (explained.log_odds > 0)
    candidates = right if right.any() else np.ones(len(rows), dtype=bool)
    one = cases.index(config.case) if config.case else most_typical(explained.phi, candidates)
    strength = np.abs(explained.phi).mean(axis=0)
    return {
        "target": config.target,
        "part": where,
        "auroc": {"estimate": area.auroc, "lower": area.lower, "upper": area.upper},
        "n": area.n,
        "n_positive": area.n_positive,
        "base": explained.base,
        "mean_absolute_shap": dict(zip(material.chosen, strength.tolist(), strict=True)),
        "case": {
            "case_id": cases[one],
            "class": rows["class"].iloc[one],
            "log_odds": float(explained.log_odds[one]),
            "shap": dict(zip(material.chosen, explained.phi[one].tolist(), strict=True)),
        },
        "figures": _tree_figures(config, material, explained, explained_rows, where, one, folder),
    }


def _tree_figures(
    config: Config,
    material: SignatureData,
    explained: Explained,
    shown: SplitRows,
    where: str,
    one: int,
    folder: Path,
) -> dict[str, Any]:
    """Draw what the trees make of one case, of all cases and, on average, of the positive ones."""
    import numpy as np

    from skinkit.figures import signature

    rows, part, names = material.part(where), where.replace("_", "-"), material.chosen
    about_one = f"{rows['case_id'].iloc[one]} ({rows['class'].iloc[one]}), {config.target}"
    about_all = f"{config.target}: {len(rows)} {part} lesions"
    figures = {
        "waterfall": signature.waterfall(
            folder, "waterfall", explained.base, explained.phi[one], shown.x[one], names, about_one
        ),
        "beeswarm": signature.beeswarm(folder, explained.phi, shown.x, names, about_all),
    }
    if shown.positive.any():
        mean, median = explained.phi[shown.positive].mean(axis=0), np.nanmedian(shown.x[shown.positive], axis=0)
        about = f"{config.target}: mean of {int(shown.positive.sum())} {part} positives (values: medians)"
        figures["waterfall_positive"] = signature.waterfall(
            folder, "waterfall_positive", explained.base, mean, median, names, about
        )
    return figures


def _positive(config: Config, material: SignatureData) -> np.ndarray:
    """(rows,) whether a case belongs to the target."""
    classes = material.classes
    if config.target == _MALIGNANCY:
        wanted = classes.malignant
    elif config.target in classes.classes:
        wanted = frozenset({config.target})
    else:
        raise ConfigError(
            f"--target {config.target!r}",
            did_you_mean(config.target, [*classes.classes, _MALIGNANCY]),
            "name a class of the split",
        )
    return material.rows["class"].isin(list(wanted)).to_numpy(dtype=bool)


# ------------------------------------------------------------------------------------------------------ answers


def _csv(path: Path, table: pd.DataFrame) -> None:
    write_atomic(path, csv.escaped(table).to_csv(index=False, float_format="%.10g").encode())


def _interval(figure: Mapping[str, Any], name: str = "estimate") -> str:
    value, lower, upper = (figure.get(key) for key in (name, "lower", "upper"))
    if value is None or value != value:
        return "not defined"
    return f"{value:.2f}" + (f" ({lower:.2f} to {upper:.2f})" if lower is not None and lower == lower else "")


def _text(body: Mapping[str, Any]) -> str:
    """For a terminal."""
    chosen, stable, icc = body["signature"]["chosen"], body["stability"], body.get("reliability")
    width = max((len(row["feature"]) for row in chosen), default=20) - len("original_") + 2
    lines = [
        f"{body['name']}, fold {body['fold']}: {len(chosen)} of {body['features']} features from "
        f"{body['training_rows']} training rows",
        "",
        f"  {'feature':{width}}{'class':8}{'t':>7}{'df':>7}{'p (Holm)':>11}{'d':>7}{'again':>7}"
        + ("  ICC" if icc else ""),
    ]
    for row in chosen:
        again = stable["frequency"][row["feature"]].get("frequency")
        line = (
            f"  {row['feature'].removeprefix('original_'):{width}}{row['class']:8}{row['statistic']:>7.2f}"
            f"{row['freedom']:>7.0f}{row['p_holm']:>11.2g}{row['cohens_d']:>7.2f}"
            f"{'-' if again is None else format(again, '.2f'):>7}"
        )
        if icc:
            one = icc["icc"].get(row["feature"])
            line += "  -" if one is None else f"  {_interval(one, 'icc')}" + (" flagged" if one["flagged"] else "")
        lines.append(line)
    dropped = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in body["signature"]["dropped"].items())
    lines += ["", f"  dropped: {dropped}"]
    if stable["patients"]:
        one = stable["patients"]
        jaccard = "" if one["jaccard"] is None else f", Jaccard {one['jaccard']:.2f}"
        lines.append(
            f"  stability over {one['choices']} draws of patients: {_interval(one)} (Nogueira; 1 the same every time, "
            f"0 by lot){jaccard}, {one['mean_size']:.1f} features on average"
        )
    if stable["folds"]:
        lines.append(f"  stability over {stable['folds']['choices']} folds: {_interval(stable['folds'])}")
    r = body["correlation"]
    lines.append(
        f"  pairs with |Spearman r| above 0.9: {r['share_high_within'] or 0:.1%} within a category of features, "
        f"{r['share_high_between'] or 0:.1%} between categories"
    )
    lines.append(
        "  values more than 2.5 standard deviations from the mean: "
        + ", ".join(f"{share:.1%} of {name}" for name, share in r["extremes"].items())
    )
    if icc:
        counts = ", ".join(f"{n} {name}" for name, n in icc["counts"].items())
        lines.append(
            f"  ICC(2,1) between {' and '.join(icc['outlines'])}, {icc['n']} lesions of {icc['n_clusters']} patients: "
            f"{counts}"
        )
    if trees := body.get("trees"):
        lines.append(
            f"  LightGBM on the signature alone, {trees['target']}: AUROC {_interval(trees['auroc'])} on {trees['n']} "
            f"{trees['part'].replace('_', '-')} lesions ({trees['n_positive']} positive)"
        )
    return "\n".join([*lines, ""])
