"""``skinkit predict --onnx FILE``: a photo or cohorts, predicted by an exported file, without torch."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.api import IN_TRAINING, predict_photo_onnx
from skinkit.artifacts.files import file_sha256, write_atomic
from skinkit.commands import Context, _photo
from skinkit.errors import CaseError, ConfigError, RefusedError, listed
from skinkit.schemas import FAILED, OK, PREDICTIONS
from skinkit.stages import predict
from skinkit.workspace import Ref

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.console import Console
    from skinkit.learning.onnx_file import OnnxModel
    from skinkit.workspace import Cohort

OPTIONS = frozenset({"onnx", "csv"})
"""The options of ``predict`` that are for an exported file."""
_TAKEN = OPTIONS | {"image", "attribute", "undecided"}
_LEFT_OUT = ("fingerprint",)
TRUTH = "diagnosis"
_SOME_FAILED = 3


def run(settings: Mapping[str, Any], model: str, context: Context) -> dict[str, Any]:
    """Predict by the file of ``--onnx``.

    Args:
        settings: options given to ``predict``, by name.
        model: name of a model, which does not go with it.
        context: of the command.

    Raises:
        ConfigError: options that do not go together, or onnxruntime is not installed.
        InputError: the file is damaged or none of skinkit's.
        RefusedError: the file could reach outside of itself, or has learnt from every photo.
    """
    if "onnx" not in settings:
        raise ConfigError("--csv without --onnx", "--onnx FILE", "leave --csv out, or see 'skinkit help export'")
    others = sorted(settings.keys() - _TAKEN) + (["model"] if model else []) + (["shard"] if context.share else [])
    if others:
        flags = [f"--{name.replace('_', '-')}" for name in others]
        raise ConfigError(
            f"--onnx and {listed(flags)}", "the file alone: it reads a photo and attributes", f"leave {flags[0]} out"
        )
    file, undecided = Path(settings["onnx"]).expanduser(), settings.get("undecided", 0.8)
    if not settings.get("image"):
        if settings.get("attribute"):
            raise ConfigError("--attribute without --image", "--image PHOTO", "name the photo, or leave it out")
        return _cohorts(file, undecided, settings.get("csv", ""), context)
    if context.cohorts or settings.get("csv"):
        option = "--cohort" if context.cohorts else "--csv"
        raise ConfigError(f"--image and {option}", "one of them", f"leave {option} out to predict one photo")
    attributes = _photo.attribute_values(settings.get("attribute", ()))
    prediction = predict_photo_onnx(file, settings["image"], attributes, undecided=undecided, console=context.console)
    return {
        "command": "predict", "onnx": str(file), "prediction": prediction.as_dict(), "text": _photo.text_of(prediction)
    }  # fmt: skip


def _cohorts(file: Path, undecided: float, csv_file: str, context: Context) -> dict[str, Any]:
    """Every case of the cohorts, in one table."""
    from skinkit.artifacts import csv
    from skinkit.learning.onnx_file import open_onnx

    predict.refuse_share(undecided)
    workspace = context.workspace()
    model = open_onnx(file)
    rows: list[dict[str, Any]] = []
    pipeline = context.pipeline(workspace)
    for cohort in workspace.chosen(context.cohorts):
        ref = Ref("cases", cohort)
        cases = pipeline.bring(ref) if context.upstream else _as_it_is(workspace.path(ref), ref)
        of = workspace.cohort(cohort)
        answered = _rows(model, cases.table(), of, undecided, context.console)
        rows += [{"cohort": cohort, **row} for row in answered]
    statuses = dict(sorted(Counter(str(row["reason"] if row.get("reason") else row["status"]) for row in rows).items()))
    if learnt := statuses.get(IN_TRAINING, 0):
        if learnt == len(rows):
            raise RefusedError(
                f"{file} has learnt from all {learnt} photos of {listed(dict.fromkeys(r['cohort'] for r in rows))}",
                "photos that it has not seen: in a development cohort, each case is predicted by the fold that held it "
                "out, which 'skinkit predict' does and a file cannot",
                "name another cohort with --cohort, or predict this one with the model itself",
            )
        context.console.warn(f"{learnt} cases are left out: the model has learnt from their photos ({IN_TRAINING})")
    columns = _columns(rows)
    answer: dict[str, Any] = {
        "command": "predict",
        "onnx": str(file),
        "rows": len(rows),
        "status": statuses,
        "exit_code": _SOME_FAILED if any(row["status"] == FAILED for row in rows) else 0,
    }
    data = csv.encoded(columns, rows)
    if not csv_file:
        records = [{name: row.get(name) for name in columns} for row in rows]
        return {**answer, "cases": records, "text": data.decode("utf-8").removesuffix("\n")}
    path = Path(csv_file).expanduser()
    write_atomic(path, data, outside=True)
    summary = ", ".join(f"{n} {status}" for status, n in statuses.items()) or "no case"
    text = f"{path}: {len(rows)} rows ({summary}). Research software: no diagnosis."
    return {**answer, "csv": str(path), "sha256": file_sha256(path), "text": text}


def _as_it_is(path: Path, ref: Ref) -> Any:
    from skinkit.artifacts.artifact import open_artifact

    return open_artifact(path, f"run 'skinkit ingest --cohort {ref.cohort}' first")


def _rows(
    model: OnnxModel, cases: pd.DataFrame, cohort: Cohort, undecided: float, console: Console
) -> list[dict[str, Any]]:
    """One row per case: its primary photo, as 'skinkit fuse' chooses it."""
    from skinkit.data.views import primary_images
    from skinkit.learning.examples import in_order, photos_of, resized

    frame = primary_images(cases[cases["status"] == OK])
    records: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]

    def picture(photo: Any) -> Any:
        try:
            return resized(photo.read(), model.contract.side_px)
        except CaseError as error:
            return error

    rows = []
    pictures = in_order(picture, photos_of(frame, cohort.root), ahead=8)
    with contextlib.closing(pictures), console.progress(len(records), "looking") as tick:
        for case, shown in zip(records, pictures, strict=True):
            tick(failed=isinstance(shown, CaseError))
            if isinstance(shown, CaseError):
                row = predict.failed_row(case, shown)
            elif model.has_learnt(case["pixel_sha256"]):
                row = predict.excluded_row(case, IN_TRAINING)
            else:
                answer = model.answer(shown, case)
                row = predict.answered_row(answer, model.contract, case, undecided, cohort.prevalence)
            rows.append({**row, TRUTH: case.get(TRUTH)})
    return rows


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Those of predictions, in their order; then the probabilities, and the truth."""
    own = ["cohort", *(name for name in PREDICTIONS.names if name not in _LEFT_OUT)]
    more = dict.fromkeys(name for row in rows for name in row if name not in own and name != TRUTH)
    return [*own, *more, TRUTH]
