"""Predicted photos of a cohort, a random sample, for the commands that measure explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.console import Console
from skinkit.errors import CaseError
from skinkit.schemas import OK
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.evaluation.altered import CasesWithTruth
    from skinkit.learning.trained import Classifier


def predicted_photos(predictions: Artifact) -> pd.DataFrame:
    """The predictions of single photos, sorted by case."""
    table = predictions.table()
    table = table[(table["level"] == "image") & (table["status"] == OK)]
    return table.sort_values("case_id", kind="stable").reset_index(drop=True)


def sample(table: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """So many rows at random, in their order; 0 for all."""
    import numpy as np

    chosen = np.random.default_rng(seed).permutation(len(table))[: count or None]
    return table.iloc[np.sort(chosen)]


def fused_of_predicted(
    table: pd.DataFrame, predictions: Artifact, workspace: Workspace, cohort: str, model: str
) -> list[dict[str, Any]]:
    """The fused rows of predicted cases, in their order, as ``skinkit.stages.explain.fused_cases`` gives them."""
    from skinkit.stages.explain import fused_cases
    from skinkit.stages.predict import fused_of

    fused = str(predictions.config.get("fused") or "") or fused_of(model, workspace)
    return fused_cases(table, open_artifact(workspace.path(Ref("fused", cohort, fused))))


def with_photos(
    cases: list[dict[str, Any]], root: Path, console: Console, label: str
) -> Iterator[tuple[int, Mapping[str, Any], np.ndarray]]:
    """Place and case of each whose photo can be read, and the photo; the others are counted by the progress bar."""
    import pandas as pd

    from skinkit.learning.examples import photos_of

    with console.progress(len(cases), label) as tick:
        for place, case in enumerate(cases):
            try:
                rgb = photos_of(pd.DataFrame([case]), root)[0].read()
            except CaseError:
                tick(failed=True)
                continue
            yield place, case, rgb
            tick()


def numbers_of(text: str) -> list[float]:
    """Numbers above 0 and at most 1 of an option, sorted, each once; none where that is not what it holds."""
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        return []
    return values if all(0 < value <= 1 for value in values) else []


def scored_cases(metrics: Artifact, fused: pd.DataFrame, model: Classifier) -> tuple[CasesWithTruth, pd.DataFrame]:
    """The images that were scored, and their fused rows in the same order."""
    import numpy as np

    from skinkit.evaluation.altered import CasesWithTruth
    from skinkit.evaluation.scoring import TRUTH
    from skinkit.schemas import IMAGE

    table = metrics.table(["level", "case_id", "group_id", TRUTH, "threshold"], "scored.parquet")
    table = table[table["level"] == IMAGE].sort_values("case_id", kind="stable").reset_index(drop=True)
    rows = fused.set_index("case_id", drop=False).loc[table["case_id"]].reset_index(drop=True)
    classes = model.classes.classes
    cases = CasesWithTruth(
        truth=np.array([classes.index(code) for code in table[TRUTH]], dtype=np.int64),
        cluster=table["group_id"].to_numpy(dtype=str),
        malignant=model.malignant,
        threshold=table["threshold"].to_numpy(dtype=np.float64),
    )
    return cases, rows
