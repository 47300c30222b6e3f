"""missing: measure how missing metadata affects performance.

The held-out development cases and the external cases are predicted again with the patient block of PAD-UFES-20 hidden,
with all attributes hidden, with each single attribute hidden, and with a growing share of each case's attributes hidden
at random. Hidden attributes are null before encoding, as if never recorded. Differences to the unchanged predictions
have paired 95 % intervals over patients. Files are written to 'missing/<cohort>' of the workspace, or
to --out: JSON, Parquet and a figure (SVG and PNG).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import MODEL_STUDY, Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.commands._sampled_cases import scored_cases
from skinkit.errors import ConfigError, InputError
from skinkit.options import MANY_MODELS, folder_for_files
from skinkit.workspace import Ref

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.evaluation.missing import Variant
    from skinkit.learning.scorer import Scorer
    from skinkit.learning.trained import Classifier

PANEL = "Model study", 3
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "missing"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    models: Annotated[tuple[str, ...], MANY_MODELS] = ()
    draws: Annotated[int, "random draws of hidden attributes, at each share"] = 5
    seed: Annotated[int, "seed of the draws"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Hide attributes of every labelled cohort, for every model."""
    from skinkit.evaluation import missing
    from skinkit.learning import precision, trained
    from skinkit.learning.scorer import Scorer
    from skinkit.stages.predict import fused_of

    if config.draws < 1:
        raise ConfigError(f"--draws {config.draws}", "1 or more", "correct --draws")
    workspace = context.workspace()
    pipeline = context.pipeline(workspace)
    cohorts = context.labelled(workspace)
    answers: dict[str, dict[str, Any]] = {}
    texts = []
    for name in dict.fromkeys(config.models or (workspace.defaults["model"],)):
        metrics = {cohort: pipeline.bring(Ref("metrics", cohort, name)) for cohort in cohorts}
        model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name=name))), name)
        needs_device = model.uses_device
        device = precision.pick_device(context.device) if needs_device else "cpu"
        scorer = Scorer(model, workspace.root, device, context.console)
        for cohort, artifact in metrics.items():
            fused = open_artifact(workspace.path(Ref("fused", cohort, fused_of(name, workspace))))
            cases, frame = scored_cases(artifact, fused.table(), model)
            _test_access.used(
                workspace, "missing", cohort, artifact, config, new=f"missing {config.draws} {config.seed}"
            )
            ways, probabilities = _hidden(config, model, scorer, frame, cohort, workspace.cohort(cohort).root)
            rows = missing.scored(ways, probabilities, cases, seed=config.seed)
            folder = folder_of(config.out, workspace, FOLDER, cohort)
            about = {
                "model": name,
                "model_identity": model.identity,
                "cohort": cohort,
                "attributes": _read(model),
                "malignant_set": model.classes.malignant_set,
                "draws": config.draws,
                "seed": config.seed,
            }
            n = f"{len(cases.truth)} cases of {rows[0]['n_clusters']} patients or groups"
            written = write_study(
                folder,
                name,
                {**about, "verdict": missing.verdict(rows), "rows": rows},
                f"{name} on {cohort}, {n}\n{missing.text_of(rows)}",
                files=missing.write(folder, name, rows),
            )
            answers.setdefault(name, {})[cohort] = {**written.body, "files": written.files}
            texts.append(written.text)
    return {"missing": answers, "text": "\n\n".join(texts)}


def _read(model: Classifier) -> list[str]:
    """The attributes that vary among some fold's training rows, in the encoder's order.

    Raises:
        InputError: there are none.
    """
    from skinkit.stats.encoders import ENCODERS

    reads = {name for fold in model.folds for name in fold.encoder.reads}
    attributes = [attribute.name for attribute in ENCODERS[model.about["attributes"]] if attribute.name in reads]
    if not attributes:
        raise InputError(
            f"{model.name} reads no metadata, so none can be missing",
            "a classifier trained with attributes",
            "name another model, or train one without --attributes none",
        )
    return attributes


def _hidden(
    config: Config, model: Classifier, scorer: Scorer, frame: pd.DataFrame, cohort: str, root: Path
) -> tuple[list[Variant], list[np.ndarray]]:
    """Every way of hiding, and (n, classes) probabilities under each: the mean of the calibrated folds."""
    import numpy as np

    from skinkit.evaluation import missing
    from skinkit.learning.scorer import in_chunks

    attributes = _read(model)
    ways = missing.variants(len(frame), attributes, draws=config.draws, seed=config.seed)
    unlike: dict[bytes, int] = {}  # nothing and everything hidden occur more than once
    which = [unlike.setdefault(way.hidden.tobytes(), len(unlike)) for way in ways]
    distinct = [ways[which.index(i)] for i in range(len(unlike))]
    folds, _ = model.folds_for(frame, cohort)
    probabilities = np.zeros((len(distinct), len(frame), len(model.classes.classes)))
    start = 0
    for part in in_chunks(frame):
        rows = slice(start, start + len(part))
        frames = [missing.without(part, attributes, way.hidden[rows]) for way in distinct]
        answered, failed = scorer.altered(frames, folds[rows], root)
        if failed:
            raise InputError(
                f"{len(failed)} photos that were scored can no longer be read ({next(iter(failed.values())).reason})",
                "the photos of the predictions",
                "run 'skinkit ingest', then the same command again",
            )
        probabilities[:, rows] = [model.finished(one) for one in answered]
        start += len(part)
    return ways, [probabilities[i] for i in which]
