"""Writing the DICOM objects of 'skinkit export' into its folders, photo by photo."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skinkit import __version__
from skinkit.artifacts.artifact import Artifact, as_written, exists, open_artifact
from skinkit.artifacts.files import digest, write_atomic
from skinkit.commands import Context
from skinkit.errors import CaseError, InputError
from skinkit.exchange import dicom_objects
from skinkit.exchange.results import results_of
from skinkit.images.decode import read_mask
from skinkit.images.pixels import read_bytes
from skinkit.learning.onnx_file import require
from skinkit.reporting import export_table
from skinkit.schemas import IMAGE, OK
from skinkit.workspace import Ref, Workspace

_NEWLY_FAILED = 3


def write_objects(
    seg: str, sr: str, context: Context, workspace: Workspace, model: str, names: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Write SEG, and SR, of every photo with an outline; photos that are no DICOM files go beside them.

    Args:
        seg: folder for outlines; empty for none.
        sr: folder for reports, which holds the outlines they refer to as well; empty for none.
        context: of the command.
        workspace: the workspace.
        model: whose predictions the reports hold.
        names: cohort -> pseudonym -> own id, for cohorts whose pseudonyms are to be undone.

    Raises:
        ConfigError: highdicom is not installed.
        InputError: a cohort has no masks.
    """
    require("highdicom", extra="dicom")
    written: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for cohort in names:
        opened = _opened(workspace, cohort, model)
        cases, masks = opened["cases"], {row["image_id"]: row for row in opened["masks"].rows()}
        rows = export_table.rows_of(cohort, cases, opened["predictions"], IMAGE) if sr else []
        found = results_of(rows, opened["predictions"], opened.get("features"))
        results = {result.row["image"]: result for result in found if result.row["status"] == OK}
        hidden = bool(cases.info.get("pseudonyms")) and not names[cohort]
        for case in cases.rows():
            image, mask = case["image_id"], masks.get(case["image_id"])
            if case["status"] != OK or mask is None or mask["status"] != OK:
                reasons[(mask or case)["reason"] or "mask_missing"] += 1
                continue
            try:
                data = read_bytes(workspace.cohort(cohort).root / case["image_path"])
                if hashlib.sha256(data).hexdigest() != case["image_sha256"]:
                    raise CaseError("image_changed", "not the file that was ingested")
                drawn = read_mask(opened["masks"].path / mask["mask_file"], sha256=mask["mask_sha256"])
                made = dicom_objects.objects(
                    data,
                    _subject(case, names[cohort], keep=not hidden),
                    f"{cohort} {case['accession'] or case['case_id']}",
                    (drawn, str(mask["segmenter"])),
                    {"result": results.get(image), "version": __version__},
                )
            except CaseError as error:
                reasons[error.reason] += 1
                continue
            for folder, kinds in ((seg, ("photo", "seg")), (sr, ("photo", "seg", "sr"))):
                for kind in [kind for kind in kinds if folder and kind in made]:
                    write_atomic(Path(folder) / f"{kind}-{digest([cohort, image])[:16]}.dcm", made[kind], outside=True)
            written.update(list(made))
    without = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    text = ", ".join(f"{written[kind]} {kind}" for kind in ("photo", "seg", "sr") if written[kind]) or "nothing"
    return {
        "written": dict(written),
        "without": dict(sorted(reasons.items())),
        "exit_code": _NEWLY_FAILED if reasons else 0,
        "text": f"DICOM: {text}" + (f"; without: {without}" if without else ""),
    }


def _opened(workspace: Workspace, cohort: str, model: str) -> dict[str, Artifact]:
    segmenter = workspace.defaults["segmenter"]
    refs = {
        "cases": Ref("cases", cohort),
        "masks": Ref("masks", cohort, segmenter),
        "features": Ref("features", cohort, segmenter),
        "predictions": Ref("predictions", cohort, model),
    }
    if not exists(workspace.path(refs["masks"])):
        raise InputError(
            f"no {refs['masks']} in {workspace.root}",
            "outlines of the cohort's photos",
            f"run 'skinkit segment --cohort {cohort}' first",
        )
    paths = {kind: workspace.path(ref) for kind, ref in refs.items()}
    return {kind: as_written(open_artifact(path)) for kind, path in paths.items() if exists(path)}


def _subject(case: Mapping[str, Any], names: Mapping[str, str], *, keep: bool) -> dicom_objects.Subject:
    patient, accession = str(case["patient_id"] or case["case_id"]), str(case["accession"] or "")
    return dicom_objects.Subject(
        names.get(patient, patient), names.get(accession, accession), case["sex"], case["age_years"], keep
    )
