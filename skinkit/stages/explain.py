"""explain: model + predictions -> a heatmap and the attributions of the lesions that a report shows.

By default these are a third each of the most malignant lesions, those called wrongly (missed malignant ones first) and
the most uncertain, one photo a lesion; where the diagnosis is not known, the most urgent ones take the place.

Attributions are contributions to the log odds of the target (malignant against benign, or one class against the rest),
summed per attribute; the photo counts as one attribute, with its mask where the model reads one. A network's are
Shapley values against the average training case. Heatmaps are Grad-CAM on the last block of a model that reads photos,
and elsewhere ``occlusion_of_mask``: the lesion is cut by a grid, measured again without each part, and painted with the
fall of the log odds (all of it inside the mask, so ``inside_mask`` stays unknown). Where folds are averaged so are
their log odds and, of networks, their heatmaps. Only support is shown: 255 is the strongest.

``--method gfa`` explains a network that reads attributes by integrated gradients instead, of photo and attributes along
one path: contributions are theirs, and the heatmap paints their absolute values, which are counted pixel by pixel and
blurred for the eye (``skinkit.explain.integrated_gradients``). Each case has one picture with photo, heatmap and
contributions.

The share of Grad-CAM inside the lesion is reported as a mean over cases, with the lesion's share of the photo as the
reference: a uniform heatmap scores that share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.artifacts.files import json_values, write_atomic
from skinkit.errors import CaseError, ConfigError, did_you_mean, listed
from skinkit.models.parts.protocol import DIAGNOSIS, MEMBERS
from skinkit.options import ONE_MODEL, Help
from skinkit.schemas import EXPLANATIONS, OK
from skinkit.stages import Job
from skinkit.stages.predict import fused_of
from skinkit.workers import map_cases
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.learning.trained import Classifier, Fold
    from skinkit.models.parts.protocol import Estimator
    from skinkit.taxonomy import ClassSet

VERSION = 6
SCHEMA = EXPLANATIONS
SHARES = True
OF_MODEL = True
MALIGNANCY = "malignancy"


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[str, ONE_MODEL] = ""
    target: Annotated[str, "target: malignancy, a class of the model, or TASK:CLASS of a further task"] = MALIGNANCY
    cases: Annotated[
        int, Help("lesions to explain: suspicious, wrongly called and uncertain ones; 0 for all photos", former="limit")
    ] = 27
    case: Annotated[tuple[str, ...], Help("explain only this case; repeatable", metavar="ID")] = ()
    method: Annotated[
        Literal["auto", "gradcam", "gfa"],
        "gradcam with Shapley values, gfa (integrated gradients of photo and attributes), or the model's own",
    ] = "auto"
    baseline: Annotated[
        Literal["mean", "black", "blur"],
        Help("gfa: baseline image: ImageNet mean colour, black, or blurred", rare=True),
    ] = "mean"
    steps: Annotated[int, Help("gfa: integration steps, doubled if the completeness error exceeds 1 %", rare=True)] = 50
    cells: Annotated[int, Help("occlusion_of_mask: grid cells along each side of the bounding box", rare=True)] = 6


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One set of explanations per cohort."""
    model = name or config.model or workspace.defaults["model"]
    return [Ref("explanations", cohort, model) for cohort in workspace.chosen(cohorts)]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The model, the cohort's predictions, and the fused table they were made from."""
    from skinkit.artifacts.artifact import exists

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
    from skinkit.learning import trained

    if config.cases < 0 or config.cells < 1 or config.steps < 2:
        found = f"cases {config.cases}, cells {config.cells}, steps {config.steps}"
        raise ConfigError(found, "limit >= 0, cells >= 1 and steps >= 2", "mend the values")
    model = trained.open_classifier(job.inputs["model"])
    if not model.reads_photos:
        model.refuse_members("explain")
    positive(model, config.target)
    how = method_of(model, config.method)
    with_photos = how != "occlusion_of_mask"
    cases = _chosen(config, job, model.classes)
    with job.build() as build:
        prints = {
            (case["case_id"],): job.recipe.fingerprint(model.identity, case["content"], case["fold"]) for case in cases
        }
        todo = {key[0] for key in build.plan(prints)}
        items = [case for case in cases if case["case_id"] in todo]
        if with_photos:
            work: Callable[[Mapping[str, Any]], dict[str, Any]] = _photo_work(config, how, job, model, build.partial)
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
        jobs = 0 if with_photos else job.jobs  # a network already uses every core
        seconds = job.case_seconds * config.cells  # a lesion is measured again without each of its parts
        pace = {**job.pace, "jobs": jobs, "limit_s": seconds}
        for row in map_cases(work, items, key=("case_id", "image_id"), label="explaining", **pace):
            build.add(row)
        build.finish_share()
        info = {"target": config.target, "limit": config.cases, "model": job.target.name, "unit": "log_odds"}
        _say_incomplete(build.rows.values(), job)
        looked = _on_the_lesion(build.rows.values(), {case["case_id"]: case["area_share"] for case in cases})
        if looked:
            job.console.info(
                f"  of {looked['n']} heatmaps {looked['inside_mask']:.0%} lies inside the lesion on average, and "
                f"{looked['pointing_game']:.0%} are strongest there; the lesion is {looked['area_share']:.0%} of the "
                "photo, which is what a blind heatmap would score"
            )
        return build.finish(info={**info, "on_the_lesion": looked})


