"""explain: model + predictions -> a heatmap and the attributions of each case, most malignant first.

Attributions are contributions to the log odds of the target (malignant against benign, or one class against the
rest), summed per attribute; the photo counts as one attribute. Heatmaps are Grad-CAM on the last block of a model that
looks at photos, and elsewhere ``occlusion_of_mask``: the lesion is cut by a grid, measured again without each part, and
painted with the fall of the log odds (all of it inside the mask, so ``inside_mask`` stays unknown). Where folds are
averaged so are their log odds. Only support is painted: 255 is where the photo speaks most for the target.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifact import Artifact, open_artifact, write_atomic
from skinkit.errors import CaseError, ConfigError, did_you_mean
from skinkit.executor import map_cases
from skinkit.schemas import EXPLANATIONS, OK
from skinkit.stages import Job
from skinkit.stages.predict import fused_of
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np

    from skinkit.infer import Classifier, Fold

VERSION = 1
SCHEMA = EXPLANATIONS
MALIGNANCY = "malignancy"


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[str, "name of the trained model (default: the workspace's)"] = ""
    target: Annotated[str, "what is explained: malignancy, or a class of the model"] = MALIGNANCY
    limit: Annotated[int, "cases to explain, most malignant first; 0 for all"] = 24
    cells: Annotated[int, "occlusion_of_mask: parts along each side of the lesion's bounding box"] = 6


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One set of explanations per cohort."""
    model = name or config.model or workspace.defaults["model"]
    chosen = [workspace.cohort(c).name for c in cohorts] or list(workspace.cohorts)
    return [Ref("explanations", cohort, model) for cohort in chosen]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The model, the cohort's predictions, and the fused table they were made from."""
    from skinkit.artifact import exists

    predictions = Ref("predictions", target.cohort, target.name)
    path = workspace.path(predictions)
    named = open_artifact(path).config.get("fused") if exists(path) else None
    return {
        "model": Ref("models", name=target.name),
        "predictions": predictions,
        "fused": Ref("fused", target.cohort, str(named or "") or fused_of(target.name, workspace)),
    }


def run(config: Config, job: Job) -> Artifact:
    """Explain one cohort."""
    from skinkit import infer

    if config.limit < 0 or config.cells < 1:
        raise ConfigError(f"limit {config.limit}, cells {config.cells}", "limit >= 0 and cells >= 1", "mend the values")
    model = infer.open_classifier(job.inputs["model"])
    positive(model, config.target)
    with_photos = model.module.HEATMAP == "gradcam"
    cases = _chosen(config, job)
    with job.build() as build:
        prints = {
            (case["case_id"],): job.recipe.fingerprint(model.identity, case["content"], case["fold"]) for case in cases
        }
        todo = {key[0] for key in build.plan(prints)}
        items = [case for case in cases if case["case_id"] in todo]
        if with_photos:
            work: Callable[[Mapping[str, Any]], dict[str, Any]] = _looker(config, job, model, build.partial)
        else:
            work = partial(
                _occluded_one,
                model=str(job.inputs["model"].path),
                root=job.cohort.root,
                workspace=job.workspace.root,
                out=build.partial,
                target=config.target,
                cells=config.cells,
            )
        jobs = 1 if with_photos else job.jobs  # a network already uses every core
        for row in map_cases(
            work, items, key=("case_id", "image_id"), jobs=jobs, console=job.console, label="explaining"
        ):
            build.add(row)
        return build.finish(
            info={"target": config.target, "limit": config.limit, "model": job.target.name, "unit": "log_odds"}
        )


def positive(model: Classifier, target: str) -> np.ndarray:
    """(classes,) which classes the target is; both it and the rest must have one.

    Raises:
        ConfigError: an unknown class, or a model without malignant (or without benign) classes.
    """
    import numpy as np

    names = model.classes.classes
    if target == MALIGNANCY:
        chosen = model.malignant
        if chosen.all() or not chosen.any():
            raise ConfigError(
                f"no malignancy to explain: of {', '.join(names)} {int(chosen.sum())} are malignant",
                "malignant and benign classes",
                "give --target CLASS",
            )
        return chosen
    if target not in names:
        raise ConfigError(
            f"--target {target!r}", did_you_mean(target, [*names, MALIGNANCY]), "name a class of the model"
        )
    return np.array([name == target for name in names])


