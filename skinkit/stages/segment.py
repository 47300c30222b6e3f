"""segment: cases -> masks, one PNG per image at the image's own size.

A segmenter is a rule (``otsu``, ``truth``) or a trained network of the workspace. A photo is in sample for a fold if
its training or validation rows include the photo or another one of the same patient. A network segments a photo by the
mean probability of the folds for which it is out of sample; if there is none, of all folds, with ``in_sample`` set in
the row. ``truth`` passes on the truth masks; those of a second annotator are a second set of masks:
``segment --model truth --settings masks=FOLDER --name annotator2``.

A segmenter's mask that is empty or covers less than 0.5 % or more than 98 % of the image has *failed* (column
``mask_failed``), and later stages measure the whole image instead. A mask drawn by a person is never overridden: it is
handed on, whatever its size, or its row fails with the reason why PyRadiomics could not measure it. Dice and IoU are
computed where a truth mask can be read, else the row's flags say why not; their means and medians leave out rows in
sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.file_names import on_disk
from skinkit.artifacts.files import digest, file_sha256, write_atomic
from skinkit.artifacts.flags import count_flags, flags_text
from skinkit.errors import CaseError, ConfigError
from skinkit.learning.pack import models_of
from skinkit.models import DrawingRule, is_registered, load_model, model_config
from skinkit.schemas import FAILED, LEARNT, MASKS, OK, TRAINED_ON_FILE
from skinkit.stages import Job, Sources
from skinkit.workers import map_cases
from skinkit.workspace import Cohort, Ref, Workspace, check_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.artifacts.builder import Builder
    from skinkit.data.files import CohortFiles
    from skinkit.images.mask_reading import Reading
    from skinkit.learning.trained import Segmenter

VERSION = 3
SCHEMA = MASKS
SHARES = True
_FINISHED_AHEAD = 16


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[str, "otsu, truth or the name of a trained segmenter (default: the workspace's)"] = ""
    settings: Annotated[tuple[str, ...], "setting of otsu or truth as NAME=VALUE, repeatable"] = ()


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One set of masks per cohort."""
    name = name or config.model or workspace.defaults["segmenter"]
    check_name(name, "name of the masks")
    return [Ref("masks", cohort, name) for cohort in workspace.chosen(cohorts)]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The cases of the cohort and, for a trained segmenter, its model.

    Raises:
        ConfigError: an unknown name, or settings for a trained network.
    """
    cases = {"cases": Ref("cases", target.cohort)}
    if _is_rule(config.model):
        return cases
    if config.model not in models_of(workspace):
        load_model(config.model, task="segment")  # raises for an unknown name; a model still to be trained is valid
    if config.settings:
        raise ConfigError(
            f"--settings {' '.join(config.settings)} for {config.model}",
            "none: those it was trained with are in the model",
            "leave --settings out, or train a segmenter with others",
        )
    return {**cases, "model": Ref("models", name=config.model)}


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """The segmenter that the masks are named after, else the workspace's."""
    named = is_registered(target.name, "segment") or target.name in models_of(workspace)
    return replace(config, model=config.model or (target.name if named else workspace.defaults["segmenter"]))


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The settings of a rule with its defaults, so that a changed default makes masks stale; networks have none here.

    The masks of another annotator are watched.
    """
    if not _is_rule(config.model):
        return Sources({}, watch="")
    settings = _settings(config)
    files = _other_masks(config, settings, workspace.cohort(target.cohort))
    watch = digest(list(files.masks.values())) if files else ""
    return Sources({"settings": digest(asdict(settings))}, watch)


def _other_masks(config: Config, settings: Any, cohort: Cohort) -> CohortFiles | None:
    """Masks of another annotator, if ``truth`` is set to use them."""
    from skinkit.data import load_source
    from skinkit.data.files import other_masks

    place = settings.masks if _is_copied(config.model) else ""
    return other_masks(cohort, load_source(cohort.source), place) if place else None


def _is_rule(name: str) -> bool:
    """Whether a segmenter needs no training."""
    return is_registered(name, "segment") and issubclass(load_model(name), DrawingRule)


def _is_copied(name: str) -> bool:
    """Whether a segmenter passes on truth masks."""
    return _is_rule(name) and "truth_mask" in load_model(name).READS


def _settings(config: Config) -> Any:
    segmenter = load_model(config.model, task="segment")
    return model_config(segmenter, config.settings, where=f"--settings of {config.model}")


def run(config: Config, job: Job) -> Artifact:
    """Segment one cohort."""
    cases = job.inputs["cases"].table()
    cases = cases[cases["status"] == OK].reset_index(drop=True)
    with job.build() as build:
        draw_masks = _by_network if "model" in job.inputs else _by_rule
        about = draw_masks(config, job, cases, build)
        build.finish_share()
        copies = _is_copied(config.model) and not _settings(config).masks
        summary = [] if copies else _summary(build, cases)
        for line in summary:
            job.console.info(f"  {_agreement_text(line)}")
        flags = count_flags(row["flags"] for row in build.recalled(["flags"]))
        if flags:
            job.console.info(f"  flags: {flags_text(flags)}")
        return build.finish(info={**about, "agreement": summary, "flags": flags})


# ------------------------------------------------------------------------------------------------------- rules


def _by_rule(config: Config, job: Job, cases: pd.DataFrame, build: Builder) -> dict[str, Any]:
    """Segment by a rule, or copy truth masks, in worker processes."""
    from skinkit.data.mask_reading import checked_reading
    from skinkit.images.mask_reading import AS_DRAWN, Reading

    segmenter, settings = cast("type[DrawingRule]", load_model(config.model, task="segment")), _settings(config)
    draw = None if _is_copied(config.model) else partial(segmenter.draw, config=settings)
    others = _of_another(config, settings, job.cohort, cases)
    cases = cases.assign(copied_path=cases["truth_mask_path"] if others is None else cases["image_id"].map(others))
    reading = checked_reading(settings.label, settings.polarity, " in --settings") if draw is None else None
    reading = None if reading == AS_DRAWN else reading
    fingerprints = {
        (case["image_id"],): job.recipe.fingerprint(
            asdict(settings),
            case["image_sha256"],
            case["truth_mask_sha256"],
            str(Reading.of_case(case)),
            *([] if others is None else [_content(case, job.cohort.root)]),
        )
        for case in _records(cases)
    }
    todo = {key[0] for key in build.plan(fingerprints)}
    names = ["image_id", "image_path", "truth_mask_path", "truth_mask_label", "truth_mask_polarity", "copied_path"]
    names += ["width_px", "height_px", "image_sha256", "pixel_sha256"]
    items = _records(cases[cases["image_id"].isin(todo)].reindex(columns=names))
    work = partial(
        _mask_one, root=job.cohort.root, out=build.partial, segmenter=config.model, draw=draw, reading=reading
    )
    for row in map_cases(work, items, key=("image_id",), label="segmenting", **job.pace):
        build.add(row)
    return {"segmenter": config.model, "segmenter_identity": None, "caution": segmenter.CAUTION or None}


def _of_another(config: Config, settings: Any, cohort: Cohort, cases: pd.DataFrame) -> dict[str, str] | None:
    """``image_id`` -> mask of another annotator; None for the cohort's own masks."""
    from skinkit.data.masks import masks_of

    files = _other_masks(config, settings, cohort)
    if not files:
        return None
    paths = [(cohort.root / path).relative_to(cohort.root).as_posix() for path in cases["image_path"]]
    return masks_of(dict(zip(cases["image_id"], paths, strict=True)), files)


