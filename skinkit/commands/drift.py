"""drift: compare external cohorts with the development cohorts.

Needs the metrics of 'skinkit evaluate'. Reports for each external cohort the drop of AUROC, sensitivity and specificity
with a 95 % interval, unadjusted and with the development cases weighted to the same mix of diagnoses; the shift of
every input; and how well the inputs alone separate the cohorts. Files are written to 'drift/<cohort>' of the workspace:
drift.json and inputs.parquet. The report shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.commands import Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import InputError
from skinkit.learning.pack import trained
from skinkit.options import ONE_MODEL, folder_for_files
from skinkit.schemas import Schema
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import pandas as pd

PANEL = "Data study", 2
SHARED_OPTIONS = ("workspace", "cohort")

FOLDER = "drift"
_INPUTS = Schema("inputs", 1, ("column",), ())


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    model: Annotated[str, ONE_MODEL] = ""
    seed: Annotated[int, "seed of the domain classifier"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Compare every external cohort with the development cohorts."""
    import pandas as pd

    from skinkit.artifacts.tables import write_table
    from skinkit.audit import drift

    workspace = context.workspace()
    model = config.model or workspace.defaults["model"]
    chosen = workspace.chosen(context.cohorts, "external")
    inside = _existing(workspace, "metrics", workspace.with_role("development"), model)
    scored = {name: artifacts for name in chosen if (artifacts := _existing(workspace, "metrics", [name], model))}
    if not inside or not scored:
        trained(model, workspace)
        raise InputError(
            f"no {'development' if not inside else 'external'} cohort was scored with {model}",
            "a development and an external cohort with metrics",
            f"run 'skinkit evaluate --model {model}' first",
        )
    malignant = list(inside[0].info["classes"]["malignant"])
    answers: dict[str, dict[str, Any]] = {}
    texts = []
    for name, outside in scored.items():
        tables = [_fused(workspace, side, model) for side in (workspace.with_role("development"), [name])]
        answers[name] = drift.compare(
            (_scored(inside), _scored(outside)),
            (tables[0], tables[1]) if all(len(t) for t in tables) else None,
            malignant,
            seed=config.seed,
        )
        folder, files = folder_of(config.out, workspace, FOLDER, name), {}
        if answers[name]["inputs"]:
            write_table(folder / "inputs.parquet", _INPUTS, pd.DataFrame(answers[name]["inputs"]))
            files["parquet"] = str(folder / "inputs.parquet")
        written = write_study(folder, "drift", answers[name], f"{name}: {answers[name]['text']}", files=files)
        answers[name] |= {"folder": str(folder), "files": written.files}
        texts.append(written.text)
        for artifact in outside:
            _test_access.used(workspace, "drift", name, artifact, config)
    return {"model": model, "drift": answers, "text": "\n\n".join(texts)}


def _existing(workspace: Workspace, kind: str, cohorts: Sequence[str], model: str) -> list[Artifact]:
    paths = [workspace.path(Ref(kind, cohort, model)) for cohort in cohorts]
    return [open_artifact(path) for path in paths if exists(path)]


def _scored(artifacts: Sequence[Artifact]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([artifact.table(file="scored.parquet") for artifact in artifacts], ignore_index=True)


def _fused(workspace: Workspace, cohorts: Sequence[str], model: str) -> pd.DataFrame:
    """The fused tables of cohorts, as the model reads them."""
    import pandas as pd

    path = workspace.path(Ref("models", name=model))
    name = str(open_artifact(path).config.get("fused") or "") if exists(path) else ""
    artifacts = _existing(workspace, "fused", cohorts, name or workspace.defaults["segmenter"])
    return pd.concat([artifact.table() for artifact in artifacts], ignore_index=True) if artifacts else pd.DataFrame()