def _chosen(config: Config, job: Job) -> list[dict[str, Any]]:
    """The cases to explain, most malignant first, as fused rows with the folds and content they are made from."""
    from pandas.util import hash_pandas_object

    table = job.inputs["predictions"].table()
    table = table[(table["level"] == "image") & (table["status"] == OK)]
    table = table.sort_values(["malignancy", "case_id"], ascending=[False, True], kind="stable")
    table = table.head(config.limit) if config.limit else table
    fused = job.inputs["fused"].table()
    fused["content"] = hash_pandas_object(fused, index=False).astype(str)
    rows = table[["case_id", "fold"]].merge(fused.drop(columns="fold", errors="ignore"), on="case_id", how="left")
    cases: list[dict[str, Any]] = rows.astype(object).where(rows.notna(), None).to_dict("records")  # type: ignore[assignment]
    return cases


# ----------------------------------------------------------------------------------------------- attributions


@dataclass(frozen=True)
class View:
    """One fold's answer for one case, taken apart.

    Attributes:
        fold: the fold.
        parts: input -> (classes, columns) contributions to the calibrated scores, and ``bias``.
    """

    fold: Fold
    parts: Mapping[str, np.ndarray]

    @property
    def scores(self) -> np.ndarray:
        """(classes,)."""
        import numpy as np

        return np.asarray(sum(part.sum(axis=1) for part in self.parts.values()))


def views(model: Classifier, case: Mapping[str, Any], image: np.ndarray | None) -> list[View]:
    """The folds that predicted this case, each taken apart.

    Args:
        model: the model.
        case: fused row with ``fold``: the one that held it out, or None for all.
        image: (width,) what the frozen network says of the photo, where the model reads photos.
    """
    found = []
    for fold, batch in _batches(model, case, image):
        parts = {name: part[0] / fold.temperature for name, part in fold.fitted.contributions(batch).items()}
        found.append(View(fold, parts))
    return found


def _batches(model: Classifier, case: Mapping[str, Any], image: np.ndarray | None) -> Iterator[tuple[Fold, Any]]:
    """The folds that predicted this case, and what each of them reads of it."""
    import pandas as pd

    from skinkit.infer import batch_of

    frame = pd.DataFrame([dict(case)])
    for fold in model.folds if case["fold"] is None else model.chosen([case["fold"]]):
        yield fold, batch_of(frame, fold.encoder, fold.radiomics, None if image is None else image[None])


def attributed(seen: Sequence[View], case: Mapping[str, Any], chosen: np.ndarray) -> dict[str, Any]:
    """The columns ``attributions_json``, ``baseline`` and ``unit``: contributions to the mean log odds over folds."""
    import numpy as np

    from skinkit.attribution import log_odds, margin_weights, ranked

    names: list[str] = []
    values: list[float] = []
    total = 0.0
    for view in seen:
        weights = margin_weights(view.scores, chosen)
        columns = {
            "attributes": view.fold.encoder.attributes,
            "radiomics": view.fold.radiomics.columns,
            "image": ("image",),
        }
        for name, labels in columns.items():
            if name in view.parts:
                names += labels
                values += (weights @ view.parts[name] / len(seen)).tolist()
        total += log_odds(view.scores, chosen) / len(seen)
    entries = ranked(names, values, {name: _plain(case.get(name)) for name in set(names)})
    return {
        "attributions_json": json.dumps(entries, ensure_ascii=False),
        "baseline": total - float(np.sum(values)),
        "unit": "log_odds",
    }


def _plain(value: Any) -> Any:
    """A value of the case as JSON has it."""
    if value is None or value != value:
        return None
    return value if isinstance(value, (str, bool, int)) else float(value)


# --------------------------------------------------------------------------------------------------- heatmaps