def _content(case: Mapping[str, Any], root: Path) -> str | None:
    """Hash of the truth mask that is copied."""
    if not isinstance(case["copied_path"], str):
        return None
    try:
        return file_sha256(on_disk(root / case["copied_path"]))
    except OSError:
        return None  # reading the mask raises the error that the row reports


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return rows


def _mask_one(
    case: Mapping[str, Any],
    *,
    root: Path,
    out: Path,
    segmenter: str,
    draw: Callable[[np.ndarray], np.ndarray] | None,
    reading: Reading | None,
) -> dict[str, Any]:
    """Segment one image (or copy its truth mask), write the mask and measure it."""
    from skinkit.learning.examples import Photo

    if draw is None:
        return _copied(case, root, out, segmenter, reading)
    photo = Photo(case["pixel_sha256"], root / case["image_path"], case["image_sha256"])
    return _written(case, draw(photo.read()), root, out, segmenter)


def _copied(case: Mapping[str, Any], root: Path, out: Path, segmenter: str, reading: Reading | None) -> dict[str, Any]:
    """The row of a mask drawn by a person, which is handed on as it is if it can be measured.

    Args:
        case: with the path of the mask.
        root: of the cohort's files.
        out: the artifact's folder.
        segmenter: name for the row.
        reading: of ``--settings``; None for the cohort's.

    Raises:
        CaseError: there is no mask, it cannot be read, or PyRadiomics could not measure it.
    """
    from skinkit.images.drawn_masks import read_drawn_mask
    from skinkit.images.mask_reading import Reading
    from skinkit.radiomics.refusal import refuse_unmeasurable

    if not isinstance(case["copied_path"], str):
        raise CaseError("truth_mask_absent", "the source folder holds no mask for this image")
    mask, flags = read_drawn_mask(root / case["copied_path"], _size(case), reading or Reading.of_case(case))
    row = _written(case, mask, root, out, segmenter, drawn=flags)
    refuse_unmeasurable(
        row["bottom_px"] - row["top_px"], row["right_px"] - row["left_px"], whole=row["area_px"] == mask.size
    )
    return row


