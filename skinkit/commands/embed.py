"""embed: plot the feature space of a model.

The features are the input of a network's last layer, or of an estimator's last, linear step, or else its inputs. Only
cases that did not train the fold are shown: the held-out ones of a development cohort, all scored ones of others.
Features of different folds are not comparable, so one fold is shown (--fold). For each class the command also reports
the share of nearest neighbours, in feature space, of the same class. Files are written to 'embed/<cohort>' of the
workspace, or to --out: SVG, PNG, Parquet and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.commands import MODEL_STUDY, Context, _test_access
from skinkit.commands._output import Written, folder_of, write_study
from skinkit.errors import ConfigError, InputError, listed
from skinkit.options import ONE_MODEL_ARGUMENT, Help, folder_for_files
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.learning.trained import Classifier, Fold

PANEL = "Model study", 9
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "embed"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    model: Annotated[str, ONE_MODEL_ARGUMENT] = ""
    fold: Annotated[int, "fold whose features are shown"] = 0
    method: Annotated[Literal["tsne", "pca"], "projection to two dimensions"] = "tsne"
    perplexity: Annotated[float, Help("perplexity of t-SNE", rare=True)] = 30.0
    seed: Annotated[int, "seed of t-SNE"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Draw the map of every labelled cohort."""
    from skinkit.learning import trained

    if config.perplexity <= 0:
        raise ConfigError(f"--perplexity {config.perplexity}", "a positive number", "30 is the default")
    workspace = context.workspace()
    pipeline = context.pipeline(workspace)
    cohorts = context.labelled(workspace)
    name = config.model or workspace.defaults["model"]
    answers: dict[str, Any] = {}
    texts = []
    for cohort in cohorts:
        metrics = pipeline.bring(Ref("metrics", cohort, name))
        model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name=name))), name)
        fold = next(iter(model.chosen([config.fold])), None)
        if fold is None:
            folds_text = listed(entry["fold"] for entry in model.about["folds"])
            raise ConfigError(f"--fold {config.fold} of {name}", f"one of its folds: {folds_text}", "name another")
        written = _mapped(config, context, workspace, model, fold, cohort, metrics)
        answers[cohort] = {**written.body, "files": written.files}
        _test_access.used(workspace, "embed", cohort, metrics, config)
        texts.append(written.text)
    return {"embed": answers, "text": "\n\n".join(texts)}


def _mapped(
    config: Config,
    context: Context,
    workspace: Workspace,
    model: Classifier,
    fold: Fold,
    cohort: str,
    metrics: Artifact,
) -> Written:
    """Map the features of one cohort and write the files."""
    from skinkit.evaluation import feature_map
    from skinkit.evaluation.scoring import TRUTH
    from skinkit.schemas import IMAGE, PROBABILITY

    name, codes = model.name, model.classes.classes
    probabilities = [f"{PROBABILITY}{code}" for code in codes]
    scored = metrics.table(["level", "case_id", TRUTH, *probabilities], "scored.parquet")
    scored = scored[scored["level"] == IMAGE].set_index("case_id").sort_index()
    fold, vectors, cases = _features(context, workspace, model, fold, cohort, scored.index)
    if len(cases) < feature_map.FEWEST:
        raise InputError(
            f"{len(cases)} scored cases of {cohort} that fold {fold.number} has not learnt from",
            f"at least {feature_map.FEWEST}",
            "name another fold or cohort",
        )
    own = scored.loc[cases]
    places = feature_map.mapped(vectors, method=config.method, perplexity=config.perplexity, seed=config.seed)
    table = own[[TRUTH]].rename(columns={TRUTH: "class"}).reset_index()
    table["top1"] = [codes[at] for at in own[probabilities].to_numpy(dtype=float).argmax(axis=1)]
    table["x"], table["y"] = places[:, 0], places[:, 1]
    purities = feature_map.purity(vectors, table["class"].tolist())
    about = {
        "model": name,
        "model_identity": model.identity,
        "cohort": cohort,
        "fold": fold.number,
        "width": int(vectors.shape[1]),
        "n": len(table),
        **{key: getattr(config, key) for key in ("method", "perplexity", "seed")},
        "neighbours": purities,
    }
    folder = folder_of(config.out, workspace, FOLDER, cohort)
    labels = {code: model.classes.labels.get(code, code) for code in codes}
    lines = [f"{name} on {cohort}: {len(table)} cases, {vectors.shape[1]} features of fold {fold.number}"]
    lines += [f"  {'':24}{'of the same class':>20}{'by chance':>12}{'cases':>8}"]
    lines += [
        f"  {labels[code]:24}{row['purity']:>20.2f}{row['chance']:>12.2f}{row['n']:>8}"
        for code, row in purities.items()
    ]
    files = feature_map.write(folder, name, table, labels)
    return write_study(folder, name, about, "\n".join(lines), files=files)


def _features(
    context: Context, workspace: Workspace, model: Classifier, fold: Fold, cohort: str, scored: pd.Index[str]
) -> tuple[Fold, np.ndarray, pd.Series]:
    """The fold, features (n, width) and ids of the scored cases that did not train it and have a readable photo."""
    from skinkit.learning import precision
    from skinkit.learning.features import features
    from skinkit.stages.predict import fused_of

    fused = open_artifact(workspace.path(Ref("fused", cohort, fused_of(model.name, workspace)))).table()
    frame = fused.set_index("case_id", drop=False).loc[scored].reset_index(drop=True)
    folds, development = model.folds_for(frame, cohort)
    if not development and fold.number not in model.outside:
        (fold,) = model.chosen(model.outside)  # the fold trained on all rows
    frame = frame[[fold.number in may for may in folds]].reset_index(drop=True)
    needs_device = model.uses_device
    vectors, readable = features(
        model,
        fold,
        frame,
        workspace.cohort(cohort).root,
        workspace.root,
        device=precision.pick_device(context.device) if needs_device else "cpu",
        console=context.console,
    )
    return fold, vectors, frame.loc[readable, "case_id"]