def _looker(config: Config, job: Job, model: Classifier, out: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The work on one case of a model that looks at photos; the network is loaded once, here."""
    from skinkit import infer

    device = infer.pick_device(job.device)
    network: Any = model.embedder(device)
    chosen = positive(model, config.target)

    def work(case: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np
        import torch

        from skinkit.attribution import enlarged, grad_cam, inside_share

        rgb = infer.Photo(case["pixel_sha256"], job.cohort.root / case["image_path"]).read()
        images = torch.from_numpy(network.prepare(rgb)[None]).to(device)
        with torch.inference_mode():
            vector = network(images)[0].float().cpu().numpy().astype(np.float16)
        seen = views(model, case, vector)
        offsets = [
            sum((part.sum(axis=1) for name, part in view.parts.items() if name != "image"), np.zeros(len(chosen)))
            * view.fold.temperature
            for view in seen
        ]
        fitted, temperatures = [v.fold.fitted for v in seen], [v.fold.temperature for v in seen]
        module, layer = model.module.explained(network, fitted, offsets, temperatures, chosen)
        straight, mirrored = grad_cam(module, layer, images)
        heat = enlarged(straight + mirrored[:, ::-1], (rgb.shape[1], rgb.shape[0]))
        mask = _mask_of(case, job.workspace.root)
        return {
            **_described(case, config.target, "gradcam"),
            **_painted(heat, case, out),
            "inside_mask": None if mask is None else inside_share(heat, mask),
            **attributed(seen, case, chosen),
        }

    return work


def _described(case: Mapping[str, Any], target: str, method: str) -> dict[str, Any]:
    return {"case_id": case["case_id"], "image_id": case["image_id"], "target": target, "method": method, "status": OK}


def _painted(heat: np.ndarray, case: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write the heatmap."""
    from skinkit.attribution import as_grey
    from skinkit.images import png_bytes, slug

    file = f"heatmaps/{slug(case['case_id'])}.png"
    write_atomic(out / file, png_bytes(as_grey(heat)))
    return {"heatmap_file": file}


def _mask_of(case: Mapping[str, Any], workspace: Path) -> np.ndarray | None:
    """The lesion, or None where it was not found."""
    from skinkit.images import read_mask

    if not case["mask_path"] or case["mask_failed"] is None or bool(case["mask_failed"]):
        return None
    return read_mask(workspace / case["mask_path"])


@cache
def _opened(path: str) -> Classifier:
    """A model, opened once per process."""
    from skinkit.infer import open_classifier

    return open_classifier(open_artifact(Path(path)))


def _occluded_one(
    case: Mapping[str, Any], *, model: str, root: Path, workspace: Path, out: Path, target: str, cells: int
) -> dict[str, Any]:
    """One case of a model that reads measurements."""
    from skinkit.attribution import log_odds, occlusion_of_mask
    from skinkit.images import read_rgb
    from skinkit.radiomics import extract

    opened = _opened(model)
    chosen = positive(opened, target)
    seen = views(opened, case, None)
    row = {**_described(case, target, "occlusion_of_mask"), **attributed(seen, case, chosen)}
    mask = _mask_of(case, workspace)
    if not any(fold.radiomics.columns for fold in opened.folds):
        return {**row, "reason": "no_heatmap", "detail": "the model reads nothing that is measured in the photo"}
    if mask is None or case["reason"] == "features_missing":
        return {**row, "reason": "no_heatmap", "detail": "there is no lesion mask to occlude"}
    rgb = read_rgb(root / case["image_path"])
    how = {name: opened.about["radiomics"][name] for name in ("channels", "bin_width", "engine")}

    def score(part: np.ndarray) -> float | None:
        try:
            features = extract(rgb, part, **how)
        except CaseError:
            return None  # what is left is too small to be measured
        measured = {**case, **features}
        odds = [log_odds(fold.scores(batch)[0], chosen) for fold, batch in _batches(opened, measured, None)]
        return sum(odds) / len(odds)

    return {**row, **_painted(occlusion_of_mask(mask, cells, score), case, out)}