def method_of(model: Classifier, requested: str) -> str:
    """``gradcam``, ``gfa`` or ``occlusion_of_mask``; ``auto`` is what the model's file says.

    Raises:
        ConfigError: a method that does not fit the model.
    """
    own = str(model.model_class.HEATMAP)
    if requested in ("auto", own):
        return own
    reads = set(model.model_class.READS)
    if own == "occlusion_of_mask" or (
        requested == "gfa" and not (model.is_network and {"image", "attributes"} <= reads)
    ):
        fits = own if own == "occlusion_of_mask" or not model.is_network else "gradcam"
        expected = "a network that reads photo and attributes" if requested == "gfa" else "a model that looks at photos"
        raise ConfigError(
            f"{model.about['model']}, which cannot be explained by {requested}",
            f"{expected}; this one is explained by {fits}",
            "use 'skinkit explain' without --method, or name another model",
        )
    return requested


def _say_incomplete(rows: Iterable[Mapping[str, Any]], job: Job) -> None:
    """Say of how many cases the integrated gradients do not add up, and how far."""
    from skinkit.explain.integrated_gradients import MOST_STEPS, TOLERANCE

    missed = [e for row in rows if (e := row.get("completeness_error")) is not None and e > TOLERANCE]
    if missed:
        job.console.warn(
            f"of {len(missed)} cases the contributions miss the change of the log odds by more than {TOLERANCE:.0%} "
            f"(at most {max(missed):.1%}) with {MOST_STEPS} steps at most; see completeness_error"
        )


def _on_the_lesion(rows: Iterable[Mapping[str, Any]], area_share: Mapping[str, Any]) -> dict[str, Any] | None:
    """Means of ``inside_mask`` and ``pointing_game``, and of the lesion's share of the same photos."""
    import numpy as np

    measured = [row for row in rows if row.get("inside_mask") is not None]
    if not measured:
        return None
    return {
        "n": len(measured),
        "inside_mask": float(np.mean([row["inside_mask"] for row in measured])),
        "pointing_game": float(np.mean([bool(row["pointing_game"]) for row in measured])),
        "area_share": float(np.mean([area_share[row["case_id"]] for row in measured])),
    }


def _task_of(target: str) -> tuple[str, str]:
    """A further task, or nothing for the diagnosis, and the class of a target."""
    task, _, of_task = target.rpartition(":")
    return task, of_task


def _asked(model: Classifier, target: str) -> Classifier:
    """An estimator as it answers the task of a target."""
    task, _ = _task_of(target)
    return model.for_task(task) if task else model


def positive(model: Classifier, target: str) -> np.ndarray:
    """(classes,) which classes the target is; both it and the rest must have one.

    Raises:
        ConfigError: an unknown class, or a model without malignant (or without benign) classes.
    """
    import numpy as np

    task, target = _task_of(target)
    if task:
        if task not in model.tasks:
            raise ConfigError(
                f"--target {task}:{target}",
                did_you_mean(task, model.tasks) if model.tasks else "a class: the model answers no further task",
                "name a task the model answers",
            )
        names = model.tasks[task].classes
        if target not in names:
            raise ConfigError(f"--target {task}:{target}", did_you_mean(target, names), "name a class of the task")
        return np.array([name == target for name in names])
    names = model.classes.classes
    if target == MALIGNANCY:
        chosen = model.malignant
        if chosen.all() or not chosen.any():
            raise ConfigError(
                f"no malignancy to explain: of {listed(names)} {int(chosen.sum())} are malignant",
                "malignant and benign classes",
                "give --target CLASS",
            )
        return chosen
    if target not in names:
        raise ConfigError(
            f"--target {target!r}", did_you_mean(target, [*names, MALIGNANCY]), "name a class of the model"
        )
    return np.array([name == target for name in names])


