"""What is trained fold by fold, for each task but classification: segmenters, pretrainings, generators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.learning.precision import BEGUN, Arithmetic
from skinkit.models.parts.protocol import Network
from skinkit.models.parts.weights import RANDOM, Start, model_named
from skinkit.options import settings_identity
from skinkit.schemas import SYNTHETIC_COHORT
from skinkit.stages import Job
from skinkit.stages.training.config import (
    OBJECTIVE,
    Config,
    all_settings,
    kind_of,
    named_objective,
    weights_finder,
)
from skinkit.taxonomy import ClassSet, class_set
from skinkit.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.learning.examples import Examples, Photo
    from skinkit.learning.fold_network import Runtime
    from skinkit.learning.rows import DevelopmentRows
    from skinkit.learning.synthetic import SyntheticImages
    from skinkit.learning.upstream import Upstream


_MOST_CASES = 16
"""Of a step that is timed."""
_ON_GPU = 8
"""Copies of the contract's three cases: a GPU is not busy with three."""


@dataclass(frozen=True)
class Work:
    """What is to be trained.

    Attributes:
        rows: cases and split.
        made_from: fold -> what its files depend on.
        train: (fold, folder) -> its row of the model's table.
        about: what ``model.json`` says of this kind of model.
        start: what a network starts from.
        reads: trained models whose answers it learns from.
        images: synthetic images among the training rows.
    """

    rows: DevelopmentRows
    made_from: Callable[[int], list[Any]]
    train: Callable[[int, Path], dict[str, Any]]
    about: Mapping[str, Any]
    start: Start | None
    reads: Sequence[Upstream] = ()
    images: SyntheticImages | None = None


