"""faithful: measure the faithfulness of explanations.

Uses a random sample of the out-of-sample predictions. For each case, pixels and attributes are inserted into an empty
case and deleted from the complete one, the most important first, while the probability of the predicted class is
recorded (insertion, deletion); also the drop of the log odds without the most important tenth. Figures have 95 %
intervals over patients. Files are written to 'faithful/<cohort>' of the workspace: JSON, Parquet and a figure (SVG and
PNG).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.commands import MODEL_STUDY, Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.commands._sampled_cases import fused_of_predicted, predicted_photos, sample, with_photos
from skinkit.errors import ConfigError, InputError
from skinkit.options import ONE_MODEL_ARGUMENT, folder_for_files
from skinkit.schemas import Schema
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np

    from skinkit.learning.trained import Classifier

PANEL = "Model study", 5
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "faithful"
_TABLE = Schema("faithfulness", 1, ("case_id", "method"), ())
METHODS = ("gfa", "gradcam")


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    model: Annotated[str, ONE_MODEL_ARGUMENT] = ""
    cases: Annotated[int, "number of random cases per cohort; 0: all"] = 50
    baseline: Annotated[Literal["mean", "black", "blur"], "baseline image: ImageNet mean colour, black, or blurred"] = (
        "mean"
    )
    steps: Annotated[int, "integration steps, doubled if the completeness error exceeds 1 %"] = 50
    seed: Annotated[int, "seed of the cases"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Measure the faithfulness on every labelled cohort."""
    from skinkit.learning import precision, trained
    from skinkit.stages.explain import CaseReader, method_of

    if config.cases < 0 or config.steps < 2:
        found = f"--cases {config.cases}, --steps {config.steps}"
        raise ConfigError(found, "cases >= 0 and steps >= 2", "correct the values")
    workspace = context.workspace()
    pipeline, name = context.pipeline(workspace), config.model or workspace.defaults["model"]
    cohorts = context.labelled(workspace)
    predictions = {cohort: pipeline.bring(Ref("predictions", cohort, name)) for cohort in cohorts}
    model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name=name))), name)
    method_of(model, "gfa")
    reader = CaseReader(model, precision.pick_device(context.device), workspace.root)
    answers = {
        cohort: _tried(config, context, workspace, model, reader, cohort, artifact)
        for cohort, artifact in predictions.items()
    }
    for cohort, artifact in predictions.items():
        _test_access.used(workspace, "faithful", cohort, artifact, config)
    texts = [answer.pop("text") for answer in answers.values()]
    return {"model": name, "faithful": answers, "text": "\n\n".join(texts)}


def _tried(
    config: Config,
    context: Context,
    workspace: Workspace,
    model: Classifier,
    reader: Any,
    cohort: str,
    predictions: Artifact,
) -> dict[str, Any]:
    """One cohort."""
    import numpy as np
    import pandas as pd

    from skinkit.artifacts.tables import write_table
    from skinkit.explain.faithfulness import FIGURES, summarised
    from skinkit.figures.explanations import faithfulness_curves

    table = sample(predicted_photos(predictions), config.cases, config.seed)
    if table.empty:
        raise InputError(f"{cohort} has no predicted image", "predictions of photos", "run 'skinkit predict'")
    cases = fused_of_predicted(table, predictions, workspace, cohort, model.name)
    root = workspace.cohort(cohort).root
    rows, curves = [], {method: list[Any]() for method in METHODS}
    for place, case, rgb in with_photos(cases, root, context.console, f"trying explanations of {cohort}"):
        top = str(table["top1"].iloc[place])
        by_method = _one(config, model.classes.classes.index(top), reader, case, rgb, root)
        for method, folds in by_method.items():
            curves[method].append(np.mean([[each.inserted, each.deleted] for each in folds], axis=0))
            figures = {key: float(np.mean([each.figures[key] for each in folds])) for key in FIGURES}
            rows.append({"case_id": case["case_id"], "group_id": case["group_id"], "class": top, "method": method})
            rows[-1] |= figures
    if not rows:
        raise InputError(
            f"none of {len(cases)} photos of {cohort} could be read",
            "readable photos",
            "see 'skinkit verify --sources'",
        )
    figures_table = pd.DataFrame(rows)
    values = {
        m: {key: figures_table.loc[figures_table["method"] == m, key].to_numpy() for key in FIGURES} for m in METHODS
    }
    cluster = figures_table.loc[figures_table["method"] == METHODS[0], "group_id"].to_numpy(dtype=str)
    summary = summarised(values, cluster)
    folder = folder_of(config.out, workspace, FOLDER, cohort)
    means = {method: np.mean(of, axis=0) for method, of in curves.items()}
    files = faithfulness_curves(means, folder, model.name)
    write_table(folder / f"{model.name}.parquet", _TABLE, figures_table)
    answer = {
        "n": len(cluster), "n_clusters": len(set(cluster)), "failed": len(cases) - len(cluster),
        "baseline": config.baseline, "seed": config.seed, "summary": summary, "figures": files,
    }  # fmt: skip
    beside = {**files, "parquet": str(folder / f"{model.name}.parquet")}
    text = f"{model.name} on {cohort}, {len(cluster)} cases\n{_text(answer)}"
    written = write_study(folder, model.name, answer, text, files=beside)
    return {**written.body, "files": written.files, "text": written.text}


def _one(
    config: Config, class_index: int, reader: Any, case: Mapping[str, Any], rgb: np.ndarray, root: Path
) -> dict[str, Any]:
    """Method -> :class:`skinkit.explain.faithfulness.Faithfulness` of each fold that predicted the case."""
    import numpy as np

    from skinkit.explain.faithfulness import attribute_names, ranking, tried
    from skinkit.explain.integrated_gradients import MOST_STEPS, baseline_of, integrated_gradients
    from skinkit.explain.shapley import enlarged, grad_cam, odds_of_photos, straightened

    by_method: dict[str, Any] = {method: [] for method in METHODS}
    for fold, network, batch, owners in reader.read(case, rgb, root):
        positive = np.arange(len(reader.model.classes.classes)) == class_index
        names, starts = attribute_names(owners), baseline_of(batch, config.baseline)
        path = integrated_gradients(
            network,
            batch,
            positive,
            fold.temperature,
            baseline=config.baseline,
            steps=config.steps,
            most_steps=max(config.steps, MOST_STEPS),
        )
        strengths = dict.fromkeys(names, 0.0)
        for table, of in owners.items():
            for owner, part in zip(of, path.parts[table], strict=True):
                strengths[owner] += float(part)
        side = batch["image"].shape[-1]
        module = odds_of_photos(network, batch, positive, fold.temperature)
        warm = enlarged(straightened(grad_cam(module, network.last, batch["image"])), (side, side))
        orders = {
            "gfa": ranking(path.heat, {name: abs(value) for name, value in strengths.items()}, names),
            "gradcam": ranking(warm, {}, names),
        }
        for method, order in orders.items():
            by_method[method].append(tried(network, batch, starts, owners, order, class_index, fold.temperature))
    return by_method


def _text(answer: Mapping[str, Any]) -> str:
    lines = []
    for row in answer["summary"]:
        line = f"  {row['method']:8} {row['figure']:10} {row['mean']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
        if "difference" in row:
            ends = f"{row['difference_lower']:+.3f} to {row['difference_upper']:+.3f}"
            line += f"; {METHODS[0]} {row['difference']:+.3f} ({ends})"
        lines.append(line)
    lines += [f"  {answer['failed']} photos could not be read"] if answer["failed"] else []
    return "\n".join(lines)