def _chosen(config: Config, job: Job, classes: ClassSet) -> list[dict[str, Any]]:
    """The cases to explain, most malignant first, as fused rows with the folds and content they are made from."""
    table = job.inputs["predictions"].table()
    table = table[(table["level"] == "image") & (table["status"] == OK)]
    table = table.sort_values(["malignancy", "case_id"], ascending=[False, True], kind="stable")
    if config.case:
        unknown = sorted(set(config.case) - set(table["case_id"]))
        if unknown:
            raise ConfigError(
                f"--case {unknown[0]!r}, which has no prediction in {job.target.cohort}",
                f"a case of that cohort that {job.target.name} predicted",
                "name the cohort with --cohort; predictions.csv or 'skinkit show' lists the cases",
            )
        table = table[table["case_id"].isin(config.case)]
    elif config.cases:
        table = table[table["case_id"].isin(_shown(table, job.inputs["fused"], classes, config.cases))]
    return fused_cases(table, job.inputs["fused"])


def _shown(predictions: pd.DataFrame, fused: Artifact, classes: ClassSet, n: int) -> set[str]:
    """The ``n`` cases that reports show first: a third of each group, and the most urgent lesions for the rest."""
    from skinkit.evaluation.instructive import instructive, one_photo_per_lesion

    known = fused.table(["case_id", "diagnosis"]).dropna()
    truth = dict(zip(known["case_id"], known["diagnosis"], strict=True))
    shown = [case for _, case in instructive(predictions, truth, classes, n // 3)] if n >= 3 else []
    lesions = one_photo_per_lesion(predictions)
    urgent = lesions.sort_values("refer", ascending=False, kind="stable") if "refer" in lesions else lesions
    return set(list(dict.fromkeys([*shown, *urgent["case_id"]]))[:n])


def fused_cases(predictions: pd.DataFrame, fused: Artifact) -> list[dict[str, Any]]:
    """The fused rows of predicted cases, in their order, each with ``fold`` and a digest of its ``content``."""
    from pandas.util import hash_pandas_object

    fused_rows = fused.table()
    fused_rows["content"] = hash_pandas_object(fused_rows, index=False).astype(str)
    rows = predictions[["case_id", "fold"]].merge(
        fused_rows.drop(columns="fold", errors="ignore"), on="case_id", how="left"
    )
    cases: list[dict[str, Any]] = rows.astype(object).where(rows.notna(), None).to_dict("records")  # type: ignore[assignment]
    return cases


# ----------------------------------------------------------------------------------------------- attributions


@dataclass(frozen=True)
class FoldContributions:
    """The decomposed output of one fold for one case.

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


def views(
    model: Classifier,
    case: Mapping[str, Any],
    image: np.ndarray | None,
    members: Mapping[int, np.ndarray] | None = None,
) -> list[FoldContributions]:
    """The folds that predicted this case, each taken apart.

    Args:
        model: the model.
        case: fused row with ``fold``: the one that held it out, or None for all.
        image: (width,) what the frozen network says of the photo, where the model reads photos.
        members: number of a fold -> (1, columns) what its members answer, where it reads that.
    """
    taken_apart = []
    for fold, batch in _batches(model, case, image, members):
        fitted = cast("Estimator", fold.fitted)  # only a network has none
        parts = {name: part[0] / fold.temperature for name, part in fitted.contributions(batch).items()}
        taken_apart.append(FoldContributions(fold, parts))
    return taken_apart


def _batches(
    model: Classifier,
    case: Mapping[str, Any],
    image: np.ndarray | None,
    members: Mapping[int, np.ndarray] | None = None,
) -> Iterator[tuple[Fold, Any]]:
    """The folds that predicted this case, and what each of them reads of it."""
    import pandas as pd

    from skinkit.learning.trained import batch_of

    frame = pd.DataFrame([dict(case)])
    for fold in _folds(model, case):
        others = members[fold.number] if members is not None else None
        yield fold, batch_of(frame, fold.encoder, fold.radiomics, None if image is None else image[None], others)


def _folds(model: Classifier, case: Mapping[str, Any]) -> tuple[Fold, ...]:
    """The folds that predicted this case."""
    return model.chosen(model.outside if case["fold"] is None else [case["fold"]])


def attributed(
    fold_views: Sequence[FoldContributions], case: Mapping[str, Any], chosen: np.ndarray, members: Sequence[str] = ()
) -> dict[str, Any]:
    """The columns ``attributions_json``, ``baseline`` and ``unit``: contributions to the mean log odds over folds.

    What the model reads of ``members`` counts as one attribute each, called by their names.
    """
    import numpy as np

    from skinkit.explain.shapley import log_odds, margin_weights

    names: list[str] = []
    values: list[float] = []
    total = 0.0
    for view in fold_views:
        weights = margin_weights(view.scores, chosen)
        columns = {
            "attributes": view.fold.encoder.attributes,
            "radiomics": view.fold.radiomics.columns,
            "image": ("image",),
            MEMBERS: tuple(name for name in members for _ in chosen),
        }
        for name, labels in columns.items():
            if name in view.parts:
                names += labels
                values += (weights @ view.parts[name] / len(fold_views)).tolist()
        total += log_odds(view.scores, chosen) / len(fold_views)
    return _contribution_columns(names, values, total - float(np.sum(values)), case)


def _contribution_columns(
    names: Sequence[str], values: Sequence[float], baseline: float, case: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns of contributions."""
    from skinkit.explain.shapley import ranked

    entries = ranked(names, values, {name: json_values(case.get(name)) for name in set(names)})
    return {
        "attributions_json": json.dumps(entries, ensure_ascii=False),
        "baseline": baseline,
        "unit": "log_odds",
    }


# --------------------------------------------------------------------------------------------------- heatmaps


Maps = Mapping[str, "np.ndarray"]
"""Photo -> (h, w)."""
ExplainCase = Callable[[Mapping[str, Any], "np.ndarray"], tuple[Maps, Maps, dict[str, Any]]]
"""(case, its photo) -> Grad-CAM on the scale of its last block, attention, and the columns of contributions."""
MOST_ATTENTION = 4.0
"""Attention, over the mean of the photo, from which on it is painted as 255."""
_FOLDERS = {"heatmap": "heatmaps", "attention": "attention"}


def _photo_work(
    config: Config, how: str, job: Job, model: Classifier, out: Path
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The work on one case of a model that looks at photos; networks are loaded once."""
    from skinkit.learning import precision
    from skinkit.learning.examples import Photo

    device = precision.pick_device(job.device)
    chosen = positive(model, config.target)
    if model.is_network:
        one = _integrated(config) if how == "gfa" else _shapley_and_gradcam
        task, _ = _task_of(config.target)
        explain_case = _through_networks(model, chosen, device, job.workspace.root, job.cohort.root, one, task)
    else:
        explain_case = _through_probe(_asked(model, config.target), chosen, device, job)

    def work(case: Mapping[str, Any]) -> dict[str, Any]:
        from skinkit.explain.shapley import enlarged, inside_share, points_inside, softened

        rgb = Photo(case["pixel_sha256"], job.cohort.root / case["image_path"]).read()
        by_photo, attention, columns = explain_case(case, rgb)
        size = rgb.shape[1], rgb.shape[0]
        attended, attended_further = _by_view(attention, case, job.cohort.root)
        if attended is not None:
            columns |= _painted(enlarged(attended, size), case, out, kind="attention")
        columns |= _further_files(attended_further, case, out, kind="attention")
        primary, further = _by_view(by_photo, case, job.cohort.root)
        if primary is None:
            return {**_described(case, config.target, how), **_further_files(further, case, out), **columns}
        heat = enlarged(primary, size)
        visible = enlarged(softened(primary), size) if how == "gfa" else heat
        mask = _mask_of(case, job.workspace.root)
        return {
            **_described(case, config.target, how),
            **_painted(visible, case, out),
            **_further_files(further, case, out),
            **(_composed(rgb, visible, mask, columns, case, config.target, out) if how == "gfa" else {}),
            "inside_mask": None if mask is None else inside_share(heat, mask),
            "pointing_game": None if mask is None else points_inside(heat, mask),
            **columns,
        }

    return work


def _through_probe(model: Classifier, chosen: np.ndarray, device: str, job: Job) -> ExplainCase:
    """One frozen network before all folds; members, where there are any, answer as they do when it predicts.

    Heatmaps of networks among them are added to that of the frozen one, each with the member's weight.
    """
    from skinkit.data.views import IMAGE
    from skinkit.learning.scorer import Scorer

    scorer = Scorer(model, job.workspace.root, device, job.console)
    network: Any = scorer.embedder
    names = [member.name for member in model.members]
    looking = {
        place: _through_networks(member, chosen, device, job.workspace.root, job.cohort.root, _gradcam)
        for place, member in enumerate(model.members)
        if member.is_network and IMAGE in member.model_class.READS
    }

    def explain_case(case: Mapping[str, Any], rgb: np.ndarray) -> tuple[Maps, Maps, dict[str, Any]]:
        import numpy as np
        import pandas as pd
        import torch

        from skinkit.explain.shapley import grad_cam, mixed, straightened

        images = torch.from_numpy(network.prepare(rgb)[None]).to(device)
        with torch.inference_mode():
            vector = network(images)[0].float().cpu().numpy().astype(np.float16)
        asked = None
        if model.members:
            numbers = [fold.number for fold in _folds(model, case)]
            asked = scorer.members_answers(pd.DataFrame([dict(case)]), [numbers], job.cohort.root)
        fold_views = views(model, case, vector, asked)
        offsets = [
            sum((part.sum(axis=1) for name, part in view.parts.items() if name != "image"), np.zeros(len(chosen)))
            * view.fold.temperature
            for view in fold_views
        ]
        fitted = [cast("Estimator", v.fold.fitted) for v in fold_views]
        temperatures = [v.fold.temperature for v in fold_views]
        module, layer = model.model_class.explained(network, fitted, offsets, temperatures, chosen)
        heat = straightened(grad_cam(module, layer, images), model.model_class.REPEATS)
        if looking:
            of_folds = zip(fitted, temperatures, strict=True)
            weights = np.mean([one.member_weights() / temperature for one, temperature in of_folds], axis=0)
            maps = [(explain(case, rgb)[0][IMAGE], float(weights[place])) for place, explain in looking.items()]
            heat = mixed([(heat, 1.0), *maps])
        return {IMAGE: heat}, {}, attributed(fold_views, case, chosen, names)

    return explain_case


@dataclass(frozen=True)
class _Read:
    """A photo that has been read."""

    pixel_sha256: str
    rgb: np.ndarray

    def read(self) -> np.ndarray:
        return self.rgb


@dataclass(frozen=True)
class _Explained:
    """The explanation of one case by one fold's network.

    Attributes:
        heat: photo it reads -> (h, w).
        names: input of each contribution; a name may occur more than once.
        values: contributions.
        baseline: the log odds without any.
        columns: further columns.
    """

    heat: Maps
    names: Sequence[str]
    values: np.ndarray
    baseline: float
    columns: Mapping[str, Any]


One = Callable[[Any, Mapping[str, Any], "Groups", "np.ndarray", float], _Explained]
"""(network, its inputs for a case, table -> attribute behind each column, (classes,) target, temperature) -> answer."""


def _shapley_and_gradcam(
    network: Any, batch: Mapping[str, Any], groups: Groups, chosen: np.ndarray, temperature: float
) -> _Explained:
    from skinkit.explain.shapley import odds_of_inputs

    names, values, baseline = odds_of_inputs(network, batch, groups, chosen, temperature)
    return replace(_gradcam(network, batch, groups, chosen, temperature), names=names, values=values, baseline=baseline)


def _gradcam(
    network: Any, batch: Mapping[str, Any], groups: Groups, chosen: np.ndarray, temperature: float
) -> _Explained:
    """Heatmaps alone."""
    import numpy as np

    from skinkit.explain.shapley import grad_cam, odds_of_photos, straightened

    heat = {}
    for name, block in network.blocks().items():
        module = odds_of_photos(network, batch, chosen, temperature, name)
        heat[name] = straightened(grad_cam(module, block, batch[name]))
    return _Explained(heat, (), np.zeros(0), 0.0, {})


def _integrated(config: Config) -> One:
    def one(
        network: Any, batch: Mapping[str, Any], groups: Groups, chosen: np.ndarray, temperature: float
    ) -> _Explained:
        import numpy as np

        from skinkit.explain.integrated_gradients import MOST_STEPS, integrated_gradients

        path = integrated_gradients(
            network,
            batch,
            chosen,
            temperature,
            baseline=config.baseline,
            steps=config.steps,
            most_steps=max(config.steps, MOST_STEPS),
        )
        names = ["image", *(owner for owners in groups.values() for owner in owners)]
        values = np.concatenate([[path.parts["image"].sum()], *(path.parts[name] for name in groups)])
        columns = {"steps": path.steps, "completeness_error": path.error}
        return _Explained({"image": path.heat - path.heat.min()}, names, values, path.start, columns)

    return one


Groups = Mapping[str, Sequence[str]]


class CaseReader:
    """What each fold's network reads of a case; networks are loaded once.

    Args:
        model: a network.
        device: ``cpu`` or ``cuda``.
        workspace: its root, where masks lie.
    """

    def __init__(self, model: Classifier, device: str, workspace: Path) -> None:
        self.model, self.device, self.workspace = model, device, workspace
        self._networks: dict[int, Any] = {}

    def read(
        self, case: Mapping[str, Any], rgb: np.ndarray, root: Path
    ) -> Iterator[tuple[Fold, Any, Mapping[str, Any], Groups]]:
        """The folds that predicted a case: the fold, its network, the batch, table -> attribute of each column.

        Args:
            case: fused row with ``fold``: the one that held it out, or None for all.
            rgb: its primary photo.
            root: of the cohort's files, where photos of further views lie.
        """
        import pandas as pd

        from skinkit.data.views import IMAGE, read_names
        from skinkit.learning.examples import Examples, as_input, lesion_masks, photos_of_view
        from skinkit.learning.trained import batch_of

        frame, reads = pd.DataFrame([dict(case)]), self.model.model_class.READS
        photo, side_px = [_Read(case["pixel_sha256"], rgb)], self.model.config.side_px
        named = {name: photos_of_view(frame, root, name) for name in read_names(reads) if name != IMAGE}
        masks = lesion_masks(frame, self.workspace) if "mask" in reads else None
        examples = Examples(reads, side_px, photo, views=named, masks=masks)
        for fold in _folds(self.model, case):
            if fold.number not in self._networks:
                self._networks[fold.number] = self.model.network(fold, self.device)
            arrays = batch_of(frame, fold.encoder, fold.radiomics)
            batch = as_input(examples.with_arrays(arrays).batch([0]), self.device)
            groups = {"attributes": fold.encoder.attributes, "radiomics": fold.radiomics.columns}
            yield fold, self._networks[fold.number], batch, {k: v for k, v in groups.items() if k in reads}


class _OfTask:
    """A network whose diagnosis is its answer to a further task, so that it is explained like one."""

    def __init__(self, network: Any, task: str) -> None:
        self._network, self._task = network, task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def answer(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {DIAGNOSIS: self._network.answer(batch)[self._task]}

    def head(self, seen: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {DIAGNOSIS: self._network.head(seen, batch)[self._task]}


def _through_networks(
    model: Classifier, chosen: np.ndarray, device: str, workspace: Path, root: Path, one: One, task: str = ""
) -> ExplainCase:
    """A network per fold; heatmaps and contributions are means over those that predicted the case."""
    reader = CaseReader(model, device, workspace)

    def explain_case(case: Mapping[str, Any], rgb: np.ndarray) -> tuple[Maps, Maps, dict[str, Any]]:
        import numpy as np

        answers, attentions = [], []
        for fold, network, batch, groups in reader.read(case, rgb, root):
            asked, calibration = (_OfTask(network, task), fold.tasks[task]) if task else (network, fold)
            answers.append(one(asked, batch, groups, chosen, calibration.temperature))
            attentions.append({name: of[0].float().cpu().numpy() for name, of in network.attention_maps(batch).items()})
        names = [name for each in answers for name in each.names]
        values = np.concatenate([each.values for each in answers]) / len(answers)
        baseline = float(np.mean([each.baseline for each in answers]))
        columns = {key: max(each.columns[key] for each in answers) for key in answers[0].columns}
        heat, attention = (
            {name: np.mean([each[name] for each in maps], axis=0) for name in maps[0]}
            for maps in ([each.heat for each in answers], attentions)
        )
        return heat, attention, {**_contribution_columns(names, values.tolist(), baseline, case), **columns}

    return explain_case


def _described(case: Mapping[str, Any], target: str, method: str) -> dict[str, Any]:
    return {"case_id": case["case_id"], "image_id": case["image_id"], "target": target, "method": method, "status": OK}


def _by_view(heat: Maps, case: Mapping[str, Any], root: Path) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """The heatmap of the primary photo, None where the model does not read it, and view -> that of a further photo.

    Those of further photos are at their photo's own size.
    """
    import pandas as pd

    from skinkit.data.views import IMAGE, of_view
    from skinkit.explain.shapley import enlarged
    from skinkit.learning.examples import photos_of_view

    primary, further, frame = heat.get(IMAGE), {}, pd.DataFrame([dict(case)])
    for name in heat.keys() - {IMAGE}:
        (photo,) = photos_of_view(frame, root, name)
        assert photo is not None  # else the case could not be predicted
        if of_view(frame, name)["image_id"].item() == case["image_id"]:  # pixels may be those of both views
            primary = heat[name]
        else:
            rgb = photo.read()
            further[name.removeprefix(f"{IMAGE}_")] = enlarged(heat[name], (rgb.shape[1], rgb.shape[0]))
    return primary, further


def _further_files(maps: Maps, case: Mapping[str, Any], out: Path, kind: str = "heatmap") -> dict[str, Any]:
    """Write the maps of further views."""
    files: dict[str, Any] = {}
    for view, values in maps.items():
        files |= _painted(values, case, out, view, kind)
    return files


def _painted(
    heat: np.ndarray, case: Mapping[str, Any], out: Path, view: str = "", kind: str = "heatmap"
) -> dict[str, Any]:
    """Write the map of a photo: a heatmap, 255 where it is strongest, or attention, so that a flat map looks flat."""
    from skinkit.explain.shapley import as_grey
    from skinkit.images.encode import png_bytes
    from skinkit.images.identity import slug

    file = f"{_FOLDERS[kind]}/{slug(case['case_id'])}{view and '-' + view}.png"
    write_atomic(out / file, png_bytes(as_grey(heat, MOST_ATTENTION if kind == "attention" else None)))
    return {f"{kind}{view and '_' + view}_file": file}


def _composed(
    rgb: np.ndarray,
    heat: np.ndarray,
    mask: np.ndarray | None,
    columns: Mapping[str, Any],
    case: Mapping[str, Any],
    target: str,
    out: Path,
) -> dict[str, Any]:
    """Write the picture with photo, heatmap and contributions."""
    from skinkit.explain.shapley import as_grey
    from skinkit.figures.explanations import explained_case
    from skinkit.images.identity import slug

    title = f"{case['case_id']}: {target}"
    entries = json.loads(columns["attributions_json"])
    png = explained_case(rgb, as_grey(heat), entries, mask=mask, unit="log odds", title=title)
    file = f"composites/{slug(case['case_id'])}.png"
    write_atomic(out / file, png)
    return {"composite_file": file}


def _mask_of(case: Mapping[str, Any], workspace: Path) -> np.ndarray | None:
    """The lesion, or None where it was not found."""
    from skinkit.images.decode import read_mask

    if not case["mask_path"] or case["mask_failed"] is None or bool(case["mask_failed"]):
        return None
    return read_mask(workspace / case["mask_path"], sha256=case.get("mask_sha256") or "")


@cache
def _opened(path: str) -> Classifier:
    """A model, opened once per process."""
    from skinkit.learning.trained import open_classifier

    return open_classifier(open_artifact(Path(path)))


def _occluded_one(
    case: Mapping[str, Any], *, model: str, root: Path, workspace: Path, out: Path, target: str, cells: int
) -> dict[str, Any]:
    """One case of a model that reads measurements."""
    from skinkit.explain.shapley import log_odds, occlusion_of_mask
    from skinkit.learning.examples import Photo
    from skinkit.radiomics import extract

    opened = _opened(model)
    chosen = positive(opened, target)
    opened = _asked(opened, target)
    fold_views = views(opened, case, None)
    row = {**_described(case, target, "occlusion_of_mask"), **attributed(fold_views, case, chosen)}
    mask = _mask_of(case, workspace)
    if not any(fold.radiomics.columns for fold in opened.folds):
        return {**row, "reason": "no_heatmap", "detail": "the model reads nothing that is measured in the photo"}
    if mask is None or case["reason"] == "features_missing":
        return {**row, "reason": "no_heatmap", "detail": "there is no lesion mask to occlude"}
    rgb = Photo(case["pixel_sha256"], root / case["image_path"], case["image_sha256"]).read()
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