def _size(case: Mapping[str, Any]) -> tuple[int, int]:
    return int(case["width_px"]), int(case["height_px"])


def _written(
    case: Mapping[str, Any],
    mask: np.ndarray,
    root: Path,
    out: Path,
    segmenter: str,
    *,
    drawn: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Write the mask's file and return its row, with the agreement with the truth mask where that can be read.

    Args:
        case: the case.
        mask: bool (H, W).
        root: of the cohort's files.
        out: the artifact's folder.
        segmenter: name for the row.
        drawn: flags of a mask drawn by a person; None for a segmenter's.
    """
    import hashlib

    from skinkit.images.drawn_masks import read_drawn_mask
    from skinkit.images.encode import png_bytes
    from skinkit.images.identity import slug
    from skinkit.images.mask_reading import Reading
    from skinkit.images.masks import agreement

    data = png_bytes(mask)
    file = f"png/{slug(case['image_id'])}.png"
    flags, overlap = set(drawn or ()), dict[str, float]()
    if isinstance(case["truth_mask_path"], str):
        try:
            truth, _ = read_drawn_mask(root / case["truth_mask_path"], _size(case), Reading.of_case(case))
            overlap = agreement(mask, truth)
        except CaseError as error:  # a bad truth mask costs its Dice, not its photo
            flags.add(error.reason)
    write_atomic(out / file, data)
    return {
        "image_id": case["image_id"],
        "segmenter": segmenter,
        "mask_file": file,
        "mask_sha256": hashlib.sha256(data).hexdigest(),
        **measured(mask),
        **({} if drawn is None else {"mask_failed": False}),
        **overlap,
        "in_sample": False,
        "flags": ",".join(sorted(flags)) or None,
        "status": OK,
    }


# ---------------------------------------------------------------------------------------------------- networks


def _by_network(config: Config, job: Job, cases: pd.DataFrame, build: Builder) -> dict[str, Any]:
    """Segment by the folds of a trained network for which the photo is out of sample."""
    from skinkit.learning import trained

    segmenter = trained.open_segmenter(job.inputs["model"], config.model)
    folds_by_case = _folds_that_learnt(segmenter, cases, job.target.cohort)
    every = frozenset(segmenter.folds)
    plans = [(tuple(sorted(every - learnt or every)), every == learnt) for learnt in folds_by_case]
    fingerprints = {
        (case["image_id"],): job.recipe.fingerprint(
            segmenter.identity, case["pixel_sha256"], case["truth_mask_sha256"], *plan
        )
        for case, plan in zip(_records(cases), plans, strict=True)
    }
    todo = {key[0] for key in build.plan(fingerprints)}
    chosen = [image in todo for image in cases["image_id"]]
    for folds, in_sample in sorted(set(plans)):
        part = cases[[plan == (folds, in_sample) and new for plan, new in zip(plans, chosen, strict=True)]]
        for row in _predicted_masks(segmenter, folds, part, job, build.partial):
            build.add({**row, "in_sample": in_sample})
    if n := sum(in_sample for _, in_sample in plans):
        job.console.info(f"  {n} of {len(plans)} photos are in sample: every fold of {config.model} learnt from them")
    return {"segmenter": config.model, "segmenter_identity": segmenter.identity, "caution": None}


def _folds_that_learnt(segmenter: Segmenter, cases: pd.DataFrame, cohort: str) -> list[frozenset[int]]:
    """For each case, the folds whose training or validation rows include it, its pixels or its group."""
    from skinkit.artifacts.tables import read_table

    trained_on = read_table(
        segmenter.path / TRAINED_ON_FILE, ["fold", "cohort", "case_id", "part", "group_id", "pixel_sha256"]
    )
    learnt: dict[tuple[str, ...], set[int]] = {}
    for row in _records(trained_on[trained_on["part"].isin(LEARNT)]):
        for key in _traces(row, row["cohort"]):
            learnt.setdefault(key, set()).add(int(row["fold"]))
    return [frozenset().union(*(learnt.get(key, ()) for key in _traces(case, cohort))) for case in _records(cases)]


def _traces(row: Mapping[Any, Any], cohort: str) -> list[tuple[str, ...]]:
    """The keys by which a case is matched: its id, pixels and group."""
    return [("case", cohort, row["case_id"]), ("pixels", row["pixel_sha256"]), ("group", row["group_id"])]


def _predicted_masks(
    segmenter: Segmenter, folds: Sequence[int], cases: pd.DataFrame, job: Job, out: Path
) -> Iterator[dict[str, Any]]:
    """Rows of cases segmented by the same folds; masks are written in threads while the network runs."""
    from skinkit.console import Console
    from skinkit.learning import forward, precision
    from skinkit.learning.examples import Examples, in_order, photos_of

    if cases.empty:
        return
    device = precision.pick_device(job.device)
    root = job.cohort.root
    examples = Examples(segmenter.model_class.READS, segmenter.config.side_px, photos_of(cases, root))
    quiet = Console(quiet=True)
    answers = [
        forward.run(
            segmenter.network(fold, device),
            examples,
            range(len(cases)),
            device=device,
            console=quiet if index else job.console,
            label="segmenting",
        )
        for index, fold in enumerate(folds)
    ]
    records = _records(cases)
    finish = partial(_finished, segmenter=segmenter, root=root, out=out)
    together = (
        (records[of_folds[0][0]], [answer for _, answer in of_folds]) for of_folds in zip(*answers, strict=True)
    )
    yield from in_order(finish, together, ahead=_FINISHED_AHEAD)


def _finished(
    work: tuple[Mapping[str, Any], Sequence[Any]], *, segmenter: Segmenter, root: Path, out: Path
) -> dict[str, Any]:
    """The row of one case: its mask is the thresholded mean probability of the folds at the photo's own size."""
    import numpy as np
    from PIL import Image

    from skinkit.models.parts.protocol import LESION

    case, answers = work
    try:
        for answer in answers:
            if isinstance(answer, CaseError):
                raise answer
    except CaseError as error:
        return {"image_id": case["image_id"], "status": FAILED, "reason": error.reason, "detail": error.detail}
    # Clip the logits, so that the exponential does not overflow; the sigmoid is saturated there.
    logits = np.clip(np.stack([answer[LESION] for answer in answers]), -50, 50)
    probability = (1 / (1 + np.exp(-logits))).mean(axis=0).astype(np.float32)
    size = int(case["width_px"]), int(case["height_px"])
    full = np.asarray(Image.fromarray(probability).resize(size, Image.Resampling.BILINEAR))
    return _written(case, segmenter.model_class.mask_of(full, segmenter.config), root, out, segmenter.name)


# ------------------------------------------------------------------------------------------------------ figures


def _summary(build: Builder, cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Agreement with truth masks over rows that are not in sample, and per modality if there are several."""
    import pandas as pd

    from skinkit.evaluation.overlap import FIGURES, overlap

    rows = pd.DataFrame(list(build.recalled(["image_id", "in_sample", *FIGURES])))
    if "iou" not in rows or rows["iou"].notna().sum() == 0:
        return []
    about = [name for name in ("image_id", "modality", "group_id") if name in cases]
    rows = rows.merge(cases[about], on="image_id")
    scored = rows[rows["iou"].notna() & (rows["in_sample"] != True)]  # noqa: E712 - null is not in sample
    parts = {"all": scored}
    if "modality" in scored and scored["modality"].nunique() > 1:
        parts |= {str(name): of for name, of in scored.groupby("modality")}
    return [
        {
            "modality": name,
            "n": len(of),
            "n_clusters": int(of["group_id"].nunique()),
            **overlap({figure: of[figure].astype(float) for figure in FIGURES}, of["group_id"].to_numpy(dtype=str)),
        }
        for name, of in parts.items()
        if len(of)
    ]


def _agreement_text(line: Mapping[str, Any]) -> str:
    from skinkit.evaluation.overlap import FIGURES, text_of

    where = "" if line["modality"] == "all" else f", {line['modality']}"
    figures = "; ".join(text_of(line, figure) for figure in FIGURES)
    return f"against {line['n']} masks drawn by people{where}: {figures} (95 % intervals over patients)"


def measured(mask: np.ndarray) -> dict[str, Any]:
    """Size, area and bounding box of a segmenter's mask, and whether it failed."""
    import numpy as np

    from skinkit.images.masks import LARGEST_SHARE, SMALLEST_SHARE

    height, width = mask.shape
    area = int(mask.sum())
    share = area / mask.size
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if area else (0, 0, 0, 0)
    left, top, right, bottom = (int(v) for v in box)
    return {
        "width_px": width,
        "height_px": height,
        "area_px": area,
        "area_share": share,
        "left_px": left,
        "top_px": top,
        "right_px": right,
        "bottom_px": bottom,
        "mask_failed": bool(share < SMALLEST_SHARE or share > LARGEST_SHARE),
    }