def training_of(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Runtime:
    """Device, arithmetic and seed of a network's training."""
    from skinkit.learning.fold_network import Runtime
    from skinkit.learning.precision import pick_device

    device = pick_device(job.device)
    arithmetic = _arithmetic(config, job, model, settings, partial / BEGUN, device)
    return Runtime(config.seed, device, arithmetic, config.devices, job.console)


def _arithmetic(config: Config, job: Job, model: type[Any], settings: Any, file: Path, device: str) -> Arithmetic:
    """In what a network is trained and answers: as asked, as its training began, or what was measured to be faster."""
    import torch

    from skinkit.contract import Repeated, Trial
    from skinkit.learning import precision
    from skinkit.learning.examples import as_input

    precision.check_request(config.precision)
    if config.precision != "auto":
        return Arithmetic(config.precision, config.precision)
    if not issubclass(model, Network) or settings.side_px < precision.SMALLEST_SIDE_PX or not precision.native(device):
        return Arithmetic()
    with torch.random.fork_rng(devices=()):
        trial = Trial(model, settings)
        network = trial.build().to(device, memory_format=torch.channels_last)
        objective = named_objective(config) or network.objective()
        name = precision.name_of(network, settings.side_px, objective)
        before = precision.begun(file, name)
        if before is not None:
            return before
        phase = network.phases()[-1]
        network.enter(phase.name)
        once = as_input(trial.batch(), device)
        once = {n: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in once.items()}
        batch = Repeated(once, _ON_GPU) if device == "cuda" else once  # about what inference takes at once
        cases = max(1, min(phase.batch, _MOST_CASES) // len(once["class"]))  # small batches flatter float32
        steps = Repeated(batch if device == "cuda" else Repeated(once, cases), objective.COPIES)
        answer = (lambda: network.answer(batch)) if model.TASK in ("segment", "classify") else None
        speeds = precision.measured(network, name, lambda: objective.loss(network, steps), answer, device)
    found = precision.chosen(speeds)
    ratios = ", ".join(f"{what} {ratio:.2f}x" for what, ratio in speeds.items())
    job.console.info(f"  in bf16 {ratios} as fast as in fp32: trains in {found.training}, answers in {found.answers}")
    precision.begin(file, name, found)
    return found


def photos_in(frame: pd.DataFrame, workspace: Workspace) -> list[Photo]:
    """The photo of each row."""
    from skinkit.learning.examples import photos_of

    return photos_of(frame, [workspace.cohort(cohort).root for cohort in frame["cohort"]])


def first_weights(config: Config, job: Job) -> Start:
    """What the model starts from: a model of the workspace, a file, or random numbers."""
    from skinkit.learning import fold_pretrain

    if "weights" in job.inputs:
        kind = config.model if kind_of(config).TASK == "classify" else ""
        backbone = str(all_settings(config).get("backbone", ""))
        return fold_pretrain.start_from(job.inputs["weights"], model_named(config.weights), kind, backbone)
    find_weights = weights_finder(config, job.workspace)
    return find_weights() if find_weights is not None else Start(None, RANDOM, None)


def segmenter(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    """The folds of a segmenter, which learns from drawn masks."""
    from skinkit.images.drawn_masks import DrawnMask
    from skinkit.images.mask_reading import Reading
    from skinkit.learning.examples import Examples
    from skinkit.learning.fold_segmenter import fit_segmenter
    from skinkit.learning.rows import of_kind, outlined

    start = first_weights(config, job)
    cases = of_kind(job.inputs, "cases")
    rows = outlined(cases, job.inputs["split"])

    def examples_of(frame: pd.DataFrame) -> Examples:
        truth = [
            DrawnMask(job.workspace.cohort(case["cohort"]).root / case["truth_mask_path"], Reading.of_case(case))
            for case in frame.to_dict("records")
        ]
        return Examples(
            model.READS,
            settings.side_px,
            photos_in(frame, job.workspace),
            truth_masks=truth,
            cache_bytes=config.cache_mib << 20,
        )

    rows, examples = readable(rows, examples_of, job)
    training = training_of(config, job, model, settings, partial)
    chosen = ("truth_mask_label", "truth_mask_polarity")
    readings = [name for name in chosen if name in rows.frame and rows.frame[name].notna().any()]
    balanced = ["modality"] if settings.recipe.balanced and "modality" in rows.frame else []
    return Work(
        rows=rows,
        made_from=lambda fold: rows.content(fold, ["pixel_sha256", "truth_mask_sha256", *readings, *balanced]),
        train=lambda fold, folder: fit_segmenter(
            fold, rows, examples, model, settings, start.for_fold(fold), training, folder
        ),
        about={"weights": start.as_dict(), "precision": training.arithmetic.as_dict(), "cohorts": list(cases)},
        start=start,
    )


def pretraining(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    """The folds of a pretraining, which needs no label."""
    from skinkit.data import views
    from skinkit.learning.fold_pretrain import fit_pretraining
    from skinkit.learning.rows import of_kind, pictured

    start = first_weights(config, job)
    cases = of_kind(job.inputs, "cases")
    by_case = views.read_names(model.READS) != [views.IMAGE]
    rows = pictured(cases, job.inputs["split"], by_case=by_case)
    rows, synthetic = with_synthetic(config, job, rows, None)
    rows, examples = readable(rows, lambda frame: examples_in(config, job, model, settings, frame), job)
    classes = class_set(config.classes, config.malignant, job.workspace.root) if model.LABELLED else None
    if classes is not None:
        examples = _with_classes(rows, examples, classes, job)
    training = training_of(config, job, model, settings, partial)
    columns = ["pixel_sha256", *([classes.column] if classes is not None else [])]
    columns += [*(name for name in map(str, rows.frame) if name in views.pixel_columns(model.READS))]
    columns += ["modality"] if settings.recipe.balanced and "modality" in rows.frame else []
    return Work(
        rows=rows,
        made_from=lambda fold: [
            *rows.content(fold, columns),
            *([] if synthetic is None else [synthetic.content(fold)]),
        ],
        train=lambda fold, folder: fit_pretraining(
            fold, rows, examples, model, settings, start.for_fold(fold), training, folder, named_objective(config)
        ),
        about={
            **({"synthetic": synthetic.about()} if synthetic is not None else {}),
            "weights": start.as_dict(),
            **about_objective(config),
            **({"classes": classes.as_dict()} if classes is not None else {}),
            "precision": training.arithmetic.as_dict(),
            "cohorts": list(cases),
        },
        start=start,
        images=synthetic,
    )


def _with_classes(rows: DevelopmentRows, examples: Examples, classes: ClassSet, job: Job) -> Examples:
    """The same photos with their class, -1 where it is unknown, and their cohort."""
    import numpy as np

    from skinkit.learning.rows import truth_of

    truth, _ = truth_of(rows.frame, classes)
    unknown = int((truth < 0).sum())
    if unknown:
        job.console.info(f"  {unknown} of {len(truth)} photos have no class of {classes.name}: they are compared alone")
    _, cohorts = np.unique(rows.frame["cohort"].to_numpy(dtype=str), return_inverse=True)
    return examples.with_arrays({}, classes=truth, cohorts=cohorts.astype(np.int64))


def generator(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    """The folds of a generator, of either kind."""
    from skinkit.learning.fold_generator import fit_generator
    from skinkit.learning.rows import diagnosed, of_kind

    is_network = issubclass(model, Network)
    start = first_weights(config, job) if is_network else None
    cases = of_kind(job.inputs, "cases")
    classes = class_set(config.classes, config.malignant, job.workspace.root)
    rows = diagnosed(cases, job.inputs["split"], classes)
    rows, examples = readable(rows, lambda frame: examples_in(config, job, model, settings, frame), job)
    training = training_of(config, job, model, settings, partial)
    return Work(
        rows=rows,
        made_from=lambda fold: rows.content(fold, ["class", "pixel_sha256"]),
        train=lambda fold, folder: fit_generator(
            fold, rows, examples, classes, model, settings, start and start.for_fold(fold), training, folder
        ),
        about={
            "classes": classes.as_dict(),
            "weights": start.as_dict() if start is not None else None,
            "precision": training.arithmetic.as_dict() if is_network else None,
            "cohorts": list(cases),
            "licences": {cohort: str(artifact.info.get("licence") or "") for cohort, artifact in cases.items()},
        },
        start=start,
    )


def about_objective(config: Config) -> dict[str, Any]:
    """What ``model.json`` says of the objective, where one was named."""
    objective = named_objective(config)
    if objective is None:
        return {}
    return {OBJECTIVE: {"name": config.objective, "settings": settings_identity(objective)}}


def readable(
    rows: DevelopmentRows, examples_of: Callable[[pd.DataFrame], Examples], job: Job
) -> tuple[DevelopmentRows, Examples]:
    """The rows whose photo (and truth mask) can be read, and what a network reads of them."""
    examples = examples_of(rows.frame)
    job.console.info(f"  reading the photos of {len(examples)} cases")
    failed = examples.unreadable(range(len(examples)))
    if not failed:
        return rows, examples
    rows = rows.without(failed)
    return rows, examples_of(rows.frame)


def with_synthetic(
    config: Config, job: Job, rows: DevelopmentRows, classes: ClassSet | None
) -> tuple[DevelopmentRows, SyntheticImages | None]:
    """The rows with the synthetic images that are training rows, and these; None where none are named.

    ``classes`` are those of the model, None for a pretraining.
    """
    from skinkit.learning.synthetic import SyntheticImages

    if "synthetic" not in job.inputs:
        return rows, None
    images = SyntheticImages.opened(job.inputs["synthetic"], config.synthetic, rows.folds)
    if classes is not None:
        images.refuse_other_classes(classes)
    for fold in sorted(set(rows.folds) - set(images.images["fold"])):
        job.console.warn(f"fold {fold} has no synthetic image of {config.synthetic}")
    for fold, of in images.about()["images"].items():
        counts = ", ".join(f"{code} {n}" for code, n in of.items())
        job.console.info(
            f"  fold {fold}: {sum(of.values())} synthetic training images by {images.parent['name']} ({counts})"
        )
    folder = job.inputs["synthetic"].path.relative_to(job.workspace.root)
    return images.beside(rows, folder.as_posix()), images


def roots_of(frame: pd.DataFrame, workspace: Workspace) -> list[Path]:
    """Where the files of each row lie: in its cohort's folder, or a synthetic image's in the workspace."""
    return [
        workspace.root if cohort.startswith(SYNTHETIC_COHORT) else workspace.cohort(cohort).root
        for cohort in frame["cohort"]
    ]


def examples_in(config: Config, job: Job, model: type[Any], settings: Any, frame: pd.DataFrame) -> Examples:
    """Photos and lesion masks of a network."""
    from skinkit.learning.examples import Examples

    roots = roots_of(frame, job.workspace)
    return Examples.of_cases(
        model.READS, settings.side_px, frame, roots, job.workspace.root, cache_bytes=config.cache_mib << 20
    )
